"""A score with its uncertainty.

Proportions get Wilson's interval (1927). Everything else gets the bias-corrected and accelerated bootstrap (BCa,
Efron 1987) of 4,000 resamples with a fixed seed. Above 20,000 items, where BCa and the normal interval
agree to well under the resamples' noise, it is the normal one with a grouped jackknife standard error, except for
label pairs of up to 2,000 kinds, whose resamples cost the same at any size. Rankings (ROC-AUC, average precision) of
more than two classes cost so much a class: there the limit is on items times classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from service.measure.distributions import normal_cdf, normal_quantile
from service.measure.metric import FloatArray, Metric
from service.measure.resampling import (
    JACKKNIFE_GROUPS,
    Distinct,
    count_draws,
    deletion_groups,
    deletions,
    distinct_rows,
    item_draws,
    resampling_size,
)
from service.measure.validation import OutOfRangeError, check_probability

RESAMPLES = 4_000
MAX_BOOTSTRAP_ITEMS = 20_000
MAX_UNDEFINED_SHARE = 0.05


@dataclass(frozen=True)
class Score:
    """One metric of one set of predictions.

    `value` and `interval` are in the metric's own unit. What could not be computed is None, and `reason` says why:
    no_items, undefined (the formula has no value here), too_few_items (an interval needs two),
    no_variation (every item has the same statistics), undefined_resamples (over 5 % of resamples have no value),
    or what the caller of `not_scored` knows.
    `n` counts items, missing ones included; `seed` is None where nothing was drawn.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    confidence: float
    n: int
    n_missing: int
    method: str | None
    seed: int | None
    signature: str
    reason: str | None
    higher_is_better: bool


