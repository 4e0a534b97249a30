"""Alerts as metrics arrive: opened once, resolved when they no longer hold, found by the sweep, and cheap to notice."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from service.store import alerts as store
from service.store import history as reader
from service.store import runs as run_store
from service.store import series as series_store
from service.store import sketch as sketch_store
from service.store.database import Database
from service.store.points import Points
from service.store.series import CHUNK_POINTS
from service.store.tables import Alert, Run
from service.tracking import ingest
from service.tracking.alerts import AlertWorker
from tests.conftest import wait_until

FAST = {"look_seconds": 0.02, "sweep_seconds": 0.05, "resolve_after_seconds": 0.1}
NAN = float("nan")


def new_run(database: Database, **values: object) -> str:
    with database.write() as session:
        now = time.time()
        row = Run(
            project_id=run_store.project_id(session, "p"), name="r", created_at=now, heartbeat_at=now
        ).sqlmodel_update(values)
        session.add(row)
        session.flush()
        return row.id


def change(database: Database, run_id: str, **values: object) -> None:
    with database.write() as session:
        run = run_store.get(session, run_id)
        assert run is not None
        run.sqlmodel_update(values)


class Writer:
    """Sends a run's metrics the way ingestion stores them, and tells the worker."""

    def __init__(self, database: Database, worker: AlertWorker, run_id: str) -> None:
        self._database, self._worker, self.run_id = database, worker, run_id
        self._batch, self._step = 0, 0

    def log(self, key: str, values: list[float] | np.ndarray) -> None:
        n = len(values)
        steps = np.arange(self._step + 1, self._step + n + 1)
        self._step += n
        self._batch += 1
        points = {key: Points(steps, steps * 1.0, np.asarray(values, dtype=np.float64))}
        with self._database.write() as session:
            batch = ingest.Batch(writer="w", batch=self._batch)
            ingest.Ingest(self._database).apply(session, self.run_id, batch, points)
        self._worker.notice(self.run_id, points)


@contextmanager
def working(database: Database, silent_after: float = 60.0, **options: float) -> Iterator[AlertWorker]:
    worker = AlertWorker(database, silent_after, **{**FAST, **options})
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def alerts(database: Database, run_id: str) -> list[Alert]:
    with database.read() as session:
        rows = store.page(
            session, project=None, run_ids=[run_id], open_only=None, rule=None, severity=None, limit=100, after=None
        )
        return [alert for alert, _, _ in rows]


def states(database: Database, run_id: str) -> dict[str, bool]:
    """Rule → is it open?"""
    return {alert.rule: alert.resolved_at is None for alert in alerts(database, run_id)}


def is_state(database: Database, run_id: str, **expected: bool) -> Callable[[], bool]:
    return lambda: states(database, run_id) == expected


def test_an_alert_opens_is_resolved_and_opens_again(database: Database) -> None:
    with working(database) as worker:
        run = Writer(database, worker, new_run(database))
        run.log("train/loss", [2.0, 1.5, NAN, NAN])
        wait_until(is_state(database, run.run_id, loss_not_finite=True))
        (first,) = alerts(database, run.run_id)
        assert (first.key, first.severity, first.step) == ("train/loss", "error", 3)
        assert first.evidence["last_good_value"] == 1.5
        run.log("train/loss", [1.4, 1.3])
        wait_until(is_state(database, run.run_id, loss_not_finite=False))
        run.log("train/loss", [NAN, NAN, NAN])
        wait_until(is_state(database, run.run_id, loss_not_finite=True))
        (again,) = alerts(database, run.run_id)
    assert again.id == first.id
    assert again.step == 7
    assert again.created_at > first.created_at


def test_an_open_alert_follows_what_happens(database: Database) -> None:
    with working(database) as worker:
        run = Writer(database, worker, new_run(database))
        run.log("train/loss", [1.0, NAN, NAN])
        wait_until(is_state(database, run.run_id, loss_not_finite=True))
        run.log("train/loss", [NAN, NAN])
        wait_until(lambda: "(4 points)" in alerts(database, run.run_id)[0].message)
        assert alerts(database, run.run_id)[0].evidence["bad_points"] == 4


