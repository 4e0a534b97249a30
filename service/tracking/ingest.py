"""Batches of metric points: read, checked, and written many at a time in one transaction.

The event loop hands each batch to one writer thread and waits; the thread takes all that are waiting and
commits them together (group commit), so that the acknowledgement of each still means *stored*.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from service.errors import Conflict, Invalid, NotFound, ServiceError, Unavailable
from service.store import batches, runs, series
from service.store.database import Database
from service.store.points import Points
from service.tracking.schemas import BatchReceipt

log = logging.getLogger(__name__)
GROUP = 256  # batches a transaction
MAX_KEY_LENGTH = 500
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class BatchUnreadable(Invalid):
    code = "batch_unreadable"


class BatchGap(Conflict):
    """A batch before this one is missing: send that first."""

    code = "batch_gap"


class RunUnknown(NotFound):
    code = "run_not_found"


class StorageUnavailable(Unavailable):
    """The database refused the write; nothing of the batch was stored. Send it again later."""

    code = "storage_unavailable"


class Column(msgspec.Struct):
    """Points of one metric: packed little-endian columns (msgpack) or plain lists (JSON)."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
    step: bytes | list[int]
    time: bytes | list[float]
    value: bytes | list[float | str]


class Batch(msgspec.Struct):
    writer: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    batch: Annotated[int, msgspec.Meta(ge=1)]
    metrics: list[Column] = []
    heartbeat_at: float | None = None


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


@dataclass
class _Waiting:
    run_id: str
    batch: Batch
    columns: dict[str, Points]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[BatchReceipt] = field(init=False)

    def __post_init__(self) -> None:
        self.result = self.loop.create_future()

    def answer(self, outcome: BatchReceipt | ServiceError) -> None:
        self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: BatchReceipt | ServiceError) -> None:
        if self.result.done():  # the caller hung up
            return
        if isinstance(outcome, ServiceError):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)


class Ingest:
    """The one writer of metric batches in this process. `noticed` is told what was stored: (run, its metrics)."""

    def __init__(self, database: Database, noticed: Callable[[str, Iterable[str]], object] = lambda *_: None) -> None:
        self._database = database
        self._noticed = noticed
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, then end."""
        self._queue.put(None)
        self._thread.join()

    async def store(self, run_id: str, batch: Batch, columns: dict[str, Points]) -> BatchReceipt:
        """Wait until the batch is committed (or was before).

        Raises:
            RunUnknown, BatchGap, StorageUnavailable
        """
        waiting = _Waiting(run_id, batch, columns, asyncio.get_running_loop())
        self._queue.put(waiting)
        return await waiting.result

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group, stop = [first], False
            while len(group) < GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    stop = True
                    break
                group.append(following)
            self._write(group)
            if stop:
                return

    def _write(self, group: list[_Waiting]) -> None:
        try:
            outcomes = apply(self._database, [(w.run_id, w.batch, w.columns) for w in group])
        except SQLAlchemyError as error:
            log.exception("metric batches could not be stored")
            refusal = StorageUnavailable(f"The database did not take the batch: {str(error).splitlines()[0]}")
            outcomes = [refusal] * len(group)
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.answer(outcome)
            if isinstance(outcome, BatchReceipt):
                self._noticed(waiting.run_id, waiting.columns)


def apply(database: Database, group: list[tuple[str, Batch, dict[str, Points]]]) -> list[BatchReceipt | ServiceError]:
    """Store the batches in one transaction; one that is refused leaves the others untouched."""
    outcomes: list[BatchReceipt | ServiceError] = []
    with database.write() as session:
        known = runs.locked(session, [run_id for run_id, _, _ in group])
        writers = batches.writers(session, [(run_id, batch.writer) for run_id, batch, _ in group])
        for run_id, batch, columns in group:
            run = known.get(run_id)
            if run is None:
                outcomes.append(RunUnknown(f"There is no run '{run_id}'."))
                continue
            writer = writers.get((run_id, batch.writer))
            if writer is None:
                writer = writers[run_id, batch.writer] = batches.new_writer(session, run_id, batch.writer)
            if batch.batch > writer.last_batch + 1:
                message = f"Batch {batch.batch} of writer {batch.writer} came, but {writer.last_batch + 1} is next."
                outcomes.append(BatchGap(message, details={"next": writer.last_batch + 1}))
                continue
            duplicate = batch.batch <= writer.last_batch
            if not duplicate:
                writer.last_batch = batch.batch
                run.points_stored += series.append(session, run_id, columns)
            # An offline run that is sent later was alive then, not now; a clock that runs ahead is not believed.
            now = time.time()
            run.heartbeat_at = max(run.heartbeat_at, min(batch.heartbeat_at or now, now))
            outcomes.append(
                BatchReceipt(last_batch=writer.last_batch, duplicate=duplicate, points_stored=run.points_stored)
            )
    return outcomes
