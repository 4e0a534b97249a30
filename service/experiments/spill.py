"""A file for events that the database cannot take now: nothing recorded is lost.

Each process appends to a file of its own, which it holds locked; a file whose owner has gone is drained by
whoever finds it. Draining applies a file again from its start after a failure: applying is idempotent.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from service.experiments.events import Event
from service.store.tables import new_id

logger = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class Spill:
    def __init__(self, folder: Path, chunk: int = 500) -> None:
        self._folder = folder
        self._chunk = chunk
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        folder.mkdir(parents=True, exist_ok=True)
        # Files left by a process that died are waiting from the start.
        self.waiting = any(self._paths())

    def append(self, events: Sequence[Event]) -> None:
        """Durable when this returns. What it raises (`OSError`) leaves the file as it was."""
        lines = b"".join(_encoder.encode(event) + b"\n" for event in events)
        with self._lock:
            if self._file is None:
                self._file = self._opened()
            self.waiting = True
            _write(self._file, lines)

    def drain(self, apply: Callable[[Sequence[Event]], None]) -> None:
        """Hand everything to `apply` in order, a chunk at a time; what it raises leaves the file in place."""
        with self._lock:
            # In one step: what another thread appends from here on waits in a file of its own.
            self._close()
            self.waiting = False
        for path in self._paths():
            try:
                self._drain_one(path, apply)
            except BaseException:
                self.waiting = True
                raise

    def _drain_one(self, path: Path, apply: Callable[[Sequence[Event]], None]) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return  # another process was faster
        except OSError as error:
            # The others are not to wait for it. It is tried again with the next drain, and at the next start.
            logger.error("%s cannot be opened and stays where it is: %s", path, error)
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process writes or drains it
            events = _read(file)
            while chunk := list(itertools.islice(events, self._chunk)):
                apply(chunk)
            path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _opened(self) -> FileIO:
        """A new file, locked; one that a drain took for a dead process's before it was locked is not used."""
        while True:
            file = (self._folder / f"events-{new_id()}.jsonl").open("ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("events-*.jsonl"))


def _write(file: FileIO, lines: bytes) -> None:
    end = os.fstat(file.fileno()).st_size
    try:
        left = memoryview(lines)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)  # a full disk takes a part: no torn line before others
        raise


def _read(file: BinaryIO) -> Iterator[Event]:
    for number, line in enumerate(file, start=1):
        try:
            yield _decoder.decode(line)
        except msgspec.MsgspecError as error:
            # Only a crash in the middle of a write leaves such a line.
            logger.error("A torn event is skipped: %s line %d: %s", getattr(file, "name", "spill"), number, error)
