"""Curves of many runs on one axis: reduced to the pixels of a chart, smoothed, averaged over groups.

The order matters and is always the same: a run's points are reduced to one entry a pixel (mean, least and greatest
of the points in it), the entries are smoothed, and groups average the smoothed curves of their runs. Every step after
the first costs pixels, not points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.measure.metric import FloatArray, IntArray

VIEWPORT = 1000.0
"""Units a chart is wide for the purpose of smoothing, as at Weights & Biases."""
STRONGEST = 0.999
# exp(200) times a value scaled to 1 is far from what a float64 holds; what has decayed by exp(-200) is gone.
_DEPTH = 200.0


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: columns of equal length, `x` never going back.

    `value` is NaN where none of the `n` = 0 points behind the entry was finite: a gap. `low` and `high` are the
    extremes of the points behind it, `first` and `last` where the curve has its first and last finite point.
    """

    x: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    first: float
    last: float

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Band:
    """The curves of a group: mean, standard deviation (n - 1; NaN where n < 2) and extremes of `n` runs at each x."""

    x: FloatArray
    mean: FloatArray
    sd: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray


def ordered(x: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The points by x; those without a finite x (an epoch nobody recorded) are left out."""
    placed = np.isfinite(x)
    if not placed.all():
        x, values = x[placed], values[placed]
    if len(x) > 1 and (x[1:] < x[:-1]).any():
        order = np.argsort(x, kind="stable")
        x, values = x[order], values[order]
    return x, values


def reduce(x: FloatArray, values: FloatArray, pixels: int, low: float, high: float) -> Line:
    """The points in order of x as a line of at most `pixels` entries.

    As they are where they fit; else one entry for each of the `pixels` equal parts of [low, high] that holds a point.
    The parts are the same for every run of a chart, which is what aligns them.
    """
    finite = np.isfinite(values)
    whole = bool(finite.all())
    if len(x) <= pixels:
        value = values if whole else np.where(finite, values, np.nan)
        return Line(x, value, value, value, finite.astype(np.int64), *_span(x, finite))
    starts = _parts(x, pixels, low, high)
    size = np.diff(starts, append=len(x))
    n = size if whole else np.add.reduceat(finite, starts, dtype=np.int64)
    least = np.minimum.reduceat(values if whole else np.where(finite, values, np.inf), starts)
    greatest = np.maximum.reduceat(values if whole else np.where(finite, values, -np.inf), starts)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(values if whole else np.where(finite, values, 0.0), starts) / n
        # A sum of values near the largest float overflows; their middle does not.
        mean = np.where(np.isfinite(mean), mean, least / 2 + greatest / 2)
    empty = n == 0
    for column in (mean, least, greatest):
        column[empty] = np.nan
    return Line(np.add.reduceat(x, starts) / size, mean, least, greatest, n, *_span(x, finite))


def condense(line: Line, pixels: int, low: float, high: float) -> Line:
    """A line in order of x, whose entries stand for points already, as one of at most `pixels` entries: what `reduce`
    makes of the points, but that an entry falls into one part of [low, high] as a whole."""
    if len(line) <= pixels:
        return line
    starts = _parts(line.x, pixels, low, high)
    n = np.add.reduceat(line.n, starts)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(line.n > 0, line.value, 0.0) * line.n, starts) / n
        least, greatest = np.fmin.reduceat(line.low, starts), np.fmax.reduceat(line.high, starts)
        mean = np.where(np.isfinite(mean), mean, least / 2 + greatest / 2)
    x = np.add.reduceat(line.x, starts) / np.diff(starts, append=len(line))
    return replace(line, x=x, value=mean, low=least, high=greatest, n=n)


def _parts(x: FloatArray, pixels: int, low: float, high: float) -> IntArray:
    """Where each of the equal parts of [low, high] that holds an x begins."""
    bounds = low + (high - low) / pixels * np.arange(1, pixels)
    cuts = np.concatenate([[0], np.searchsorted(x, bounds), [len(x)]])
    starts: IntArray = cuts[:-1][cuts[1:] > cuts[:-1]]
    return starts


def entries(x: FloatArray, mean: FloatArray, low: FloatArray, high: FloatArray, n: FloatArray) -> Line:
    """A line of entries that stand for `n` finite points each, by x; those without a finite x are left out."""
    order = np.argsort(x, kind="stable")
    order = order[np.isfinite(x[order])]
    x, counts = x[order], n[order].astype(np.int64)
    return Line(x, mean[order], low[order], high[order], counts, *_span(x, counts > 0))


def _span(x: FloatArray, finite: np.ndarray) -> tuple[float, float]:
    there = np.flatnonzero(finite)
    return (float(x[there[0]]), float(x[there[-1]])) if len(there) else (math.nan, math.nan)


def smooth(line: Line, smoothing: float, width: float) -> Line:
    """The line's exponential moving average, weighted by distance in x and without the start's bias.

    The definition is Weights & Biases' time-weighted EMA (their documentation, line plot smoothing): with
    s = min(√smoothing, 0.999), what came before keeps s^(1000 Δx / width) of its weight over a distance Δx, so that
    curves of different density are smoothed alike; dividing by the same average of ones takes the bias away, as
    TensorBoard does. An entry that stands for several points weighs as many. Gaps stay gaps and weigh nothing.

    Args:
        smoothing: 0 (as measured) up to, but not including, 1.
        width: how far the chart's x axis reaches, in the units of x.
    """
    if smoothing <= 0:
        return line
    kept = line.n > 0
    x, n = line.x[kept], line.n[kept].astype(np.float64)
    if not len(x):
        return line
    rate = -math.log(min(math.sqrt(smoothing), STRONGEST)) * VIEWPORT / width if width > 0 else 0.0
    scale = float(np.abs(line.value[kept]).max()) or 1.0
    sums = _decaying_sums(np.stack([line.value[kept] / scale * n, n]), np.diff(x, prepend=x[0]) * rate)
    value = line.value.copy()
    value[kept] = sums[0] / sums[1] * scale
    return replace(line, value=value)


def _decaying_sums(values: FloatArray, decay: FloatArray) -> FloatArray:
    """s_i = s_(i-1) · exp(-decay_i) + values_i along the second axis, without a loop over points.

    Written as exp(-D_i) · Σ_(j ≤ i) exp(D_j) · values_j with D the running sum of decays, block by block so that
    exp(D) stays within floating point.
    """
    decay = np.minimum(decay, _DEPTH)
    depth = np.cumsum(decay)
    sums = np.empty_like(values)
    carry = np.zeros(len(values))
    start = 0
    while start < len(depth):
        stop = int(np.searchsorted(depth, depth[start] + _DEPTH, side="right"))
        growth = np.exp(depth[start:stop] - depth[start])
        block = np.cumsum(values[:, start:stop] * growth, axis=1) + (carry * math.exp(-decay[start]))[:, None]
        sums[:, start:stop] = block / growth
        carry = sums[:, stop - 1]
        start = stop
    return sums


def grid(lines: Sequence[Line], pixels: int, low: float, high: float) -> FloatArray:
    """Where runs are compared: every x that one of them has while these are few, else the middle of each pixel."""
    present = np.unique(np.concatenate([line.x for line in lines])) if lines else np.empty(0)
    if len(present) <= pixels:
        return present
    return np.asarray(low + (high - low) / pixels * (np.arange(pixels) + 0.5))


def band(lines: Sequence[Line], at: FloatArray) -> Band:
    """Mean and spread of the lines at each x of `at`, which must not go back.

    A line counts between its own first and last finite point, by linear interpolation, and nowhere else: a run that
    stopped early is not carried on. Where no line counts the mean is NaN (a gap); beyond the outermost line nothing
    is given.
    """
    heights = np.stack([_heights(line, at) for line in lines])
    there = np.isfinite(heights)
    n = there.sum(axis=0)
    if not n.any():
        nothing = np.empty(0)
        return Band(nothing, nothing, nothing, nothing, nothing, np.empty(0, np.int64))
    inside = np.flatnonzero(n)
    part = slice(inside[0], inside[-1] + 1)
    heights, there, n = heights[:, part], there[:, part], n[part]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, heights, 0.0).sum(axis=0) / n
        squares = np.where(there, heights - mean, 0.0) ** 2
        sd = np.where(n > 1, np.sqrt(squares.sum(axis=0) / (n - 1)), np.nan)
    low = np.where(n > 0, np.where(there, heights, np.inf).min(axis=0), np.nan)
    high = np.where(n > 0, np.where(there, heights, -np.inf).max(axis=0), np.nan)
    return Band(at[part], mean, sd, low, high, n.astype(np.int64))


def _heights(line: Line, at: FloatArray) -> FloatArray:
    """The line's value at each x of `at`, NaN outside its range."""
    kept = line.n > 0
    x, value = line.x[kept], line.value[kept]
    if not len(x):
        return np.full(len(at), np.nan)
    if (x[1:] == x[:-1]).any():
        # Several points at one x: interpolation takes their mean.
        x, starts = np.unique(x, return_index=True)
        value = np.add.reduceat(value, starts) / np.diff(starts, append=len(value))
    inside = (at >= line.first) & (at <= line.last)
    return np.where(inside, np.interp(at, x, value), np.nan)
