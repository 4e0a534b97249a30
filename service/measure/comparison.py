"""Two evaluations of the same items, and the verdict.

| statistics          | test                                   | interval                                          |
|---------------------|----------------------------------------|---------------------------------------------------|
| right/wrong items   | exact McNemar                          | Tango's score interval                            |
| real item scores    | sign-flip permutation                  | paired t                                          |
| corpus metrics      | paired bootstrap (as sacrebleu's), or  | percentiles of the resampled difference           |
|                     | approximate randomisation (likewise)   |                                                   |

With groups: sign flips of whole groups; Tango on Rao-Scott counts or a cluster-robust t; whole groups resampled
or dealt.

Above 100,000 items, where a thousand resamples would take minutes, corpus metrics get the normal interval and test with
a grouped jackknife standard error (Shao & Tu 1995, section 2.3), of whole groups with groups; except label pairs of up
to 2,000 kinds, whose resamples cost the same at any size. Rankings of several classes (ROC-AUC, average precision) cost
so much a class, and count as items times classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service.measure.adjust import holm
from service.measure.distributions import normal_quantile, normal_two_sided
from service.measure.labels import is_right
from service.measure.metric import FloatArray, Metric
from service.measure.paired import (
    POWER,
    Groups,
    clustered_counts,
    group_codes,
    items_to_settle,
    mcnemar_exact,
    paired_mean,
    sign_flip,
    smallest_detectable,
    tango_interval,
)
from service.measure.randomisation import dealt_differences, randomisation_p
from service.measure.resampling import (
    Distinct,
    count_draws,
    deletions,
    distinct_rows,
    group_draws,
    item_draws,
    resampling_size,
)
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError, check_probability

MAX_BOOTSTRAP_ITEMS = 100_000

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
CorpusTest = Literal["bootstrap", "randomisation"]
"""How metrics of the whole set are tested; the others have one test each."""


@dataclass(frozen=True)
class Comparison:
    """Candidate against baseline on one metric; `difference` is candidate minus baseline in the metric's unit.

    gained, lost: items that became right or wrong (real scores: better or worse); None if items have no score.
    smallest_detectable: the true difference this n would have shown with 80 % power.
    n_needed: about how many items would settle an inconclusive comparison if the difference seen were the true one, as
    different or as equivalent, whichever is nearer; None when the verdict is in, or there is neither of the two.
    reason of an inconclusive verdict: too_few_items, one_group, undefined, undefined_resamples, no_variation,
    covers_zero (no margin was stated), wider_than_margin, test_disagrees (the interval excludes 0 but p is too large).
    """

    verdict: Verdict
    metric: str
    baseline_value: float | None
    candidate_value: float | None
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float
    p_value: float | None
    test: str | None
    n: int
    gained: int | None
    lost: int | None
    margin: float
    smallest_detectable: float | None
    n_needed: int | None
    reason: str | None


@dataclass(frozen=True)
class _Evidence:
    """spread: n times the squared standard error of the difference, what one item contributes."""

    interval: tuple[float, float] | None = None
    p_value: float | None = None
    test: str | None = None
    spread: float | None = None
    reason: str | None = None


def compare(
    metric: Metric,
    baseline_stats: FloatArray,
    candidate_stats: FloatArray,
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    groups: Groups | None = None,
    seed: int = 0,
    test: CorpusTest = "bootstrap",
) -> Comparison:
    """Compare two sets of statistics (n, k) whose rows are the same items in the same order.

    margin: differences within ± margin (the metric's unit) do not matter; 0 rules the verdict `equivalent` out.
    groups: the cluster of each item (document, user, topic), when items are not independent.
    test: of metrics of the whole set. Their interval is the bootstrap's either way.
    Verdict: equivalent when the whole interval lies within the margin; better or worse when the interval excludes 0
    and p < 1 - confidence; inconclusive otherwise, with the reason.
    """
    check_probability(confidence, "confidence")
    if not (math.isfinite(margin) and margin >= 0):
        raise OutOfRangeError(f"a margin is a finite number >= 0, got {margin}")
    n = len(baseline_stats)
    if n != len(candidate_stats):
        raise LengthMismatchError(f"{n} baseline items but {len(candidate_stats)} candidate items; join them first")
    if not n:
        raise EmptySetError("there are no items to compare")
    before, after = (float(metric.aggregate(stats)[0]) for stats in (baseline_stats, candidate_stats))
    difference = None if math.isnan(before) or math.isnan(after) else after - before
    evidence = _Evidence(reason="undefined")
    if difference is not None:
        evidence = _evidence(metric, baseline_stats, candidate_stats, difference, confidence, groups, seed, test)
    verdict, why = verdict_of(evidence.interval, evidence.p_value, margin, confidence, metric.higher_is_better)
    changes = item_changes(metric, baseline_stats, candidate_stats)
    detectable, needed = _sizes(evidence, difference, margin, confidence, n, verdict)
    return Comparison(
        verdict=verdict,
        metric=metric.name,
        baseline_value=None if math.isnan(before) else before,
        candidate_value=None if math.isnan(after) else after,
        difference=difference,
        interval=evidence.interval,
        confidence=confidence,
        p_value=evidence.p_value,
        test=evidence.test,
        n=n,
        gained=None if changes is None else int(np.count_nonzero(changes > 0)),
        lost=None if changes is None else int(np.count_nonzero(changes < 0)),
        margin=margin,
        smallest_detectable=detectable,
        n_needed=needed,
        reason=why if evidence.interval is not None and evidence.p_value is not None else evidence.reason,
    )


def adjusted(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, float | None]]:
    """Comparisons of several candidates with one baseline, each with its p-value after Holm (1979).

    A verdict of better or worse stands where the adjusted p does; else it becomes inconclusive, reason not_after_holm.
    Equivalence and intervals are each comparison's own.
    """
    tested = [place for place, one in enumerate(comparisons) if one.p_value is not None]
    p_values = dict(zip(tested, holm([p for one in comparisons if (p := one.p_value) is not None]), strict=True))
    found: list[tuple[Comparison, float | None]] = []
    for place, one in enumerate(comparisons):
        p_value = p_values.get(place)
        if one.verdict in ("better", "worse") and (p_value is None or p_value >= 1 - one.confidence):
            one = replace(one, verdict="inconclusive", reason="not_after_holm")
        found.append((one, p_value))
    return found


def _evidence(
    metric: Metric,
    baseline: FloatArray,
    candidate: FloatArray,
    difference: float,
    confidence: float,
    groups: Groups | None,
    seed: int,
    test: CorpusTest,
) -> _Evidence:
    if len(baseline) < 2:
        return _Evidence(reason="too_few_items")
    if groups is not None and group_codes(groups, len(baseline)).max() < 1:
        return _Evidence(reason="one_group")
    if metric.kind == "proportion":
        return _right_wrong(baseline[:, 0], candidate[:, 0], confidence, groups, seed)
    if metric.kind == "mean":
        before, after = metric.item_scores(baseline), metric.item_scores(candidate)
        if before is None or after is None:
            raise TypeError(f"{metric.name} is of kind 'mean' but has no item scores")
        return _real_scores(after - before, confidence, groups, seed)
    return _corpus(metric, baseline, candidate, difference, confidence, groups, seed, test)


def _right_wrong(
    before: FloatArray, after: FloatArray, confidence: float, groups: Groups | None, seed: int
) -> _Evidence:
    n, lost, gained = len(before), int(np.count_nonzero(after < before)), int(np.count_nonzero(after > before))
    # One discordant item at least: none seen does not mean that none exist.
    spread = max(lost + gained, 1) / n
    if groups is None:
        return _Evidence(tango_interval(lost, gained, n, confidence), mcnemar_exact(lost, gained), "mcnemar", spread)
    mean = paired_mean(after - before, groups)
    if mean is None:
        return _Evidence(reason="one_group")
    counts = clustered_counts(lost, gained, n, mean.design_effect, (1 - confidence) / 2, mean.dof)
    p_value = sign_flip(after - before, seed, groups)
    return _Evidence(
        tango_interval(*counts, confidence), p_value, "sign-flip by group", spread * max(mean.design_effect, 1.0)
    )


def _real_scores(differences: FloatArray, confidence: float, groups: Groups | None, seed: int) -> _Evidence:
    mean = paired_mean(differences, groups)
    if mean is None:
        return _Evidence(reason="too_few_items")
    if mean.se == 0:
        return _Evidence(p_value=sign_flip(differences, seed, groups), test="sign-flip", reason="no_variation")
    test = "sign-flip" if groups is None else "sign-flip by group"
    p_value = sign_flip(differences, seed, groups)
    return _Evidence(mean.interval(confidence), p_value, test, mean.se**2 * len(differences))


def _corpus(
    metric: Metric,
    baseline: FloatArray,
    candidate: FloatArray,
    difference: float,
    confidence: float,
    groups: Groups | None,
    seed: int,
    test: CorpusTest,
) -> _Evidence:
    if np.array_equal(baseline, candidate):
        return _Evidence(reason="no_variation")
    size = max(resampling_size(metric, side) for side in (baseline, candidate))
    if size > MAX_BOOTSTRAP_ITEMS and (groups is not None or _kinds(metric, baseline, candidate) is None):
        return _jackknifed(metric, baseline, candidate, difference, confidence, groups, seed)
    resampled = paired_bootstrap(metric, baseline, candidate, groups=groups, seed=seed)
    differences = resampled[~np.isnan(resampled)]
    if len(differences) < 0.95 * len(resampled):
        return _Evidence(reason="undefined_resamples")
    if test == "bootstrap":
        p_value, name = _bootstrap_p(metric, differences, difference)
    else:
        p_value, name = _randomised(metric, baseline, candidate, difference, groups, seed)
    if p_value is None:
        return _Evidence(reason="undefined_resamples")
    low, high = np.quantile(differences, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return _Evidence(
        (float(low), float(high)),
        p_value,
        name if groups is None else f"{name} by group",
        float(np.var(differences)) * len(baseline),
    )


def _jackknifed(
    metric: Metric,
    baseline: FloatArray,
    candidate: FloatArray,
    difference: float,
    confidence: float,
    groups: Groups | None,
    seed: int,
) -> _Evidence:
    clusters = None if groups is None else group_codes(groups, len(baseline))
    blocks = deletions(len(baseline), seed, clusters)
    left_out = np.concatenate([metric.aggregate(candidate, w) - metric.aggregate(baseline, w) for w in blocks])
    error = math.sqrt((len(left_out) - 1) * float(np.var(left_out)))
    if math.isnan(error):
        return _Evidence(reason="undefined_resamples")
    if error == 0:
        return _Evidence(reason="no_variation")
    half = normal_quantile(0.5 + confidence / 2) * error
    test = "jackknife" if groups is None else "jackknife by group"
    p_value = normal_two_sided(difference / error)
    return _Evidence((difference - half, difference + half), p_value, test, error**2 * len(baseline))


def _kinds(metric: Metric, baseline: FloatArray, candidate: FloatArray) -> Distinct | None:
    """The distinct rows of both sides' label codes, where they are few."""
    return distinct_rows(np.hstack([baseline, candidate])) if metric.reads == "label" else None


def _bootstrap_p(metric: Metric, resampled: FloatArray, difference: float) -> tuple[float | None, str]:
    """(p, name of the test) from resampled differences, (count + 1) / (R + 1).

    Text metrics get sacrebleu's p for comparability (Koehn 2004, as in Moses): absolute differences less their mean
    beyond the one seen. It leans to one side, so a verdict also asks that the interval excludes 0.
    """
    if metric.reads == "text":
        sizes = np.abs(resampled)
        extreme, test = np.count_nonzero(sizes - sizes.mean() > abs(difference)), "paired bootstrap (sacrebleu)"
    else:
        # Two-sided: the resamples, centred on 0 as under the null hypothesis, beyond the difference seen.
        extreme = np.count_nonzero(np.abs(resampled - resampled.mean()) >= abs(difference))
        test = "paired bootstrap"
    return float((extreme + 1) / (len(resampled) + 1)), test


def _randomised(
    metric: Metric, baseline: FloatArray, candidate: FloatArray, difference: float, groups: Groups | None, seed: int
) -> tuple[float | None, str]:
    """(p, name of the test); no p where too many trials have no score."""
    dealt = dealt_differences(
        metric,
        baseline,
        candidate,
        distinct=_kinds(metric, baseline, candidate) if groups is None else None,
        clusters=None if groups is None else group_codes(groups, len(baseline)),
        seed=seed,
    )
    sizes = dealt[~np.isnan(dealt)]
    name = "approximate randomisation (sacrebleu)" if metric.reads == "text" else "approximate randomisation"
    return randomisation_p(sizes, difference) if len(sizes) >= 0.95 * len(dealt) else None, name


def paired_bootstrap(
    metric: Metric,
    baseline: FloatArray,
    candidate: FloatArray,
    *,
    groups: Groups | None = None,
    seed: int = 0,
) -> FloatArray:
    """Differences candidate - baseline on 1,000 resamples of the same items for both, shape (1000,)."""
    n, width = baseline.shape
    if groups is not None:
        draws = group_draws(group_codes(groups, n), seed)
    else:
        distinct = _kinds(metric, baseline, candidate)
        if distinct is not None:
            baseline, candidate = distinct.rows[:, :width], distinct.rows[:, width:]
            draws = count_draws(distinct.counts, seed)
        else:
            draws = item_draws(n, seed)
    return np.concatenate([metric.aggregate(candidate, w) - metric.aggregate(baseline, w) for w in draws])


def item_changes(metric: Metric, baseline: FloatArray, candidate: FloatArray) -> FloatArray | None:
    """Each item's change for the better, shape (n,); None where items have no score of their own.

    Candidate - baseline, or the reverse where lower is better. Under a label metric of the whole set (macro-F1) an
    item changes by becoming right (+1) or wrong (-1).
    """
    before, after = metric.item_scores(baseline), metric.item_scores(candidate)
    if before is not None and after is not None:
        return after - before if metric.higher_is_better else before - after
    return is_right(candidate) - is_right(baseline) if metric.reads == "label" else None


def verdict_of(
    interval: tuple[float, float] | None,
    p_value: float | None,
    margin: float,
    confidence: float,
    higher_is_better: bool,
) -> tuple[Verdict, str | None]:
    """(the verdict, why it is inconclusive where it is for another reason than a lack of evidence)."""
    if interval is None or p_value is None:
        return "inconclusive", None
    low, high = interval
    if -margin < low and high < margin:
        return "equivalent", None
    if low <= 0 <= high:
        return "inconclusive", "wider_than_margin" if margin > 0 else "covers_zero"
    if p_value >= 1 - confidence:
        return "inconclusive", "test_disagrees"
    return ("better" if (low > 0) == higher_is_better else "worse"), None


def _sizes(
    evidence: _Evidence, difference: float | None, margin: float, confidence: float, n: int, verdict: Verdict
) -> tuple[float | None, int | None]:
    """(smallest detectable difference, items needed to settle)."""
    if evidence.spread is None or difference is None:
        return None, None
    detectable = smallest_detectable(evidence.spread, n, 1 - confidence)
    if verdict != "inconclusive":
        return detectable, None
    room = max(abs(difference), margin - abs(difference))
    return detectable, items_to_settle(evidence.spread, room, 1 - confidence, POWER, two_sided=True)
