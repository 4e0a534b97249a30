"""The points of a series, out of their chunks: some at a time, in the order in which a reader wants them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session

from service.store.cursor import Cursor, Statement
from service.store.points import CHUNK_POINTS, Int64s, Points, current, decode
from service.store.series import PAYLOADS
from service.store.tables import Chunk, Series

PIECE_POINTS = 64 * CHUNK_POINTS  # that are read at a time

_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]
_CHUNKS = Statement(
    sql.select(*(_CHUNK.c[name] for name in ("id", "count", "segment", "first_step", "last_step")))
    .where(_CHUNK.c.series_id == sql.bindparam("series_id"))
    .order_by(_CHUNK.c.id)
)


def read(session: Session, series: Series, *, after: int = 0, whole: bool = False) -> tuple[Points, Int64s]:
    """The points of a series beyond the first `after` that arrived, with the segment of each; see `pieces`."""
    parts = list(pieces(session, series, after=after, whole=whole))
    segments = [segment for _, segment in parts]
    return Points.concatenate([points for points, _ in parts]), np.concatenate(segments or [np.empty(0, np.int64)])


def pieces(session: Session, series: Series, *, after: int = 0, whole: bool = False) -> Iterator[tuple[Points, Int64s]]:
    """The points of a series beyond the first `after` that arrived, with the segment of each: all that it had when
    `series` was read, some `PIECE_POINTS` at a time, so that a series of any length takes little memory.

    Points that a later segment replaces are left out unless `whole`. Points that came as a set come by step.
    """
    cursor = Cursor.of(session)
    wanted: list[_Wanted] = []
    seen = 0
    for row in cursor.rows(_CHUNKS, {"series_id": series.id}):
        chunk_id, stored, *rest = row
        count = min(stored, series.count - seen)
        if count > 0 and seen + count > after:
            wanted.append(_Wanted(chunk_id, max(after - seen, 0), count, stored, *rest))
        seen += stored
    if not wanted:
        return
    replaced = series.segment > 0 and not whole
    for some in [wanted] if replaced else _stretches(wanted, by_step=series.segment == 0):
        ends = {"series_id": series.id, "first": some[0].chunk_id, "last": some[-1].chunk_id}
        payloads = [row[0] for row in cursor.rows(PAYLOADS, ends)]
        parts = [
            decode(payload, one.stored)[slice(one.skip, one.count)] for payload, one in zip(payloads, some, strict=True)
        ]
        points = Points.concatenate(parts)
        segments = np.repeat(np.array([one.segment for one in some], dtype=np.int64), [len(part) for part in parts])
        if series.segment == 0 and bool((points.steps[1:] < points.steps[:-1]).any()):
            points = points[np.lexsort((points.times, points.steps))]
        if replaced:
            keep = current(points, segments)
            points, segments = points[keep], segments[keep]
        yield points, segments


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A chunk to read, from its `skip`th point up to its `count`th."""

    chunk_id: int
    skip: int
    count: int
    stored: int
    segment: int
    first_step: int
    last_step: int


def _stretches(wanted: Sequence[_Wanted], *, by_step: bool) -> Iterator[Sequence[_Wanted]]:
    """The chunks, some at a time; if their points are wanted by step, cut only where all steps before are smaller."""
    least_after = list(itertools.accumulate((one.first_step for one in reversed(wanted)), min))[::-1]
    start, size, greatest = 0, 0, -(2**63)
    for place, one in enumerate(wanted):
        size += one.count - one.skip
        greatest = max(greatest, one.last_step)
        following = place + 1
        if size >= PIECE_POINTS and following < len(wanted) and (not by_step or greatest <= least_after[following]):
            yield wanted[start:following]
            start, size = following, 0
    if start < len(wanted):
        yield wanted[start:]
