"""Batches of metric points: read, checked, and written many at a time in one transaction.

The event loop hands each batch to one writer thread and waits; the thread takes all that are waiting and
commits them together (group commit), so that the acknowledgement of each still means *stored*. When nothing waits, the
thread joins small chunks.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlmodel import Session

from service.errors import Conflict, Invalid, ServiceError, Unavailable
from service.store import batches, console, series
from service.store.console import Line
from service.store.database import Database
from service.store.points import Points
from service.tracking import runs
from service.tracking.schemas import BatchReceipt

log = logging.getLogger(__name__)
GROUP = 256  # jobs a transaction
MERGE_BACKLOG = 10_000  # series that may wait for a quiet moment
MAX_KEY_LENGTH = 500
MAX_RANK = 1_000_000
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class BatchUnreadable(Invalid):
    code = "batch_unreadable"


class BatchGap(Conflict):
    """A batch before this one is missing: send that first."""

    code = "batch_gap"


class StorageUnavailable(Unavailable):
    """The database refused the write; nothing of the batch was stored. Send it again later."""

    code = "storage_unavailable"


class ImpossibleValue(Invalid):
    """A zero byte in text, an integer beyond 64 bits: what no database can hold."""

    code = "impossible_value"


class Column(msgspec.Struct):
    """Points of one metric: packed little-endian columns (msgpack) or plain lists (JSON)."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
    step: bytes | list[int]
    time: bytes | list[float]
    value: bytes | list[float | str]


