"""The way events take from traffic to the record: a bounded queue, one thread, batches.

Nobody who answers a user waits for the database. When it is away or slow, or the queue is full, events go to a local
file (`spill`) and from there into the record once it is back.

What a kill of the process can cost: events of `record` of the last `held_seconds` (1 s), and mostly of the last 50 to
250 ms, since that is how long a database that keeps up leaves them in memory. Nothing that `write_through` took.
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

DENSE, DENSE_LINGERS = 8, 5
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


class Recorder:
    """Takes events from any thread; stores each once. Nothing taken is lost when it is stopped.

    No event is in memory alone for longer than `held_seconds`, even where the database hangs without an error.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        capacity: int = 10_000,
        batch: int = 500,
        linger_seconds: float = 0.05,
        retry_seconds: float = 1.0,
        held_seconds: float = 1.0,
    ) -> None:
        self._database = database
        self._spill = Spill(folder, batch)
        self._refused = folder / "refused.jsonl"
        self._capacity, self._batch = capacity, batch
        self._linger, self._retry, self._held = linger_seconds, retry_seconds, held_seconds
        self._retry_at = 0.0
        self._queue: deque[Event] = deque()
        # What the thread is storing, as long as it is nowhere else.
        self._in_hand: Sequence[Event] = ()
        self._queued_since = self._in_hand_since = 0.0
        self._last = 0
        self._changed = threading.Condition()
        self._busy = self._moving = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="experiment-recorder", daemon=True)
        self._stopped = threading.Event()
        self._guard = threading.Thread(target=self._hold_nothing_long, name="experiment-spiller", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._guard.start()

    def stop(self) -> None:
        """Store or spill what is queued, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._stopped.set()
        self._guard.join()
        self._spill.close()

    def record(self, event: Event) -> None:
        """Queue one event; never waits for the database, never raises."""
        with self._changed:
            if len(self._queue) < self._capacity and not self._stopping:
                if not self._queue:
                    self._queued_since = time.monotonic()
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
                lambda: not (self._queue or self._busy or self._moving or self._spill.waiting), timeout=timeout
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
                self._in_hand = ()
                self._changed.notify_all()
                if self._stopping and not self._queue:
                    break
        if self._spill.waiting:
            self._store([])

    def _next_batch(self) -> list[Event]:
        """Wait for events (or for the next try with spilled ones), a little longer for more of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping or self._spill.waiting)
            if not self._queue:
                left = max(self._retry_at - time.monotonic(), 0.0)
                self._changed.wait_for(lambda: self._queue or self._stopping, timeout=left)
            # Where many come, fewer transactions: they cost the callers' processor time.
            linger = self._linger * (DENSE_LINGERS if self._last > DENSE else 1)
            self._changed.wait_for(lambda: len(self._queue) >= self._batch or self._stopping, timeout=linger)
            self._busy = True
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch))]
            self._in_hand, self._in_hand_since = batch, self._queued_since
            self._last = len(batch)
            return batch

    def _hold_nothing_long(self) -> None:
        while not self._stopped.wait(self._held / 4):
            with self._changed:
                if not self._is_late():
                    continue
                in_hand, queued = self._in_hand, list(self._queue)
                self._queue.clear()
                self._moving = True
            try:
                # What is in hand may reach the database too: applying it twice counts once.
                self._spill.append([*in_hand, *queued])
            except OSError as error:
                logger.warning("%d events are in memory alone, the disk refuses them: %s", len(queued), error)
                with self._changed:
                    self._queue.extendleft(reversed(queued))
            else:
                with self._changed:
                    self._in_hand = () if self._in_hand is in_hand else self._in_hand
            with self._changed:
                self._moving = False
                self._changed.notify_all()

    def _is_late(self) -> bool:
        before = time.monotonic() - self._held
        late = self._queued_since < before or len(self._queue) > self._capacity // 2
        return bool(self._queue and late) or bool(self._in_hand and self._in_hand_since < before)

    def _store(self, batch: list[Event]) -> None:
        try:
            if self._spill.waiting:
                if time.monotonic() < self._retry_at and not self._stopping:
                    self._spill_or_hold(batch)
                    return
                self._spill.drain(self._apply_each)
            if batch:
                self._apply_each(batch)
        except (*DATABASE_AWAY, OSError) as error:
            logger.warning("Events cannot be stored (%s): they are kept on disk.", error)
            self._retry_at = time.monotonic() + self._retry
            self._spill_or_hold(batch)

    def _spill_or_hold(self, batch: list[Event]) -> None:
        """Keep a batch on disk; while the disk is full too, in memory."""
        with self._changed:
            kept = not self._in_hand
        if not batch or kept:
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
            try:
                with self._refused.open("ab") as file:
                    file.write(msgspec.json.encode(events[0]) + b"\n")
            except OSError as full:
                logger.critical("An event that the database refuses is lost, the disk too: %s: %s", events[0], full)
