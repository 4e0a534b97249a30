"""Tests and intervals for two systems on the same items.

Sign convention everywhere: a difference is candidate minus baseline (after minus before). `lost` counts items
right before and wrong after, `gained` the reverse; so the difference of proportions is (gained - lost) / n.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.distributions import binomial_half_cdf, normal_quantile, normal_two_sided, t_quantile
from service.measure.metric import FloatArray, IntArray
from service.measure.validation import (
    EmptySetError,
    LengthMismatchError,
    OutOfRangeError,
    check_probability,
)

Groups = Sequence[Hashable] | IntArray
"""The cluster of each item."""

EXACT_SIGNS = 20
PERMUTATIONS = 9_999
MAX_PERMUTED = 5_000
POWER = 0.8


@dataclass(frozen=True)
class PairedMean:
    """Mean of paired differences: `se` is cluster-robust and `dof` is groups - 1 when groups were given.

    design_effect: the variance of the mean over what independent items would give (1 without groups).
    skewness: of the independent parts, items or group sums.
    """

    mean: float
    se: float
    dof: int
    design_effect: float
    skewness: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided t interval."""
        half = t_quantile(0.5 + confidence / 2, self.dof) * self.se
        return self.mean - half, self.mean + half

    def lower_bound(self, alpha: float) -> float:
        """One-sided bound at level 1 - alpha: t, lowered where losses are rare and large.

        Under negative skew a sample that missed the large losses has both too high a mean and too small an error,
        and plain t is too bold. Hall's (1992, section 2) first-order term corrects the quantile by
        skewness (2 t^2 + 1) / (6 sqrt(n)). It is used only to lower the bound.
        """
        t = t_quantile(1 - alpha, self.dof)
        correction = min(self.skewness, 0.0) * (2 * t * t + 1) / (6 * math.sqrt(self.dof + 1))
        return self.mean - (t - correction) * self.se


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided exact McNemar p: min(1, 2 P[X <= min(lost, gained)]), X ~ Binomial(lost + gained, 1/2).

    With no discordant item there is nothing to tell apart: p = 1.
    """
    if lost < 0 or gained < 0:
        raise OutOfRangeError(f"counts cannot be negative: lost {lost}, gained {gained}")
    return min(1.0, 2.0 * binomial_half_cdf(min(lost, gained), lost + gained))


def sign_flip(differences: FloatArray, seed: int = 0, groups: Groups | None = None) -> float:
    """Two-sided p of the paired permutation test on the sum of differences.

    Under the null hypothesis each difference (each group's sum, with `groups`) keeps its size and flips its sign
    at random. Equal sizes: the exact binomial (McNemar). Up to 20 non-zero differences: all sign patterns. Up to
    5,000: 9,999 seeded random patterns, p = (count + 1) / (9,999 + 1). Beyond: the normal limit of that
    distribution, variance the sum of squares.
    """
    values = _finite(differences)
    if groups is not None:
        codes = group_codes(groups, len(values))
        values = np.bincount(codes, weights=values).astype(np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    sizes = np.abs(values)
    if bool((sizes == sizes[0]).all()):
        gained = int(np.count_nonzero(values > 0))
        return mcnemar_exact(len(values) - gained, gained)
    # Sums that differ by rounding alone are ties, and ties count against the null's rejection.
    observed = abs(float(values.sum())) - 1e-9 * float(sizes.sum())
    if len(values) <= EXACT_SIGNS:
        sums = np.array([sizes[0]])  # the first sign fixed: the other half mirrors it
        for size in sizes[1:]:
            sums = np.concatenate([sums + size, sums - size])
        return float(np.mean(np.abs(sums) >= observed))
    if len(values) > MAX_PERMUTED:
        return normal_two_sided(float(values.sum()) / math.sqrt(float((values**2).sum())))
    generator = np.random.default_rng(seed)
    extreme, block = 0, max(1, 2_000_000 // len(sizes))
    for start in range(0, PERMUTATIONS, block):
        rows = min(block, PERMUTATIONS - start)
        signs = generator.integers(0, 2, size=(rows, len(sizes)), dtype=np.int8)
        sums = 2.0 * (signs @ sizes) - sizes.sum()
        extreme += int(np.count_nonzero(np.abs(sums) >= observed))
    return (extreme + 1) / (PERMUTATIONS + 1)


def tango_statistic(lost: float, gained: float, n: float, difference: float) -> float:
    """Tango's (1998) score statistic for H0: p_after - p_before = `difference`; N(0, 1) under H0.

    At difference 0 it is McNemar's (gained - lost) / sqrt(gained + lost).
    """
    numerator = gained - lost - n * difference
    # Maximum likelihood estimate, under H0, of the probability of a lost item (Tango 1998, equation 6).
    b = (2 * n - gained + lost) * difference - gained - lost
    c = -lost * difference * (1 - difference)
    p_lost = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * p_lost + difference * (1 - difference))
    if variance <= 0:
        return 0.0 if numerator == 0 else math.copysign(math.inf, numerator)
    return numerator / math.sqrt(variance)


def tango_interval(lost: float, gained: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's (1998) two-sided score interval for p_after - p_before.

    Counts may be fractional (divided by a design effect). Right also when nothing was lost and nothing gained.
    """
    check_probability(confidence, "confidence")
    z = normal_quantile(0.5 + confidence / 2)
    return _tango_bound(lost, gained, n, z), -_tango_bound(gained, lost, n, z)


def tango_lower_bound(lost: float, gained: float, n: float, alpha: float = 0.05) -> float:
    """Tango's one-sided lower bound at level 1 - alpha: what a non-inferiority margin is held against."""
    check_probability(alpha, "alpha")
    return _tango_bound(lost, gained, n, normal_quantile(1 - alpha))


def _tango_bound(lost: float, gained: float, n: float, z: float) -> float:
    """The difference below the estimate at which the statistic, which falls in the difference, equals z."""
    if n <= 0 or lost < 0 or gained < 0 or lost + gained > n * (1 + 1e-9):
        raise OutOfRangeError(f"lost {lost} and gained {gained} cannot be counts among {n} items")
    low, high = -1.0, (gained - lost) / n
    # 60 halvings of an interval no longer than 2 reach the spacing of doubles.
    for _ in range(60):
        middle = (low + high) / 2
        if tango_statistic(lost, gained, n, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def clustered_counts(
    lost: int, gained: int, n: int, design_effect: float, alpha: float, dof: int
) -> tuple[float, float, float]:
    """(lost, gained, n) as an equivalent number of independent items, for Tango's formulas.

    Rao and Scott (1992): counts over the design effect, which is not let below 1. The ratio of the t to the
    normal quantile, squared, is folded in, so that few groups widen the interval. alpha: one-sided tail.
    """
    inflation = max(design_effect, 1.0) * (t_quantile(1 - alpha, dof) / normal_quantile(1 - alpha)) ** 2
    return lost / inflation, gained / inflation, n / inflation


def paired_mean(differences: FloatArray, groups: Groups | None = None) -> PairedMean | None:
    """Mean, standard error and degrees of freedom of differences (n,); None with fewer than 2 items or groups.

    With groups, the error is cluster-robust: G/(G-1) sum over groups of (D_g - m_g mean)^2, over n squared.
    """
    values = _finite(differences)
    n = len(values)
    mean = float(values.mean())
    residuals = values - mean
    if n < 2:
        return None
    independent = float((residuals**2).sum()) / (n - 1) / n
    if groups is None:
        return PairedMean(mean, math.sqrt(independent), n - 1, 1.0, _skewness(residuals))
    codes = group_codes(groups, n)
    sums = np.bincount(codes, weights=residuals).astype(np.float64)
    n_groups = len(sums)
    if n_groups < 2:
        return None
    clustered = n_groups / (n_groups - 1) * float((sums**2).sum()) / (n * n)
    effect = clustered / independent if independent > 0 else 1.0
    return PairedMean(mean, math.sqrt(clustered), n_groups - 1, effect, _skewness(sums))


def items_to_settle(
    discordant_share: float, margin: float, alpha: float = 0.05, power: float = POWER, *, two_sided: bool = False
) -> int | None:
    """Items needed to settle a margin: (z_alpha + z_power)^2 psi / margin^2, rounded up.

    discordant_share (psi): share of items that differ, or the mean squared difference of real scores. The formula
    is for a true difference of 0; to show a difference of `margin` use two_sided. None: above 10^9, never.
    """
    if discordant_share < 0 or margin < 0:
        raise OutOfRangeError(f"discordant share {discordant_share} and margin {margin} cannot be negative")
    if margin == 0:
        return None
    n = _z_sum(alpha, power, two_sided) ** 2 * discordant_share / margin**2
    return max(1, math.ceil(n - 1e-9)) if n <= 1e9 else None


def items_to_pass(
    discordant_share: float, margin: float, difference: float = 0.0, alpha: float = 0.05, power: float = POWER
) -> int | None:
    """Right/wrong items with which Tango's lower bound clears -margin, where the true difference is `difference`.

    (z_alpha s0 + z_power s1)^2 / (margin + difference)^2: s1^2 = psi - difference^2 is an item's variance, s0^2 the one
    that Tango's statistic takes at -margin, from the limit of the restricted maximum likelihood estimate (Liu et al.
    2002, Statistics in Medicine 21, 231-245). Where psi is far above the margin both are psi, and this is
    `items_to_settle`; near it s0 is larger, and that formula promises up to 9 points of power too much. None: never.
    """
    if not abs(difference) <= discordant_share <= 1 or margin <= 0:
        raise OutOfRangeError(f"discordant share {discordant_share}, margin {margin}, difference {difference}")
    if margin + difference <= 0:
        return None
    psi, at = discordant_share, -margin
    b = (2 - difference) * at - psi
    c = -(psi - difference) / 2 * at * (1 - at)
    p_lost = (math.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    at_margin = max(2 * p_lost + at * (1 - at), 0.0)
    spread = normal_quantile(1 - alpha) * math.sqrt(at_margin) + normal_quantile(power) * math.sqrt(
        max(psi - difference**2, 0.0)
    )
    n = (spread / (margin + difference)) ** 2
    return max(1, math.ceil(n - 1e-9)) if n <= 1e9 else None


def smallest_detectable(
    discordant_share: float, n: float, alpha: float = 0.05, power: float = POWER, *, two_sided: bool = True
) -> float:
    """The smallest true difference that n items show with the given power: (z_alpha + z_power) sqrt(psi / n)."""
    if n <= 0 or discordant_share < 0:
        raise OutOfRangeError(f"n {n} must be positive and the discordant share {discordant_share} not negative")
    return _z_sum(alpha, power, two_sided) * math.sqrt(discordant_share / n)


def group_codes(groups: Groups, n: int) -> IntArray:
    """Groups numbered from 0 in order of appearance, shape (n,)."""
    if len(groups) != n:
        raise LengthMismatchError(f"{n} items but {len(groups)} groups", min(n, len(groups)))
    if isinstance(groups, np.ndarray):
        _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[codes]
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64, n)


def _skewness(centred: FloatArray) -> float:
    spread = float((centred**2).mean())
    return float((centred**3).mean()) / spread**1.5 if spread > 0 else 0.0


def _z_sum(alpha: float, power: float, two_sided: bool) -> float:
    check_probability(alpha, "alpha")
    check_probability(power, "power")
    return normal_quantile(1 - (alpha / 2 if two_sided else alpha)) + normal_quantile(power)


def _finite(differences: FloatArray) -> FloatArray:
    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise EmptySetError("there are no pairs to compare")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise OutOfRangeError(f"the difference of item {bad[0]} is {values[bad[0]]}", int(bad[0]))
    return values
