"""Metric series: a summary row each, and chunks of packed points.

Appending adds chunks and rewrites none: points are on disk after one insert. Small chunks are joined into packed ones
of `CHUNK_POINTS` later, when the writer has nothing else to do (`merge`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session, col, select

from service.store import overview
from service.store.cursor import Cursor, Statement, among
from service.store.points import CHUNK_POINTS, Points, decode, encode, encode_one, split_segments
from service.store.tables import Chunk, Run, Series

MERGE_FROM = 64  # small chunks of a series that are worth joining
MERGE_MOST = 256  # chunks that one step of a merge reads
MERGE_POINTS = 8 * CHUNK_POINTS  # and points, about: writers wait while these are packed


@dataclass(slots=True)
class Summary:
    """A `Series` row as a plain object: a batch may touch thousands, and each attribute set on a model costs dearly."""

    id: int | None
    key: str
    count: int
    finite_count: int
    first_step: int
    last_step: int
    first_time: float
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
    def new(key: str, first_step: int, first_time: float) -> Summary:
        ends = (first_step, first_step, first_time, 0.0)
        return Summary(None, key, 0, 0, *ends, None, None, None, 0.0, None, None, None, 0, 0)

    def add_one(self, step: int, time: float, value: float, ordered: bool) -> None:
        """Take in a point: most calls log one of each metric."""
        self._end_with(step, time, value, ordered)
        self.count += 1
        self.first_step, self.first_time = min(self.first_step, step), min(self.first_time, time)
        if math.isfinite(value):
            self.finite_count += 1
            self._extend(value, value, step, step, value)

    def add(self, points: Points, ordered: bool) -> None:
        """Take in points; extremes and sum are over finite values."""
        place = -1 if ordered else int(np.lexsort((points.values, points.times, points.steps))[-1])
        self._end_with(int(points.steps[place]), float(points.times[place]), float(points.values[place]), ordered)
        self.count += len(points)
        self.first_step = min(self.first_step, int(points.steps.min()))
        self.first_time = min(self.first_time, float(points.times.min()))
        kept = np.isfinite(points.values)
        finite_count = int(np.count_nonzero(kept))
        if finite_count:
            self.finite_count += finite_count
            values, steps = (
                (points.values, points.steps)
                if finite_count == len(kept)
                else (points.values[kept], points.steps[kept])
            )
            low, high = int(values.argmin()), int(values.argmax())
            with np.errstate(over="ignore", invalid="ignore"):
                total = float(values.sum())
            if math.isnan(total):  # beyond what a float64 holds in both directions; its sign is that of the mean
                total = float((values / len(values)).sum()) * len(values)
            self._extend(float(values[low]), float(values[high]), int(steps[low]), int(steps[high]), total)

    def _end_with(self, step: int, time: float, value: float, ordered: bool) -> None:
        held = self.last if self.last is not None else float(self.last_special or "nan")
        if ordered or self.count == 0 or (step, time, value) > (self.last_step, self.last_time, held):
            self.last_step, self.last_time = step, time
            self.last, self.last_special = (value, None) if math.isfinite(value) else (None, special_name(value))

    def _extend(self, low: float, high: float, low_step: int, high_step: int, total: float) -> None:
        total += self.sum
        self.sum = 0.0 if math.isnan(total) else total  # no database counts infinities of both signs together
        if self.min is None or low < self.min:
            self.min, self.min_step = low, low_step
        if self.max is None or high > self.max:
            self.max, self.max_step = high, high_step


_SERIES: Table = Series.__table__  # type: ignore[attr-defined]
_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]
_FIELDS = [field.name for field in fields(Summary)]
_CHANGING = [name for name in _FIELDS if name not in ("id", "key")]
# A row's parameters of `_ADD` and `_CHANGE`, from a summary: they are made for each metric of each batch.
_ADDED = ["key", *_CHANGING]
_added = attrgetter(*_ADDED)
_CHANGED = ["own", *(f"new_{name}" for name in _CHANGING)]
_changed = attrgetter("id", *_CHANGING)
_PIECE = ["series_id", "segment", "count", "first_step", "last_step", "overview", "payload"]
_OF_CHUNK = _CHUNK.c.id == sql.bindparam("own")

_FIND = Statement(
    sql.select(*(_SERIES.c[name] for name in _FIELDS)).where(
        _SERIES.c.run_id == sql.bindparam("run_id"),
        _SERIES.c.rank == sql.bindparam("rank"),
        among(_SERIES.c.key, "keys"),
    )
)
_CHANGE = Statement(
    sql.update(_SERIES)
    .where(_SERIES.c.id == sql.bindparam("own"))
    .values({name: sql.bindparam(f"new_{name}") for name in _CHANGING})
)
_ADD = Statement(
    sql.insert(_SERIES).inline().values({name: sql.bindparam(name) for name in ["run_id", "rank", "key", *_CHANGING]})
)
_ADD_CHUNK = Statement(sql.insert(_CHUNK).inline().values({name: sql.bindparam(name) for name in _PIECE}))
_CHANGE_CHUNK = Statement(
    sql.update(_CHUNK).where(_OF_CHUNK).values({name: sql.bindparam(f"new_{name}") for name in _PIECE[1:]})
)
_DROP_CHUNK = Statement(sql.delete(_CHUNK).where(_OF_CHUNK))
# Full chunks of older databases have fewer points, and an overview as all full ones.
_IS_SMALL = sql.and_(_CHUNK.c.count < CHUNK_POINTS, _CHUNK.c.overview.is_(None))
_NEWEST_CHUNKS = Statement(
    sql.select(_CHUNK.c.id, _CHUNK.c.segment, _CHUNK.c.count, _IS_SMALL)
    .where(_CHUNK.c.series_id == sql.bindparam("series_id"))
    .order_by(_CHUNK.c.id.desc())
    .limit(sql.bindparam("most", type_=sql.Integer()))
)
PAYLOADS = Statement(
    sql.select(_CHUNK.c.payload)
    .where(_CHUNK.c.series_id == sql.bindparam("series_id"))
    .where(_CHUNK.c.id.between(sql.bindparam("first"), sql.bindparam("last")))
    .order_by(_CHUNK.c.id)
)
_CHANGE_OPEN = Statement(
    sql.update(_SERIES)
    .where(_SERIES.c.id == sql.bindparam("own"))
    .values(open_chunks=_SERIES.c.open_chunks - sql.bindparam("fewer", type_=sql.Integer()), joins=_SERIES.c.joins + 1)
)


_SUMMARY = sql.select(
    *(_SERIES.c[name] for name in ("run_id", "key", "count", "first_step", "last_step", "last", "min", "max")),
    *(_SERIES.c[name] for name in ("min_step", "max_step", "sum", "finite_count", "last_special", "rank")),
).order_by(_SERIES.c.run_id, _SERIES.c.rank, _SERIES.c.key)
_OF_RUNS = _SUMMARY.where(among(_SERIES.c.run_id, "runs"), _SERIES.c.rank == 0)
_SUMMARIES = Statement(_OF_RUNS)
_SOME_SUMMARIES = Statement(_OF_RUNS.where(among(_SERIES.c.key, "keys")))
_ALL_RANKS = Statement(_SUMMARY.where(_SERIES.c.run_id == sql.bindparam("run_id")))


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did: points added, and the series whose small chunks are worth joining."""

    points: int
    to_merge: list[int]


