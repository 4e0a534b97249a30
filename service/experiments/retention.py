"""The thread that deletes what traffic has left behind once it is old enough: contents, requests, outcomes.

It takes its turn when nobody else waits to write, for some milliseconds (`Database.step`), and rests after. Any replica
may do it; what one has deleted, another no longer finds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session

from service.experiments.recorder import DATABASE_AWAY
from service.store import aging
from service.store.database import Database
from service.store.pace import Pace

logger = logging.getLogger(__name__)

DAY = 86_400.0
REST = 2.0  # seconds of rest for each second of a step
MOST_ROWS, LEAST_ROWS = 1024, 16  # that a step deletes
CONTENTS = 32  # of which one may be megabytes
SWEEP_SECONDS = 600.0

Find = Callable[[Session, float, int], Sequence[Any]]
Delete = Callable[[Session, Sequence[Any]], None]


class Retention:
    """Deletes between `start` and `stop`. Infinite days keep for ever."""

    def __init__(self, database: Database, content_days: float, request_days: float) -> None:
        self._database = database
        self._content_days, self._request_days = content_days, request_days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiment-retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is going on."""
        self._stopping.set()
        self._thread.join()

    def oldest(self, now: float) -> float:
        """When the oldest requests that are kept were made."""
        return now - self._request_days * DAY

    def sweep(self, now: float) -> int:
        """Delete all that is too old at that time; how many rows."""
        deleted = 0
        for days, most, find, delete in (
            (self._content_days, CONTENTS, aging.old_contents, aging.delete_contents),
            (self._request_days, MOST_ROWS, aging.old_requests, aging.delete_requests),
            (self._request_days, MOST_ROWS, aging.old_orphans, aging.delete_outcomes),
        ):
            before = now - days * DAY
            if before > 0:
                deleted += self._delete(before, Pace(most, LEAST_ROWS), find, delete)
        return deleted

    def _delete(self, before: float, pace: Pace, find: Find, delete: Delete) -> int:
        deleted = 0
        while not self._stopping.is_set():
            with self._database.read() as session:
                found = find(session, before, pace.amount)
            if not found:
                break
            _, seconds = self._database.step(lambda session, found=found: delete(session, found))  # type: ignore[misc]
            pace.took(seconds)
            deleted += len(found)
            self._stopping.wait(REST * seconds)
        return deleted

    def _run(self) -> None:
        while True:
            try:
                if deleted := self.sweep(time.time()):
                    logger.info("%d old requests, outcomes and contents were deleted.", deleted)
            except DATABASE_AWAY as error:
                logger.warning("Retention waits: the database does not answer: %s", str(error).splitlines()[0])
            except Exception:
                # A fault of ours must not end the thread.
                logger.exception("Old requests could not be deleted")
            if self._stopping.wait(SWEEP_SECONDS):
                return
