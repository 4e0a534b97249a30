"""The recorder: nothing waits for the database, nothing recorded is lost, nothing counts twice."""

from __future__ import annotations

import errno
import fcntl
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from sqlalchemy import create_engine
from sqlmodel import func, select
from starlette.testclient import TestClient

from service.experiments.events import Event, OutcomeGiven, Requested
from service.experiments.ledger import Applied
from service.experiments.recorder import Recorder
from service.experiments.spill import Spill
from service.store.database import Database
from service.store.tables import Outcome
from tests.conftest import wait_until


def outcome(n: int) -> OutcomeGiven:
    return OutcomeGiven(f"r{n}", "satisfaction", 1.0, float(n))


def stored(database: Database) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(Outcome)).one()


@contextmanager
def away(database: Database) -> Iterator[None]:
    """The database really refuses: PostgreSQL lets nobody in, SQLite has lost a table."""
    if database.is_sqlite:
        statements = ["ALTER TABLE outcome RENAME TO gone"], ["ALTER TABLE gone RENAME TO outcome"]
        engine = database.engine
    else:
        name = database.url.database
        kick = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        statements = (
            [f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false", kick],
            [f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"],
        )
        engine = create_engine(database.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        for group, work in zip(statements, (True, False), strict=True):
            with engine.connect() as connection:
                for statement in group:
                    connection.exec_driver_sql(statement)
                connection.commit()
            if work:
                yield
    finally:
        if engine is not database.engine:
            engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spill"


def spilled(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("events-*.jsonl"))


def test_what_is_recorded_is_stored_when_it_stops(database: Database, folder: Path) -> None:
    recorder = Recorder(database, folder, batch=50)
    recorder.start()
    for n in range(420):
        recorder.record(outcome(n))
    recorder.stop()
    assert stored(database) == 420
    assert list(folder.iterdir()) == []


def test_what_comes_after_the_stop_is_kept_for_the_next_start(database: Database, folder: Path) -> None:
    recorder = Recorder(database, folder)
    recorder.start()
    recorder.stop()
    recorder.record(outcome(1))
    assert (stored(database), spilled(folder)) == (0, 1)
    recorder._spill.close()
    following = Recorder(database, folder)
    following.start()
    assert following.flush()
    following.stop()
    assert (stored(database), spilled(folder)) == (1, 0)


def test_events_wait_on_disk_while_the_database_is_away(database: Database, folder: Path) -> None:
    recorder = Recorder(database, folder, retry_seconds=0.05)
    recorder.start()
    with away(database):
        for n in range(30):
            recorder.record(outcome(n))
        wait_until(lambda: spilled(folder) == 30)
        # Acknowledged on disk, too.
        assert recorder.write_through([outcome(n) for n in range(30, 40)]) == Applied(10, 0)
        assert spilled(folder) == 40
        assert not recorder.flush(timeout=0.2)
    assert recorder.flush()
    recorder.stop()
    assert (stored(database), list(folder.iterdir())) == (40, [])


def test_a_stop_while_the_database_is_away_loses_nothing(database: Database, folder: Path) -> None:
    with away(database):
        recorder = Recorder(database, folder)
        recorder.start()
        for n in range(30):
            recorder.record(outcome(n))
        recorder.stop()
        assert spilled(folder) == 30
    following = Recorder(database, folder)
    following.start()
    assert following.flush()
    following.stop()
    assert stored(database) == 30


def test_a_full_queue_goes_to_disk_and_keeps_its_callers(database: Database, folder: Path) -> None:
    recorder = Recorder(database, folder, capacity=10)
    for n in range(25):
        recorder.record(outcome(n))  # nobody takes them yet
    assert spilled(folder) == 15
    recorder.start()
    assert recorder.flush()
    recorder.stop()
    assert (stored(database), spilled(folder)) == (25, 0)


def test_an_event_the_database_refuses_is_set_aside_and_the_rest_is_stored(database: Database, folder: Path) -> None:
    """A text with NUL, which PostgreSQL refuses for good; the intake lets none through."""
    bad = OutcomeGiven("r\x00", "satisfaction", 1.0, 1.0)
    recorder = Recorder(database, folder)
    recorder.start()
    for event in (outcome(1), bad, outcome(2)):
        recorder.record(event)
    assert recorder.flush()
    recorder.stop()
    if database.is_sqlite:
        assert stored(database) == 3
    else:
        assert stored(database) == 2
        assert b"u0000" in (folder / "refused.jsonl").read_bytes()


def test_a_file_torn_by_a_crash_is_drained_up_to_the_tear(folder: Path) -> None:
    spill = Spill(folder)
    call = Requested("r2", 1.0, 200, messages=[{"role": "user", "content": "žluťoučký\n"}], answer="ok")
    events: list[Event] = [outcome(1), call]
    spill.append(events)
    spill.close()
    (path,) = folder.glob("events-*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"type":"outcome","request_id":"r3","met')
    drained: list[Event] = []
    following = Spill(folder)
    assert following.waiting
    following.drain(drained.extend)
    assert drained == events
    assert (following.waiting, list(folder.iterdir())) == (False, [])


def test_what_cannot_be_drained_stays(folder: Path) -> None:
    spill = Spill(folder, chunk=2)
    spill.append([outcome(n) for n in range(5)])
    taken: list[Event] = []

    def take(events: object) -> None:
        if len(taken) >= 2:
            raise ConnectionError("away again")
        taken.extend(events)  # type: ignore[arg-type]

    with pytest.raises(ConnectionError):
        spill.drain(take)
    assert spill.waiting
    again: list[Event] = []
    spill.drain(again.extend)
    assert again == [outcome(n) for n in range(5)]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system takes no byte of a file beyond `size`, as where the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_takes_all_of_an_append_or_nothing(folder: Path) -> None:
    spill = Spill(folder)
    spill.append([outcome(1)])
    with files_up_to(1000):
        with pytest.raises(OSError):
            spill.append([outcome(n) for n in range(2, 100)])
        drained: list[Event] = []
        spill.drain(drained.extend)
        spill.append([outcome(100)])
    spill.append([outcome(101)])
    spill.drain(drained.extend)
    assert drained == [outcome(1), outcome(100), outcome(101)]


def test_a_file_that_cannot_be_read_holds_up_no_other(folder: Path) -> None:
    (folder / "events-0.jsonl").mkdir(parents=True)
    spill = Spill(folder)
    spill.append([outcome(1)])
    drained: list[Event] = []
    spill.drain(drained.extend)
    assert (drained, spill.waiting) == ([outcome(1)], False)


def test_a_disk_that_fails_in_a_drain_does_not_end_the_recorder(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Spill(folder)
    before.append([outcome(1)])
    before.close()
    drain, failures = Spill.drain, iter([OSError(errno.EIO, "the disk fails")])

    def drain_later(spill: Spill, apply: Callable[[Sequence[Event]], None]) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        drain(spill, apply)

    monkeypatch.setattr(Spill, "drain", drain_later)
    recorder = Recorder(database, folder, retry_seconds=0.05)
    recorder.start()
    recorder.record(outcome(2))
    wait_until(lambda: stored(database) == 2)
    recorder.stop()


def test_a_file_another_process_writes_is_left_to_it(folder: Path) -> None:
    owner, finder = Spill(folder), Spill(folder)
    owner.append([outcome(1)])
    drained: list[Event] = []
    finder.drain(drained.extend)
    assert drained == []
    owner.drain(drained.extend)
    assert drained == [outcome(1)]


def test_a_file_drained_before_it_is_locked_is_not_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, finder = Spill(folder), Spill(folder)
    drained: list[Event] = []
    lock = fcntl.flock
    drains = iter([True])

    def lock_late(file: BinaryIO, how: int) -> None:
        if how == fcntl.LOCK_EX and next(drains, False):
            finder.drain(drained.extend)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    owner.append([outcome(1)])
    assert next(drains, None) is None
    owner.drain(drained.extend)
    assert drained == [outcome(1)]


def test_what_is_appended_as_a_drain_begins_waits_for_the_next(folder: Path) -> None:
    spill = Spill(folder)
    late = iter([outcome(2)])

    class Released(AbstractContextManager[None]):
        """The spill's lock, which another thread takes as soon as the drain lets go of it."""

        lock = spill._lock

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if (event := next(late, None)) is not None:
                spill.append([event])

    spill.append([outcome(1)])
    spill._lock = Released()  # type: ignore[assignment]
    drained: list[Event] = []
    spill.drain(drained.extend)
    assert (drained, spill.waiting) == ([outcome(1)], True)
    spill.drain(drained.extend)
    assert drained == [outcome(1), outcome(2)]


def test_the_service_decides_and_acknowledges_while_the_database_is_away(
    client: TestClient, database: Database
) -> None:
    variants = [{"key": "a", "weight": 1}, {"key": "b", "weight": 1}]
    client.post("/api/v1/experiments", json={"key": "e", "variants": variants})
    client.post("/api/v1/experiments/e/start")
    exposure = {"type": "exposure", "experiment": "e", "unit_id": "u", "variant": "a"}
    rating = {"type": "outcome", "request_id": "r1", "metric": "satisfaction", "value": 1}
    with away(database):
        assert client.get("/api/v1/experiments/snapshot").json()["experiments"][0]["status"] == "running"
        answer = client.post("/api/v1/events", json={"events": [exposure, rating]})
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "duplicates": 0})
    wait_until(lambda: stored(database) == 1)
    again = client.post("/api/v1/events", json={"events": [exposure, rating]})
    assert again.json() == {"accepted": 0, "duplicates": 2}
