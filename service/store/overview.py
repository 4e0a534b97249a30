"""A long series in fewer entries: what the points of each full chunk were, 32 by 32, kept beside the chunk.

A chart of a hundred thousand points has a thousand pixels. It takes these entries, which keep every extreme, at a
fraction of what unpacking the points would cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import sqlalchemy as sql
import zstandard
from sqlalchemy import Table
from sqlmodel import Session

from service.store.points import CHUNK_POINTS, FORMER_CHUNK_POINTS, Float64s, Points, decode, pack
from service.store.tables import Chunk, Series

GROUP = 32
WIDTH = 6
"""Columns of an entry: those of `Entries`."""
LONG = 32_768  # points that are worth the shortcut
AT_ONCE = 64  # series read together: the cost of a query is shared, and memory stays bounded

_CHUNK: Table = Chunk.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Entries:
    """Points, or groups of `GROUP` neighbours: mean step and time, mean, least and greatest of the `n` finite values.

    These three are NaN where no value is finite.
    """

    steps: Float64s
    times: Float64s
    mean: Float64s
    low: Float64s
    high: Float64s
    n: Float64s

    def __len__(self) -> int:
        return len(self.steps)


def encode(points: Points) -> bytes | None:
    """The entries of a full chunk, packed; None where steps go back, so that neighbours are far from one another."""
    columns = _grouped(points)
    return None if columns is None else pack([column.view("<i8") for column in columns])


def _grouped(points: Points) -> np.ndarray | None:
    """A row for each column of `Entries`; None where steps go back."""
    if bool((points.steps[1:] < points.steps[:-1]).any()):
        return None
    values = points.values.reshape(-1, GROUP)
    finite = np.isfinite(values)
    n = finite.sum(axis=1).astype(np.float64)
    low = np.where(finite, values, np.inf).min(axis=1)
    high = np.where(finite, values, -np.inf).max(axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0.0).sum(axis=1) / n
        # A sum of values near the largest float overflows; their middle does not.
        mean = np.where(np.isfinite(mean), mean, low / 2 + high / 2)
    for column in (mean, low, high):
        column[n == 0] = np.nan
    steps, times = (column.reshape(-1, GROUP).mean(axis=1) for column in (points.steps, points.times))
    # Times to a millisecond, means to 13 digits: nobody sees more of a chart, and noise takes room.
    return np.stack([steps, _without(12, times), np.clip(_without(8, mean), low, high), low, high, n])


def _without(bits: int, values: Float64s) -> Float64s:
    """The values with their last bits cleared."""
    return (values.view(np.int64) & -(1 << bits)).view(np.float64)


def is_long(series: Series, pixels: int) -> bool:
    """Is this series drawn from its entries? With two of them or more a pixel; what a resumed run replaced is told
    point by point."""
    return series.segment == 0 and series.count >= max(LONG, 2 * GROUP * pixels)


def read(session: Session, rows: Sequence[Series]) -> Iterator[tuple[Series, Entries]]:
    """The entries of these series, in order of arrival. Chunks that are not full yet give their points."""
    for start in range(0, len(rows), AT_ONCE):
        some = {row.id: row for row in rows[start : start + AT_ONCE]}
        whole = sql.case((_CHUNK.c.overview.is_(None), _CHUNK.c.payload))
        query = sql.select(_CHUNK.c.series_id, _CHUNK.c.count, _CHUNK.c.overview, whole)
        query = query.where(_CHUNK.c.series_id.in_(some)).order_by(_CHUNK.c.series_id, _CHUNK.c.id)
        found = session.connection().execute(query)
        for series_id, chunks in groupby(found, key=lambda chunk: chunk[0]):
            yield some[series_id], _entries([(count, packed, payload) for _, count, packed, payload in chunks])


def _entries(chunks: Sequence[tuple[int, bytes | None, bytes | None]]) -> Entries:
    decompress = zstandard.ZstdDecompressor().decompress
    parts: list[np.ndarray] = []
    for packed_count, some in groupby(chunks, key=lambda chunk: None if chunk[1] is None else chunk[0]):
        if packed_count is not None:
            raw = np.frombuffer(b"".join(decompress(packed or b"") for _, packed, _ in some), np.uint8)
            parts.append(_unpacked(raw, packed_count // GROUP))
        else:
            for count, _, payload in some:
                points = decode(payload or b"", count)
                # A full chunk from before there were overviews: grouped now, so that memory stays as small.
                grouped = _grouped(points) if count in (CHUNK_POINTS, FORMER_CHUNK_POINTS) else None
                parts.append(_of_points(points) if grouped is None else grouped)
    return Entries(*np.concatenate(parts, axis=1))


def _unpacked(raw: np.ndarray, entries: int) -> np.ndarray:
    """Overviews of full chunks with so many entries each, all at once: a row for each column of `Entries`."""
    shuffled = raw.reshape(-1, WIDTH, 8, entries).transpose(0, 1, 3, 2)
    differences = np.ascontiguousarray(shuffled).view("<i8")[..., 0]
    columns = np.cumsum(differences, axis=2, dtype=np.int64).view(np.float64)
    return columns.transpose(1, 0, 2).reshape(WIDTH, -1)


def _of_points(points: Points) -> np.ndarray:
    finite = np.isfinite(points.values)
    value = np.where(finite, points.values, np.nan)
    return np.stack([points.steps.astype(np.float64), points.times, value, value, value, finite.astype(np.float64)])