class Batch(msgspec.Struct):
    """What one process of a run (its `rank`) logged."""

    writer: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    batch: Annotated[int, msgspec.Meta(ge=1)]
    rank: Annotated[int, msgspec.Meta(ge=0, le=MAX_RANK)] = 0
    metrics: list[Column] = []
    console: list[Line] = []
    heartbeat_at: float | None = None
    refused: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Points that the writer sent since its last batch and that were not taken."""


_from_msgpack = msgspec.msgpack.Decoder(Batch)
_from_json = msgspec.json.Decoder(Batch)


def decode(body: bytes, content_type: str) -> tuple[Batch, dict[str, Points]]:
    """A batch and its points by key, in the order they were sent."""
    try:
        batch = (_from_json if "json" in content_type else _from_msgpack).decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BatchUnreadable(f"The batch cannot be read: {error}.") from None
    columns: dict[str, Points] = {}
    for column in batch.metrics:
        points = _points(column)
        held = columns.get(column.key)
        columns[column.key] = points if held is None else Points.concatenate([held, points])
    return batch, columns


def _points(column: Column) -> Points:
    try:
        points = Points(
            _array(column.step, np.dtype("<i8")),
            _array(column.time, np.dtype("<f8")),
            _array(_named(column.value), np.dtype("<f8")),
        )
    except (ValueError, OverflowError, TypeError) as error:
        raise BatchUnreadable(f"Metric '{column.key}': {error}.") from None
    if not len(points.steps) == len(points.times) == len(points.values):
        raise BatchUnreadable(
            f"Metric '{column.key}': {len(points.steps)} steps, {len(points.times)} times and "
            f"{len(points.values)} values; their numbers must be equal."
        )
    return points


def _named(values: bytes | list[float | str]) -> bytes | list[float]:
    if isinstance(values, bytes):
        return values
    return [value if not isinstance(value, str) else _special(value) for value in values]


def _special(name: str) -> float:
    if name not in _SPECIAL:
        raise ValueError(f"'{name}' is no number (NaN, Infinity and -Infinity go by name)")
    return _SPECIAL[name]


def _array(column: bytes | list[int] | list[float], kind: np.dtype[np.generic]) -> np.ndarray:
    return np.frombuffer(column, kind) if isinstance(column, bytes) else np.array(column, kind)


# SQLite's driver calls an integer beyond 64 bits an overflow.
DATABASE_ERRORS = (SQLAlchemyError, OverflowError)
T = TypeVar("T")
# What is to be written in one turn. A job raises a `ServiceError` before it writes anything, or not at all.
Job = Callable[[Session], T]


@dataclass
class _Waiting(Generic[T]):
    job: Job[T]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[T] = field(init=False)

    def __post_init__(self) -> None:
        self.result = self.loop.create_future()

    def answer(self, outcome: T | Exception) -> None:
        self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: T | Exception) -> None:
        if self.result.done():  # the caller hung up
            return
        if isinstance(outcome, Exception):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)


@dataclass(frozen=True)
class _Settled:
    run_id: str


class Ingest:
    """The one writer of metrics in this process: takes all jobs that wait, and commits them together.

    `noticed` is told what was stored: a run, and its metrics.
    """

    def __init__(self, database: Database, noticed: Callable[[str, Iterable[str]], object] = lambda *_: None) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[_Waiting[Any] | _Settled | None] = queue.SimpleQueue()
        self._to_merge: dict[int, None] = {}  # ids of series, oldest first
        self._noticed = noticed
        self._fresh: dict[str, set[str]] = {}  # metrics by run, of the transaction that is open
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        with self._database.read() as session:
            self._to_merge.update(dict.fromkeys(series.unmerged(session, at_least=series.MERGE_FROM)))
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, then end."""
        self._queue.put(None)
        self._thread.join()

    async def store(self, run_id: str, batch: Batch, columns: dict[str, Points]) -> BatchReceipt:
        """Wait until the batch is committed (or was before).

        Raises:
            RunNotFound, RunInBin, BatchGap, StorageUnavailable
        """
        return await self.write(lambda session: self.apply(session, run_id, batch, columns))

    async def write(self, job: Job[T]) -> T:
        """Do `job` in the next transaction, together with others that wait; return its result once that is committed.

        Raises:
            StorageUnavailable: the database refused; nothing is stored. Whatever `ServiceError` the job raises.
        """
        waiting = _Waiting(job, asyncio.get_running_loop())
        self._queue.put(waiting)
        return await waiting.result

    def settle(self, run_id: str) -> None:
        """The run is over: join what is left of its small chunks when there is time."""
        self._queue.put(_Settled(run_id))

    def append(
        self, session: Session, run_id: str, columns: dict[str, Points], *, rank: int = 0, ordered: bool = True
    ) -> int:
        """Add points to a run's series, as a part of a job; how many they were."""
        done = series.append(session, run_id, columns, rank=rank, ordered=ordered)
        self._to_merge.update(dict.fromkeys(done.to_merge))
        if rank == 0:
            self._fresh.setdefault(run_id, set()).update(columns)
        return done.points

    def _work(self) -> None:
        while True:
            if self._to_merge and self._queue.empty():
                self._merge_one()
                continue
            group: list[_Waiting[Any]] = []
            stop = False
            while not stop and len(group) < GROUP and not (group and self._queue.empty()):
                match self._queue.get():
                    case None:
                        stop = True
                    case _Settled(run_id):
                        self._note_unmerged(run_id)
                        break
                    case waiting:
                        group.append(waiting)
            if group:
                self._write(group)
            if len(self._to_merge) > MERGE_BACKLOG:
                self._merge_one()
            if stop:
                return

    def _write(self, group: list[_Waiting[Any]]) -> None:
        self._fresh.clear()
        try:
            outcomes = self._transaction([waiting.job for waiting in group])
        except Exception:
            # One of them, or the database: each by itself tells, and the good ones are stored.
            outcomes = [self._alone(waiting.job) for waiting in group]
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.answer(outcome)
        for run_id, keys in self._fresh.items():
            self._noticed(run_id, keys)

    def _transaction(self, jobs: list[Job[Any]]) -> list[Any]:
        outcomes: list[Any] = []
        with self._database.write() as session:
            for job in jobs:
                try:
                    outcomes.append(job(session))
                except ServiceError as refusal:
                    outcomes.append(refusal)
                # One job's rows must not be another's: some jobs write past the session.
                session.flush()
                session.expunge_all()
        return outcomes

    def _alone(self, job: Job[Any]) -> Any:
        try:
            return self._transaction([job])[0]
        except DATABASE_ERRORS as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            if isinstance(error, DataError | OverflowError) or isinstance(getattr(error, "orig", None), OverflowError):
                return ImpossibleValue(f"A value cannot be stored: {cause}.")
            log.exception("metrics could not be stored")
            return StorageUnavailable(f"The database did not take the batch: {cause}")
        except Exception as fault:  # ours: it is the caller's answer (500), and must not end the one writer
            return fault

    def _note_unmerged(self, run_id: str) -> None:
        try:
            with self._database.read() as session:
                self._to_merge.update(dict.fromkeys(series.unmerged(session, at_least=2, run_id=run_id)))
        except DATABASE_ERRORS:
            log.exception("the series of a finished run stay unmerged; their points are safe")

    def _merge_one(self) -> None:
        series_id = next(iter(self._to_merge))
        del self._to_merge[series_id]
        try:
            with self._database.write() as session:
                more = series.merge(session, series_id)
        except Exception:  # also a payload that cannot be read: it must not end the one writer
            log.exception("a series could not be merged; its points are safe")
            return
        if more:
            self._to_merge[series_id] = None

    def apply(self, session: Session, run_id: str, batch: Batch, columns: dict[str, Points]) -> BatchReceipt:
        """Store a batch, unless it has been stored."""
        tally = batches.locked(session, run_id)
        if tally is None:
            raise runs.missing(session, run_id)
        held = batches.last_batch(session, run_id, batch.writer)
        last = held or 0
        if batch.batch > last + 1:
            message = f"Batch {batch.batch} of writer {batch.writer} came, but {last + 1} is next."
            raise BatchGap(message, details={"next": last + 1})
        duplicate = batch.batch <= last
        if not duplicate:
            last = batch.batch
            batches.set_last_batch(session, run_id, batch.writer, last, first=held is None)
            points = self.append(session, run_id, columns, rank=batch.rank)
            sent = tally.points_stored if tally.points_sent is None else tally.points_sent
            tally.points_sent = sent + points + batch.refused
            tally.points_stored += points
            if batch.console:
                console.append(session, run_id, batch.rank, batch.console)
        if batch.rank == 0:
            # An offline run that is sent later was alive then, not now; a clock that runs ahead is not believed.
            now = time.time()
            tally.heartbeat_at = max(tally.heartbeat_at, min(batch.heartbeat_at or now, now))
        batches.touch(session, run_id, tally)
        return BatchReceipt(last_batch=last, duplicate=duplicate, points_stored=tally.points_stored)
