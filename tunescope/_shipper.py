"""From a journal to the service, each point exactly once.

Points go in numbered batches. Before a batch is sent for the first time, `shipped.json` says which part of the
journal carries that number; whoever sends it again, after a lost answer or a kill, sends the same bytes under the same
number, and the service drops what it already has. Everything else in a journal may be repeated without harm.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tunescope._client import Client
from tunescope._exceptions import ApiError, JournalError
from tunescope._journal import (
    Column,
    Create,
    File,
    JournalReader,
    Medium,
    Points,
    Record,
    Update,
    Use,
    Version,
)

__all__ = ["Shipper", "Shipping"]

log = logging.getLogger("tunescope")

BATCH_BYTES = 2 << 20
THE_END = frozenset({"status", "exit_code", "error", "finished_at", "points_sent"})
REFUSED = frozenset({400, 413, 415, 422})


class Shipped(msgspec.Struct):
    """How far a journal has been stored."""

    offset: int = JournalReader.start
    """Everything before this offset is stored."""
    batch: int = 0
    """The last batch that was acknowledged."""
    end: int | None = None
    """If set, batch + 1 is the part from `offset` to here, and may have been sent."""
    sent: int = 0
    """Points acknowledged."""
    refused: int = 0
    """Points the service will not take."""
    untold: int = 0
    """Those of them that no batch has told the service of."""
    stored: int = 0
    """Points of the whole run that the service had after the last batch."""
    finished: bool = False
    """Whether the run's end has been told."""


@dataclass(slots=True)
class Shipping:
    """Part of a journal that goes out in one request."""

    record: Record
    end: int
    points: int = 0


