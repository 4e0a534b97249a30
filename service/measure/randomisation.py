"""Approximate randomisation: would two systems differ as much if each item's answers were dealt to them at random?

Noreen (1989); for the metrics of texts Riezler & Maxwell (2005), in sacrebleu's form: with its seed and its number of
trials p is sacrebleu's. Trials are sums over the stored statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.measure.metric import FloatArray, IntArray, Metric
from service.measure.resampling import PAIRED_RESAMPLES, RANDOMISATION_TRIALS, Distinct, count_halves, swaps

_ROUNDING = 1e-9
"""Trials that deal the same answers as were seen, or their mirror image, differ by less than this."""


def dealt_differences(
    metric: Metric,
    baseline: FloatArray,
    candidate: FloatArray,
    *,
    distinct: Distinct | None = None,
    clusters: IntArray | None = None,
    seed: int = 0,
    trials: int | None = None,
) -> FloatArray:
    """Sizes of the differences between two systems dealt at random from statistics (n, k): shape (trials,).

    distinct: the distinct rows of both sides' label codes, if known. clusters: the group of each item, counted from 0
    without gaps; whole groups are dealt then. trials: 10,000, or 1,000 of rankings, where each sorts all answers.
    """
    trials = trials or (PAIRED_RESAMPLES if metric.reads == "scores" else RANDOMISATION_TRIALS)
    if metric.reads == "text":
        blocks = _dealt_sums(metric, baseline, candidate, swaps(len(baseline), seed, trials, clusters))
    elif distinct is not None and clusters is None:
        width, counts = baseline.shape[1], distinct.counts
        sides = distinct.rows[:, :width], distinct.rows[:, width:]
        blocks = _dealt_rows(metric, *sides, counts, count_halves(counts, seed, trials))
    else:
        draws = (stay.astype(np.float64) for stay in swaps(len(baseline), seed, trials, clusters))
        blocks = _dealt_rows(metric, baseline, candidate, np.ones(len(baseline), dtype=np.int64), draws)
    return np.concatenate([np.abs(one - other) for one, other in blocks])


Scores = Iterator[tuple[FloatArray, FloatArray]]


def _dealt_sums(
    metric: Metric, baseline: FloatArray, candidate: FloatArray, draws: Iterator[NDArray[np.bool_]]
) -> Scores:
    """Scores of the two in blocks of trials, where statistics add up: the sums, and what each swap adds or takes."""
    change = baseline - candidate
    differing = np.flatnonzero(change.any(axis=1))
    one, other = (
        np.vstack([side.sum(axis=0), swap[differing]]) for side, swap in ((candidate, change), (baseline, -change))
    )
    for stay in draws:
        weights = np.ones((len(stay), 1 + len(differing)))
        weights[:, 1:] = stay[:, differing]
        yield metric.aggregate(one, weights), metric.aggregate(other, weights)


def _dealt_rows(
    metric: Metric, baseline: FloatArray, candidate: FloatArray, counts: IntArray, draws: Iterator[FloatArray]
) -> Scores:
    """The same of any statistics; counts: the items behind each row (n,), draws: how many of them stay."""
    answers = np.vstack([baseline, candidate])
    for stay in draws:
        gone = counts - stay
        yield metric.aggregate(answers, np.hstack([stay, gone])), metric.aggregate(answers, np.hstack([gone, stay]))


def randomisation_p(sizes: FloatArray, difference: float) -> float:
    """Two-sided p: (trials that differ by more than was seen + 1) / (trials + 1)."""
    return float((np.count_nonzero(sizes > abs(difference) + _ROUNDING) + 1) / (len(sizes) + 1))
