"""How metric points are packed into a chunk, and thinned for a chart. Pure: bytes and arrays.

A payload is one format byte and the three columns (step int64, time float64, value float64, little-endian).
Format 0 is the bare columns. Format 1 stores each column's differences (of the 64-bit patterns), byte-shuffled and
compressed as one frame of Zstandard: steps then cost almost nothing, and times and values keep every bit, NaN payloads
included.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard
from tsdownsample import MinMaxDownsampler

RAW, PACKED = 0, 1
CHUNK_POINTS = 8192
FORMER_CHUNK_POINTS = 4096  # of the full chunks in older databases
BLOCK_POINTS = 1024  # from here on a block of Zstandard for each byte of a column pays for its code
_ONE = struct.Struct("<Bqdd")

Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Points:
    """Equal-length columns in order of arrival."""

    steps: Int64s
    times: Float64s
    values: Float64s

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Points:
        return Points(self.steps[index], self.times[index], self.values[index])

    @staticmethod
    def concatenate(parts: list[Points]) -> Points:
        if not parts:
            return Points(np.empty(0, np.int64), np.empty(0), np.empty(0))
        return Points(
            np.concatenate([part.steps for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.values for part in parts]),
        )


def encode(points: Points, *, packed: bool) -> bytes:
    columns = [
        points.steps.astype("<i8", copy=False),
        points.times.astype("<f8", copy=False),
        points.values.astype("<f8", copy=False),
    ]
    if not packed:
        return bytes([RAW]) + b"".join(column.tobytes() for column in columns)
    return bytes([PACKED]) + pack([column.view("<i8") for column in columns])


def encode_one(step: int, time: float, value: float) -> bytes:
    """What `encode` makes of a single point."""
    return _ONE.pack(RAW, step, time, value)


def pack(columns: Sequence[Int64s]) -> bytes:
    """Columns of equal length, each as its differences, byte-shuffled, and all compressed together."""
    shuffled = [_shuffle(_differences(column)) for column in columns]
    count = len(columns[0])
    if count < BLOCK_POINTS:
        return zstandard.ZstdCompressor(level=3).compress(b"".join(shuffled))
    packer = zstandard.ZstdCompressor(level=3).compressobj(size=8 * count * len(columns))
    parts = []
    # A block has one code for all its bytes: those of different places are distributed differently.
    for plane in (column[start : start + count] for column in shuffled for start in range(0, 8 * count, count)):
        parts += [packer.compress(plane), packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join([*parts, packer.flush()])


def decode(payload: bytes, count: int) -> Points:
    body = payload[1:]
    if payload[0] == PACKED:
        body = zstandard.ZstdDecompressor().decompress(body)
        width = 8 * count
        steps, times, values = (
            np.cumsum(_unshuffle(body[i * width : (i + 1) * width], count), dtype=np.int64) for i in range(3)
        )
        return Points(steps, times.view(np.float64), values.view(np.float64))
    return Points(
        np.frombuffer(body, "<i8", count),
        np.frombuffer(body, "<f8", count, 8 * count),
        np.frombuffer(body, "<f8", count, 16 * count),
    )


def _differences(column: Int64s) -> Int64s:
    # int64 differences wrap around; the cumulative sum wraps back to the same bits.
    with np.errstate(over="ignore"):
        return np.diff(column, prepend=np.int64(0))


def _shuffle(column: Int64s) -> bytes:
    return column.view(np.uint8).reshape(-1, 8).T.tobytes()


def _unshuffle(data: bytes, count: int) -> Int64s:
    column = np.empty((count, 8), np.uint8)
    # Eight passes of one byte each: numpy's own transposed copy takes half as long again.
    for place, part in enumerate(np.frombuffer(data, np.uint8).reshape(8, count)):
        column[:, place] = part
    return column.view("<i8").ravel()


def split_segments(steps: Int64s) -> list[slice]:
    """Maximal stretches in which the step never goes back."""
    back = steps[1:] < steps[:-1]
    if not back.any():
        return [slice(0, len(steps))]
    cuts = (np.flatnonzero(back) + 1).tolist()
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(steps)], strict=True)]


def current(points: Points, segments: Int64s) -> npt.NDArray[np.bool_]:
    """Which points a chart shows: where a later segment starts over, its points replace the older ones."""
    keep = np.ones(len(points), dtype=bool)
    horizon: np.int64 | None = None
    for segment in np.unique(segments)[::-1]:
        inside = segments == segment
        if horizon is not None:
            keep &= ~inside | (points.steps < horizon)
        first = points.steps[inside].min()
        horizon = first if horizon is None else min(horizon, first)
    return keep


def thin(points: Points, buckets: int) -> Points:
    """At most `2 · buckets` points: the least and greatest of each bucket, so that a spike survives."""
    if len(points) <= 2 * buckets:
        return points
    chosen = MinMaxDownsampler().downsample(np.ascontiguousarray(points.values), n_out=2 * buckets)
    # The ends are kept whatever they are: a chart starts and stops where the run does.
    return points[np.unique(np.concatenate([[0], chosen.astype(np.intp), [len(points) - 1]]))]
