"""A reader takes its time: what it gets is what was there when it began, and nothing waits for it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session
from starlette.testclient import TestClient

from service.store import bin as bin_store
from service.store import history as reader
from service.store import purge, series
from service.store.database import Database
from service.store.points import CHUNK_POINTS, Points
from service.tracking import history
from service.tracking.purger import condemn
from tests.conftest import LiveService, wait_until
from tunescope import Client, TunescopeError

from .test_compare_curves import bulk
from .test_metrics import make_run, send
from .test_series import merge_all, new_run

MIB = 2**20


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PIECE_POINTS", 1)


class Elsewhere(history.Reading):
    """A transaction of its own for each piece, with something done to the database before."""

    def __init__(self, database: Database, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(database)
        self._meanwhile = meanwhile

    def session(self) -> Session:
        self.pause()
        self._meanwhile()
        return super().session()


def read(told: reader.Reader, source: Elsewhere) -> Pieces:
    with source:
        return list(told.pieces(source.session))


Pieces = list[tuple[Points, Any]]


def one_of(pieces: Pieces) -> tuple[list[int], list[float], list[float], list[int]]:
    points = Points.concatenate([points for points, _ in pieces])
    segments = [int(one) for _, own in pieces for one in own]
    return points.steps.tolist(), points.times.tolist(), points.values.tolist(), segments


# Sizes of batches (0: join what is there), each with how far its steps go back.
batches = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 1, 2, 7, 600, CHUNK_POINTS, CHUNK_POINTS + 5]), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@pytest.mark.usefixtures("small_pieces")
@settings(max_examples=30, deadline=None)
@given(before=batches, during=batches, ordered=st.booleans(), whole=st.booleans(), after=st.integers(0, 700))
def test_a_reader_sees_what_was_there_when_it_began(
    before: list[tuple[int, int]],
    during: list[tuple[int, int]],
    ordered: bool,
    whole: bool,
    after: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever arrives and is joined between two of its pieces, and also when it reads a second time."""
    url = f"sqlite:///{tmp_path_factory.mktemp('reads') / 'x.db'}"
    with closing(Database(url)) as database:
        run_id = new_run(database)
        logged = Logged(database, run_id, ordered)
        for batch in [(5, 0), *before]:
            logged.add(*batch)
        with database.read() as session:
            (row,) = series.summaries(session, [run_id])
            session.expunge_all()
        told = reader.Reader(row, after=after, whole=whole)
        with database.read() as session:
            at_once = one_of(list(reader.Reader(row, after=after, whole=whole).pieces(lambda: session)))
        plan = iter(during)

        def meanwhile() -> None:
            if (batch := next(plan, None)) is not None:
                logged.add(*batch)

        slowly = one_of(read(told, Elsewhere(database, meanwhile)))
        again = one_of(read(told, Elsewhere(database, lambda: merge_all(database))))
        assert again == slowly
        if ordered:
            assert slowly == at_once
            values = sorted(slowly[2]) if whole or row.segment == 0 else None
            assert values is None or values == [float(n) for n in range(after, row.count)]
        else:  # of one step, which comes first depends on where the pieces are cut
            assert slowly[0] == at_once[0]
            assert sorted(slowly[2]) == [float(n) for n in range(after, row.count)]
            assert sorted(zip(*slowly[:3], strict=True)) == sorted(zip(*at_once[:3], strict=True))


class Logged:
    """Points whose values count them, in order of arrival."""

    def __init__(self, database: Database, run_id: str, ordered: bool) -> None:
        self._database = database
        self._run_id = run_id
        self._ordered = ordered
        self._count = 0
        self._step = 0

    def add(self, size: int, back: int) -> None:
        if size == 0:
            merge_all(self._database)
            return
        start = max(self._step - back, 0)
        self._step = start + size
        numbers = np.arange(self._count, self._count + size, dtype=np.float64)
        self._count += size
        points = Points(np.arange(start, start + size), 1e9 - numbers, numbers)
        with self._database.write() as session:
            series.append(session, self._run_id, {"x": points}, ordered=self._ordered)


@pytest.mark.usefixtures("small_pieces")
def test_readers_beside_a_writer_that_joins(database: Database) -> None:
    """On both databases, with threads: each reading is all that its series had when it began, in order."""
    run_id = new_run(database)
    logged = Logged(database, run_id, ordered=True)
    logged.add(1, 0)
    stop = threading.Event()

    def write() -> None:
        for number in range(150):
            logged.add(7 if number % 9 else 1500, 0)
            if number % 5 == 0:
                merge_all(database)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    readings = 0
    try:
        while not stop.is_set() or not readings:
            with database.read() as session:
                (row,) = series.summaries(session, [run_id])
            steps = one_of(read(reader.Reader(row), Elsewhere(database)))[0]
            assert steps == list(range(row.count))
            readings += 1
    finally:
        writer.join()