def append(
    session: Session, run_id: str, columns: dict[str, Points], *, rank: int = 0, ordered: bool = True
) -> Appended:
    """Add points to the series of one rank of a run, making those that are new.

    With `ordered`, points come in the order they were logged: a step that goes back starts a segment that replaces what
    it overlaps, and the last to arrive is the last value. Without, they are a set that may arrive in any order, as the
    MLflow protocol has it: nothing is replaced, and the last value is that of the greatest step, then time, then value.
    """
    columns = {key: points for key, points in columns.items() if len(points)}
    if not columns:
        return Appended(0, [])
    cursor = Cursor.of(session)
    known = _find(cursor, run_id, rank, columns)
    pieces: dict[str, list[dict[str, Any]]] = {}
    fresh: list[Summary] = []
    for key, points in columns.items():
        summary = known.get(key)
        if summary is None:
            summary = known[key] = Summary.new(key, int(points.steps[0]), float(points.times[0]))
            fresh.append(summary)
        pieces[key] = _cut(summary, points, ordered) if len(points) > 1 else [_one(summary, points, ordered)]
    held = (one for one in known.values() if one.id is not None)
    cursor.many(_CHANGE, [dict(zip(_CHANGED, _changed(one), strict=True)) for one in held])
    if fresh:
        owner = {"run_id": run_id, "rank": rank}
        cursor.many(_ADD, [owner | dict(zip(_ADDED, _added(one), strict=True)) for one in fresh])
        ids = {key: one.id for key, one in _find(cursor, run_id, rank, [one.key for one in fresh]).items()}
        for one in fresh:
            one.id = ids[one.key]
    cursor.many(_ADD_CHUNK, [{"series_id": known[key].id, **piece} for key, own in pieces.items() for piece in own])
    due = [one.id for one in known.values() if one.open_chunks >= MERGE_FROM and one.id is not None]
    return Appended(sum(len(points) for points in columns.values()), due)


