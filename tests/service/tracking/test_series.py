"""What storage promises of a series: nothing lost, nothing out of order, whenever its chunks are joined."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import col, func, select
from starlette.testclient import TestClient

from service.store import history as reader
from service.store import runs, series
from service.store.database import Database
from service.store.points import Points
from service.store.series import CHUNK_POINTS, MERGE_FROM
from service.store.tables import Chunk, Run, Series
from tests.conftest import running_service, wait_until
from tunescope import Client

from .test_metrics import column, history, make_run, send


@pytest.fixture
def run_id(database: Database) -> str:
    return new_run(database)


def new_run(database: Database) -> str:
    with database.write() as session:
        run = Run(project_id=runs.project_id(session, "p"), name="r", created_at=0.0, heartbeat_at=0.0)
        session.add(run)
        return run.id


def points(steps: Any, values: Any = None) -> Points:
    steps = np.asarray(steps, np.int64)
    return Points(steps, np.full(len(steps), 1.7e9), np.asarray(steps if values is None else values, np.float64))


def stored(database: Database, run_id: str) -> Points:
    with database.read() as session:
        (one,) = series.summaries(session, [run_id])
        return reader.read(session, one, whole=True)[0]


def chunks(database: Database) -> list[int]:
    with database.read() as session:
        return list(session.exec(select(Chunk.count).order_by(col(Chunk.id))).all())


def merge_all(database: Database) -> None:
    with database.read() as session:
        ids = series.unmerged(session, at_least=2)
    for one in ids:
        more = True
        while more:
            with database.write() as session:
                more = series.merge(session, one)


full = st.integers(CHUNK_POINTS - 2, 2 * CHUNK_POINTS + 2)
sizes = st.lists(st.one_of(st.integers(1, 50), st.just(CHUNK_POINTS), full, st.just(-1)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(plan=sizes)
def test_joining_at_any_moment_keeps_every_point_in_its_place(
    plan: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A plan is a list of batch sizes; -1 joins what is there."""
    with closing(Database(f"sqlite:///{tmp_path_factory.mktemp('series') / 'x.db'}")) as database:
        run_id, total = new_run(database), 0
        for size in plan:
            if size == -1:
                merge_all(database)
                continue
            with database.write() as session:
                series.append(session, run_id, {"x": points(range(total, total + size))})
            total += size
        if total == 0:
            return
        assert stored(database, run_id).steps.tolist() == list(range(total))
        merge_all(database)
        assert stored(database, run_id).values.tolist() == list(range(total))
        # No more small chunks than one, wherever full ones came between.
        counts = chunks(database)
        assert sum(count < CHUNK_POINTS for count in counts) <= 1
        assert sum(counts) == total


def test_segments_are_joined_apart(database: Database, run_id: str) -> None:
    for start, count in ((0, 10), (5, 10), (3, 4)):
        for step in range(start, start + count):
            with database.write() as session:
                series.append(session, run_id, {"x": points([step])})
    merge_all(database)
    assert chunks(database) == [10, 10, 4]
    assert stored(database, run_id).steps.tolist() == [*range(10), *range(5, 15), *range(3, 7)]


def test_a_set_of_points_may_come_in_any_order(database: Database, run_id: str) -> None:
    """Parallel senders: nothing is replaced, the last value is that of the greatest step, and reading sorts."""
    parts = [points(range(start, start + 5), np.arange(start, start + 5) * 10.0) for start in (10, 0, 15, 5)]
    for part in parts:
        with database.write() as session:
            series.append(session, run_id, {"x": part}, ordered=False)
    merge_all(database)
    with database.read() as session:
        (one,) = series.summaries(session, [run_id])
        assert (one.count, one.segment, one.first_step, one.last_step, one.last) == (20, 0, 0, 19, 190.0)
        assert reader.read(session, one)[0].steps.tolist() == list(range(20))