@pytest.mark.usefixtures("small_pieces")
def test_points_that_are_purged_meanwhile_are_an_error(database: Database) -> None:
    run_id = new_run(database)
    logged = Logged(database, run_id, ordered=True)
    for _ in range(40):
        logged.add(CHUNK_POINTS, 0)
    with database.read() as session:
        (row,) = series.summaries(session, [run_id])

    def purge_some() -> None:
        with database.read() as session:
            part = purge.find(session, rows=16)
        assert part is not None
        with database.write() as session:
            purge.delete(session, part)

    source = Elsewhere(database)
    started = reader.Reader(row).pieces(source.session)
    next(started)
    with database.write() as session:
        bin_store.put_runs(session, [run_id], time.time() - 1)
    condemn(database, time.time())
    next(started)  # in the bin, it is all there
    source.pause()
    purge_some()
    with source, pytest.raises(reader.PointsPurged, match=f"The run '{run_id}' has been purged"):
        list(started)
    with pytest.raises(reader.PointsPurged):
        read(reader.Reader(row), Elsewhere(database))
    while rows_left(database, row.run_id):
        purge_some()
    # SQLite gives ids again: another run's series of the same id is not this one.
    other = Logged(database, new_run(database), ordered=True)
    for _ in range(40):
        other.add(CHUNK_POINTS, 0)
    with pytest.raises(reader.PointsPurged):
        read(reader.Reader(row), Elsewhere(database))


def rows_left(database: Database, run_id: str) -> bool:
    with database.read() as session:
        return bool(bin_store.known(session, [run_id]))


# --- over HTTP ---


def test_no_transaction_is_open_while_an_answer_waits_for_its_reader(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SENT_AT_ONCE", 1000)
    run_id = make_run(client)
    send(client, run_id, 1, bulk("m", 9 * CHUNK_POINTS, np.arange(9.0 * CHUNK_POINTS)))
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    with database.read() as session:
        asked = history.ask(session, [run_id], None, None, None)
        session.expunge_all()
    for answer in (history.as_json, history.as_arrow):
        parts: Iterator[bytes] = history.streamed(database, lambda source, answer=answer: answer(source, asked))
        n = 0
        for _ in parts:
            assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            n += 1
        assert n >= (3 if answer is history.as_json else 1)


LONG = 60 * CHUNK_POINTS  # points of each of four metrics: some 9 MB of JSON


def long_run(client: Client) -> str:
    run = str(client.create_run(project="p")["id"])
    rng = np.random.default_rng(0)
    steps = np.arange(LONG)
    for number in range(4):
        column = {"key": f"m{number}", "step": steps.tolist(), "time": (steps + 1.7e9).tolist()}
        client.send_batch(run, packed(number + 1, column | {"value": rng.normal(size=LONG).tolist()}))
    return run


def packed(number: int, *columns: dict[str, Any]) -> bytes:
    import msgspec

    kinds = {"step": "<i8", "time": "<f8", "value": "<f8"}
    raw = [{"key": one["key"], **{k: np.asarray(one[k], d).tobytes() for k, d in kinds.items()}} for one in columns]
    return msgspec.msgpack.encode({"writer": "w", "batch": number, "metrics": raw})


class Slow:
    """A client that asks for a history, and takes it up a little at a time."""

    def __init__(self, service: LiveService, run: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        self._connection.request("GET", f"/api/v1/metrics?run_id={run}")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self.body = self._answer.read(100_000)

    def rest(self) -> bytes:
        try:
            self.body += self._answer.read()
        finally:
            self._answer.close()
            self._connection.close()
        return self.body


def test_the_journal_stays_small_beside_a_slow_reader(live: LiveService) -> None:
    journal = Path(f"{live.data_dir / 'tunescope.db'}-wal")
    with Client(live.url) as client:
        run = long_run(client)
        told = Slow(live, run)
        other = str(client.create_run(project="p")["id"])
        rng = np.random.default_rng(1)
        steps = np.arange(20_000)
        for number in range(160):  # 77 MB of points
            column = {"key": "x", "step": steps + 20_000 * number, "time": steps, "value": rng.normal(size=20_000)}
            client.send_batch(other, packed(number + 1, column))
        assert journal.stat().st_size < 48 * MIB
        whole = client.history([run])
        assert [one["values"] for one in history_of(told.rest())] == [one["values"] for one in whole]


def history_of(body: bytes) -> list[dict[str, Any]]:
    import orjson

    found: list[dict[str, Any]] = orjson.loads(body)["series"]
    return found


def test_an_answer_whose_run_is_purged_breaks_off(live: LiveService) -> None:
    with Client(live.url) as client:
        run = long_run(client)
        told = Slow(live, run)
        client.delete_run(run)
        client.purge_bin([run])
        wait_until(lambda: client.bin()["n_purging"] == 0)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            told.rest()
        with pytest.raises(TunescopeError):
            client.get_run(run)
