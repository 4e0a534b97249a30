"""SQLite's write-ahead log goes into the file beside the writers, and not in the commit that fills it.

By itself SQLite copies the log in whichever commit makes it a thousand pages long, and that writer waits for the disk.
Here a thread does it, with a connection of its own. Copying never waits for writers, nor they for it; but while they go
on, the log is never copied whole and cannot start over. So a long log is finished with the writers' lock held: what is
left of it by then is little.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from service.store.turns import Turns

logger = logging.getLogger(__name__)

DUE = 1_000  # pages of the log that are not in the file: time to copy them, as SQLite has it
LONG = 8_000  # pages of a log that has to start over, 32 MiB
TRIES = 4  # to come close to the end of a long log, before writers are held up
PAUSE = 0.02  # seconds between two looks
# Places in the index of the log (`-shm`), 32 bits each in the machine's order: https://sqlite.org/walformat.html
_LENGTH, _COPIED = 16, 96


class Checkpointer:
    """Copies the log of one SQLite file, from its first `wake` until `stop`."""

    def __init__(self, engine: Engine, file: Path, turns: Turns) -> None:
        self._engine = engine
        self._index = Index(Path(f"{file}-shm"))
        self._turns = turns
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something was committed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            self._thread.start()
        self._woken.set()

    def stop(self) -> None:
        """No copying from here on. Close it when the connections to the file are closed."""
        self._stopped.set()
        if self._thread is not None:
            self._woken.set()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        self._index.close()

    def _work(self) -> None:
        while self._woken.wait():
            self._woken.clear()
            if self._stopped.wait(PAUSE):
                return
            try:
                self._look()
            except (SQLAlchemyError, OSError):  # a full disk, say: the log holds all that was committed
                logger.exception("the log of the database could not be copied into its file; it grows meanwhile")

    def _look(self) -> None:
        for _ in range(TRIES):
            length, copied = self._index.read()
            if length - copied < DUE:
                break
            self.copy()
        if length >= LONG:
            self._turns.take()
            try:
                self.copy()
            finally:
                self._turns.give()

    def copy(self) -> None:
        """Copy what is in the log, beside writers."""
        with self._engine.connect() as connection:
            connection.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


class Index:
    """The index of the log, read from the outside.

    SQLite locks this file, and a process loses all its locks on a file with the first of its descriptors that it
    closes. Then the next process that opens the database takes itself for the only one, and empties the index under
    the others. So it is opened once, and closed after SQLite has closed it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> tuple[int, int]:
        """Pages in the log, and how many of them are in the file already."""
        # SQLite removes it with its last connection, and makes another: nobody has locks on the old one any more.
        if self._file is not None and os.fstat(self._file).st_nlink == 0:
            self.close()
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self._file, _COPIED + 4, 0)
        if len(head) < _COPIED + 4:
            return 0, 0
        return struct.unpack_from("=I", head, _LENGTH)[0], struct.unpack_from("=I", head, _COPIED)[0]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
