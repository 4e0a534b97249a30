"""MLflow's search language on both databases. What must be found is what a real MLflow server found (see the cases)."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.mlflow.search_cases import (
    FILTERS,
    ORDERS,
    REFUSED,
    REFUSED_ORDERS,
    RUNS,
    T0,
    Post,
    populate,
    search,
)


@pytest.fixture
def post(client: TestClient) -> Post:
    def send(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = client.post(f"/api/2.0/mlflow/{path}", json=body)
        return answer.status_code, answer.json()

    return send


@pytest.fixture
def stored(post: Post) -> tuple[str, dict[str, str]]:
    return populate(post, "search")


def test_every_filter(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    found = {text: " ".join(search(post, *stored, filter=text)) for text in FILTERS}  # type: ignore[arg-type]
    assert found == FILTERS


def test_every_refused_filter(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    assert [text for text in REFUSED if search(post, *stored, filter=text) != 400] == []


def test_every_order(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    found = {text: " ".join(search(post, *stored, order_by=list(text))) for text in ORDERS}  # type: ignore[arg-type]
    assert found == ORDERS


def test_every_refused_order(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    assert [text for text in REFUSED_ORDERS if search(post, *stored, order_by=[text]) != 400] == []
    assert search(post, *stored, order_by=["metrics.loss", "metrics.loss DESC"]) == 400


def test_two_conditions_without_and_are_refused(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    """MLflow takes the first and forgets the second."""
    assert search(post, *stored, filter="metrics.loss > 0 metrics.loss < 1") == 400


def test_a_run_is_found_by_its_id(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    ids = {name: run_id for run_id, name in stored[1].items()}
    assert search(post, *stored, filter=f"run_id = '{ids['eta']}'") == ["eta"]
    assert search(post, *stored, filter=f"run_id IN ('{ids['eta']}', '{ids['beta']}')") == ["eta", "beta"]
    others = search(post, *stored, filter=f"attributes.run_id NOT IN ('{ids['eta']}')")
    assert set(others) == set(RUNS) - {"eta"}  # type: ignore[arg-type]


def test_equal_starts_go_by_run_id(post: Post) -> None:
    experiment = post("experiments/create", {"name": "ties"})[1]["experiment_id"]
    made = [
        post("runs/create", {"experiment_id": experiment, "start_time": T0})[1]["run"]["info"]["run_id"]
        for _ in range(5)
    ]
    found = post("runs/search", {"experiment_ids": [experiment]})[1]["runs"]
    assert [run["info"]["run_id"] for run in found] == sorted(made)


def test_pages_join_to_the_whole(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    seen: list[str] = []
    token = ""
    while True:
        given = {"experiment_ids": [stored[0]], "max_results": 3, "order_by": ["metrics.loss"], "page_token": token}
        body = post("runs/search", given)[1]
        seen += [stored[1][run["info"]["run_id"]] for run in body["runs"]]
        if "next_page_token" not in body:
            break
        token = body["next_page_token"]
    assert " ".join(seen) == ORDERS[("metrics.loss",)]


def test_deleted_runs_are_seen_when_asked_for(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    ids = {name: run_id for run_id, name in stored[1].items()}
    post("runs/delete", {"run_id": ids["beta"]})
    assert search(post, *stored, filter="metrics.loss = 0.5") == []
    assert search(post, *stored, filter="metrics.loss = 0.5", run_view_type="ALL") == ["beta"]
    assert search(post, *stored, run_view_type="DELETED_ONLY") == ["beta"]
    assert search(post, *stored, run_view_type=2) == ["beta"]
    assert search(post, *stored, run_view_type="SOME") == 400


def test_other_experiments_stay_out(post: Post, stored: tuple[str, dict[str, str]]) -> None:
    assert post("runs/search", {"experiment_ids": ["999"]}) == (200, {})
    assert post("runs/search", {"experiment_ids": []}) == (200, {})
    other = post("experiments/create", {"name": "other"})[1]["experiment_id"]
    both = post("runs/search", {"experiment_ids": [other, stored[0]], "filter": "params.lr = '1'"})[1]["runs"]
    assert [stored[1][run["info"]["run_id"]] for run in both] == ["zeta-100%"]


def test_native_runs_are_found(post: Post, client: TestClient) -> None:
    config = {"model": {"lr": 0.001, "layers": 4}, "seed": 7}
    native = {"project": "native", "name": "mine", "config": config, "tags": {"team": "nlp"}, "notes": "why"}
    run = client.post("/api/v1/runs", json={**native, "environment": {"user": "eve", "host": "h"}}).json()
    batch = {
        "writer": "w",
        "batch": 1,
        "metrics": [{"key": "loss", "step": [0, 1], "time": [1.0, 2.5], "value": [0.5, "NaN"]}],
    }
    client.post(f"/api/v1/runs/{run['id']}/batches", json=batch)
    experiment = client.get("/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "native"}).json()
    given = {"experiment_ids": [experiment["experiment"]["experiment_id"]]}
    condition = (
        "params.model.layers = '4' and tags.team = 'nlp' and run_name = 'mine' and user_id = 'eve' "
        "and tags.mlflow.note.content = 'why' and metrics.loss != 3"
    )
    found = post("runs/search", {**given, "filter": condition})[1]["runs"]
    assert len(found) == 1
    info, data = found[0]["info"], found[0]["data"]
    assert info["run_id"] == run["id"]
    assert info["status"] == "RUNNING"
    assert info["start_time"] == round(run["created_at"] * 1000)
    assert "end_time" not in info
    assert data["params"] == [
        {"key": "model.layers", "value": "4"},
        {"key": "model.lr", "value": "0.001"},
        {"key": "seed", "value": "7"},
    ]
    assert data["metrics"] == [{"key": "loss", "value": "NaN", "timestamp": 2500, "step": 1}]
    assert {tag["key"]: tag["value"] for tag in data["tags"]} == {
        "team": "nlp",
        "mlflow.runName": "mine",
        "mlflow.user": "eve",
        "mlflow.note.content": "why",
    }
    for native_status, shown in (("finished", "FINISHED"), ("crashed", "FAILED"), ("failed", "FAILED")):
        client.patch(f"/api/v1/runs/{run['id']}", json={"status": native_status})
        assert len(post("runs/search", {**given, "filter": f"status = '{shown}'"})[1]["runs"]) == 1


EXPERIMENT_FILTERS = {
    "name = 'b'": ["b"],
    "name != 'b'": ["c", "a", "Default"],
    "name LIKE 'De%'": ["Default"],
    "name LIKE 'de%'": [],
    "name ILIKE 'de%'": ["Default"],
    "attribute.name = 'a'": ["a"],
    "experiment_id = '0'": ["Default"],
    "experiment_id IN ('0')": ["Default"],
    "experiment_id NOT IN ('0')": ["c", "b", "a"],
    "tags.k = 'v'": ["b", "a"],
    "tags.k != 'v'": ["c"],
    "tag.k LIKE 'V%'": ["c"],
    "tags.k ILIKE 'v%'": ["c", "b", "a"],
    "tags.k IS NULL": ["Default"],
    "tags.k IS NOT NULL and name != 'a'": ["c", "b"],
    "creation_time > 0": ["c", "b", "a", "Default"],
    "last_update_time < 5": [],
}


@pytest.fixture
def experiments(post: Post) -> dict[str, str]:
    tags = {"a": "v", "b": "v", "c": "V2"}
    made = {
        name: post("experiments/create", {"name": name, "tags": [{"key": "k", "value": value}]})
        for name, value in tags.items()
    }
    return {name: answer[1]["experiment_id"] for name, answer in made.items()}


def names(answer: tuple[int, dict[str, Any]]) -> list[str]:
    assert answer[0] == 200, answer
    return [experiment["name"] for experiment in answer[1].get("experiments", [])]


def test_every_experiment_filter(post: Post, experiments: dict[str, str]) -> None:
    found = {
        text: sorted(names(post("experiments/search", {"max_results": 10, "filter": text})))
        for text in EXPERIMENT_FILTERS
    }
    assert found == {text: sorted(expected) for text, expected in EXPERIMENT_FILTERS.items()}


@pytest.mark.parametrize(
    "text",
    [
        "name IN ('a')",
        "experiment_id LIKE '1%'",
        "experiment_id = 'x'",
        "creation_time > 1.5",
        "creation_time = 'x'",
        "name IS NULL",
        "metrics.loss > 1",
        "attributes.name = 'a'",
        "lifecycle_stage = 'active'",
        "name = 'a' OR name = 'b'",
    ],
)
def test_refused_experiment_filters(post: Post, text: str) -> None:
    status, body = post("experiments/search", {"max_results": 10, "filter": text})
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_experiments_are_ordered_and_paged(post: Post, client: TestClient, experiments: dict[str, str]) -> None:
    by_name = {"max_results": 2, "order_by": ["name DESC"]}
    first = post("experiments/search", by_name)
    assert names(first) == ["c", "b"]
    second = post("experiments/search", {**by_name, "page_token": first[1]["next_page_token"]})
    assert names(second)[0] == "a"
    assert "next_page_token" not in second[1]
    by_id = client.get("/api/2.0/mlflow/experiments/search", params={"max_results": 10, "order_by": "experiment_id"})
    assert names((200, by_id.json())) == ["Default", "a", "b", "c"]
    post("experiments/delete", {"experiment_id": experiments["b"]})
    assert "b" not in names(post("experiments/search", {"max_results": 10}))
    assert names(post("experiments/search", {"max_results": 10, "view_type": "DELETED_ONLY"})) == ["b"]
    assert len(names(post("experiments/search", {"max_results": 10, "view_type": 3}))) == 4


def test_a_search_says_how_many_at_most(post: Post) -> None:
    for given in (0, -1, 50_001):
        status, body = post("runs/search", {"experiment_ids": ["0"], "max_results": given})
        assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert body["message"].startswith(f"Invalid value {given} for parameter 'max_results' supplied")


def test_the_cases_hold_every_kind_of_value() -> None:
    """The table would prove little if no run had a NaN, an infinity, a missing key or a data set."""
    losses = [case.metrics.get("loss") for case in RUNS.values()]
    assert {"NaN", "Infinity", "-Infinity", None} <= set(losses)
    assert any(case.dataset for case in RUNS.values())
