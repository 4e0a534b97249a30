"""The list of runs shows the summaries that each run has now, whatever was encoded before."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.store import bin as bin_store
from service.store import purge, summaries
from service.store.database import Database

API = "/api/v1"


def log(client: TestClient, run_id: str, batch: int, key: str, value: float | str) -> None:
    column = {"key": key, "step": [batch], "time": [float(batch)], "value": [value]}
    body = {"writer": "w", "batch": batch, "metrics": [column]}
    answer = client.post(f"{API}/runs/{run_id}/batches", json=body)
    assert answer.status_code == 200, answer.text


def listed(client: TestClient, **params: Any) -> dict[str, Any]:
    return {run["id"]: run["metrics"] for run in client.get(f"{API}/runs", params=params).json()["items"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose summaries are read from their series."""
    read: list[str] = []
    real = summaries.summary_table

    def noted(session: Any, run_ids: list[str]) -> Any:
        read.extend(run_ids)
        return real(session, run_ids)

    monkeypatch.setattr(summaries, "summary_table", noted)
    return read


def test_a_summary_is_read_again_only_when_points_have_come(client: TestClient, asked: list[str]) -> None:
    for run_id in ("a", "b"):
        client.post(f"{API}/runs", json={"project": "p", "id": run_id})
        log(client, run_id, 1, "loss", 0.5)
    assert listed(client) == {one: client.get(f"{API}/runs/{one}").json()["metrics"] for one in ("a", "b")}
    assert sorted(asked) == ["a", "b"]
    assert listed(client)["a"]["loss"]["last"] == 0.5
    assert len(asked) == 2
    log(client, "a", 2, "loss", "NaN")
    assert listed(client)["a"] == client.get(f"{API}/runs/a").json()["metrics"]
    assert listed(client, metric="none") == {"a": {}, "b": {}}
    assert asked[2:] == ["a"]


def test_a_run_that_is_made_again_under_its_id_shows_its_own(client: TestClient, database: Database) -> None:
    for value in (1.0, 2.0):
        client.post(f"{API}/runs", json={"project": "p", "id": "same"})
        log(client, "same", 1, "loss", value)
        assert listed(client)["same"]["loss"]["last"] == value
        with database.write() as session:
            bin_store.put_runs(session, ["same"], 1.0)
            bin_store.condemn(session, ["same"])
        part = True
        while part:
            with database.write() as session:
                part = purge.find(session, rows=16)
                if part:
                    purge.delete(session, part)


def test_what_is_kept_has_a_bound(client: TestClient, database: Database, asked: list[str]) -> None:
    database.summaries = summaries.Summaries(most_bytes=500)
    for number in range(8):
        client.post(f"{API}/runs", json={"project": "p", "id": str(number)})
        log(client, str(number), 1, "loss", number)
    expected = {str(number): number for number in range(8)}
    for _ in range(2):
        assert {run_id: metrics["loss"]["last"] for run_id, metrics in listed(client).items()} == expected
    assert len(asked) > 8
    assert database.summaries.bytes <= 500
