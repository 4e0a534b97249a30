"""Two configurations, each evaluated with several seeds on the same items: which is better, whatever the seed?

The model is crossed: a score has an effect of its item, shared by all runs, and one of its run (its seed), shared by
all items. The difference is that of the means over seeds, D = mean_k C_k - mean_k B_k, and

    Var(D) = V_items + S²_C / K_C + S²_B / K_B

V_items: the variance of D over items (whole groups, with groups) with the runs as they are. S²: the sample variance of
the runs' own scores. What a run does to single items is in both terms, which widens the interval by little where items
are many. Degrees of freedom are Satterthwaite's (1946): with few seeds the t quantile is large, as it should be. A side
of one run has no term: how it would vary between seeds is not known, and not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from service.measure.comparison import Verdict, verdict_of
from service.measure.distributions import t_quantile, t_two_sided
from service.measure.metric import FloatArray, Metric
from service.measure.paired import Groups, group_codes, paired_mean
from service.measure.resampling import deletions
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError, check_probability


@dataclass(frozen=True)
class Spread:
    """The scores of one configuration's runs. `sd` is None for one run; a score is None where it is undefined."""

    values: list[float | None]
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class ConfigurationComparison:
    """Candidate against baseline configuration; `difference` is candidate minus baseline in the metric's unit.

    share_of_seeds: how much of the variance of the difference comes from seeds, the rest being from items: what more
    seeds, or more items, could narrow. reason of an inconclusive verdict: too_few_items, undefined, no_variation,
    covers_zero, wider_than_margin.
    """

    verdict: Verdict
    metric: str
    baseline: Spread
    candidate: Spread
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float
    p_value: float | None
    test: str
    n: int
    margin: float
    share_of_seeds: float | None
    reason: str | None


def compare_configurations(
    metric: Metric,
    baseline: Iterable[FloatArray],
    candidate: Iterable[FloatArray],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    groups: Groups | None = None,
    seed: int = 0,
) -> ConfigurationComparison:
    """Compare runs' statistics (n, k), all of the same items in the same order; each is looked at once, in turn."""
    check_probability(confidence, "confidence")
    if not (math.isfinite(margin) and margin >= 0):
        raise OutOfRangeError(f"a margin is a finite number >= 0, got {margin}")
    before, after = (_Side.of(metric, runs, groups, seed) for runs in (baseline, candidate))
    if before.n != after.n:
        raise LengthMismatchError(f"{before.n} baseline items but {after.n} candidate items; join them first")
    difference = None
    if before.spread.mean is not None and after.spread.mean is not None:
        difference = after.spread.mean - before.spread.mean
    of_items = _item_variance(before, after, groups)
    interval = p_value = share = None
    reason: str | None = "undefined" if difference is None else "too_few_items"
    if of_items is not None and difference is not None:
        terms = [of_items, *(term for side in (before, after) if (term := side.seed_variance()) is not None)]
        variance = sum(term for term, _ in terms)
        reason = "no_variation"
        if variance > 0:
            dof = variance**2 / sum(term**2 / own for term, own in terms if term > 0)
            error, reason = math.sqrt(variance), None
            half = t_quantile(0.5 + confidence / 2, dof) * error
            interval, p_value = (difference - half, difference + half), t_two_sided(difference / error, dof)
            share = 1 - of_items[0] / variance
    verdict, why = verdict_of(interval, p_value, margin, confidence, metric.higher_is_better)
    return ConfigurationComparison(
        verdict=verdict,
        metric=metric.name,
        baseline=before.spread,
        candidate=after.spread,
        difference=difference,
        interval=interval,
        confidence=confidence,
        p_value=p_value,
        test="t over items and seeds" if groups is None else "t over groups and seeds",
        n=before.n,
        margin=margin,
        share_of_seeds=share,
        reason=reason or why,
    )


@dataclass(frozen=True)
class _Side:
    """One configuration. `items`: each item's mean score over the runs; `left_out`: the mean score over the runs,
    without each of the jackknife's groups. One of them, by the metric's kind."""

    n: int
    spread: Spread
    items: FloatArray | None
    left_out: FloatArray | None

    @classmethod
    def of(cls, metric: Metric, runs: Iterable[FloatArray], groups: Groups | None, seed: int) -> _Side:
        values: list[float] = []
        total: FloatArray | None = None
        n = 0
        for statistics in runs:
            if values and len(statistics) != n:
                raise LengthMismatchError(f"runs of {n} and of {len(statistics)} items; join them first")
            n = len(statistics)
            if not n:
                raise EmptySetError("there are no items to compare")
            values.append(float(metric.aggregate(statistics)[0]))
            own = _parts(metric, statistics, groups, seed)
            total = own if total is None else total + own
        if total is None:
            raise EmptySetError("there are no runs to compare")
        mean = total / len(values)
        return cls(n, _spread(values), *((None, mean) if metric.kind == "corpus" else (mean, None)))

    def seed_variance(self) -> tuple[float, float] | None:
        """(variance of the mean over runs, its degrees of freedom); None for one run."""
        if self.spread.sd is None:
            return None
        return self.spread.sd**2 / len(self.spread.values), len(self.spread.values) - 1


def _spread(values: list[float]) -> Spread:
    if any(math.isnan(value) for value in values):
        return Spread([None if math.isnan(value) else value for value in values], None, None)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(list(values), float(np.mean(values)), sd)


def _parts(metric: Metric, statistics: FloatArray, groups: Groups | None, seed: int) -> FloatArray:
    if metric.kind != "corpus":
        scores = metric.item_scores(statistics)
        if scores is None:
            raise TypeError(f"{metric.name} is of kind '{metric.kind}' but has no item scores")
        return scores
    clusters = None if groups is None else group_codes(groups, len(statistics))
    return np.concatenate([metric.aggregate(statistics, block) for block in deletions(len(statistics), seed, clusters)])


def _item_variance(before: _Side, after: _Side, groups: Groups | None) -> tuple[float, float] | None:
    """(variance of the difference over items, its degrees of freedom); None where there are too few items."""
    if before.items is not None and after.items is not None:
        mean = paired_mean(after.items - before.items, groups)
        return None if mean is None else (mean.se**2, mean.dof)
    assert before.left_out is not None and after.left_out is not None  # noqa: PT018
    left_out = after.left_out - before.left_out
    if len(left_out) < 2 or np.isnan(left_out).any():
        return None
    return (len(left_out) - 1) * float(np.var(left_out)), len(left_out) - 1
