"""The points of a series, out of their chunks: some at a time, in the order in which a reader wants them.

A reader may be slow, and what it reads may change meanwhile: points arrive, chunks are joined, the run is purged. Its
place is therefore a number of points in order of arrival. That order stays whatever happens to the chunks, so each
piece may be read in a transaction of its own, and all of them together are what one transaction would have shown.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session

from service.errors import NotFound
from service.store.cursor import Cursor, Statement
from service.store.points import CHUNK_POINTS, Int64s, Points, current, decode
from service.store.series import PAYLOADS
from service.store.tables import Chunk, Series

PIECE_POINTS = 32 * CHUNK_POINTS  # that are read at a time

_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]
_SERIES: Table = Series.__table__  # type: ignore[attr-defined]
_NEWEST = Statement(
    sql.select(*(_CHUNK.c[name] for name in ("id", "count", "segment", "first_step", "last_step")))
    .where(_CHUNK.c.series_id == sql.bindparam("series_id"))
    .order_by(_CHUNK.c.id.desc())
    .limit(sql.bindparam("most", type_=sql.Integer()))
)
_STATE = Statement(
    sql.select(_SERIES.c.run_id, _SERIES.c.joins, _SERIES.c.count).where(_SERIES.c.id == sql.bindparam("series_id"))
)


class PointsPurged(NotFound):
    """What was being read is deleted for good: there is no whole answer any more."""

    code = "points_purged"


def read(session: Session, series: Series, *, after: int = 0, whole: bool = False) -> tuple[Points, Int64s]:
    """The points of a series beyond the first `after` that arrived, with the segment of each; see `Reader`."""
    parts = list(Reader(series, after=after, whole=whole).pieces(lambda: session))
    segments = [segment for _, segment in parts]
    return Points.concatenate([points for points, _ in parts]), np.concatenate(segments or [np.empty(0, np.int64)])


class Reader:
    """The points of a series beyond the first `after` that arrived: all that it had when `series` was read.

    Points that a later segment replaces are left out unless `whole`. Points that came as a set come by step.
    """

    def __init__(self, series: Series, *, after: int = 0, whole: bool = False) -> None:
        self._series = series
        self._after = after
        self._replaced = series.segment > 0 and not whole
        self._index: _Index | None = None
        self._spans: Sequence[tuple[int, int]] = []

    def pieces(self, session: Callable[[], Session]) -> Iterator[tuple[Points, Int64s]]:
        """The points with the segment of each, some `PIECE_POINTS` at a time, so that a series of any length takes
        little memory. Called again, it gives the same once more.

        `session` is asked for each piece, and may answer with another than before.

        Raises:
            PointsPurged
        """
        series = self._series
        if series.count <= self._after:
            return
        if self._index is None:
            self._index = _Index.read(session(), series, self._after)
            by_step = series.segment == 0
            # Once: points of one step come in an order that depends on where the pieces are cut.
            self._spans = (
                [(self._after, series.count)] if self._replaced else list(self._index.spans(self._after, by_step))
            )
        for start, stop in self._spans:
            points, segments = self._points(session(), start, stop)
            if series.segment == 0 and bool((points.steps[1:] < points.steps[:-1]).any()):
                points = points[np.lexsort((points.times, points.steps))]
            if self._replaced:
                keep = current(points, segments)
                points, segments = points[keep], segments[keep]
            yield points, segments

    def _points(self, session: Session, start: int, stop: int) -> tuple[Points, Int64s]:
        if self._index is None or not self._index.holds(session):
            self._index = _Index.read(session, self._series, self._after)
        return self._index.points(session, start, stop)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chunk's points are in order of arrival: from `start` up to `stop`."""

    chunk_id: int
    start: int
    stop: int
    segment: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class _Index:
    """The chunks of a series that hold what it had when `series` was read, beyond the first `after` points; valid until
    some are joined."""

    series: Series
    joins: int
    places: Sequence[_Place]

    @classmethod
    def read(cls, session: Session, series: Series, after: int) -> _Index:
        joins, count = _state(session, series)
        # From the end, for that is where a reader who comes back goes on. No chunk is empty.
        asked = {"series_id": series.id, "most": count - after}
        places: list[_Place] = []
        start = count
        for chunk_id, held, *rest in Cursor.of(session).rows(_NEWEST, asked):
            if start <= after:
                break
            start, stop = start - held, start
            if start < series.count:  # else it came later
                places.append(_Place(chunk_id, start, stop, *rest))
        if start > after:
            raise _purged(series)
        return cls(series, joins, places[::-1])

    def holds(self, session: Session) -> bool:
        return _state(session, self.series)[0] == self.joins

    def points(self, session: Session, start: int, stop: int) -> tuple[Points, Int64s]:
        """The points from `start` up to `stop` in order of arrival, with the segment of each."""
        first = bisect_right(self.places, start, key=lambda place: place.start) - 1
        some = self.places[first : bisect_left(self.places, stop, key=lambda place: place.start)]
        ends = {"series_id": self.series.id, "first": some[0].chunk_id, "last": some[-1].chunk_id}
        payloads = [row[0] for row in Cursor.of(session).rows(PAYLOADS, ends)]
        if len(payloads) < len(some):
            raise _purged(self.series)
        parts = [
            decode(payload, place.stop - place.start)[max(start - place.start, 0) : stop - place.start]
            for payload, place in zip(payloads, some, strict=True)
        ]
        segments = np.array([place.segment for place in some], dtype=np.int64)
        return Points.concatenate(parts), np.repeat(segments, [len(part) for part in parts])

    def spans(self, after: int, by_step: bool) -> Iterator[tuple[int, int]]:
        """From where to where to read at a time; if points are wanted by step, cut only where all steps before are
        smaller or the same."""
        wanted = [place for place in self.places if place.stop > after]
        least_after = list(itertools.accumulate((one.first_step for one in reversed(wanted)), min))[::-1]
        start, greatest = after, -(2**63)
        for one, least in zip(wanted, least_after[1:], strict=False):
            greatest = max(greatest, one.last_step)
            if one.stop - start >= PIECE_POINTS and (not by_step or greatest <= least):
                yield start, one.stop
                start = one.stop
        yield start, self.series.count


def _state(session: Session, series: Series) -> tuple[int, int]:
    """How often chunks of the series have been joined, and how many points it has by now.

    Raises:
        PointsPurged: it is gone; its id may have been given to a series of another run.
    """
    state = Cursor.of(session).rows(_STATE, {"series_id": series.id})
    if not state or state[0][0] != series.run_id:
        raise _purged(series)
    return int(state[0][1]), int(state[0][2])


def _purged(series: Series) -> PointsPurged:
    return PointsPurged(f"The run '{series.run_id}' has been purged: the points of '{series.key}' are gone.")
