"""One process writing to one run: a journal, the thread that fills it, the thread that ships it."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from tunescope._client import Client, Json
from tunescope._console import Console
from tunescope._environment import git_diff
from tunescope._exceptions import ApiError, ConnectionFailed
from tunescope._journal import Create, File, JournalWriter, Update, Use, Version
from tunescope._ranks import leads_its_host
from tunescope._recorder import Recorder
from tunescope._sender import Sender, away_message
from tunescope._shipper import Shipper
from tunescope._system import SystemMonitor

__all__ = ["FinishReport", "Writer", "WriterOptions"]

log = logging.getLogger("tunescope")

PATIENCE_WITH_RANK_0 = 3.0


@dataclass(frozen=True, slots=True)
class FinishReport:
    """What became of the points of a run when it finished."""

    sent: int
    """Points of this process that the service has acknowledged."""
    stored: int
    """Points of the whole run that the service had by then."""
    left: int
    """Points of this process that are only in the journal."""
    journal: Path | None
    """Where the journal is; `tunescope sync` on it sends what is left."""


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How a run is recorded; a forked child records in the same way."""

    directory: Path
    body: Json
    """The request that creates the run."""
    created_at: float
    url: str | None
    """The service; None: offline."""
    api_key: str | None
    system_interval: float | None
    rank: int = 0
    console: bool = False
    git_diff: bool = False


class Writer:
    """Opens a new journal for this process and starts recording into it."""

    def __init__(self, options: WriterOptions, *, next_step: int = 0, forked: bool = False) -> None:
        """`forked`: this is a child of a process that records already.

        Raises `ApiError` if the service refuses the run, `JournalError` if the journal cannot be written. A service
        that does not answer is no error.
        """
        self.main = main = options.rank == 0 and not forked
        """Whether the run's status is this process's to say."""
        self.id = uuid.uuid4().hex
        self.folder = options.directory / options.body["id"] / self.id
        client = Client(options.url, options.api_key) if options.url is not None else None
        journal = JournalWriter(self.folder)
        journal.append(_create(options, self.id, main))
        self._shipper = Shipper(self.folder, client) if client is not None else None
        self._sender: Sender | None = None
        if client is not None and self._shipper is not None:
            try:
                away = not forked and not self._introduce(self._shipper, options.rank)
            except BaseException:
                self._shipper.close()
                client.close()
                journal.close()
                shutil.rmtree(self.folder)
                raise
            self._sender = Sender(self._shipper, client, away=away)
        self.run: Json = (self._shipper and self._shipper.run) or {}
        metrics = self.run.get("metrics", {}).items()
        after = [summary["last_step"] + 1 for key, summary in metrics if not key.startswith("system/")]
        interval = None if forked else options.system_interval
        created_at = self.run.get("created_at", options.created_at)
        self._console = Console() if options.console and not forked else None
        self.recorder = Recorder(
            journal,
            next_step=max([next_step, *after]),
            system=SystemMonitor(created_at, interval, host=leads_its_host()) if interval else None,
            console=self._console,
            first=self._git_diff if options.git_diff and main else lambda: None,
            written=self._sender.notify if self._sender else lambda: None,
        )
        if self._console is not None:
            self._console.open()
        self.put = self.recorder.put
        self.recorder.start()
        if self._sender is not None:
            self._sender.start()

    def _introduce(self, shipper: Shipper, rank: int) -> bool:
        """Create the run at once, so that a refusal is the caller's to see; False if the service does not answer, or
        rank 0 has not made the run yet."""
        deadline = time.monotonic() + PATIENCE_WITH_RANK_0
        while True:
            try:
                return shipper.ship()
            except (ConnectionFailed, ApiError) as error:
                refused = isinstance(error, ApiError) and error.status < 500 and error.status != 429
                missing = rank > 0 and isinstance(error, ApiError) and error.code == "run_not_found"
                if refused and not missing:
                    raise
                if not missing or time.monotonic() > deadline:
                    log.warning("%s", away_message(error, shipper))
                    return False
            time.sleep(0.1)

    def _git_diff(self) -> File | None:
        """The uncommitted changes, as a file of the run."""
        content = git_diff()
        return None if content is None else self._copied(content, "git.diff", "code")

    def update(self, changes: Json) -> None:
        self.recorder.put_record(Update(changes))

    def add_file(self, source: Path | bytes, path: str, kind: str) -> None:
        """Copy a file into the journal, to be uploaded from there: the original may change or go."""
        self.recorder.put_record(self._copied(source, path, kind))

    def add_record(self, record: Version | Use) -> None:
        """Write down what is to be told after the files that were added before."""
        self.recorder.put_record(record)

    def _copied(self, source: Path | bytes, path: str, kind: str) -> File:
        name = uuid.uuid4().hex
        copy = self.folder / "files" / name
        if isinstance(source, bytes):
            copy.write_bytes(source)
        else:
            shutil.copyfile(source, copy)
        return File(path, kind, name)

    def finish(self, changes: Json | None, timeout: float) -> FinishReport:
        """Write down and ship what is left, and say what could not be."""
        deadline = time.monotonic() + timeout
        if self._console is not None:
            self._console.close()
        written = self.recorder.close(changes, timeout)
        if not written:
            log.warning("tunescope: not all that was logged could be written to %s in time.", self.folder)
        total = self.recorder.points
        if self._shipper is None or self._sender is None:
            return FinishReport(sent=0, stored=0, left=total, journal=self.folder)
        self._sender.finish(max(0.1, deadline - time.monotonic()))
        state = self._shipper.state
        return FinishReport(sent=state.sent, stored=state.stored, left=total - state.sent, journal=self.folder)


def _create(options: WriterOptions, writer: str, main: bool) -> Create:
    started = psutil.Process().create_time()
    return Create(options.body, writer, time.time(), socket.gethostname(), os.getpid(), started, main, options.rank)
