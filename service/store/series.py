"""Metric series: a summary row each, and chunks of packed points.

Appending never rewrites a full chunk. Once a series has `MERGE_AFTER` small chunks they are merged into
packed ones of `CHUNK_POINTS`, in the same transaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session, col, select

from service.store.points import Points, current, decode, encode, split_segments, thin
from service.store.tables import Chunk, Series

CHUNK_POINTS = 4096
MERGE_AFTER = 32


@dataclass(slots=True)
class Summary:
    """A `Series` row as a plain object: a batch may touch thousands, and each attribute set on a model costs dearly."""

    id: int | None
    key: str
    count: int
    first_step: int
    last_step: int
    last_time: float
    last: float | None
    min: float | None
    max: float | None
    sum: float
    min_step: int | None
    max_step: int | None
    last_special: str | None
    segment: int
    open_chunks: int

    @staticmethod
    def new(key: str, first_step: int) -> Summary:
        return Summary(None, key, 0, first_step, first_step, 0.0, None, None, None, 0.0, None, None, None, 0, 0)

    def add(self, points: Points) -> None:
        """Take in the points that follow; extremes and sum are over finite values."""
        self.count += len(points)
        self.last_step = int(points.steps[-1])
        self.first_step = min(self.first_step, int(points.steps.min()) if len(points) > 1 else self.last_step)
        self.last_time = float(points.times[-1])
        last = float(points.values[-1])
        finite = math.isfinite(last)
        self.last, self.last_special = (last, None) if finite else (None, special_name(last))
        if len(points) == 1:
            if finite:
                self._extend(last, last, self.last_step, self.last_step, last)
            return
        kept = np.isfinite(points.values)
        if kept.any():
            values, steps = points.values[kept], points.steps[kept]
            low, high = int(values.argmin()), int(values.argmax())
            total = float(values.sum())
            self._extend(float(values[low]), float(values[high]), int(steps[low]), int(steps[high]), total)

    def _extend(self, low: float, high: float, low_step: int, high_step: int, total: float) -> None:
        self.sum += total
        if self.min is None or low < self.min:
            self.min, self.min_step = low, low_step
        if self.max is None or high > self.max:
            self.max, self.max_step = high, high_step


_SERIES: Table = Series.__table__  # type: ignore[attr-defined]
_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]
_FIELDS = [field.name for field in fields(Summary)]
_CHANGING = [name for name in _FIELDS if name not in ("id", "key")]
_UPDATE = (
    sql.update(_SERIES)
    .where(_SERIES.c.id == sql.bindparam("own"))
    .values({name: sql.bindparam(f"new_{name}") for name in _CHANGING})
)
_MANY_KEYS = 500


def append(session: Session, run_id: str, columns: dict[str, Points]) -> int:
    """Add points to the series of a run, making those that are new; return how many points were added."""
    columns = {key: points for key, points in columns.items() if len(points)}
    if not columns:
        return 0
    known = _summaries(session, run_id, list(columns))
    pieces: dict[str, list[dict[str, Any]]] = {}
    fresh: list[Summary] = []
    for key, points in columns.items():
        summary = known.get(key)
        if summary is None:
            summary = known[key] = Summary.new(key, int(points.steps[0]))
            fresh.append(summary)
        pieces[key] = _cut(summary, points)
    _store(session, run_id, [known[key] for key in columns], fresh)
    rows = [{"series_id": known[key].id, **piece} for key, own in pieces.items() for piece in own]
    session.connection().execute(sql.insert(_CHUNK), rows)
    for key in columns:
        if known[key].open_chunks >= MERGE_AFTER:
            _merge(session, known[key])
    return sum(len(points) for points in columns.values())


def _summaries(session: Session, run_id: str, keys: list[str]) -> dict[str, Summary]:
    query = sql.select(*(_SERIES.c[name] for name in _FIELDS)).where(_SERIES.c.run_id == run_id)
    if len(keys) <= _MANY_KEYS:
        query = query.where(_SERIES.c.key.in_(keys))
    return {row.key: Summary(*row) for row in session.connection().execute(query)}


def _store(session: Session, run_id: str, touched: list[Summary], fresh: list[Summary]) -> None:
    """Write the summaries; new ones get the id their chunks need."""
    connection = session.connection()
    changed = [
        {"own": one.id, **{f"new_{name}": getattr(one, name) for name in _CHANGING}}
        for one in touched
        if one.id is not None
    ]
    if changed:
        connection.execute(_UPDATE, changed)
    if fresh:
        rows = [{"run_id": run_id, **{name: getattr(one, name) for name in _FIELDS if name != "id"}} for one in fresh]
        connection.execute(sql.insert(_SERIES), rows)
        ids = {key: one.id for key, one in _summaries(session, run_id, [one.key for one in fresh]).items()}
        for one in fresh:
            one.id = ids[one.key]


def _cut(summary: Summary, points: Points) -> list[dict[str, Any]]:
    """Take `points` into the summary, and give their chunk rows (without the series' id)."""
    rows: list[dict[str, Any]] = []
    if summary.count and int(points.steps[0]) < summary.last_step:
        summary.segment += 1
    parts = split_segments(points.steps) if len(points) > 1 else [slice(0, 1)]
    for position, part in enumerate(parts):
        summary.segment += 1 if position else 0
        for start in range(part.start, part.stop, CHUNK_POINTS):
            piece = points[start : min(start + CHUNK_POINTS, part.stop)]
            full = len(piece) == CHUNK_POINTS
            summary.open_chunks += 0 if full else 1
            rows.append(_row(piece, summary.segment, packed=full))
    summary.add(points)
    return rows


def _row(points: Points, segment: int, *, packed: bool) -> dict[str, Any]:
    return {
        "segment": segment,
        "count": len(points),
        "first_step": int(points.steps[0]),
        "last_step": int(points.steps[-1]),
        "payload": encode(points, packed=packed),
    }


def special_name(value: float) -> str:
    """JSON has no NaN and no infinity: they travel by name."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _merge(session: Session, summary: Summary) -> None:
    """Join the small chunks of a series into packed ones; points and their order stay."""
    mine = _CHUNK.c.series_id == summary.id
    first = sql.select(sql.func.min(_CHUNK.c.id)).where(mine, _CHUNK.c.count < CHUNK_POINTS).scalar_subquery()
    # Full chunks that came after the first small one are cut anew with it: chunks lie in the order of arrival.
    rest = session.exec(select(Chunk).where(Chunk.series_id == summary.id, Chunk.id >= first).order_by(col(Chunk.id)))
    old = list(rest.all())
    merged: list[dict[str, Any]] = []
    for segment in dict.fromkeys(chunk.segment for chunk in old):
        points = Points.concatenate([decode(c.payload, c.count) for c in old if c.segment == segment])
        for start in range(0, len(points), CHUNK_POINTS):
            piece = _row(points[start : start + CHUNK_POINTS], segment, packed=True)
            merged.append({"series_id": summary.id, **piece})
    connection = session.connection()
    connection.execute(sql.delete(_CHUNK).where(_CHUNK.c.id.in_([chunk.id for chunk in old])))
    connection.execute(sql.insert(_CHUNK), merged)
    left = sum(row["count"] < CHUNK_POINTS for row in merged)
    connection.execute(sql.update(_SERIES).where(_SERIES.c.id == summary.id).values(open_chunks=left))


def summaries(session: Session, run_ids: Sequence[str], keys: Sequence[str] | None = None) -> list[Series]:
    query = select(Series).where(col(Series.run_id).in_(run_ids)).order_by(col(Series.run_id), col(Series.key))
    if keys is not None:
        query = query.where(col(Series.key).in_(keys))
    return list(session.exec(query).all())


def summary_table(
    session: Session, run_ids: Sequence[str], keys: Sequence[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Run id → metric → its summary, as plain dictionaries: a page of runs may hold tens of thousands."""
    query = sql.select(
        *(col(c) for c in (Series.run_id, Series.key, Series.count, Series.first_step, Series.last_step)),
        *(col(c) for c in (Series.last, Series.min, Series.max, Series.min_step, Series.max_step)),
        *(col(c) for c in (Series.sum, Series.last_special)),
    )
    query = query.where(col(Series.run_id).in_(run_ids)).order_by(col(Series.run_id), col(Series.key))
    if keys is not None:
        query = query.where(col(Series.key).in_(keys))
    table: dict[str, dict[str, dict[str, Any]]] = {run_id: {} for run_id in run_ids}
    for run_id, key, count, first, end, last, low, high, low_step, high_step, total, special in session.execute(query):
        table[run_id][key] = {
            "count": count,
            "first_step": first,
            "last_step": end,
            "last": special or last,
            "min": low,
            "max": high,
            "min_step": low_step,
            "max_step": high_step,
            "mean": total / count if low is not None else None,
        }
    return table


def read(session: Session, series: Series, *, after: int = 0, whole: bool = False) -> tuple[Points, np.ndarray]:
    """The points of a series beyond the first `after` that arrived, with the segment of each.

    Points that a later segment replaces are left out unless `whole`.
    """
    rows = session.exec(
        select(Chunk.id, Chunk.count, Chunk.segment).where(Chunk.series_id == series.id).order_by(col(Chunk.id))
    ).all()
    wanted: list[tuple[int, int, int]] = []  # chunk id, points to skip, segment
    seen = 0
    for chunk_id, count, segment in rows:
        if seen + count > after and chunk_id is not None:
            wanted.append((chunk_id, max(after - seen, 0), segment))
        seen += count
    chunks = _load(session, [chunk_id for chunk_id, _, _ in wanted])
    parts = [decode(chunks[i].payload, chunks[i].count)[slice(skip, None)] for i, skip, _ in wanted]
    points = Points.concatenate(parts)
    segments = np.repeat(np.array([s for _, _, s in wanted], dtype=np.int64), [len(part) for part in parts])
    if whole or series.segment == 0:
        return points, segments
    keep = current(points, segments)
    return points[keep], segments[keep]


def _load(session: Session, ids: list[int]) -> dict[int, Chunk]:
    found: dict[int, Chunk] = {}
    for start in range(0, len(ids), 500):
        rows = session.exec(select(Chunk).where(col(Chunk.id).in_(ids[start : start + 500]))).all()
        found.update({row.id: row for row in rows if row.id is not None})
    return found


def chart(points: Points, max_points: int | None) -> Points:
    """The points a chart of `max_points` pixels needs."""
    return points if max_points is None else thin(points, max_points)
