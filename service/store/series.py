"""Metric series: a summary row each, and chunks of packed points.

Appending never rewrites a full chunk. Once a series has `MERGE_AFTER` small chunks they are merged into
packed ones of `CHUNK_POINTS`, in the same transaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sql
from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from service.store.points import Points, current, decode, encode, split_segments, thin
from service.store.tables import Chunk, Series

CHUNK_POINTS = 4096
MERGE_AFTER = 32


def append(session: Session, run_id: str, columns: dict[str, Points]) -> int:
    """Add points to the series of a run, making those that are new; return how many points were added."""
    known = {row.key: row for row in summaries(session, [run_id], list(columns))}
    pieces: list[tuple[Series, list[dict[str, Any]]]] = []
    for key, points in columns.items():
        if not len(points):
            continue
        series = known.get(key)
        if series is None:
            first = int(points.steps[0])
            series = Series(run_id=run_id, key=key, first_step=first, last_step=first, last_time=0.0)
            session.add(series)
        pieces.append((series, _extend(series, points)))
    # One flush: each series is written once, whole, and new ones then have the id their chunks need.
    session.flush()
    chunks = [{"series_id": series.id, **piece} for series, own in pieces for piece in own]
    if chunks:
        session.connection().execute(insert(Chunk), chunks)
    for series, _ in pieces:
        if series.open_chunks >= MERGE_AFTER:
            _merge(session, series)
    return sum(len(points) for points in columns.values())


def _extend(series: Series, points: Points) -> list[dict[str, Any]]:
    """Update the summary, and give the chunk rows of `points` (without the series' id)."""
    rows: list[dict[str, Any]] = []
    if series.count and int(points.steps[0]) < series.last_step:
        series.segment += 1
    for position, part in enumerate(split_segments(points.steps)):
        series.segment += 1 if position else 0
        for start in range(part.start, part.stop, CHUNK_POINTS):
            piece = points[start : min(start + CHUNK_POINTS, part.stop)]
            series.open_chunks += 0 if len(piece) == CHUNK_POINTS else 1
            rows.append(_row(piece, series.segment, packed=len(piece) == CHUNK_POINTS))
    _summarise(series, points)
    return rows


def _row(points: Points, segment: int, *, packed: bool) -> dict[str, Any]:
    return {
        "segment": segment,
        "count": len(points),
        "first_step": int(points.steps[0]),
        "last_step": int(points.steps[-1]),
        "payload": encode(points, packed=packed),
    }


def _summarise(series: Series, points: Points) -> None:
    series.count += len(points)
    series.first_step = min(series.first_step, int(points.steps.min()))
    series.last_step = int(points.steps[-1])
    series.last_time = float(points.times[-1])
    last = float(points.values[-1])
    series.last = last if math.isfinite(last) else None
    series.last_special = None if math.isfinite(last) else special_name(last)
    finite = np.isfinite(points.values)
    if not finite.any():
        return
    values, steps = points.values[finite], points.steps[finite]
    series.sum += float(values.sum())
    low, high = int(values.argmin()), int(values.argmax())
    if series.min is None or values[low] < series.min:
        series.min, series.min_step = float(values[low]), int(steps[low])
    if series.max is None or values[high] > series.max:
        series.max, series.max_step = float(values[high]), int(steps[high])


def special_name(value: float) -> str:
    """JSON has no NaN and no infinity: they travel by name."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _merge(session: Session, series: Series) -> None:
    small = session.exec(
        select(Chunk).where(Chunk.series_id == series.id, Chunk.count < CHUNK_POINTS).order_by(col(Chunk.id))
    ).all()
    merged: list[dict[str, Any]] = []
    for segment in dict.fromkeys(chunk.segment for chunk in small):
        points = Points.concatenate([decode(c.payload, c.count) for c in small if c.segment == segment])
        for start in range(0, len(points), CHUNK_POINTS):
            piece = _row(points[start : start + CHUNK_POINTS], segment, packed=True)
            merged.append({"series_id": series.id, **piece})
    session.connection().execute(delete(Chunk).where(col(Chunk.id).in_([chunk.id for chunk in small])))
    session.connection().execute(insert(Chunk), merged)
    series.open_chunks = sum(row["count"] < CHUNK_POINTS for row in merged)


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
