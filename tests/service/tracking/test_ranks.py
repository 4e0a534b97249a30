"""Many processes log into one run: a series for each rank, and rank 0 speaks for the run."""

from __future__ import annotations

import io
import math
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from sqlalchemy import text
from sqlmodel import select
from starlette.testclient import TestClient

from service.store import filters
from service.store.database import Database
from service.store.search import find
from service.store.tables import Run
from tests.service.tracking.test_metrics import column, history, make_run


def send(client: TestClient, run: str, rank: int, *columns: dict[str, Any], batch: int = 1, **more: Any) -> Any:
    body = {"writer": f"w{rank}", "batch": batch, "rank": rank, "metrics": list(columns), **more}
    return client.post(
        f"/api/v1/runs/{run}/batches",
        content=msgspec.msgpack.encode(body),
        headers={"content-type": "application/msgpack"},
    )


@pytest.fixture
def run_id(client: TestClient) -> str:
    """A run of three ranks: the loss of each is its rank at every step."""
    made = make_run(client)
    for rank in (2, 0, 1):
        answer = send(client, made, rank, column("loss", [1, 2], [float(rank)] * 2), column(f"own/{rank}", [1], [1.0]))
        assert answer.status_code == 200, answer.text
    return made


def test_what_was_sent_is_counted_over_all_ranks(client: TestClient, run_id: str) -> None:
    """Each batch once: with what was refused before it."""

    def counted() -> tuple[int, int]:
        run = client.get(f"/api/v1/runs/{run_id}").json()
        return run["points_sent"], run["points_stored"]

    assert counted() == (9, 9)
    for _ in range(2):
        assert send(client, run_id, 1, column("loss", [3], [1.0]), batch=2, refused=5).status_code == 200
        assert counted() == (15, 10)
    assert send(client, run_id, 0, batch=2, refused=2).status_code == 200
    assert counted() == (17, 10)
    assert send(client, run_id, 0, batch=3, refused=-1).status_code == 400
    # A client that counts for itself has the last word.
    client.patch(f"/api/v1/runs/{run_id}", json={"points_sent": 12})
    assert counted() == (12, 10)


def test_rank_0_speaks_for_the_run(client: TestClient, run_id: str) -> None:
    run = client.get(f"/api/v1/runs/{run_id}").json()
    assert set(run["metrics"]) == {"loss", "own/0"}
    assert (run["metrics"]["loss"]["last"], run["points_stored"]) == (0.0, 9)
    (series,) = history(client, run_id, key="loss")["series"]
    assert (series["rank"], series["values"]) == (0, [0.0, 0.0])
    for query, found in (("metrics.loss = 0", 1), ("metrics.loss > 0", 0), ("metrics.own/2 is not null", 0)):
        page = client.get("/api/v1/runs", params={"q": query}).json()
        assert len(page["items"]) == found, query
    ordered = client.get("/api/v1/runs", params={"order_by": "metrics.loss desc"}).json()
    assert len(ordered["items"]) == 1
    compared = client.post("/api/v1/runs/compare", json={"run_ids": [run_id]}).json()
    assert [metric["key"] for metric in compared["metrics"]] == ["loss", "own/0"]


def test_the_mlflow_face_shows_rank_0(client: TestClient, run_id: str) -> None:
    api = "/api/2.0/mlflow"
    found = client.get(f"{api}/runs/get", params={"run_id": run_id}).json()["run"]["data"]["metrics"]
    assert {metric["key"]: metric["value"] for metric in found} == {"loss": 0.0, "own/0": 1.0}
    told = client.get(f"{api}/metrics/get-history", params={"run_id": run_id, "metric_key": "loss"}).json()
    assert [metric["value"] for metric in told["metrics"]] == [0.0, 0.0]


