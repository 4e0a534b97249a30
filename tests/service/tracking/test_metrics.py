"""Metric batches: exactly once, exact values, summaries that equal the points, cursors, faults."""

from __future__ import annotations

import asyncio
import io
import math
import struct
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from service.store.series import CHUNK_POINTS, MERGE_FROM

SPECIALS = [float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, -0.0, 0.1 + 0.2]


def make_run(client: TestClient) -> str:
    return str(client.post("/api/v1/runs", json={"project": "p"}).json()["id"])


def column(key: str, steps: list[int], values: list[float]) -> dict[str, Any]:
    n = len(steps)
    return {
        "key": key,
        "step": struct.pack(f"<{n}q", *steps),
        "time": struct.pack(f"<{n}d", *range(n)),
        "value": struct.pack(f"<{n}d", *values),
    }


def send(client: TestClient, run: str, batch: int, *columns: dict[str, Any], writer: str = "w") -> Any:
    body = msgspec.msgpack.encode({"writer": writer, "batch": batch, "metrics": list(columns)})
    return client.post(f"/api/v1/runs/{run}/batches", content=body, headers={"content-type": "application/msgpack"})


def history(client: TestClient, run: str, **params: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/metrics", params={"run_id": run, **params})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_batch_sent_again_is_dropped(client: TestClient) -> None:
    run = make_run(client)
    first = send(client, run, 1, column("loss", [1, 2], [0.5, 0.4])).json()
    again = send(client, run, 1, column("loss", [1, 2], [0.5, 0.4])).json()
    other = send(client, run, 1, column("loss", [3], [0.3]), writer="v").json()
    assert (first["duplicate"], first["points_stored"]) == (False, 2)
    assert (again["duplicate"], again["points_stored"]) == (True, 2)
    assert (other["duplicate"], other["points_stored"]) == (False, 3)
    assert history(client, run)["series"][0]["steps"] == [1, 2, 3]


def test_a_gap_is_refused_and_named(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 1, column("loss", [1], [0.5]))
    answer = send(client, run, 3, column("loss", [3], [0.3]))
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "batch_gap"
    assert answer.json()["error"]["details"] == {"next": 2}


def test_every_value_comes_back_exactly(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 1, column("x", list(range(len(SPECIALS))), SPECIALS))
    arrow = client.get(
        "/api/v1/metrics", params={"run_id": run}, headers={"accept": "application/vnd.apache.arrow.stream"}
    )
    table = pa.ipc.open_stream(io.BytesIO(arrow.content)).read_all()
    assert table["value"].to_numpy().tobytes() == np.array(SPECIALS).tobytes()
    named = history(client, run)["series"][0]["values"]
    assert named[:3] == ["NaN", "Infinity", "-Infinity"]
    assert named[3:] == SPECIALS[3:]


def test_arrow_names_each_point(client: TestClient) -> None:
    runs = [make_run(client), make_run(client)]
    for run in runs:
        send(client, run, 1, column("x", [1, 2], [1.0, 2.0]), column("y", [1], [3.0]))
    accept = {"accept": "application/vnd.apache.arrow.stream"}
    body = client.get("/api/v1/metrics", params={"run_id": runs}, headers=accept).content
    frame = pa.ipc.open_stream(io.BytesIO(body)).read_all().to_pandas()
    assert list(zip(frame["run_id"], frame["key"], frame["value"], strict=True)) == [
        (run, key, value) for run in runs for key, value in [("x", 1.0), ("x", 2.0), ("y", 3.0)]
    ]


def test_json_batches_do_the_same(client: TestClient) -> None:
    run = make_run(client)
    body = {"writer": "w", "batch": 1, "metrics": [{"key": "x", "step": [1, 2], "time": [0, 1], "value": ["NaN", 2]}]}
    assert client.post(f"/api/v1/runs/{run}/batches", json=body).json()["points_stored"] == 2
    assert history(client, run)["series"][0]["values"] == ["NaN", 2.0]


def test_summaries_equal_the_points_through_merges(client: TestClient) -> None:
    run, rng = make_run(client), np.random.default_rng(1)
    values: list[float] = []
    for batch in range(1, 3 * MERGE_FROM):
        some = rng.normal(size=int(rng.integers(1, 200))).tolist()
        send(client, run, batch, column("x", list(range(len(values), len(values) + len(some))), some))
        values += some
    assert len(values) > CHUNK_POINTS  # so that full chunks and merged ones both exist
    summary = client.get(f"/api/v1/runs/{run}").json()["metrics"]["x"]
    assert history(client, run, key="x")["series"][0]["values"] == values
    assert summary["count"] == len(values)
    assert summary["last"] == values[-1]
    assert (summary["min"], summary["min_step"]) == (min(values), int(np.argmin(values)))
    assert (summary["max"], summary["max_step"]) == (max(values), int(np.argmax(values)))
    assert math.isclose(summary["mean"], sum(values) / len(values), rel_tol=1e-12, abs_tol=1e-12)


def test_a_cursor_reads_only_what_came_since(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 1, column("x", [1, 2], [1.0, 2.0]))
    first = history(client, run)
    assert history(client, run, after=first["cursor"])["series"][0]["steps"] == []
    for batch in range(2, MERGE_FROM + 5):
        send(client, run, batch, column("x", [batch + 1], [float(batch)]))
    since = history(client, run, after=first["cursor"])
    assert since["series"][0]["steps"] == list(range(3, MERGE_FROM + 6))


def test_big_batches_stay_in_order_through_merges(client: TestClient) -> None:
    """A full chunk and a small one a batch: what is merged must not land behind what came later."""
    run, size, cursor, live = make_run(client), CHUNK_POINTS + 100, None, []
    batches = MERGE_FROM + 3
    for batch in range(1, batches + 1):
        start = (batch - 1) * size
        send(client, run, batch, column("x", list(range(start, start + size)), [0.0] * size))
        since = history(client, run, **({"after": cursor} if cursor else {}))
        cursor = since["cursor"]
        live += since["series"][0]["steps"]
    assert history(client, run)["series"][0]["steps"] == list(range(batches * size))
    assert live == list(range(batches * size))


def test_a_resumed_run_replaces_its_tail(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 1, column("x", [1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0]))
    send(client, run, 2, column("x", [3, 4, 5], [30.0, 40.0, 50.0]))
    assert history(client, run)["series"][0]["values"] == [1.0, 2.0, 30.0, 40.0, 50.0]
    assert client.get(f"/api/v1/runs/{run}").json()["points_stored"] == 7


def test_the_whole_of_a_resumed_run_can_be_asked_for(client: TestClient) -> None:
    run = make_run(client)
    send(client, run, 1, column("loss", [1, 2, 3], [3.0, 2.0, 1.0]))
    send(client, run, 2, column("loss", [2, 3], [20.0, 10.0]))
    (series,) = history(client, run, whole=True)["series"]
    assert (series["steps"], series["values"]) == ([1, 2, 3, 2, 3], [3.0, 2.0, 1.0, 20.0, 10.0])
    answer = client.get(
        "/api/v1/metrics",
        params={"run_id": run, "whole": True},
        headers={"accept": "application/vnd.apache.arrow.stream"},
    )
    table = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
    assert table.column("segment").to_pylist() == [0, 0, 0, 1, 1]


def test_a_chart_is_thinned_by_the_service(client: TestClient) -> None:
    run = make_run(client)
    values = [0.0] * 10_000
    values[5_000] = 7.0
    send(client, run, 1, column("x", list(range(10_000)), values))
    shown = history(client, run, max_points=100)["series"][0]
    assert shown["sampled"]
    assert len(shown["values"]) <= 202
    assert max(shown["values"]) == 7.0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff", "cannot be read"),
        (msgspec.msgpack.encode({"writer": "w"}), "batch"),
        (msgspec.msgpack.encode({"writer": "w", "batch": 0}), ">= 1"),
        (msgspec.msgpack.encode({"writer": "", "batch": 1}), "length >= 1"),
        (
            msgspec.msgpack.encode(
                {"writer": "w", "batch": 1, "metrics": [{"key": "x", "step": [1], "time": [1.0, 2.0], "value": [1.0]}]}
            ),
            "'x': 1 steps, 2 times and 1 values",
        ),
        (
            msgspec.msgpack.encode(
                {"writer": "w", "batch": 1, "metrics": [{"key": "x", "step": [1], "time": [1.0], "value": ["high"]}]}
            ),
            "'high' is no number",
        ),
    ],
)
def test_an_unreadable_batch_says_why_and_stores_nothing(client: TestClient, body: bytes, says: str) -> None:
    run = make_run(client)
    answer = client.post(f"/api/v1/runs/{run}/batches", content=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert client.get(f"/api/v1/runs/{run}").json()["points_stored"] == 0


def test_a_crowd_of_writers_all_get_their_turn(live_service: str) -> None:
    import httpx2

    async def crowd() -> set[int]:
        limits = httpx2.Limits(max_connections=120)
        async with httpx2.AsyncClient(base_url=f"{live_service}/api/v1", timeout=60, limits=limits) as http:
            made = [http.post("/runs", json={"project": "crowd", "config": {"i": i}}) for i in range(120)]
            return {answer.status_code for answer in await asyncio.gather(*made)}

    assert asyncio.run(crowd()) == {201}


def test_concurrent_writers_lose_nothing(live_service: str) -> None:
    import httpx2

    async def write() -> int:
        async with httpx2.AsyncClient(base_url=f"{live_service}/api/v1", timeout=60) as http:
            run = (await http.post("/runs", json={"project": "concurrent"})).json()["id"]

            async def writer(name: str) -> None:
                for batch in range(1, 21):
                    body = {"writer": name, "batch": batch, "metrics": [column(name, [batch], [1.0])]}
                    answer = await http.post(f"/runs/{run}/batches", content=msgspec.msgpack.encode(body))
                    assert answer.status_code == 200, answer.text

            await asyncio.gather(*(writer(f"w{i}") for i in range(16)))
            return int((await http.get(f"/runs/{run}")).json()["points_stored"])

    assert asyncio.run(write()) == 320