class Shipper:
    """Ships one journal. Several processes may try; a lock lets one at a time."""

    def __init__(self, folder: Path, client: Client, *, live: bool = True, latest: bool = True) -> None:
        """`live`: this is the run itself, shipping. Otherwise what is shipped is the past.

        `latest`: no later journal continues the run; if one does, how this one ended is no longer the run's end.
        """
        self.folder = folder
        self._live = live
        self._latest = latest
        self.reader = JournalReader(folder)
        self.state = Shipped()
        self.run: dict[str, Any] | None = None
        """The run as the service answered when it was created or resumed by this shipper."""
        self._client = client
        self._state_file = folder / "shipped.json"
        head = next(self.reader.read(JournalReader.start), None)
        self.create = head[0] if head and isinstance(head[0], Create) else None

    def ship(self) -> bool:
        """Send all there is. False: another process is shipping this journal.

        Raises `ConnectionFailed`, or `ApiError` for a refusal that may pass (wrong key, run deleted, too busy).
        """
        with self._locked() as mine:
            if not mine or self.create is None:
                return mine
            self.state = self._load()
            while (part := self._next()) is not None:
                self._send(part)
            return True

    def progress(self) -> Shipped:
        """How far this journal has been shipped, by whomever."""
        self.state = self._load()
        return copy(self.state)

    @property
    def exhausted(self) -> bool:
        """Whether everything that is in the file has been shipped."""
        return self.state.offset >= self.reader.size()

    def left(self) -> int:
        """Points in the journal that the service has not acknowledged."""
        records = (record for record, _ in self.reader.read(self.state.offset))
        waiting = sum(len(c) for record in records if isinstance(record, Points) for c in record.columns)
        return waiting + self.state.refused

    def mark_finished(self) -> None:
        self.state.finished = True
        self._save()

    def close(self) -> None:
        self.reader.close()

    def _next(self) -> Shipping | None:
        """The part to send next: consecutive points as one batch, anything else by itself."""
        part: Shipping | None = None
        columns: dict[str, list[Column]] = {}
        lines: list[tuple[float, str, str]] = []
        size = points = 0
        for record, end in self.reader.read(self.state.offset):
            if not isinstance(record, Points):
                part = part or Shipping(record, end)
                break
            if part is not None and size >= BATCH_BYTES and self.state.end is None:
                break
            part = Shipping(record, end)
            for column in record.columns:
                columns.setdefault(column.key, []).append(column)
                size += 24 * len(column)
                points += len(column)
            lines += record.console
            size += sum(len(line[2]) for line in record.console)
            if end == self.state.end:
                break
        if part is not None and isinstance(part.record, Points):
            part.points = points
            part.record = Points(part.record.at, [_joined(parts) for parts in columns.values()], lines)
        return part

    def _send(self, part: Shipping) -> None:
        record, state = part.record, self.state
        uploaded: Path | None = None
        assert self.create is not None
        run_id = self.create.body["id"]
        try:
            match record:
                case Create():
                    self.run = self._open(record)
                    state.stored = self.run["points_stored"]
                case Points():
                    self._send_points(run_id, record, part.end)
                    state.sent += part.points
                case Update(changes=changes):
                    if state.untold:
                        self._send_points(run_id, Points(time.time(), []), state.offset)
                    state.finished = state.finished or "status" in changes
                    self._client.update_run(run_id, **(changes if self._latest else _without_end(changes)))
                case Version():
                    files = [{"path": path, "artifact": artifact} for path, artifact in record.files]
                    self._client.log_artifact_version(run_id, **{**msgspec.structs.asdict(record), "files": files})
                case Use():
                    self._client.use_artifact_version(run_id, record.version_id)
                case File() | Medium():
                    uploaded = self._upload(run_id, record)
        except ApiError as error:
            if error.status not in REFUSED or isinstance(record, Create):
                raise
            log.warning("tunescope: the service will not take %s: %s", _described(record, part.points), error)
            state.refused += part.points
            state.untold += part.points
        state.offset, state.end = part.end, None
        self._save()
        if uploaded is not None:
            uploaded.unlink()

    def _open(self, create: Create) -> dict[str, Any]:
        """Create the run or, being live, continue it. The past is added to a run without waking it up, and other ranks
        than 0 add to a run that is there. Its `metrics` are those of this rank."""
        if create.rank:
            return self._join(create)
        if self._live and create.main:
            return self._client.create_run(**create.body)
        try:
            return self._client.create_run(**{**create.body, "resume": "never"})
        except ApiError as error:
            if error.code != "run_exists":
                raise
        known = {name: create.body[name] for name in ("config", "tags") if create.body.get(name)}
        return self._client.update_run(create.body["id"], **(known if create.main else {}))

    def _join(self, create: Create) -> dict[str, Any]:
        run_id = create.body["id"]
        run, series = self._client.get_run(run_id), self._client.run_series(run_id)["items"]
        return {**run, "metrics": {one["key"]: one for one in series if one["rank"] == create.rank}}

    def _send_points(self, run_id: str, record: Points, end: int) -> None:
        number = self.state.batch + 1
        self.state.end = end
        self._save()
        assert self.create is not None
        body = {
            "writer": self.create.writer,
            "batch": number,
            "rank": self.create.rank,
            "heartbeat_at": record.at,
            "metrics": record.columns,
            "console": record.console,
            "refused": self.state.untold,
        }
        answer = self._client.send_batch(run_id, msgspec.msgpack.encode(body))
        self.state.batch = number
        self.state.untold = 0
        self.state.stored = answer["points_stored"]

    def _upload(self, run_id: str, record: File | Medium) -> Path | None:
        """Upload what a record stands for; the file that is no longer needed once that is noted."""
        file = self.folder / "files" / record.stored
        if not file.is_file():
            what = _described(record, 0)
            log.warning("tunescope: %s is no longer in %s and was not uploaded.", what, file.parent)
            return None
        if isinstance(record, File):
            self._client.upload_artifact(run_id, record.path, file, record.kind)
        else:
            assert self.create is not None
            about = msgspec.structs.asdict(record) | {"rank": self.create.rank}
            del about["stored"]
            self._client.upload_media(run_id, file, **about)
        return file

    def _load(self) -> Shipped:
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=Shipped)
        except FileNotFoundError:
            return Shipped()
        except msgspec.DecodeError as error:
            raise JournalError(
                f"{self._state_file} is damaged ({error}): what of it is stored cannot be told."
            ) from error

    def _save(self) -> None:
        """Replace the file at once: a kill leaves the old state or the new one, never half of one."""
        fresh = self._state_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self.state))
        fresh.replace(self._state_file)

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                # Unlock by name, not only by closing: a child forked meanwhile has this file open too.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)


def _without_end(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name not in THE_END}


def _joined(columns: list[Column]) -> Column:
    if len(columns) == 1:
        return columns[0]
    return Column(
        columns[0].key,
        b"".join(c.step for c in columns),
        b"".join(c.time for c in columns),
        b"".join(c.value for c in columns),
    )


def _described(record: Record, points: int) -> str:
    match record:
        case Points(columns=columns):
            return f"{points} points of {', '.join(column.key for column in columns[:5])}"
        case File(path=path):
            return f"the artifact '{path}'"
        case Version(name=name):
            return f"a version of the artifact '{name}'"
        case Use(version_id=version_id):
            return f"the use of the artifact's version {version_id}"
        case Medium(key=key, kind=kind, step=step):
            return f"the {kind.replace('_', ' ')} '{key}' of step {step}"
        case _:
            return "a change of the run"