def test_a_rule_must_stay_quiet_for_a_while_before_its_alert_is_over(database: Database) -> None:
    with working(database, resolve_after_seconds=3600.0) as worker:
        run = Writer(database, worker, new_run(database))
        run.log("train/loss", [1.0, NAN, NAN])
        wait_until(is_state(database, run.run_id, loss_not_finite=True))
        run.log("train/loss", [1.0])
        run.log("system/memory_percent", [98.0] * 10)  # what comes of this shows that the points before were looked at
        wait_until(is_state(database, run.run_id, loss_not_finite=True, out_of_memory=True))
        change(database, run.run_id, status="finished", finished_at=time.time())
        wait_until(lambda: not states(database, run.run_id)["loss_not_finite"])  # the run's end is the last word


def test_a_run_that_falls_silent_is_found_and_may_speak_again(database: Database) -> None:
    quiet = new_run(database, heartbeat_at=time.time() - 3600)
    ended = new_run(database, heartbeat_at=time.time() - 3600, status="finished")
    with working(database):
        wait_until(is_state(database, quiet, silent=True))
        change(database, quiet, heartbeat_at=time.time())
        wait_until(is_state(database, quiet, silent=False))
    assert states(database, ended) == {}


def test_a_client_without_a_heartbeat_is_given_its_time(database: Database) -> None:
    patient = new_run(database, heartbeat_at=time.time() - 3600, patience=3600.0)
    quiet = new_run(database, heartbeat_at=time.time() - 3700, patience=3600.0)
    with working(database):
        wait_until(is_state(database, quiet, silent=True))
    assert states(database, patient) == {}


def test_a_silent_run_that_ended_while_the_service_was_down_is_not_silent_for_ever(database: Database) -> None:
    quiet = new_run(database, heartbeat_at=time.time() - 3600)
    with working(database):
        wait_until(is_state(database, quiet, silent=True))
    change(database, quiet, status="crashed", error="lost")
    with working(database):
        wait_until(is_state(database, quiet, silent=False))


def test_a_run_that_ends_for_want_of_memory_is_found_without_a_metric(database: Database) -> None:
    run = new_run(database)
    with working(database) as worker:
        wait_until(lambda: run in worker._running)
        change(database, run, status="crashed", error="Traceback\ntorch.OutOfMemoryError: CUDA out of memory.")
        wait_until(is_state(database, run, out_of_memory=True))
    (alert,) = alerts(database, run)
    assert "CUDA out of memory" in alert.message


def test_two_replicas_open_an_alert_once(database: Database, database_url: str) -> None:
    other = database if database.is_sqlite else Database(database_url)
    try:
        with working(database) as one, working(other) as two:
            runs = [Writer(database, one, new_run(database)) for _ in range(10)]
            for run in runs:
                run.log("train/loss", [1.0, NAN, NAN])
                two.notice(run.run_id, ["train/loss"])
            wait_until(lambda: all(states(database, run.run_id) == {"loss_not_finite": True} for run in runs))
            assert all(len(alerts(database, run.run_id)) == 1 for run in runs)
    finally:
        if other is not database:
            other.close()


def test_opening_is_atomic(database: Database) -> None:
    """Of two who find the same, one opens; who finds it open changes nothing; resolved, it can be opened again."""
    run_id = new_run(database)
    row = {
        "project_id": 1, "run_id": run_id, "rule": "silent", "key": "", "severity": "warning", "message": "m",
        "evidence": {}, "step": None, "created_at": 1.0,
    }  # fmt: skip
    with database.write() as session:
        (opened,) = store.open_(session, [row])
    with database.write() as session:
        assert store.open_(session, [row]) == []
        assert store.resolve(session, [opened], 2.0) == [opened]
        assert store.resolve(session, [opened], 3.0) == []
        assert store.open_(session, [{**row, "created_at": 4.0}]) == [opened]
    assert [alert.created_at for alert in alerts(database, run_id)] == [4.0]


class Counting(AlertWorker):
    """Counts its looks; the first of them meets a database that is away."""

    looks = 0

    def look(self, run_id: str) -> None:
        self.looks += 1
        if self.looks == 1:
            raise OperationalError("SELECT 1", {}, Exception("the database is away"))
        super().look(run_id)


