"""The search language: what parses, what it finds, and what a wrong query is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.store import search
from service.store.filters import And, Field, Not, Or, Order, Predicate
from service.tracking.search import BadQuery, parse

RUNS = {
    "a": {"config": {"lr": 1e-3, "method": "lora"}, "tags": {"team": "nlp"}, "loss": [0.9, 0.3]},
    "b": {"config": {"lr": "1e-4", "method": "full"}, "tags": {"team": "vision"}, "loss": [0.8, 0.5]},
    "c": {"config": {"method": "full", "note": "100%_done"}, "tags": {}, "loss": [float("nan")]},
    "d": {"config": {}, "tags": {"team": "NLP"}, "loss": []},
}


@pytest.fixture
def filled(client: TestClient) -> TestClient:
    for name, run in RUNS.items():
        made = client.post(
            "/api/v1/runs", json={"project": "p", "name": name, "config": run["config"], "tags": run["tags"]}
        )
        values = ["NaN" if value != value else value for value in run["loss"]]  # type: ignore[union-attr]
        column = {"key": "loss", "step": list(range(len(values))), "time": [1.0] * len(values), "value": values}
        client.post(f"/api/v1/runs/{made.json()['id']}/batches", json={"writer": "w", "batch": 1, "metrics": [column]})
    return client


def found(client: TestClient, query: str) -> str:
    answer = client.get("/api/v1/runs", params={"q": query})
    assert answer.status_code == 200, answer.text
    return "".join(run["name"] for run in answer.json()["items"])


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "dcba"),
        ("metrics.loss < 0.4", "a"),
        ("metrics.loss.max >= 0.8", "ba"),
        ("metrics.loss.mean > 0.62", "b"),
        ("metrics.loss.best < 0.4 order by metrics.loss.best", "a"),
        ("params.lr = 0.0001", "b"),
        ('params.method = "lora" or tags.team = "nlp"', "a"),
        ("params.method = full and not tags.team = vision", "c"),
        ("(params.method = full or params.method = lora) and metrics.loss < 1", "ba"),
        ("tags.team ilike 'nlp'", "da"),
        ("tags.team like 'nlp'", "a"),
        (r"params.note like '100\%\_%'", "c"),
        ("tags.team is null", "c"),
        ("not group = 'sweep'", "dcba"),
        ("not (group = 'sweep' and name = 'a') and parent not in ('x')", "dcba"),
        ("tags.team is not null and params.lr is null", "d"),
        ("name in ('a', 'd')", "da"),
        ("not name in (a, d)", "cb"),
        ("status = running", "dcba"),
        ("status = finished", ""),
        ("metrics.loss != 0.3", "b"),
        ("created > 0 order by name", "abcd"),
        ("created > '2026-01-01' and created < '2126-01-01T00:00:00+02:00' order by name", "abcd"),
        ("created < '2026-01-01 12:00' or finished > \"2026-01-01\"", ""),
        ("status in (running, silent) and not status like 'fin%'", "dcba"),
        ("order by metrics.loss", "abcd"),
        ("order by metrics.loss desc", "badc"),
        ("order by params.lr desc", "abdc"),
        ("metrics.loss < 1 order by metrics.loss.min", "ab"),
        ('tags.team = "\'; drop table run; --"', ""),
    ],
)
def test_finds(filled: TestClient, query: str, names: str) -> None:
    assert found(filled, query) == names


@pytest.mark.parametrize(
    "order", ["", "metrics.loss", "metrics.loss desc", "name", "name desc", "params.lr", "created"]
)
def test_pages_give_each_run_once(filled: TestClient, order: str) -> None:
    whole = [run["name"] for run in filled.get("/api/v1/runs", params={"order_by": order}).json()["items"]]
    paged, cursor = [], None
    while True:
        params = {"order_by": order, "limit": 1, **({"cursor": cursor} if cursor else {})}
        page = filled.get("/api/v1/runs", params=params).json()
        paged += [run["name"] for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == whole
    assert len(whole) == len(RUNS)


def test_a_cursor_is_of_one_search(filled: TestClient) -> None:
    asked = {"q": "metrics.loss is not null", "order_by": "metrics.loss", "project": "p", "limit": 1}
    cursor = filled.get("/api/v1/runs", params=asked).json()["next_cursor"]
    more = {**asked, "cursor": cursor}
    assert filled.get("/api/v1/runs", params=more | {"limit": 2, "metric": "loss"}).status_code == 200
    for other in ({"order_by": "name"}, {"q": "name = a"}, {"project": "q"}, {"cursor": cursor[4:]}):
        refused = filled.get("/api/v1/runs", params=more | other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_cursor")


LOSSES = [0.1, 0.2, 0.2, None, 0.3, 0.2, 0.1, None, 0.4, 0.3, 0.2, 0.5, 0.1, None, 0.2, 0.6, 0.3]
TEAMS = ["nlp", "vision", "nlp"]


@pytest.fixture
def many(client: TestClient) -> TestClient:
    """Runs with ties and gaps, and a project of the same beside."""
    for number, loss in enumerate(LOSSES * 2):
        project = "p" if number < len(LOSSES) else "q"
        given = {"project": project, "name": str(number), "tags": {"team": TEAMS[number % 3]}}
        run_id = client.post("/api/v1/runs", json=given | {"config": {"size": number % 4}}).json()["id"]
        if loss is not None:
            column = {"key": "loss", "step": [0], "time": [1.0], "value": [loss]}
            client.post(f"/api/v1/runs/{run_id}/batches", json={"writer": "w", "batch": 1, "metrics": [column]})
    return client


QUERIES: dict[str, Callable[[int], bool]] = {
    "": lambda _: True,
    "metrics.loss <= 0.3": lambda n: (LOSSES[n] or 9) <= 0.3,
    "metrics.loss is null or params.size = 2": lambda n: LOSSES[n] is None or n % 4 == 2,
    "not tags.team = nlp and not name = '4'": lambda n: TEAMS[n % 3] != "nlp" and n != 4,
    "metrics.loss > 0.55": lambda n: (LOSSES[n] or 0) > 0.55,
    # Nine of all runs are of this size, and more of the team: only one of the conditions leads to few.
    "tags.team = nlp and params.size in (2, 9)": lambda n: TEAMS[n % 3] == "nlp" and n % 4 == 2,
    "params.size > 2 and not metrics.loss < 0.2": lambda n: n % 4 == 3 and not (LOSSES[n] or 9) < 0.2,
}
VALUES: dict[str, Callable[[int], Any]] = {
    "": lambda n: n,
    "metrics.loss": lambda n: LOSSES[n],
    "params.size": lambda n: n % 4,
}


# By page size: how many runs a search looks at by a rare condition, by project, along an order, and by project then.
WAYS = {
    2: {"FEW": 9, "EACH": 0, "WALK": 6, "EACH_LATER": 0},
    3: {"FEW": 0, "EACH": 0, "WALK": 6, "EACH_LATER": 50},
    4: {"FEW": 0, "EACH": 50},
    5: {"FEW": 50},
}


def test_a_page_is_the_same_however_it_is_found(many: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = ["", "metrics.loss", "metrics.loss desc", "params.size", "params.size desc"]
    for query, order, limit in itertools.product(QUERIES, orders, WAYS):
        for name, runs in WAYS[limit].items():
            monkeypatch.setattr(search, name, runs)
        field, _, down = order.partition(" ")
        hits = [number for number in range(len(LOSSES)) if QUERIES[query](number)]
        having = sorted((n for n in hits if VALUES[field](n) is not None), key=lambda n: (VALUES[field](n), n))
        lacking = [n for n in hits if VALUES[field](n) is None]
        if down or not order:
            having, lacking = having[::-1], lacking[::-1]
        assert all_pages(many, query, order, limit) == having + lacking, (query, order, limit)


FIELDS: dict[str, Callable[[int], Any]] = {
    "metrics.loss": lambda n: LOSSES[n],
    "metrics.loss.max": lambda n: LOSSES[n],
    "metrics.none": lambda n: None,
    "params.size": lambda n: n % 4,
    "tags.team": lambda n: TEAMS[n % 3],
    "status": lambda n: "running",
    "name": str,
}


def test_several_fields_order_as_python_sorts(many: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first counts most; of each, what lacks it comes last; pages of any size, on every way to find them."""
    random = Random(7)
    for _ in range(40):
        fields = random.sample(list(FIELDS), random.choice((2, 2, 3)))
        falling = [random.random() < 0.5 for _ in fields]
        query, limit = random.choice(list(QUERIES)), random.choice(list(WAYS))
        for name, runs in WAYS[limit].items():
            monkeypatch.setattr(search, name, runs)
        expected = sorted((n for n in range(len(LOSSES)) if QUERIES[query](n)), reverse=falling[-1])
        for field, falls in list(zip(fields, falling, strict=True))[::-1]:
            value = FIELDS[field]
            having = sorted((n for n in expected if value(n) is not None), key=value) if not falls else None
            if having is None:  # a stable sort: what is level keeps its place
                having = sorted((n for n in expected[::-1] if value(n) is not None), key=value)[::-1]
            expected = having + [n for n in expected if value(n) is None]
        order = ", ".join(f"{field} desc" if falls else field for field, falls in zip(fields, falling, strict=True))
        assert all_pages(many, query, order, limit) == expected, (query, order, limit)


