"""Suites: checked, hashed, versioned, never changed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.store import records, suites
from service.store.database import Database
from service.store.tables import Suite

from .wire import Json, all_items, get, label_items, make_suite, suite_body, text_items

ITEMS: list[Json] = [
    {"id": "fr", "input": "Capital of France?", "references": ["Paris"], "group": "capitals", "tags": ["geo", "eu"]},
    {"id": "it", "input": "Capital of Italy?", "references": ["Rome", "Roma"], "group": "capitals"},
    {"id": "sum", "input": "2 + 2 = ?", "references": ["4"]},
]


def test_what_goes_in_comes_out(client: TestClient) -> None:
    answer = client.post(
        "/api/v1/suites", json=suite_body(ITEMS, metrics=["token_f1", "exact_match"], template="Q: {}")
    )
    assert answer.status_code == 201
    suite = answer.json()
    assert (suite["name"], suite["version"], suite["n_items"], suite["task_type"]) == ("facts", 1, 3, "generation")
    assert suite["definition"] == {
        "metrics": ["token_f1", "exact_match"],
        "primary_metric": "token_f1",
        "template": "Q: {}",
        "parser": None,
        "labels": None,
        "description": None,
    }
    assert get(client, f"suites/{suite['id']}") == suite
    items = all_items(client, f"suites/{suite['id']}/items")
    assert [item["id"] for item in items] == ["fr", "it", "sum"]
    assert items[0] == {**ITEMS[0], "label": None, "labels": None, "tags": ["eu", "geo"]}
    assert items[2] == {**ITEMS[2], "label": None, "labels": None, "group": None, "tags": []}


def test_the_same_content_is_the_same_version_whatever_its_order(client: TestClient) -> None:
    first = make_suite(client, ITEMS)
    shuffled = [{**ITEMS[2]}, {**ITEMS[0], "tags": ["eu", "geo", "eu"]}, {**ITEMS[1], "label": None}]
    again = client.post("/api/v1/suites", json=suite_body(shuffled))
    assert again.status_code == 200
    assert again.json() == first
    assert len(get(client, "suites")["items"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"items": [*ITEMS[:2], {**ITEMS[2], "references": ["four"]}]},
        {"items": [*ITEMS[:2], {**ITEMS[2], "group": "sums"}]},
        {"items": ITEMS[:2]},
        {"metrics": ["exact_match", "token_f1"]},
        {"template": "Answer: {input}"},
        {"parser": "first_line"},
        {"description": "with care"},
        {"task_type": "extractive_qa"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_is_the_next_version(client: TestClient, change: Json) -> None:
    first = make_suite(client, ITEMS)
    second = make_suite(client, **{"items": ITEMS, **change})
    assert (second["name"], second["version"]) == ("facts", 2)
    assert second["hash"] != first["hash"]
    assert get(client, f"suites/{first['id']}") == first


def test_another_name_counts_for_itself(client: TestClient) -> None:
    first, other = make_suite(client, ITEMS), make_suite(client, ITEMS, name="other")
    assert other["version"] == 1
    assert other["hash"] == first["hash"]
    assert [suite["id"] for suite in all_items(client, "suites", name="other")] == [other["id"]]
    assert {suite["id"] for suite in all_items(client, "suites", limit=1)} == {first["id"], other["id"]}


LABELS: list[Json] = label_items(["spam", "ham"])


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"items": []}, "suite_invalid", "empty"),
        ({"items": [ITEMS[0], ITEMS[0]]}, "suite_invalid", "'fr' comes twice"),
        ({"items": [ITEMS[0], {"id": "x", "input": "?"}]}, "suite_invalid", "'x' has no reference"),
        ({"items": [*LABELS, ITEMS[0]], "metrics": ["accuracy"]}, "suite_invalid", "'fr' has no label"),
        ({"items": LABELS, "metrics": ["accuracy"], "labels": ["spam"]}, "suite_invalid", "'i1' has the label 'ham'"),
        ({"items": LABELS, "metrics": ["accuracy"], "labels": []}, "suite_invalid", "`labels` is empty"),
        ({"items": LABELS, "metrics": ["accuracy"], "labels": ["spam", "ham", "ham"]}, "suite_invalid", "twice"),
        ({"items": LABELS, "metrics": ["accuracy"], "parser": "label"}, "suite_invalid", "declared labels"),
        ({"items": LABELS, "metrics": ["accuracy"], "parser": "label_list"}, "suite_invalid", "reads lists of labels"),
        ({"metrics": ["accurcy"]}, "unknown_metric", "'accurcy'"),
        ({"metrics": []}, "suite_invalid", "no metric"),
        ({"metrics": ["log_loss"]}, "suite_invalid", "'fr' has no label, which the metric 'log_loss' reads"),
        ({"metrics": ["exact_match", "exact_match"]}, "suite_invalid", "twice"),
        ({"primary_metric": "bleu"}, "suite_invalid", "'bleu' is not among"),
        ({"items": [{"id": "x", "input": "?", "references": ["東京"]}], "metrics": ["rouge1"]}, "cannot_score", "'x'"),
        ({"items": [{"id": "x", "input": "?", "label": 0.6}]}, "invalid_request", "body.items[0].label"),
        ({"items": [{"id": "x", "input": "?", "answer": "4"}]}, "invalid_request", "body.items[0].answer"),
        ({"items": [{"id": "", "input": "?"}]}, "invalid_request", "body.items[0].id"),
        ({"task_type": "telepathy"}, "invalid_request", "body.task_type"),
        ({"name": ""}, "invalid_request", "body.name"),
        ({"template": "\ud800"}, "invalid_request", "body.template"),
        ({"parser": {"regex": float("nan")}}, "invalid_request", "body.parser"),
        ({"items": [{"id": "x", "input": "\ud800"}]}, "invalid_request", "body.items[0].input"),
        ({"parser": "guess"}, "invalid_request", "body.parser"),
    ],
)
def test_refusals_say_what_and_where(client: TestClient, change: Json, code: str, words: str) -> None:
    body = json.dumps({**suite_body(ITEMS), **change})
    answer = client.post("/api/v1/suites", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert words in answer.json()["error"]["message"]
    assert get(client, "suites")["items"] == []


def test_details_carry_the_item(client: TestClient) -> None:
    answer = client.post("/api/v1/suites", json=suite_body([ITEMS[0], ITEMS[0]]))
    assert answer.json()["error"]["details"] == {"item": "fr"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("suites/none", 404, "suite_not_found"),
        ("suites/none/items", 404, "suite_not_found"),
        ("suites?limit=0", 400, "invalid_request"),
    ],
)
def test_reading_what_is_not_there(client: TestClient, path: str, status: int, code: str) -> None:
    answer = client.get(f"/api/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("cursor", ["x", "-1", "٣"])
def test_a_made_up_cursor_is_refused(client: TestClient, cursor: str) -> None:
    suite = make_suite(client, ITEMS)
    answer = client.get(f"/api/v1/suites/{suite['id']}/items", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_cursor")


def _suite(**fields: Any) -> Suite:
    return Suite(name="race", version=0, task_type="generation", n_items=1, items_sha256="", created_at=0.0, **fields)


def test_writers_at_once_get_versions_of_their_own(database: Database) -> None:
    def add(number: int) -> int:
        with database.write() as session:
            return suites.add(session, _suite(hash=str(number % 4)))[0].version

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(add, range(16)))
    assert sorted(set(versions)) == [1, 2, 3, 4]
    assert all(versions[number] == versions[number % 4] for number in range(16))


def test_a_stored_suite_cannot_be_changed_or_deleted(database: Database) -> None:
    with database.write() as session:
        suite_id = suites.add(session, _suite(hash="h"))[0].id

    def change() -> None:
        with database.write() as session:
            stored = suites.get(session, suite_id)
            assert stored is not None
            stored.hash = "other"

    def delete() -> None:
        with database.write() as session:
            session.delete(suites.get(session, suite_id))

    for forbidden in (change, delete):
        with pytest.raises(records.RecordFrozen, match="written once"):
            forbidden()
    with database.read() as session:
        kept = suites.get(session, suite_id)
        assert kept is not None
        assert kept.hash == "h"


def test_text_suites_take_labels_as_references(client: TestClient) -> None:
    suite = make_suite(client, label_items(["yes", "no"]), metrics=["exact_match", "accuracy"])
    assert suite["n_items"] == 2
    both = make_suite(client, text_items([["a"]]), name="texts")
    assert both["definition"]["primary_metric"] == "exact_match"
