"""What a run's processes print, in chunks of lines in order of arrival.

A payload is a list of (time, stream, text) as msgpack, compressed by Zstandard. Chunks are never rewritten: a chunk's
id is a place to read on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sql
import zstandard
from sqlalchemy import Table
from sqlmodel import Session, col, select

from service.store.cursor import Cursor, Statement
from service.store.tables import ConsoleChunk

Stream = Literal["stdout", "stderr"]
MAX_LINE = 20_000
LINES_A_CHUNK = 2000


class Line(msgspec.Struct, array_like=True):
    """A line of output; `time` in Unix seconds."""

    time: float
    stream: Stream
    text: Annotated[str, msgspec.Meta(max_length=MAX_LINE)]


@dataclass(frozen=True, slots=True)
class Printed:
    rank: int
    line: Line


@dataclass(frozen=True, slots=True)
class Page:
    """Lines of a run's processes. `cursor`: read on after it."""

    lines: list[Printed]
    cursor: int
    more: bool


_CHUNK: Table = ConsoleChunk.__table__  # type: ignore[attr-defined]
_ADD = Statement(
    sql.insert(_CHUNK).inline().values({name: sql.bindparam(name) for name in ("run_id", "rank", "count", "payload")})
)
_LINES = msgspec.msgpack.Decoder(list[Line])


def append(session: Session, run_id: str, rank: int, lines: Sequence[Line]) -> None:
    """Keep lines of one process, in the order they were printed."""
    rows = []
    for start in range(0, len(lines), LINES_A_CHUNK):
        piece = lines[start : start + LINES_A_CHUNK]
        payload = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(piece))
        rows.append({"run_id": run_id, "rank": rank, "count": len(piece), "payload": payload})
    Cursor.of(session).many(_ADD, rows)


def read(session: Session, run_id: str, *, after: int, limit: int, rank: int | None = None) -> Page:
    """Lines after a cursor (0: from the beginning), whole chunks of them: at least one, and `limit` lines or few more.
    Of every rank if `rank` is None."""
    query = _chunks(run_id, rank).where(col(ConsoleChunk.id) > after).order_by(col(ConsoleChunk.id))
    found = session.exec(query.limit(limit + 1)).all()
    taken, more = _enough(found, limit)
    return _page(session, taken, after, more)


def tail(session: Session, run_id: str, *, limit: int, rank: int | None = None) -> Page:
    """The last `limit` lines."""
    query = _chunks(run_id, rank).order_by(col(ConsoleChunk.id).desc())
    taken, _ = _enough(session.exec(query.limit(limit)).all(), limit)
    page = _page(session, taken[::-1], 0, more=False)
    return replace(page, lines=page.lines[-limit:])


def _chunks(run_id: str, rank: int | None) -> Any:
    query = select(col(ConsoleChunk.id), ConsoleChunk.count).where(ConsoleChunk.run_id == run_id)
    return query if rank is None else query.where(ConsoleChunk.rank == rank)


def _enough(chunks: Sequence[tuple[int, int]], limit: int) -> tuple[list[int], bool]:
    """Ids of the first chunks that hold `limit` lines together, and whether some are left."""
    taken: list[int] = []
    lines = 0
    for chunk_id, count in chunks:
        if lines >= limit:
            return taken, True
        taken.append(chunk_id)
        lines += count
    return taken, False


def _page(session: Session, ids: Sequence[int], after: int, more: bool) -> Page:
    chunks = session.exec(select(ConsoleChunk).where(col(ConsoleChunk.id).in_(ids)).order_by(col(ConsoleChunk.id)))
    lines = [
        Printed(chunk.rank, line)
        for chunk in chunks
        for line in _LINES.decode(zstandard.ZstdDecompressor().decompress(chunk.payload))
    ]
    return Page(lines, ids[-1] if ids else after, more)