def test_many_batches_are_one_look_and_a_database_that_is_away_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tracking.alerts.RETRY_SECONDS", 0.05)
    worker = Counting(database, 60.0, look_seconds=0.5, sweep_seconds=0.05)
    run = Writer(database, worker, new_run(database))
    for _ in range(20):
        run.log("train/loss", [1.0, NAN, NAN])
    worker.start()
    try:
        wait_until(is_state(database, run.run_id, loss_not_finite=True))
        began, before = time.monotonic(), worker.looks
        while time.monotonic() < began + 1.2:
            run.log("train/loss", [NAN])
        wait_until(lambda: worker.looks > before)
        assert worker.looks - before <= 4
    finally:
        worker.stop()


def test_metrics_that_no_rule_reads_cause_no_look(database: Database) -> None:
    worker = AlertWorker(database, 60.0)
    worker.notice("some run", ["eval/accuracy", "my/own"])
    assert worker._due == {}
    worker.notice("some run", ["eval/accuracy", "train/loss"])
    assert list(worker._due) == ["some run"]


def test_noticing_costs_ingestion_microseconds_and_a_bounded_memory(database: Database) -> None:
    worker = AlertWorker(database, 60.0)  # not started: nothing is ever taken out
    keys = [f"metric/{i}" for i in range(9)] + ["train/loss"]
    first, repeated = [], []
    for i in range(12_000):
        for taken in (first, repeated):
            began = time.perf_counter()
            worker.notice(f"run{i}", keys)
            taken.append(time.perf_counter() - began)
    assert len(worker._due) == 10_000
    assert statistics.median(first) < 50e-6
    assert statistics.median(repeated) < 10e-6


# --- the bounded look at a series ---


def store_series(database: Database, run_id: str, steps: np.ndarray, size: int) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 1, len(steps))
    for start in range(0, len(steps), size):
        part = slice(start, start + size)
        with database.write() as session:
            series_store.append(session, run_id, {"loss": Points(steps[part], steps[part] * 1.0, values[part])})
    return values


def look(database: Database, run_id: str) -> Points:
    with database.read() as session:
        return sketch_store.sketch(session, run_id, ["loss", "not there"])["loss"]


def whole(database: Database, run_id: str) -> Points:
    with database.read() as session:
        return reader.read(session, series_store.summaries(session, [run_id])[0])[0]


def test_a_short_series_is_seen_whole(database: Database) -> None:
    run_id = new_run(database)
    values = store_series(database, run_id, np.arange(2000), 37)
    seen = look(database, run_id)
    assert seen.steps.tolist() == list(range(2000))
    assert seen.values.tolist() == values.tolist()


def test_of_a_long_series_its_beginning_its_end_and_some_between_are_seen(database: Database) -> None:
    run_id = new_run(database)
    n = 25 * CHUNK_POINTS + 777
    values = store_series(database, run_id, np.arange(n), 7000)
    seen = look(database, run_id)
    assert len(seen) <= sketch_store.HEAD + sketch_store.MIDDLE + sketch_store.TAIL
    assert seen.steps[: sketch_store.HEAD].tolist() == list(range(sketch_store.HEAD))
    assert seen.steps[-sketch_store.TAIL :].tolist() == list(range(n - sketch_store.TAIL, n))
    assert np.diff(seen.steps).min() > 0
    assert np.diff(seen.steps).max() < n / 6  # from all over
    assert seen.values.tolist() == values[seen.steps].tolist()


@pytest.mark.parametrize("n", [300, 3 * CHUNK_POINTS])
def test_what_a_resumed_run_replaced_is_not_seen(database: Database, n: int) -> None:
    run_id = new_run(database)
    steps = np.concatenate([np.arange(n), np.arange(n // 2, n), np.arange(n // 3, n // 2)])
    store_series(database, run_id, steps, 1000)
    seen, everything = look(database, run_id), whole(database, run_id)
    assert np.diff(seen.steps).min() > 0
    assert seen.steps[-1] == everything.steps[-1] == n // 2 - 1
    position = {int(step): value for step, value in zip(everything.steps, everything.values, strict=True)}
    assert all(position[int(step)] == value for step, value in zip(seen.steps, seen.values, strict=True))
    if n == 300:
        assert seen.steps.tolist() == everything.steps.tolist()
