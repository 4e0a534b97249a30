"""Agreement of people who judge, and what their judgements say: kappa, alpha, win rates, Bradley-Terry strengths.

Arrays in, frozen dataclasses out. What cannot be told is None; where it may have several reasons, with a coded one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.measure.metric import FloatArray, IntArray
from service.measure.paired import clustered_counts, group_codes, paired_mean, tango_interval
from service.measure.resampling import MAX_BLOCK_CELLS, PAIRED_RESAMPLES, count_draws
from service.measure.validation import LengthMismatchError, NotALabelError, OutOfRangeError, check_probability

MAX_UNDEFINED_SHARE = 0.05
_NEWTON_STEPS = 200


@dataclass(frozen=True)
class WinRate:
    """Share of judgements won, a tie counting half. `n` counts judgements.

    reason of what is None: no_judgements, one_group (groups were given and there is one only).
    """

    value: float | None
    interval: tuple[float, float] | None
    n: int
    reason: str | None = None


@dataclass(frozen=True)
class Strength:
    """Bradley-Terry strength in log-odds: a beats b with probability 1 / (1 + exp(b.strength - a.strength)).

    The strengths that have a value add up to 0. `n` counts the comparisons the name is in. 400 / ln(10) times a
    difference of strengths is a difference of Elo ratings. reason of what is None:
    no_comparisons; disconnected (never compared, directly or through others, with those on the scale);
    unbounded (took no point from those on the scale, or gave them none: any larger distance fits better);
    undefined_resamples (over 5 % of resamples have no value: too few comparisons for an interval).
    """

    name: str
    strength: float | None
    interval: tuple[float, float] | None
    n: int
    reason: str | None = None


def cohen_kappa(a: Sequence[Hashable | None], b: Sequence[Hashable | None]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960), unweighted, over the items that both rated.

    a, b: the category each rater gave each item, None where they gave none. None if no item was rated by both, or if
    both gave one and the same category throughout, where chance alone would agree on everything.
    """
    if len(a) != len(b):
        raise LengthMismatchError(f"{len(a)} ratings by one rater but {len(b)} by the other", min(len(a), len(b)))
    pairs = [(one, other) for one, other in zip(a, b, strict=True) if one is not None and other is not None]
    n = len(pairs)
    codes = group_codes([category for pair in pairs for category in pair], 2 * n).reshape(n, 2)
    ours, theirs = (np.bincount(codes[:, side], minlength=int(codes.max(initial=0)) + 1) for side in (0, 1))
    agreed, by_chance = n * int((codes[:, 0] == codes[:, 1]).sum()), int(ours @ theirs)
    return (agreed - by_chance) / (n * n - by_chance) if n * n > by_chance else None