@dataclass(frozen=True)
class _Interval:
    bounds: tuple[float, float] | None
    method: str | None = None
    seed: int | None = None
    reason: str | None = None


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (1927), without continuity correction."""
    check_probability(confidence, "confidence")
    if n <= 0 or not 0 <= successes <= n:
        raise OutOfRangeError(f"{successes} successes of {n} trials is not a proportion")
    z = normal_quantile(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The exact ends: rounding must not leave 0 or 1 outside when nothing or everything succeeded.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


def score(
    metric: Metric, statistics: FloatArray, *, n_missing: int = 0, confidence: float = 0.95, seed: int = 0
) -> Score:
    """Score a set from its per-item statistics (n, k); see `Score` for what comes back.

    n_missing: how many of the n items had no output; they are counted as wrong within `statistics`.
    """
    check_probability(confidence, "confidence")
    n = len(statistics)
    value = float(metric.aggregate(statistics)[0]) if n else math.nan
    if math.isnan(value):
        interval = _Interval(None, reason="undefined" if n else "no_items")
    else:
        interval = _interval(metric, statistics, value, confidence, seed)
    return _score(metric, n, n_missing, value, interval, confidence)


def by_pieces(metric: Metric, n: int) -> bool:
    """Can `score_pieces` score n items of this metric?"""
    return metric.kind == "corpus" and metric.reads == "text" and n > MAX_BOOTSTRAP_ITEMS


def score_pieces(
    metric: Metric,
    pieces: Iterable[FloatArray],
    n: int,
    *,
    n_missing: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Score:
    """`score` of n items whose statistics come in pieces, in order, and are never held together: the same numbers.

    Only where `by_pieces` says so: the score is a function of the columns' sums, and the interval is the jackknife's,
    so that the sums of its groups are all there is to know. The columns of BLEU and chrF are whole numbers: there no
    order of adding alters a bit.
    """
    check_probability(confidence, "confidence")
    groups, start, varied = deletion_groups(n, seed), 0, False
    first: FloatArray | None = None
    sums = np.empty((0, 0))
    for piece in pieces:
        if first is None:
            first, sums = piece[0].copy(), np.zeros((JACKKNIFE_GROUPS, piece.shape[1]))
        own = groups[start : start + len(piece)]
        for column, values in enumerate(piece.T):
            sums[:, column] += np.bincount(own, weights=values, minlength=len(sums))
        varied = varied or bool((piece != first).any())
        start += len(piece)
    value = float(metric.aggregate(sums)[0])
    if math.isnan(value) or not varied:
        interval = _Interval(None, reason="undefined" if math.isnan(value) else "no_variation")
    else:
        left_out = metric.aggregate(sums, 1.0 - np.eye(len(sums)))
        interval = _of_left_out(left_out, value, confidence, seed)
    return _score(metric, n, n_missing, value, interval, confidence)


def _score(metric: Metric, n: int, n_missing: int, value: float, interval: _Interval, confidence: float) -> Score:
    return Score(
        name=metric.name,
        value=None if math.isnan(value) else value,
        interval=interval.bounds,
        confidence=confidence,
        n=n,
        n_missing=n_missing,
        method=interval.method,
        seed=interval.seed,
        signature=metric.signature(),
        reason=interval.reason,
        higher_is_better=metric.higher_is_better,
    )


def not_scored(metric: Metric, n: int, *, n_missing: int, reason: str, confidence: float = 0.95) -> Score:
    """The score of n items whose answers do not carry what the metric reads."""
    return Score(
        name=metric.name,
        value=None,
        interval=None,
        confidence=confidence,
        n=n,
        n_missing=n_missing,
        method=None,
        seed=None,
        signature=metric.signature(),
        reason=reason,
        higher_is_better=metric.higher_is_better,
    )


def _interval(metric: Metric, statistics: FloatArray, value: float, confidence: float, seed: int) -> _Interval:
    n = len(statistics)
    if metric.kind == "proportion":
        return _Interval(wilson_interval(float(statistics[:, 0].sum()), n, confidence), "wilson")
    if n < 2:
        return _Interval(None, reason="too_few_items")
    if bool((statistics == statistics[0]).all()):
        return _Interval(None, reason="no_variation")
    distinct = distinct_rows(statistics) if metric.reads == "label" else None
    if distinct is None and resampling_size(metric, statistics) > MAX_BOOTSTRAP_ITEMS:
        return _jackknife_interval(metric, statistics, value, confidence, seed)
    return _bca_interval(metric, statistics, distinct, value, confidence, seed)


def _jackknife_interval(
    metric: Metric, statistics: FloatArray, value: float, confidence: float, seed: int
) -> _Interval:
    left_out = np.concatenate([metric.aggregate(statistics, weights) for weights in deletions(len(statistics), seed)])
    return _of_left_out(left_out, value, confidence, seed)


def _of_left_out(left_out: FloatArray, value: float, confidence: float, seed: int) -> _Interval:
    error = math.sqrt((len(left_out) - 1) * float(np.var(left_out)))
    if math.isnan(error):  # without some of the items it has no value: those of a class are all in one part
        return _Interval(None, seed=seed, reason="undefined_resamples")
    half = normal_quantile(0.5 + confidence / 2) * error
    return _Interval((value - half, value + half), f"jackknife-{JACKKNIFE_GROUPS}", seed)


def _bca_interval(
    metric: Metric,
    statistics: FloatArray,
    distinct: Distinct | None,
    value: float,
    confidence: float,
    seed: int,
) -> _Interval:
    if distinct is None:
        draws = item_draws(len(statistics), seed, RESAMPLES)
        resampled = np.concatenate([metric.aggregate(statistics, weights) for weights in draws])
        left_out = np.concatenate(
            [metric.aggregate(statistics, weights) for weights in deletions(len(statistics), seed)]
        )
        multiplicity = np.ones(len(left_out))
    else:
        draws = count_draws(distinct.counts, seed, RESAMPLES)
        resampled = np.concatenate([metric.aggregate(distinct.rows, weights) for weights in draws])
        counts = distinct.counts.astype(np.float64)
        left_out = metric.aggregate(distinct.rows, counts[None, :] - np.eye(len(counts)))
        multiplicity = counts
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < (1 - MAX_UNDEFINED_SHARE) * len(resampled):
        return _Interval(None, seed=seed, reason="undefined_resamples")
    tails = [_bca_tail(defined, value, left_out, multiplicity, p) for p in (0.5 - confidence / 2, 0.5 + confidence / 2)]
    low, high = np.quantile(defined, tails)
    return _Interval((float(low), float(high)), f"bca-bootstrap-{RESAMPLES}", seed)


def _bca_tail(
    resampled: FloatArray, value: float, left_out: FloatArray, multiplicity: FloatArray, tail: float
) -> float:
    """The share of resamples below the BCa end point of nominal `tail` (Efron 1987, equation 2.2)."""
    # Ties count half, so that a discrete score is not taken for a biased one.
    below = (np.count_nonzero(resampled < value) + 0.5 * np.count_nonzero(resampled == value)) / len(resampled)
    bias = normal_quantile(min(max(below, 0.5 / len(resampled)), 1 - 0.5 / len(resampled)))
    defined = ~np.isnan(left_out)
    weights = multiplicity[defined]
    influence = np.average(left_out[defined], weights=weights) - left_out[defined]
    spread = float((weights * influence**2).sum())
    acceleration = float((weights * influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + normal_quantile(tail)
    slope = 1 - acceleration * shifted
    # Beyond the pole the formula folds back; the end of the resamples is the honest answer there.
    return normal_cdf(bias + shifted / slope) if slope > 0 else float(shifted > 0)