def all_pages(client: TestClient, query: str, order: str, limit: int) -> list[int]:
    """The numbers of the runs of `many` that a search finds, page by page."""
    found: list[int] = []
    cursor: str | None = None
    while True:
        params: dict[str, str | int] = {"project": "p", "q": query, "order_by": order, "limit": limit}
        page = client.get("/api/v1/runs", params=params | ({"cursor": cursor} if cursor else {})).json()
        found += [int(run["name"]) for run in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize(
    ("query", "position", "expected"),
    [
        ("metrics.loss <", 14, "expected a number, found the end"),
        ("metrics.loss < 'x'", 15, "expected a number, for metrics.loss is one"),
        ("loss < 3", 0, "Unknown field 'loss'"),
        ("params.lr ~ 3", 10, "cannot read '~ 3'"),
        ("params.lr = 3 params.x = 2", 14, "expected 'and', 'or', 'order by' or the end"),
        ("(params.lr = 3", 14, "expected ')'"),
        ("params.lr in 3", 13, "expected '(' after 'in'"),
        ("params.lr is 3", 13, "expected 'null' or 'not null'"),
        ("name like 3", 10, "expected a value in quotes"),
        ("order name", 6, "expected 'by' after 'order'"),
        ("status", 6, "expected a comparison"),
        ("metrics.lr.best > 3", 0, "does not say whether a low or a high value is better. Write .min or .max"),
        ("and", 0, "Unknown field 'and'"),
        ("status = complete", 9, "expected a status: scheduled, running, silent, finished, failed, crashed, killed"),
        ("status in (finished, 'Failed')", 21, "expected a status"),
        ("created > 'yesterday'", 10, "expected Unix seconds or a date such as '2026-11-01 08:00'"),
        ("order by metrics.loss desc name", 27, "expected ',' or the end, found 'name'"),
        ("order by name,", 14, "expected a field, such as"),
        ("order by name, tags.a, name desc", 23, "expected a field that does not order yet, found 'name'"),
        (f"order by {', '.join(f'tags.t{n}' for n in range(9))}", 81, "expected the end: 8 fields order at most"),
    ],
)
def test_a_wrong_query_is_told_where_and_what(client: TestClient, query: str, position: int, expected: str) -> None:
    answer = client.get("/api/v1/runs", params={"q": query})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_query"
    assert expected in answer.json()["error"]["message"]
    assert answer.json()["error"]["details"]["position"] == position


def test_the_tree() -> None:
    loss = Predicate(Field("metric", "eval/loss", "last"), "<", 0.4)
    lora = Predicate(Field("param", "method"), "=", "lora")
    status = Predicate(Field("attribute", "status"), "=", "finished")
    condition, order = parse(
        'metrics.eval/loss < .4 AND (params.method = "lora" OR NOT status = finished) ORDER BY metrics.`f 1`.max DESC'
    )
    assert condition == And((loss, Or((lora, Not(status)))))
    assert order == (Order(Field("metric", "f 1", "max"), True),)
    assert parse("order by name desc, created ASC , tags.team")[1] == (
        Order(Field("attribute", "name"), True),
        Order(Field("attribute", "created"), False),
        Order(Field("tag", "team"), False),
    )


def test_dates_are_seconds() -> None:
    for text, seconds in (("2026-11-01", 1793491200), ("2026-11-01T01:00:00+01:00", 1793491200), ("1970-01-01", 0)):
        assert parse(f"created >= '{text}'")[0] == Predicate(Field("attribute", "created"), ">=", seconds)


def test_best_is_what_the_name_promises() -> None:
    assert parse("order by metrics.eval/loss.best")[1] == (Order(Field("metric", "eval/loss", "min"), False),)
    assert parse("order by metrics.`eval/f1`.best")[1] == (Order(Field("metric", "eval/f1", "max"), False),)
    assert parse("order by metrics.`no.best`")[1] == (Order(Field("metric", "no.best", "last"), False),)


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with suppress(BadQuery):
        condition, order = parse(text)
        assert condition is None or isinstance(condition, And | Or | Not | Predicate)
        assert all(isinstance(one, Order) for one in order)
