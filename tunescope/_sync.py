"""Ships what journals still hold: offline runs, runs whose process was killed, runs whose service was away."""

from __future__ import annotations

import shutil
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tunescope._client import Client
from tunescope._console import LAST_LINES, last_lines
from tunescope._exceptions import ApiError, JournalError
from tunescope._journal import Create, Points, created, journals
from tunescope._shipper import Shipper

__all__ = ["Synced", "sync"]

Outcome = Literal["sent", "nothing new", "still writing", "busy", "failed"]


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one journal."""

    journal: Path
    run_id: str
    outcome: Outcome
    points: int = 0
    """Points sent now."""
    left: int = 0
    """Points that are still only in the journal."""
    unreadable: int = 0
    """Bytes after a damage: a record that was being written when the process was killed."""
    problem: str | None = None


def sync(directory: Path, client: Client, *, clean: bool = False) -> Iterator[Synced]:
    """Ship every journal at or below `directory`, the oldest first, rank 0 before the others; a run may still be on.

    `clean` removes journals of which everything is stored. Raises `ConnectionFailed`.
    """
    known = [(folder, create) for folder in journals(directory) if (create := _created(folder)) is not None]
    known.sort(key=lambda pair: (pair[1].rank > 0, pair[1].at))  # rank 0 makes the run
    last = {create.body["id"]: folder for folder, create in known if create.main}
    for folder, create in known:
        yield _sync_one(folder, create, client, last.get(create.body["id"]) == folder, clean)


def _created(folder: Path) -> Create | None:
    try:
        return created(folder)
    except JournalError:
        return None


def _sync_one(folder: Path, create: Create, client: Client, is_last: bool, clean: bool) -> Synced:
    run_id = create.body["id"]
    alive = _still_writing(create)
    shipper = Shipper(folder, client, live=False, latest=is_last)
    try:
        before = shipper.progress()
        if not shipper.ship():
            return Synced(folder, run_id, "busy", left=shipper.left())
        over = alive is False
        if over and create.main and is_last and not shipper.state.finished:
            _tell_crash(client, run_id, shipper)
        unreadable = shipper.reader.size() - shipper.state.offset if over else 0
        points = shipper.state.sent - before.sent
        changed = shipper.state.offset != before.offset
        outcome: Outcome = "sent" if changed else "nothing new" if over or shipper.state.finished else "still writing"
        return Synced(folder, run_id, outcome, points, shipper.left(), unreadable)
    except (ApiError, JournalError) as error:
        return Synced(folder, run_id, "failed", left=shipper.left(), problem=str(error))
    finally:
        done = shipper.state.finished or not create.main
        complete = done and alive is False and shipper.exhausted and not shipper.state.refused
        shipper.close()
        if clean and complete:
            shutil.rmtree(folder)
            with suppress(OSError):  # other processes of the run may still have something here
                folder.parent.rmdir()


def _still_writing(create: Create) -> bool | None:
    """Whether the process that wrote a journal is still there; None if it ran on another machine."""
    if create.host != socket.gethostname():
        return None
    try:
        return abs(psutil.Process(create.pid).create_time() - create.started) < 1.0
    except psutil.NoSuchProcess:
        return False


def _tell_crash(client: Client, run_id: str, shipper: Shipper) -> None:
    """The process is gone and never said how it ended."""
    last_seen = shipper.create.at if shipper.create else None
    printed: deque[str] = deque(maxlen=LAST_LINES)
    for record, _ in shipper.reader.read(shipper.reader.start):
        if isinstance(record, Points):
            last_seen = record.at
            printed.extend(text for _, _, text in record.console)
    client.update_run(
        run_id,
        status="crashed",
        error=last_lines(
            list(printed), "The process ended without finishing the run: it was killed, or the machine went down."
        ),
        finished_at=last_seen,
    )
    shipper.mark_finished()
