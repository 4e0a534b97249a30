"""Long answers: read in pieces and sent as they are read, they say what a short one would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from service.store import history as reader
from service.store.points import CHUNK_POINTS
from service.tracking import history, routes

from .test_compare_curves import bulk
from .test_metrics import make_run, send

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
N = 9 * CHUNK_POINTS + 123


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two chunks at a time, and every answer a long one."""
    monkeypatch.setattr(reader, "PIECE_POINTS", 2 * CHUNK_POINTS)
    monkeypatch.setattr(history, "BATCH_POINTS", 3 * CHUNK_POINTS)
    monkeypatch.setattr(history, "SENT_AT_ONCE", 10_000)
    monkeypatch.setattr(routes, "AT_ONCE", 0)
    return monkeypatch


def logged(client: TestClient) -> str:
    """A long metric with odd values, a resumed one, and a short one."""
    run_id = make_run(client)
    values = np.random.default_rng(0).normal(size=N)
    values[[7, 5000, N - 1]] = np.nan, np.inf, -np.inf
    send(client, run_id, 1, bulk("long", N, values))
    steps = np.concatenate([np.arange(N // 2), np.arange(N // 3, N)])
    again = bulk("resumed", len(steps), np.arange(len(steps), dtype=np.float64)) | {"step": steps.tobytes()}
    send(client, run_id, 2, again)
    send(client, run_id, 3, bulk("short", 3, np.arange(3.0)))
    return run_id


def asked(client: TestClient, run_id: str, **params: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/metrics", params={"run_id": run_id, **params})
    assert answer.status_code == 200, answer.text
    return {one["key"]: one for one in answer.json()["series"]} | {"cursor": answer.json()["cursor"]}


@pytest.mark.parametrize("params", [{}, {"whole": True}, {"max_points": 50}, {"max_points": 20_000}])
def test_pieces_say_what_the_whole_says(
    client: TestClient, params: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    run_id = logged(client)
    at_once = asked(client, run_id, **params)
    request.getfixturevalue("in_pieces")
    in_pieces = asked(client, run_id, **params)
    if params.get("max_points") == 50:  # thinned twice: other points of a bucket may stand for it, no extreme is lost
        for key in ("long", "resumed"):
            for answer in (at_once, in_pieces):
                assert answer[key]["sampled"]
                assert 80 <= len(answer[key]["values"]) <= 102
            ends = [
                (min(numbers), max(numbers), answer[key]["steps"][0], answer[key]["steps"][-1])
                for answer in (at_once, in_pieces)
                for numbers in [[v for v in answer[key]["values"] if not isinstance(v, str)]]
            ]
            assert ends[0] == ends[1]
    else:
        assert in_pieces == at_once


@pytest.mark.usefixtures("in_pieces")
def test_arrow_in_batches(client: TestClient) -> None:
    run_id = logged(client)
    told = asked(client, run_id, whole=True)
    answer = client.get("/api/v1/metrics", params={"run_id": run_id, "whole": True}, headers=ARROW)
    stream = pa.ipc.open_stream(answer.content)
    table = stream.read_all()
    assert table.schema.metadata[b"cursor"].decode() == told["cursor"]
    assert len(table.to_batches()) > 3
    for key in ("long", "resumed", "short"):
        own = table.filter(pa.compute.equal(table["key"].cast(pa.string()), key))
        names = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
        values = [names[v] if isinstance(v, str) else v for v in told[key]["values"]]
        np.testing.assert_array_equal(own["value"].to_numpy(), values)
        assert own["step"].to_pylist() == told[key]["steps"]
        assert set(own["run_id"].to_pylist()) == {run_id}


@pytest.mark.usefixtures("in_pieces")
def test_points_that_came_as_a_set_come_by_step(client: TestClient) -> None:
    """As MLflow's clients send them; where later chunks hold earlier steps, these are read together."""
    experiment = client.post("/api/2.0/mlflow/experiments/create", json={"name": "set"}).json()["experiment_id"]
    created = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": experiment, "start_time": 1})
    run_id = created.json()["run"]["info"]["run_id"]
    steps = np.random.default_rng(1).permutation(5000)
    for start in range(0, len(steps), 1000):
        metrics = [{"key": "m", "value": float(s), "timestamp": 5, "step": int(s)} for s in steps[start : start + 1000]]
        client.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run_id, "metrics": metrics}).raise_for_status()
    assert asked(client, run_id)["m"]["steps"] == list(range(5000))


@pytest.mark.usefixtures("in_pieces")
def test_a_cursor_goes_on_from_where_the_answer_ended(client: TestClient) -> None:
    run_id = logged(client)
    cursor = asked(client, run_id)["cursor"]
    send(client, run_id, 4, {"key": "short", "step": [3], "time": [1.0], "value": [9.0]})
    after = asked(client, run_id, after=cursor)
    assert (after["short"]["steps"], after["short"]["values"], after["long"]["values"]) == ([3], [9.0], [])
