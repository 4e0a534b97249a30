"""Between the training loop and the journal: a list to put things on, and a thread that writes them down."""

from __future__ import annotations

import logging
import math
import operator
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from tunescope._console import Console, Line, last_lines
from tunescope._journal import Column, File, JournalWriter, Points, Record, Update, Use, Version, little_endian
from tunescope._keeper import Keeper
from tunescope._system import SystemMonitor
from tunescope._values import PLAIN, flatten, to_number
from tunescope.media import Gallery

__all__ = ["Recorder"]

log = logging.getLogger("tunescope")

FLUSH_SECONDS = 0.5
SIGN_OF_LIFE_SECONDS = 10.0
VALUES_A_RECORD = 50_000
WAKE_AT = 50_000
FULL_AT = 1_000_000
WAIT_WHEN_FULL = 1.0
INT64 = range(-(2**63), 2**63)
ALL_PLAIN = PLAIN.issuperset

Entry = tuple[int, float, dict[Any, Any]]


class Recorder:
    """Takes what is logged without waiting, and writes it to the journal every half second.

    Memory is bounded: with a million values waiting for the disk, `put` waits for room, at most a second, and then
    drops (and says so) rather than hold up training.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        next_step: int = 0,
        system: SystemMonitor | None = None,
        console: Console | None = None,
        first: Callable[[], File | None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        """`first`: makes a file to begin with, in the background. `written` is called when the journal has grown."""
        self.next_step = next_step
        self._last_step = next_step - 1  # that was written down
        self.points = 0
        self.dropped = 0
        self._journal = journal
        self._system = system
        self._console = console
        self._first = first
        self._written = written
        # Appending and taking from the other end need no lock. After a training step everything that `put` touches has
        # left the processor's cache: what it does without is microseconds saved.
        self._pending: deque[Entry | Record] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._room = threading.Event()
        self._closing: Update | None = None
        self._closed = False
        self._full = False
        self._reported: set[str] = set()
        self._columns: dict[str, tuple[array[int], array[float], array[float]]] = {}
        self._values = 0
        self._lines: list[Line] = []
        self._keeper = Keeper(journal.folder, self.report)
        self._unwritten: list[tuple[Record, int]] = []
        self._last_record = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="tunescope-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # --- called by the training loop ---

    def put(self, values: Mapping[Any, Any], step: int | None) -> None:
        """Take values as they are now. The step defaults to one more than the last."""
        now = time.time()
        if type(values) is dict and ALL_PLAIN(map(type, values.values())):
            taken = values.copy()
        else:
            taken = self._keeper.take(values)
        if type(step) is not int:
            step = None if step is None else self._as_step(step)
            with self._lock:
                if step is None:
                    step = self.next_step if self.next_step in INT64 else self._after_the_last()
                self.next_step = step + 1
        else:
            self.next_step = step + 1
        self._pending.append((step, now, taken))
        self._waiting += len(taken)
        if self._waiting > WAKE_AT:
            self._hurry()

    def _after_the_last(self) -> int:
        """The step after the last one that can be stored: what was logged at another does not count."""
        steps = [entry[0] for entry in list(self._pending) if isinstance(entry, tuple) and entry[0] in INT64]
        return min((steps[-1] if steps else self._last_step) + 1, INT64[-1])

    def put_record(self, record: Update | File | Version | Use) -> None:
        self._pending.append(record)
        self._wake.set()

    def _as_step(self, step: Any) -> int | None:
        try:
            return operator.index(step.item() if hasattr(step, "item") else step)
        except TypeError:
            if isinstance(step, float) and step.is_integer():
                return int(step)
            self.report(
                "a step of another type", f"the step {step!r} is not a whole number; the next step was used instead"
            )
            return None

    def _hurry(self) -> None:
        self._wake.set()
        if self._waiting < FULL_AT:
            return
        self._room.clear()
        if self._full or not self._room.wait(WAIT_WHEN_FULL):
            self._full = True
            dropped = self._pending.pop() if self._pending else None
            if isinstance(dropped, tuple):
                self._waiting -= len(dropped[2])
                self.dropped += len(dropped[2])
            self.report("full", "the journal's disk does not keep up: from here on points are lost")

    def report(self, name: str, what: str) -> None:
        """Say `what` once for each name."""
        if name not in self._reported:
            self._reported.add(name)
            log.warning("tunescope: %s.", what)

    def close(self, changes: dict[str, Any] | None, timeout: float) -> bool:
        """Write down what is left, then `changes` of the run; True once everything is in the journal."""
        self._closing = Update(changes) if changes is not None else None
        self._closed = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._unwritten

    # --- the thread ---

    def _run(self) -> None:
        self._sample()
        if (file := self._first()) is not None:
            self._unwritten.append((file, 0))
        while not self._closed:
            self._flush()
            if not self._keep_media(FLUSH_SECONDS / 2):
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()
            if self._system is not None and self._system.due():
                self._sample()
        self._sample()
        self._flush()
        self._keep_media(math.inf)
        if self._closing is not None:
            changes = self._closing.changes
            if self._console is not None and changes.get("error"):
                changes["error"] = last_lines(list(self._console.last), changes["error"])
            self._unwritten.append((self._closing, 0))
        self._write()
        try:
            self._journal.close()
        except OSError as error:
            self.report("journal", f"the journal in {self._journal.folder} could not be closed: {error}")
        self._written()

    def _flush(self) -> None:
        """Move what is pending into records, and those to the disk."""
        if not self._write():
            return
        self._waiting = 0
        self._full = False
        self._room.set()
        for _ in range(len(self._pending)):
            entry = self._pending.popleft()
            if isinstance(entry, tuple):
                self._take(*entry)
            else:
                self._cut()
                self._unwritten.append((entry, 0))
            if self._values >= VALUES_A_RECORD:
                self._cut()
                self._write()
        if self._console is not None:
            self._lines += self._console.lines(final=self._closed)
        self._cut()
        if time.monotonic() - self._last_record > SIGN_OF_LIFE_SECONDS:
            self._unwritten.append((Points(time.time(), []), 0))
        self._write()

    def _take(self, step: int, now: float, values: Mapping[Any, Any]) -> None:
        """Append one call's values to the columns."""
        if step not in INT64:
            self.report("a step too large", f"the step {step} does not fit in 64 bits; what was logged at it is lost")
            return
        self._last_step = step
        columns = self._columns
        try:
            for key, value in values.items():
                if type(value) is float and type(key) is str and key in columns:
                    steps, times, numbers = columns[key]
                    steps.append(step)
                    times.append(now)
                    numbers.append(value)
                    self._values += 1
                else:
                    self._take_any(step, now, key, value)
        except Exception as error:  # a foreign class must not end the recording
            self.report("values", f"something logged at step {step} could not be read: {error!r}")

    def _take_any(self, step: int, now: float, key: object, value: Any) -> None:
        for name, leaf in flatten({key: value}):
            if isinstance(leaf, Gallery):
                self._keeper.add(name, step, now, leaf)
                continue
            number = to_number(leaf)
            if number is None:
                what = getattr(leaf, "what", None) or type(leaf).__name__
                self.report(f"metric {name}", f"'{name}' is not one number ({what}): it was not stored")
                continue
            steps, times, numbers = self._columns.setdefault(name, (array("q"), array("d"), array("d")))
            steps.append(step)
            times.append(now)
            numbers.append(number)
            self._values += 1

    def _keep_media(self, seconds: float) -> bool:
        """Encode and write down media for so long, since numbers must not wait for them; True if some are left."""
        until = time.monotonic() + seconds
        while (record := self._keeper.next()) is not None:
            self._unwritten.append((record, 0))
            if not self._write() or time.monotonic() > until:
                break
        return self._keeper.waiting

    def _sample(self) -> None:
        if self._system is not None:
            self._take(self._system.step(), time.time(), self._system.sample())

    def _cut(self) -> None:
        """End the record in progress."""
        if self._values or self._lines:
            packed = [
                Column(key, little_endian(steps), little_endian(times), little_endian(numbers))
                for key, (steps, times, numbers) in self._columns.items()
            ]
            self._unwritten.append((Points(time.time(), packed, self._lines), self._values))
            self._columns, self._values, self._lines = {}, 0, []

    def _write(self) -> bool:
        """Write the records that are ready; False if the disk will not take them, which is tried again later."""
        while self._unwritten:
            record, points = self._unwritten[0]
            try:
                self._journal.append(record)
            except OSError as error:
                self.report(
                    "journal",
                    f"the journal in {self._journal.folder} cannot be written ({error.strerror}); what is logged is "
                    "held in memory until it can",
                )
                return False
            self._unwritten.pop(0)
            self.points += points
            self._last_record = time.monotonic()
            self._written()
        return True
