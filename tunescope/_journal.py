"""The journal: what a process has logged, on disk before it goes anywhere else.

A folder for each process that writes to a run:

    <directory>/<run id>/<writer>/
        journal         append-only records, each framed with its length and checksum
        shipped.json    how far the service has acknowledged it (see `_shipper.py`)
        lock            held by whoever is shipping
        files/          artifacts and media still to be uploaded

A process that is killed in the middle of a write leaves a frame that is cut; the journal is readable up to there.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tunescope._exceptions import JournalError

__all__ = [
    "Column",
    "Create",
    "File",
    "JournalReader",
    "JournalWriter",
    "Medium",
    "Points",
    "Record",
    "Update",
    "Use",
    "Version",
    "created",
    "journals",
]

MAGIC = b"tunescope journal 1\n"
FRAME = struct.Struct("<II")
LONGEST = 1 << 30


class Column(msgspec.Struct):
    """Points of one metric as packed little-endian columns: int64 steps, float64 times and values."""

    key: str
    step: bytes
    time: bytes
    value: bytes

    def __len__(self) -> int:
        return len(self.step) // 8


class Create(msgspec.Struct, tag="create"):
    """The request that creates (or resumes) the run, and who is writing."""

    body: dict[str, Any]
    writer: str
    at: float
    host: str
    pid: int
    started: float
    """When the process started: tells it from a later one with the same pid."""
    main: bool = True
    """Whether the run's status is this process's to say: not so in a forked child, nor on another rank than 0."""
    rank: int = 0


class Points(msgspec.Struct, tag="points"):
    """What was logged and printed in one flush; without either, only a sign of life."""

    at: float
    columns: list[Column]
    console: list[tuple[float, str, str]] = []
    """Lines: Unix seconds, stdout or stderr, text."""


class Update(msgspec.Struct, tag="update"):
    changes: dict[str, Any]


class File(msgspec.Struct, tag="file"):
    """An artifact: `stored` is its copy in `files/`."""

    path: str
    kind: str
    stored: str


class Medium(msgspec.Struct, tag="medium"):
    """An image, a table, a histogram, …: `stored` is its content in `files/`. One of `of` at `step` under `key`."""

    key: str
    step: int
    time: float
    kind: str
    position: int
    of: int
    content_type: str
    stored: str
    caption: str | None = None
    details: dict[str, Any] = {}


class Version(msgspec.Struct, tag="version"):
    """What was uploaded just now is a version of an artifact: pairs of its path there and in the run."""

    name: str
    kind: str
    files: list[tuple[str, str]]
    aliases: list[str] = []
    about: dict[str, Any] = {}


class Use(msgspec.Struct, tag="use"):
    """The run uses a version of an artifact."""

    version_id: str


Record = Create | Points | Update | File | Medium | Version | Use


def little_endian(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


class JournalWriter:
    """Appends records to a new journal. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._encoder = msgspec.msgpack.Encoder()
        try:
            (folder / "files").mkdir(parents=True)
            self._file = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self.end = 0
            self._write(MAGIC)
        except OSError as error:
            raise JournalError(
                f"Cannot write a journal in {folder}: {error.strerror or error}. Name another folder with "
                "dir=… or TUNESCOPE_DIR."
            ) from error

    def append(self, record: Record) -> None:
        """Write one record. If this raises OSError (the disk is full), nothing of it stays in the file."""
        payload = self._encoder.encode(record)
        self._write(FRAME.pack(len(payload), zlib.crc32(payload)) + payload)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self.end + written)
        except OSError:
            os.ftruncate(self._file, self.end)
            raise
        self.end += len(data)

    def close(self) -> None:
        """Put what was written on the disk itself, and let go of the file."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)


class JournalReader:
    """Reads the records of a journal from any offset a record ended at; the journal may still be growing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._decoder = msgspec.msgpack.Decoder(Record)
        try:
            self._file = (folder / "journal").open("rb", buffering=0)
        except OSError as error:
            raise JournalError(f"Cannot read the journal in {folder}: {error.strerror or error}.") from error
        if self._file.read(len(MAGIC)) != MAGIC:
            self._file.close()
            raise JournalError(f"{folder / 'journal'} is not a journal of this version of tunescope.")

    start = len(MAGIC)

    def read(self, offset: int) -> Iterator[tuple[Record, int]]:
        """Records from `offset` on, each with the offset it ends at, up to the end or to the first damage."""
        while True:
            # The file is shared with nobody, but a consumer may stop between two records: seek for each.
            self._file.seek(offset)
            head = self._file.read(FRAME.size)
            if len(head) < FRAME.size:
                return
            length, checksum = FRAME.unpack(head)
            if length > LONGEST:
                return
            payload = self._file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            offset += FRAME.size + length
            try:
                record = self._decoder.decode(payload)
            except msgspec.DecodeError as error:
                raise JournalError(
                    f"{self.folder / 'journal'} holds a record this version cannot read: {error}"
                ) from error
            yield record, offset

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


def journals(directory: Path) -> list[Path]:
    """The journal folders at or below `directory`, oldest run first."""
    if (directory / "journal").is_file():
        return [directory]
    found = [file.parent for pattern in ("*/journal", "*/*/journal") for file in directory.glob(pattern)]
    return sorted(found, key=lambda folder: (folder.stat().st_mtime, folder.name))


def created(folder: Path) -> Create | None:
    """The first record of a journal; None if the process was killed before it was written."""
    reader = JournalReader(folder)
    try:
        first = next(reader.read(JournalReader.start), None)
    finally:
        reader.close()
    return first[0] if first and isinstance(first[0], Create) else None
