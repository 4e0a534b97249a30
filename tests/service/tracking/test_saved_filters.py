"""Saved filters: kept with the project, never with a query that cannot be asked."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.tracking import saved_filters
from tests.service.tracking.test_compare import RUNS, run

FILTERS = "/api/v1/filters"


def save(client: TestClient, name: str = "good ones", project: str = "p", **body: Any) -> Any:
    return client.put(FILTERS, params={"project": project}, json={"name": name, **body})


def names(client: TestClient, project: str = "p") -> list[str]:
    return [held["name"] for held in client.get(FILTERS, params={"project": project}).json()["items"]]


def test_a_filter_comes_back_as_it_was_kept(client: TestClient) -> None:
    run(client)
    kept = {
        "name": "Björn's \"best\" / 50 %", "query": 'metrics.f1 > 0.8 and tags.team = "nlp"',
        "order_by": "metrics.`f1` desc", "columns": ["metrics.f1", "params.lr"], "group_by": "params.lr",
    }  # fmt: skip
    assert client.put(FILTERS, params={"project": "p"}, json=kept).json() == kept
    assert client.get(FILTERS, params={"project": "p"}).json() == {"items": [kept], "next_cursor": None}


def test_the_same_name_is_the_same_filter_and_projects_keep_their_own(client: TestClient) -> None:
    run(client)
    client.post(RUNS, json={"project": "q"})
    save(client, "b", query="status = finished")
    save(client, "a")
    save(client, "b", query="status = failed")
    save(client, "c", project="q")
    assert names(client) == ["a", "b"]
    assert names(client, "q") == ["c"]
    assert client.get(FILTERS, params={"project": "p"}).json()["items"][1]["query"] == "status = failed"


def test_a_filter_can_be_forgotten_once(client: TestClient) -> None:
    run(client)
    save(client)
    gone = {"project": "p", "name": "good ones"}
    assert client.delete(FILTERS, params=gone).status_code == 204
    assert names(client) == []
    again = client.delete(FILTERS, params=gone)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "filter_not_found")


@pytest.mark.parametrize("body", [{"query": "status is"}, {"order_by": "metrics.f1 downwards"}])
def test_a_query_that_cannot_be_asked_is_not_kept(client: TestClient, body: dict[str, Any]) -> None:
    run(client)
    answer = save(client, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_query")
    assert names(client) == []


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_filter_has_a_name(client: TestClient, name: str) -> None:
    run(client)
    assert save(client, name).json()["error"]["code"] == "invalid_request"


def test_a_project_that_is_not_there(client: TestClient) -> None:
    for answer in (save(client, project="nowhere"), client.get(FILTERS, params={"project": "nowhere"})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "project_not_found")


def test_there_is_an_end_to_them(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_filters, "MAX_FILTERS", 1)
    run(client)
    assert save(client, "a").status_code == 200
    assert save(client, "b").json()["error"]["code"] == "too_many_filters"
    assert save(client, "a", query="status = failed").status_code == 200