def _find(cursor: Cursor, run_id: str, rank: int, keys: Iterable[str]) -> dict[str, Summary]:
    rows = cursor.rows(_FIND, {"run_id": run_id, "rank": rank, "keys": cursor.texts(keys)})
    return {row[1]: Summary(*row) for row in rows}


def _cut(summary: Summary, points: Points, ordered: bool) -> list[dict[str, Any]]:
    """Take `points` into the summary, and give their chunk rows (without the series' id)."""
    rows: list[dict[str, Any]] = []
    if ordered and summary.count and int(points.steps[0]) < summary.last_step:
        summary.segment += 1
    parts = split_segments(points.steps) if ordered else [slice(0, len(points))]
    for position, part in enumerate(parts):
        summary.segment += 1 if position else 0
        for start in range(part.start, part.stop, CHUNK_POINTS):
            piece = points[start : min(start + CHUNK_POINTS, part.stop)]
            full = len(piece) == CHUNK_POINTS
            summary.open_chunks += 0 if full else 1
            rows.append(_row(piece, summary.segment, packed=full))
    summary.add(points, ordered)
    return rows


def _one(summary: Summary, points: Points, ordered: bool) -> dict[str, Any]:
    """The same for a single point."""
    step, time, value = points.steps.item(), points.times.item(), points.values.item()
    if ordered and summary.count and step < summary.last_step:
        summary.segment += 1
    summary.open_chunks += 1
    summary.add_one(step, time, value, ordered)
    return {
        "segment": summary.segment,
        "count": 1,
        "first_step": step,
        "last_step": step,
        "overview": None,
        "payload": encode_one(step, time, value),
    }


def _row(points: Points, segment: int, *, packed: bool) -> dict[str, Any]:
    first = points.steps if len(points) == 1 else (points.steps.min(), points.steps.max())
    return {
        "segment": segment,
        "count": len(points),
        "first_step": int(first[0]),
        "last_step": int(first[-1]),
        "overview": overview.encode(points) if len(points) == CHUNK_POINTS else None,
        "payload": encode(points, packed=packed),
    }


