"""The thread that ships a journal while the run is on, and keeps trying when the service is away."""

from __future__ import annotations

import logging
import random
import threading
import time

from tunescope._client import Client
from tunescope._exceptions import ApiError, ConnectionFailed, JournalError
from tunescope._shipper import Shipper

__all__ = ["Sender", "away_message"]

log = logging.getLogger("tunescope")

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
PATIENCE_AT_THE_END = 5.0


class Sender:
    """Ships when there is something new; after a failure pauses, twice as long each time, with jitter."""

    def __init__(self, shipper: Shipper, client: Client, *, away: bool = False) -> None:
        """`away`: the service is known not to answer, and that has been said. Both are closed at the end."""
        self._shipper = shipper
        self._client = client
        self._failing = away
        self._complete = False
        self._pause = SHORTEST_PAUSE
        self._new = threading.Event()
        self._new.set()
        self._ending = threading.Event()
        self._ending_since = self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="tunescope-sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """There is something new in the journal."""
        self._new.set()

    def finish(self, timeout: float) -> None:
        """Ship what is left: for at most `timeout` seconds, and five if the service does not answer."""
        self._ending_since = time.monotonic()
        self._deadline = self._ending_since + timeout
        self._ending.set()
        self._new.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._done():
                self._work()
        finally:
            self._shipper.close()
            self._client.close()

    def _work(self) -> None:
        if self._attempt():
            if not self._complete:
                self._new.wait()
                self._new.clear()
        elif self._ending.is_set():
            time.sleep(SHORTEST_PAUSE / 2)
        else:
            # Only the end of the run cuts a pause short, not every new record.
            self._ending.wait(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _attempt(self) -> bool:
        ending = self._ending.is_set()
        try:
            shipped = self._shipper.ship()
        except (ConnectionFailed, ApiError, JournalError, OSError) as error:
            if not self._failing:
                log.warning("%s", away_message(error, self._shipper))
            self._failing = True
            return False
        if shipped:
            self._failing, self._pause = False, SHORTEST_PAUSE
            # Nothing is written after the end is announced: what was shipped since then is all.
            self._complete = ending
        return shipped

    def _done(self) -> bool:
        if not self._ending.is_set():
            return False
        now = time.monotonic()
        if self._failing and now > self._ending_since + PATIENCE_AT_THE_END:
            return True
        return self._complete or now > self._deadline


def away_message(error: Exception, shipper: Shipper) -> str:
    """What a person is told, once, when records cannot be sent."""
    return (
        f"tunescope: {error} The run goes on: everything is kept in {shipper.folder} and sent as soon as that works; "
        f"what is left at the end is sent with `tunescope sync {shipper.folder.parent.parent}`."
    )