def test_any_rank_can_be_read(client: TestClient, run_id: str) -> None:
    (series,) = history(client, run_id, key="loss", rank=2)["series"]
    assert (series["rank"], series["values"]) == (2, [2.0, 2.0])
    everything = history(client, run_id, key="loss", rank="all")
    assert [(one["rank"], one["values"][0]) for one in everything["series"]] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    send(client, run_id, 1, column("loss", [3], [7.0]), batch=2)
    fresh = history(client, run_id, key="loss", rank="all", after=everything["cursor"])["series"]
    assert [(one["rank"], one["values"]) for one in fresh if one["values"]] == [(1, [7.0])]
    listed = client.get(f"/api/v1/runs/{run_id}/series").json()["items"]
    assert [(one["rank"], one["key"]) for one in listed] == [
        (rank, key) for rank in range(3) for key in ("loss", f"own/{rank}")
    ]
    arrow = client.get(
        "/api/v1/metrics",
        params={"run_id": run_id, "key": "loss", "rank": "all"},
        headers={"accept": "application/vnd.apache.arrow.stream"},
    )
    table = pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all()
    assert table["rank"].to_pylist() == [0, 0, 1, 1, 1, 2, 2]
    refused = client.get("/api/v1/metrics", params={"run_id": run_id, "rank": -1})
    assert refused.status_code == 400


def test_a_curve_for_each_rank(client: TestClient, run_id: str) -> None:
    body = {"run_ids": [run_id], "keys": ["loss"], "rank": "all"}
    answer = client.post("/api/v1/runs/curves", json=body).json()
    assert [(curve["rank"], curve["value"]) for curve in answer["curves"]] == [(r, [r, r]) for r in range(3)]
    send(client, run_id, 1, column("loss", [3], [7.0]), batch=2)
    grown = client.post("/api/v1/runs/curves", json={**body, "after": answer["cursor"]}).json()
    assert [curve["rank"] for curve in grown["curves"]] == [1]
    refused = client.post("/api/v1/runs/curves", json={**body, "group_by": ["seed"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ranks_in_groups")


def test_only_rank_0_is_the_pulse_of_the_run(client: TestClient, run_id: str) -> None:
    before = client.get(f"/api/v1/runs/{run_id}").json()["heartbeat_at"]
    assert send(client, run_id, 1, batch=2).status_code == 200
    assert client.get(f"/api/v1/runs/{run_id}").json()["heartbeat_at"] == before
    assert send(client, run_id, 0, batch=2).status_code == 200
    assert client.get(f"/api/v1/runs/{run_id}").json()["heartbeat_at"] > before


def test_the_mean_is_over_finite_values(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 0, column("loss", [1, 2, 3, 4], [1.0, math.nan, math.inf, 4.0]))
    send(client, run, 0, column("loss", [5], [4.0]), column("bad", [1], [math.nan]), batch=2)
    metrics = client.get(f"/api/v1/runs/{run}").json()["metrics"]
    assert (metrics["loss"]["mean"], metrics["bad"]["mean"]) == (3.0, None)
    for query, runs in (("metrics.loss.mean = 3", 1), ("metrics.bad.mean < 1 or metrics.bad.mean >= 1", 0)):
        assert len(client.get("/api/v1/runs", params={"q": query}).json()["items"]) == runs, query


def test_search_reads_the_index_alone(client: TestClient, database: Database, run_id: str) -> None:
    """Rank 0 is told apart in the index itself: no row of the table is looked up for it."""
    condition = filters.Predicate(filters.Field("metric", "loss"), "<", 0.5)
    with database.read() as session:
        found = find(session, project=None, condition=condition, orders=(), after=None, limit=10, silent_after=60.0)
        assert [place.run_id for place in found] == [run_id]
        named, values = filters.name_values(condition)
        assert named is not None
        query = (
            select(Run.id)
            .where(filters.where(named))
            .params(values)
            .compile(dialect=session.connection().dialect, compile_kwargs={"literal_binds": True})
        )
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))
            steps = [row[-1] for row in plan]
            expected = "USING COVERING INDEX ix_series_key_last (key=? AND rank=? AND last<?)"
        else:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
            steps = [row[0] for row in connection.execute(text(f"EXPLAIN {query}"))]
            expected = "Index Only Scan using ix_series_key_last"
    assert any(expected in step for step in steps), steps
