"""The noise floor of forgetting: what a model loses against itself when it is run twice (an A/A run).

Run twice, a model answers some items otherwise: sampling, batching and kernels see to that (Atil et al. 2024,
arXiv 2408.04667). Let p be an item's chance of a right answer from the base, q from the tuned model. The share of items
right before and wrong after is F = mean of p (1 - q), which is above 0 for a model that forgot nothing: then it is
mean of p (1 - p), the floor. F less the floor is mean of p (p - q).

The net change, mean of q - p, has no floor: under "nothing changed" two runs are exchangeable, each item is as likely
lost as gained, so that the exact McNemar test keeps its level and the bound its coverage whatever the noise (Miller
2024, arXiv 2411.00640; Kübler et al. 2026, arXiv 2602.10144). The gate judges the net change. The floor therefore never
enters its arithmetic: it says what of F to call forgetting.

The two runs must be independent. Given an item that `before` had right, `after` and the second run of an unchanged
model are exchangeable: items lost to one of the two alone are a fair coin's, and that too is McNemar's test. To choose
by `before` moves both alike (regression to the mean), so the difference is free of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.measure.adjust import holm
from service.measure.metric import FloatArray
from service.measure.paired import Groups, clustered_counts, mcnemar_exact, paired_mean, sign_flip, tango_interval
from service.measure.validation import EmptySetError, LengthMismatchError, check_probability

REPRODUCIBLE_ALPHA = 0.001
"""Below this p of the base against itself the two runs are not of one model under one setting. Far below the gate's
own level: the check may take a verdict away, and should do so by mistake once in a thousand audits."""


@dataclass(frozen=True)
class Floor:
    """The base against itself on one task, and what the tuned model lost beyond it; shares are of n items.

    n10, n01: items the second run of the base lost and gained. share: n10 / n, the floor. F: share of items that the
    tuned model lost. above: F - share, with `interval` (two-sided, 1 - alpha) and the two-sided `p_value`, which are
    Tango's and McNemar's over items lost to one of the two alone; with groups, Rao-Scott's and sign flips of groups.
    p_adjusted: Holm over the tasks. p_base: that the two runs of the base score alike.
    reason of an interval of None: too_few_items, one_group.
    """

    n: int
    n10: int
    n01: int
    share: float
    F: float
    above: float
    interval: tuple[float, float] | None
    p_value: float | None
    p_adjusted: float | None
    test: str | None
    p_base: float
    alpha: float
    reason: str | None

    @property
    def called(self) -> bool:
        """Is what was lost to be called forgetting: is it above the floor, and significantly so?"""
        return self.above > 0 and self.p_adjusted is not None and self.p_adjusted < self.alpha

    @property
    def reproducible(self) -> bool:
        return self.p_base >= REPRODUCIBLE_ALPHA


def noise_floor(
    before: FloatArray,
    again: FloatArray,
    after: FloatArray,
    *,
    alpha: float = 0.05,
    groups: Groups | None = None,
    seed: int = 0,
) -> Floor:
    """The floor from aligned item scores (n,) of the base, of its second run, and of the tuned model.

    An item is lost where its score is lower than `before`, so real scores have a floor as well.
    """
    check_probability(alpha, "alpha")
    n = len(before)
    if not n == len(again) == len(after):
        raise LengthMismatchError(f"{n} items before, {len(again)} in the second run, {len(after)} after")
    if not n:
        raise EmptySetError("there are no items to judge")
    lost, lost_again = after < before, again < before
    alone, alone_again = (int(np.count_nonzero(one)) for one in (lost & ~lost_again, lost_again & ~lost))
    excess = lost.astype(np.float64) - lost_again
    interval, p_value, test, reason = _evidence(excess, (alone, alone_again), alpha, groups, seed)
    return Floor(
        n=n,
        n10=int(np.count_nonzero(lost_again)),
        n01=int(np.count_nonzero(again > before)),
        share=float(lost_again.mean()),
        F=float(lost.mean()),
        above=(alone - alone_again) / n,
        interval=interval,
        p_value=p_value,
        p_adjusted=p_value,
        test=test,
        p_base=sign_flip(again - before, seed, groups),
        alpha=alpha,
        reason=reason,
    )


def adjust_floors(floors: Sequence[Floor]) -> list[Floor]:
    """The floors of a policy's tasks, in the order given, with Holm's p."""
    adjusted = iter(holm([one.p_value for one in floors if one.p_value is not None]))
    return [one if one.p_value is None else replace(one, p_adjusted=next(adjusted)) for one in floors]


def _evidence(
    excess: FloatArray, alone: tuple[int, int], alpha: float, groups: Groups | None, seed: int
) -> tuple[tuple[float, float] | None, float | None, str | None, str | None]:
    """(interval, p, test, reason) of the mean of `excess`, which is 1, 0 or -1 an item."""
    n = len(excess)
    if groups is None:
        # Tango's difference is (second - first) / n: given the other way round, it is what is above the floor.
        return tango_interval(alone[1], alone[0], n, 1 - alpha), mcnemar_exact(*alone), "mcnemar, tango", None
    mean = paired_mean(excess, groups)
    if mean is None:
        return None, None, None, "too_few_items" if n < 2 else "one_group"
    counts = clustered_counts(alone[1], alone[0], n, mean.design_effect, alpha / 2, mean.dof)
    return tango_interval(*counts, 1 - alpha), sign_flip(excess, seed, groups), "sign-flip by group, tango", None
