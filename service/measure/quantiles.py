"""Quantiles of durations that are counted in bins, with an error that knows that one unit's requests are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.measure.arms import RatioArm

# A bin is 2 % wide.
_BIN_BASE = math.log(1.02)
# Standard errors of the share by which the quantile's own error is read off the histogram (Woodruff).
_REACH = 1.96


@dataclass(frozen=True)
class QuantileArm:
    """A quantile as an arm: `variance / n` is the squared standard error of `mean`, the quantile itself."""

    n: int
    mean: float
    variance: float


def bin_of(seconds: float) -> int:
    """The bin of a duration; everything up to a microsecond shares one."""
    return math.ceil(math.log(max(seconds, 1e-6)) / _BIN_BASE)


def quantile(bins: Mapping[int, int], share: float) -> float | None:
    """The `share` quantile of what is counted in `bins`, within 2 % and mostly far closer; None of nothing.

    Inside a bin the values are taken to lie evenly, so that two arms are not told apart by a bin's width.
    """
    total = sum(bins.values())
    rank, seen = share * (total - 1) if total else 0.0, 0
    for index in sorted(bins):
        if seen + bins[index] > rank:
            inside = (rank - seen + 0.5) / bins[index]
            return math.exp((index - 1 + min(inside, 1.0)) * _BIN_BASE)
        seen += bins[index]
    return None


def cluster_factor(units: npt.ArrayLike, seconds: npt.ArrayLike, at: float) -> float | None:
    """How many times the variance of 'at most `at` seconds' over requests is what independent requests would give.

    units (a number each), seconds: of each request of a random sample of units, same length. At least 1; None of under
    two units, or where all requests are on one side. The delta method for clusters: Deng, Knoblich and Lu 2018,
    'Applying the delta method in metric analytics', on ratios of units and on quantiles.
    """
    values = np.asarray(seconds, dtype=np.float64)
    if not len(values):
        return None
    numbers = np.unique(np.asarray(units, dtype=np.int64), return_inverse=True)[1]
    arm = RatioArm.from_values(np.bincount(numbers, weights=values <= at), np.bincount(numbers).astype(np.float64))
    if arm.n < 2 or not 0 < arm.mean < 1:
        return None
    independent = arm.mean * (1 - arm.mean) / len(values)
    return max(1.0, arm.variance / arm.n / independent)


def quantile_arm(bins: Mapping[int, int], n: int, share: float, factor: float) -> QuantileArm | None:
    """The quantile of `bins`, of `n` units, with its error; None of fewer than two values or without any spread.

    The share of requests below the true quantile has the error sqrt(factor * share * (1 - share) / requests); the
    quantile's follows from where the histogram is that much higher and lower (Woodruff 1952, 'Confidence intervals for
    medians and other position measures'), which needs no estimate of the density.
    """
    total, value = sum(bins.values()), quantile(bins, share)
    if value is None or total < 2:
        return None
    reach = _REACH * math.sqrt(factor * share * (1 - share) / total)
    places = max(share - reach, 0.0), min(share + reach, 1.0)
    low, high = (quantile(bins, place) or value for place in places)
    if high <= low:
        return None
    # Where the histogram ends before the reach does, the rest of it counts for what it is.
    error = (high - low) / (places[1] - places[0]) * (reach / _REACH)
    return QuantileArm(n, value, error**2 * n)
