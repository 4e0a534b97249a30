"""The way events take from traffic to the record: a bounded queue, one thread, batches.

Nobody who answers a user waits for the database. When it is away, or the queue is full, events go to a local
file (`spill`) and from there into the record once it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.experiments import ledger
from service.experiments.events import Event
from service.experiments.ledger import Applied
from service.experiments.spill import Spill
from service.store.database import Database

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


class Recorder:
    """Takes events from any thread; stores each once. Nothing taken is lost when it is stopped."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        capacity: int = 10_000,
        batch: int = 500,
        linger_seconds: float = 0.05,
        retry_seconds: float = 1.0,
    ) -> None:
        self._database = database
        self._spill = Spill(folder, batch)
        self._refused = folder / "refused.jsonl"
        self._capacity, self._batch = capacity, batch
        self._linger, self._retry = linger_seconds, retry_seconds
        self._retry_at = 0.0
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="experiment-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Store or spill what is queued, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._spill.close()

    def record(self, event: Event) -> None:
        """Queue one event; never waits for the database, never raises."""
        with self._changed:
            if len(self._queue) < self._capacity and not self._stopping:
                self._queue.append(event)
                if len(self._queue) in (1, self._batch):
                    self._changed.notify_all()
                return
        try:
            self._keep([event])
        except OSError as error:
            logger.critical("An event is lost, queue and disk are full: %s: %s", event, error)

    def write_through(self, events: Sequence[Event]) -> Applied:
        """Store `events` before returning: in the database, or on disk while that is away."""
        try:
            return self._apply(events)
        except DATABASE_AWAY as error:
            logger.warning("The database is away (%s): %d events are kept on disk.", error, len(events))
            self._retry_at = time.monotonic() + self._retry
            self._keep(events)
            return Applied(len(events), 0)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until everything recorded so far is in the database; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._queue or self._busy or self._spill.waiting), timeout=timeout
            )

    def _keep(self, events: Sequence[Event]) -> None:
        self._spill.append(events)
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch or self._spill.waiting:
                self._store(batch)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if self._stopping and not self._queue:
                    return

    def _next_batch(self) -> list[Event]:
        """Wait for events (or for the next try with spilled ones), a little longer for more of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping or self._spill.waiting)
            if not self._queue:
                left = max(self._retry_at - time.monotonic(), 0.0)
                self._changed.wait_for(lambda: self._queue or self._stopping, timeout=left)
            self._changed.wait_for(lambda: len(self._queue) >= self._batch or self._stopping, timeout=self._linger)
            self._busy = True
            return [self._queue.popleft() for _ in range(min(len(self._queue), self._batch))]

    def _store(self, batch: list[Event]) -> None:
        try:
            if self._spill.waiting:
                if time.monotonic() < self._retry_at and not self._stopping:
                    self._spill_or_hold(batch)
                    return
                self._spill.drain(self._apply_each)
            if batch:
                self._apply_each(batch)
        except DATABASE_AWAY as error:
            logger.warning("The database is away (%s): events are kept on disk.", error)
            self._retry_at = time.monotonic() + self._retry
            self._spill_or_hold(batch)

    def _spill_or_hold(self, batch: list[Event]) -> None:
        """Keep a batch on disk; while the disk is full too, in memory."""
        if not batch:
            return
        try:
            self._spill.append(batch)
        except OSError as error:
            if self._stopping:
                logger.critical("%d events are lost, database and disk are both away: %s", len(batch), error)
                return
            with self._changed:
                self._queue.extendleft(reversed(batch))
            time.sleep(self._retry)

    def _apply(self, events: Sequence[Event]) -> Applied:
        with self._database.write() as session:
            return ledger.apply(session, events)

    def _apply_each(self, events: Sequence[Event]) -> None:
        """Store a batch; if the database refuses it, store what can be stored and keep the rest aside."""
        try:
            self._apply(events)
        except DATABASE_AWAY:
            raise
        except (SQLAlchemyError, ValueError) as error:
            if len(events) > 1:
                for event in events:
                    self._apply_each([event])
                return
            logger.error("The database refuses an event (kept in %s): %s", self._refused, error)
            with self._refused.open("ab") as file:
                file.write(msgspec.json.encode(events[0]) + b"\n")