def krippendorff_alpha(ratings: FloatArray, level: Literal["nominal", "ordinal", "interval"]) -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability"): 1 - observed / expected disagreement.

    ratings: shape (raters, items), NaN where a rater gave none; for `nominal` the numbers are codes of categories.
    Items with fewer than two ratings do not count. None where there is nothing to disagree about: no item with two
    ratings, or one value throughout.
    """
    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim != 2:
        raise OutOfRangeError(f"ratings come as raters × items, got {values.ndim} dimensions")
    if np.isinf(values).any():
        raise OutOfRangeError("a rating is infinite", int(np.flatnonzero(np.isinf(values).any(axis=0))[0]))
    given = ~np.isnan(values)
    given &= given.sum(axis=0) >= 2
    item = np.nonzero(given.T)[0]
    rated = values.T[given.T]
    n = len(rated)
    if not n:
        return None
    distinct, codes, counts = np.unique(rated, return_inverse=True, return_counts=True)
    if level == "nominal":
        observed, expected = _category_disagreement(item, codes, counts)
    elif level == "ordinal":
        # The ordinal metric, half-way ranks squared, is the interval metric of the ranks.
        ranks = np.cumsum(counts) - counts / 2
        observed, expected = _squared_disagreement(item, ranks[codes])
    else:
        observed, expected = _squared_disagreement(item, rated)
    return 1 - (n - 1) * observed / expected if len(distinct) > 1 else None


def _category_disagreement(item: IntArray, codes: IntArray, counts: IntArray) -> tuple[float, float]:
    """Sums over ordered pairs of ratings that differ: within items, each weighing 1 / (m - 1), and over all."""
    ratings = np.bincount(item).astype(np.float64)
    cells, times = np.unique(item * len(counts) + codes, return_counts=True)
    agreeing = np.bincount(cells // len(counts), weights=times.astype(np.float64) ** 2, minlength=len(ratings))
    rated = ratings > 0
    within = (ratings[rated] ** 2 - agreeing[rated]) / (ratings[rated] - 1)
    return float(within.sum()), float(len(item) ** 2 - (counts.astype(np.float64) ** 2).sum())


def _squared_disagreement(item: IntArray, values: FloatArray) -> tuple[float, float]:
    """The same sums of squared differences, each 2 m times a sum of squares about the mean."""
    ratings = np.bincount(item).astype(np.float64)
    means = np.bincount(item, weights=values)[item] / ratings[item]
    squares = np.bincount(item, weights=(values - means) ** 2)
    rated = ratings > 0
    within = 2 * ratings[rated] * squares[rated] / (ratings[rated] - 1)
    return float(within.sum()), float(2 * len(values) * ((values - values.mean()) ** 2).sum())


def win_rate(
    wins: int | Sequence[int],
    losses: int | Sequence[int],
    ties: int | Sequence[int],
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
) -> WinRate:
    """(wins + ties / 2) / n, with Tango's (1998) score interval for (wins - losses) / n, halved about 1/2.

    wins, losses, ties: counts, in all or for each item. Without a tie the interval is Wilson's. groups: the cluster of
    each item (its prompt, its reviewer), where judgements of one cluster are not independent; then the counts are
    divided by the design effect (Rao & Scott 1992).
    """
    check_probability(confidence, "confidence")
    counts = [np.atleast_1d(np.asarray(column, dtype=np.int64)) for column in (wins, losses, ties)]
    if len({len(column) for column in counts}) > 1:
        lengths = [len(column) for column in counts]
        raise LengthMismatchError(f"{lengths[0]} counts of wins, {lengths[1]} of losses, {lengths[2]} of ties")
    table = np.stack(counts, axis=1)
    if (table < 0).any():
        bad = int(np.flatnonzero((table < 0).any(axis=1))[0])
        raise OutOfRangeError(f"item {bad} has a negative count: {table[bad].tolist()}", bad)
    won, lost, n = int(table[:, 0].sum()), int(table[:, 1].sum()), int(table.sum())
    if not n:
        return WinRate(None, None, 0, "no_judgements")
    value = 0.5 + (won - lost) / (2 * n)
    sizes: tuple[float, float, float] = (lost, won, n)
    if groups is not None:
        codes = np.repeat(group_codes(groups, len(table)), table.sum(axis=1))
        single = np.repeat(np.tile([1.0, -1.0, 0.0], len(table)), table.ravel())
        mean = paired_mean(single, codes.tolist())
        if mean is None:
            return WinRate(value, None, n, "one_group")
        sizes = clustered_counts(lost, won, n, mean.design_effect, (1 - confidence) / 2, mean.dof)
    low, high = tango_interval(*sizes, confidence)
    return WinRate(value, (0.5 + low / 2, 0.5 + high / 2), n)


def bradley_terry(
    names: Sequence[str],
    comparisons: Sequence[tuple[str, str, float]],
    seed: int = 0,
    *,
    confidence: float = 0.95,
) -> list[Strength]:
    """Strengths (Bradley & Terry 1952) by maximum likelihood, one for each name, in the order of `names`.

    comparisons: (a, b, score of a): 1 where a won, 0 where b won, 0.5 for a tie, which counts half a win for each
    (Davidson's extra parameter is not fitted). Intervals: percentiles of 1,000 resamples of the comparisons.
    Strengths are finite only within a set whose every part took at least a point from the rest (Ford 1957): the largest
    such set makes the scale, and who is not in it has no strength, with the reason.
    """
    check_probability(confidence, "confidence")
    pairs, scores = _checked(names, comparisons)
    everyone = np.bincount(pairs.ravel(), minlength=len(names))
    points = _points(pairs, scores, np.ones((1, len(scores))), len(names))[0]
    reached = _reached(points[None])[0]
    mutual = reached & reached.T
    scale = np.flatnonzero(mutual[int(mutual.sum(axis=1).argmax())]) if len(names) else np.empty(0, dtype=np.int64)
    joined = _reached((points + points.T)[None])[0]
    strengths: dict[int, float] = {}
    intervals: dict[int, tuple[float, float]] = {}
    if len(scale) > 1:
        fitted = _fit(points[np.ix_(scale, scale)][None])[0]
        strengths = {int(place): float(value) for place, value in zip(scale, fitted, strict=True)}
        intervals = _intervals(scale, pairs, scores, seed, confidence)
    found = []
    for place, name in enumerate(names):
        reason = None
        if not everyone[place]:
            reason = "no_comparisons"
        elif place not in strengths:
            reason = "unbounded" if joined[place, scale[0]] else "disconnected"
        elif place not in intervals:
            reason = "undefined_resamples"
        found.append(Strength(name, strengths.get(place), intervals.get(place), int(everyone[place]), reason))
    return found


def _checked(names: Sequence[str], comparisons: Sequence[tuple[str, str, float]]) -> tuple[IntArray, FloatArray]:
    """Places in `names` (m, 2) and scores of the first (m,)."""
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        raise NotALabelError("a name comes twice: name each competitor once")
    for index, (one, other, score) in enumerate(comparisons):
        for name in (one, other):
            if name not in places:
                raise NotALabelError(f"comparison {index} has {name!r}, which is not among the names", index)
        if one == other:
            raise NotALabelError(f"comparison {index} is of {one!r} with itself", index)
        if score not in (0, 0.5, 1):
            raise OutOfRangeError(f"the score of comparison {index} is {score!r}: 1, 0.5 or 0 is asked for", index)
    pairs = np.array([(places[one], places[other]) for one, other, _ in comparisons], dtype=np.int64).reshape(-1, 2)
    return pairs, np.array([score for _, _, score in comparisons], dtype=np.float64)


def _points(pairs: IntArray, scores: FloatArray, weights: FloatArray, size: int) -> FloatArray:
    """Points that i took from j under each row of weights (R, m): shape (R, size, size)."""
    rows = np.arange(len(weights))[:, None] * size * size
    ours, theirs = (rows + pairs[:, side] * size + pairs[:, 1 - side] for side in (0, 1))
    total = np.bincount(ours.ravel(), weights=(weights * scores).ravel(), minlength=len(weights) * size * size)
    total += np.bincount(theirs.ravel(), weights=(weights * (1 - scores)).ravel(), minlength=len(total))
    return total.reshape(len(weights), size, size).astype(np.float64)


def _reached(links: FloatArray) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    """Which j each i is connected to along positive links (R, size, size), itself included."""
    size = links.shape[1]
    found = (links > 0) | np.eye(size, dtype=bool)
    for _ in range(max(size - 1, 1).bit_length()):
        found = (found.astype(np.float32) @ found.astype(np.float32)) > 0
    return found


def _fit(points: FloatArray) -> FloatArray:
    """Strengths (R, size) that sum to 0, NaN where the likelihood has no maximum; points (R, size, size).

    Newton's method with steps no longer than 1, on a concave likelihood.
    """
    size = points.shape[1]
    games = points + points.transpose(0, 2, 1)
    strengths = np.zeros(points.shape[:2])
    moving = np.flatnonzero(_reached(points).all(axis=(1, 2)))
    solved = np.zeros(len(points), dtype=bool)
    for _ in range(_NEWTON_STEPS):
        if not len(moving):
            break
        current = strengths[moving]
        chance = 1 / (1 + np.exp(current[:, None, :] - current[:, :, None]))
        slope = (points[moving] - games[moving] * chance).sum(axis=2)
        bend = games[moving] * chance * (1 - chance)
        curvature = np.eye(size) * bend.sum(axis=2)[:, :, None] - bend + 1 / size
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        strengths[moving] = current + step / np.maximum(longest, 1.0)
        done = longest[:, 0] < 1e-10
        solved[moving[done]] = True
        moving = moving[~done]
    strengths -= strengths.mean(axis=1, keepdims=True)
    strengths[~solved] = np.nan
    return strengths


def _intervals(
    scale: IntArray, pairs: IntArray, scores: FloatArray, seed: int, confidence: float
) -> dict[int, tuple[float, float]]:
    """Percentile intervals by place; empty where over 5 % of resamples have no value."""
    inside = np.isin(pairs, scale).all(axis=1)
    within = np.searchsorted(scale, pairs[inside])
    kinds, counts = np.unique(np.column_stack([within, scores[inside]]), axis=0, return_counts=True)
    size, cells = len(scale), max(1, MAX_BLOCK_CELLS // len(scale) ** 2)
    fitted = [
        _fit(_points(kinds[:, :2].astype(np.int64), kinds[:, 2], weights[start : start + cells], size))
        for weights in count_draws(counts, seed)
        for start in range(0, len(weights), cells)
    ]
    strengths = np.concatenate(fitted)
    defined = strengths[~np.isnan(strengths).any(axis=1)]
    if len(defined) < (1 - MAX_UNDEFINED_SHARE) * PAIRED_RESAMPLES:
        return {}
    low, high = np.quantile(defined, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    return {int(place): (float(low[k]), float(high[k])) for k, place in enumerate(scale)}