def special_name(value: float) -> str:
    """JSON has no NaN and no infinity: they travel by name."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def unmerged(session: Session, *, at_least: int, run_id: str | None = None, limit: int = 1000) -> list[int]:
    """Ids of the series with at least so many small chunks, of one run or of all."""
    query = select(Series.id).where(Series.open_chunks >= at_least)
    if run_id is not None:
        query = query.where(Series.run_id == run_id)
    return [one for one in session.exec(query.limit(limit)).all() if one is not None]


def merge(session: Session, series_id: int) -> bool:
    """Join small chunks of a series with those that follow; points and their order stay. Is there more to do?

    The rows that come first take the joined payloads and the others go, so that ids keep telling the order of arrival.
    A call joins `MERGE_MOST` chunks and `MERGE_POINTS` points at most: it holds up writers for some milliseconds.
    """
    # Appends hold the run's row: with it held here, none comes between.
    session.exec(select(Run.id).join(Series).where(Series.id == series_id).with_for_update(of=Run)).first()
    cursor = Cursor.of(session)
    newest = cursor.rows(_NEWEST_CHUNKS, {"series_id": series_id, "most": 8 * MERGE_MOST})[::-1]
    chunks = _joinable(newest)
    if not chunks:
        return False
    ends = {"series_id": series_id, "first": chunks[0][0], "last": chunks[-1][0]}
    payloads = [row[0] for row in cursor.rows(PAYLOADS, ends)]
    points = Points.concatenate([decode(payload, chunk[2]) for payload, chunk in zip(payloads, chunks, strict=True)])
    joined = [
        _row(points[start : start + CHUNK_POINTS], chunks[0][1], packed=True)
        for start in range(0, len(points), CHUNK_POINTS)
    ]
    changes = [
        {"own": chunk[0], **{f"new_{name}": value for name, value in piece.items()}}
        for chunk, piece in zip(chunks, joined, strict=False)
    ]
    cursor.many(_CHANGE_CHUNK, changes)
    cursor.many(_DROP_CHUNK, [{"own": chunk[0]} for chunk in chunks[len(joined) :]])
    fewer = sum(chunk[3] for chunk in chunks) - sum(piece["count"] < CHUNK_POINTS for piece in joined)
    cursor.run(_CHANGE_OPEN, {"own": series_id, "fewer": fewer})
    return True


def _joinable(chunks: list[tuple[int, int, int, bool]]) -> list[tuple[int, int, int, bool]]:
    """Of (id, segment, count, is small) in order of arrival: from the first small chunk that another of its segment
    follows."""
    for place, ((_, segment, _, small), following) in enumerate(itertools.pairwise(chunks)):
        if small and segment == following[1]:
            totals = itertools.accumulate(chunk[2] for chunk in chunks[place : place + MERGE_MOST])
            window = chunks[place : place + max(2, sum(total <= MERGE_POINTS for total in totals))]
            return window[: next((i for i, chunk in enumerate(window) if chunk[1] != segment), len(window))]
    return []


def summaries(
    session: Session, run_ids: Sequence[str], keys: Sequence[str] | None = None, rank: int | None = 0
) -> list[Series]:
    """By run, key and rank; of all ranks if `rank` is None."""
    query = select(Series).where(col(Series.run_id).in_(run_ids))
    if keys is not None:
        query = query.where(col(Series.key).in_(keys))
    if rank is not None:
        query = query.where(Series.rank == rank)
    return list(session.exec(query.order_by(col(Series.run_id), col(Series.key), col(Series.rank))).all())


def beginnings(session: Session, run_ids: Sequence[str]) -> dict[str, float]:
    """Run id → time of the first point of rank 0, of those that have one."""
    query = (
        select(Series.run_id, sql.func.min(Series.first_time))
        .where(col(Series.run_id).in_(run_ids), Series.rank == 0)
        .group_by(Series.run_id)
    )
    return dict(session.exec(query).all())


def summary_table(
    session: Session, run_ids: Sequence[str], keys: Sequence[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Run id → metric → its summary (of rank 0), as plain dictionaries: a page of runs may hold tens of thousands."""
    cursor = Cursor.of(session)
    asked = {"runs": cursor.texts(run_ids)}
    if keys is None:
        rows = cursor.rows(_SUMMARIES, asked)
    else:
        rows = cursor.rows(_SOME_SUMMARIES, {**asked, "keys": cursor.texts(keys)})
    table: dict[str, dict[str, dict[str, Any]]] = {run_id: {} for run_id in run_ids}
    for run_id, key, count, first_step, last_step, last, low, high, low_step, high_step, total, n, special, _ in rows:
        # Written out, though `_shown` says the same: a call each takes longer than the rest.
        table[run_id][key] = {
            "count": count,
            "first_step": first_step,
            "last_step": last_step,
            "last": special or last,
            "min": low,
            "max": high,
            "min_step": low_step,
            "max_step": high_step,
            "mean": total / n if n else None,
        }
    return table


def by_rank(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The summary of every series of a run, with its key and rank, by rank and key."""
    rows = Cursor.of(session).rows(_ALL_RANKS, {"run_id": run_id})
    return [{"key": key, "rank": rank, **_shown(*rest)} for _, key, *rest, rank in rows]


def _shown(
    count: int,
    first_step: int,
    last_step: int,
    last: float | None,
    low: float | None,
    high: float | None,
    low_step: int | None,
    high_step: int | None,
    total: float,
    finite_count: int,
    special: str | None,
) -> dict[str, Any]:
    return {
        "count": count,
        "first_step": first_step,
        "last_step": last_step,
        "last": special or last,
        "min": low,
        "max": high,
        "min_step": low_step,
        "max_step": high_step,
        "mean": total / finite_count if finite_count else None,
    }
