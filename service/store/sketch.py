"""A bounded look at a series of any length: its beginning, some of its middle, and its newest points.

A rule that runs every few seconds cannot read a million points each time; what it needs is the level a metric came
from, and its recent past in full. Of a run of many processes it is rank 0 that is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session

from service.store.points import Float64s, Int64s, Points, decode
from service.store.tables import Chunk, Series

HEAD, MIDDLE, TAIL = 64, 960, 1024
# Chunks of the middle that are decoded, at most; they are evenly spaced.
MIDDLE_CHUNKS = 8

_SERIES: Table = Series.__table__  # type: ignore[attr-defined]
_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]


def counts(session: Session, run_id: str) -> dict[str, int]:
    """Metric → number of its points, for every metric of the run."""
    query = sql.select(_SERIES.c.key, _SERIES.c.count).where(_SERIES.c.run_id == run_id, _SERIES.c.rank == 0)
    return {row[0]: row[1] for row in session.connection().execute(query)}


def last_values(session: Session, run_id: str, keys: Sequence[str]) -> dict[str, float | None]:
    """Metric → its last value (None if that is not finite)."""
    query = sql.select(_SERIES.c.key, _SERIES.c.last)
    query = query.where(_SERIES.c.run_id == run_id, _SERIES.c.rank == 0, _SERIES.c.key.in_(keys))
    return {row.key: row.last for row in session.connection().execute(query)}


def sketch(session: Session, run_id: str, keys: Sequence[str]) -> dict[str, Points]:
    """At most `HEAD + MIDDLE + TAIL` points of each of these metrics, in order; short series come whole.

    Points that a later segment (a resumed run) replaces are left out.
    """
    query = (
        sql.select(_SERIES.c.key, _CHUNK.c.id, _CHUNK.c.count, _CHUNK.c.segment, _CHUNK.c.first_step)
        .join(_CHUNK, _CHUNK.c.series_id == _SERIES.c.id)
        .where(_SERIES.c.run_id == run_id, _SERIES.c.rank == 0, _SERIES.c.key.in_(keys))
        .order_by(_SERIES.c.id, _CHUNK.c.id)
    )
    chunks: dict[str, list[tuple[int, ...]]] = {}
    for key, *chunk in session.connection().execute(query):
        chunks.setdefault(key, []).append(tuple(chunk))
    plans = {key: _plan(np.array(chunks[key], dtype=np.int64)) for key in keys if key in chunks}
    payloads = _payloads(session, [chunk_id for plan in plans.values() for chunk_id in plan.ids])
    return {key: plan.read(payloads) for key, plan in plans.items()}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to read of a series: chunks, how many points each has, which of those, and from which step on none."""

    ids: list[int]
    lengths: list[int]
    inside: list[Int64s]
    horizons: list[float]

    def read(self, payloads: Mapping[int, bytes]) -> Points:
        parts: list[Points] = []
        for chunk_id, length, inside, horizon in zip(self.ids, self.lengths, self.inside, self.horizons, strict=True):
            points = decode(payloads[chunk_id], length)[inside]
            parts.append(points if horizon == np.inf else points[points.steps < horizon])
        return Points.concatenate(parts)


def _plan(chunks: Int64s) -> _Plan:
    """`chunks`: a row each, in order: id, count, segment, first step."""
    ids, lengths, segments, first_steps = chunks.T
    ends = np.cumsum(lengths)
    wanted = np.arange(ends[-1]) if ends[-1] <= HEAD + MIDDLE + TAIL else _chosen(ends)
    owners, cuts = np.unique(np.searchsorted(ends, wanted, side="right"), return_index=True)
    starts = (ends - lengths)[owners]
    inside = [part - start for part, start in zip(np.split(wanted, cuts[1:]), starts, strict=True)]
    horizons = _horizons(segments, first_steps)[owners]
    return _Plan(ids[owners].tolist(), lengths[owners].tolist(), inside, horizons.tolist())


def _horizons(segments: Int64s, first_steps: Int64s) -> Float64s:
    """The step from which each chunk's points are replaced: where the earliest of the later segments began."""
    horizons = np.full(len(segments), np.inf)
    if segments[0] == segments[-1]:
        return horizons
    horizon = begin = np.inf
    for at in range(len(segments) - 1, -1, -1):
        if at + 1 < len(segments) and segments[at] != segments[at + 1]:
            horizon = begin
        begin = min(begin, first_steps[at])
        horizons[at] = horizon
    return horizons


def _chosen(ends: Int64s) -> Int64s:
    """Places in a long series to read, ascending."""
    first, last = HEAD, int(ends[-1]) - TAIL
    middle = np.flatnonzero((ends > first) & (np.concatenate([[0], ends[:-1]]) < last))
    inner: list[Int64s] = []
    for chunk in np.unique(np.linspace(middle[0], middle[-1], MIDDLE_CHUNKS).astype(int)).tolist():
        start, end = max(int(ends[chunk - 1]) if chunk else 0, first), min(int(ends[chunk]), last)
        inner.append(np.linspace(start, end - 1, MIDDLE // MIDDLE_CHUNKS).astype(np.int64))
    return np.unique(np.concatenate([np.arange(first), *inner, np.arange(last, int(ends[-1]))]))


def _payloads(session: Session, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for start in range(0, len(ids), 500):
        query = sql.select(_CHUNK.c.id, _CHUNK.c.payload).where(_CHUNK.c.id.in_(ids[start : start + 500]))
        found.update((row[0], row[1]) for row in session.connection().execute(query))
    return found