def test_the_greatest_step_then_time_then_value_is_last(database: Database, run_id: str) -> None:
    rows = [(3, 1.0, 5.0), (3, 2.0, 4.0), (3, 2.0, 4.5), (2, 9.0, 9.0), (3, 1.5, 99.0)]
    for order in itertools.islice(itertools.permutations(rows), 0, 120, 17):
        with database.write() as session:
            for number, (step, time, value) in enumerate(order):
                one = Points(np.array([step]), np.array([time]), np.array([value]))
                series.append(session, run_id, {f"x{order}": one}, ordered=False)
                assert number < 5
    with database.read() as session:
        assert {one.last for one in series.summaries(session, [run_id])} == {4.5}


def test_small_chunks_are_joined_when_the_service_has_time(client: TestClient) -> None:
    run = make_run(client)
    for batch in range(1, MERGE_FROM + 1):
        send(client, run, batch, column("x", [batch], [0.5]))
    wait_until(lambda: count_chunks(client) == 1)
    assert history(client, run)["series"][0]["steps"] == list(range(1, MERGE_FROM + 1))


def test_a_finished_run_is_joined_whole(client: TestClient) -> None:
    run = make_run(client)
    for batch in range(1, 6):
        send(client, run, batch, column("x", [batch], [0.5]))
    assert count_chunks(client) == 5
    client.patch(f"/api/v1/runs/{run}", json={"status": "finished"})
    wait_until(lambda: count_chunks(client) == 1)


def test_a_run_that_an_mlflow_client_ends_is_joined_too(client: TestClient) -> None:
    api = "/api/2.0/mlflow/runs"
    run = client.post(f"{api}/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    for step in range(5):
        point = {"run_id": run, "key": "x", "value": 1, "timestamp": 1, "step": step}
        logged = client.post(f"{api}/log-metric", json=point)
        assert logged.status_code == 200
    assert count_chunks(client) == 5
    client.post(f"{api}/update", json={"run_id": run, "status": "FINISHED"})
    wait_until(lambda: count_chunks(client) == 1)


def count_chunks(client: TestClient) -> int:
    with client.app.state.database.read() as session:  # type: ignore[attr-defined]
        return int(session.exec(select(func.count(col(Chunk.id)))).one())


def test_what_a_stopped_service_left_is_joined_by_the_next(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path / 'data' / 'tunescope.db'}")) as database:
        run_id = new_run(database)
        with database.write() as session:
            for step in range(MERGE_FROM):
                series.append(session, run_id, {"x": points([step])})
    with running_service(tmp_path / "data") as service, Client(service.url) as api:
        assert api.history([run_id], ["x"])[0]["steps"] == list(range(MERGE_FROM))
        wait_until(lambda: open_chunks(tmp_path) == 1)


def open_chunks(tmp_path: Path) -> int:
    url = f"sqlite:///{tmp_path / 'data' / 'tunescope.db'}"
    with closing(Database(url, attached=True)) as watcher, watcher.read() as session:
        return session.exec(select(Series.open_chunks)).one()


def test_joined_points_take_few_bytes(database: Database, run_id: str) -> None:
    """A loss as a trainer logs it (float32, ten steps a second, clock jitter): at most 10 bytes a point."""
    rng, n = np.random.default_rng(0), 50_000
    values = (2 / (1 + np.arange(n) / 300) + rng.normal(0, 0.05, n)).astype(np.float32).astype(np.float64)
    logged = Points(np.arange(n, dtype=np.int64), 1.7e9 + np.cumsum(rng.gamma(4, 0.025, n)), values)
    with database.write() as session:
        for start in range(0, n, 100):
            series.append(session, run_id, {"x": logged[start : start + 100]})
    merge_all(database)
    with database.read() as session:
        held = session.exec(select(func.sum(func.length(Chunk.payload)))).one()
    assert held / n <= 10
    assert stored(database, run_id).values.tobytes() == values.tobytes()
