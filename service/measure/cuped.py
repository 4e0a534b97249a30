"""Less noise from what units did before their exposure (CUPED; Deng, Xu, Kohavi and Walker 2013).

Behaviour before the exposure cannot be an effect, but it tells much of how a unit behaves afterwards: what it explains
is taken out of each arm's mean and variance. Ratios are linearised first (their Appendix B; Deng, Knoblich and Lu
2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.measure.arms import HasMoments, RatioArm


@dataclass(frozen=True)
class Past:
    """Sums over all exposed units of one arm: (u, v) is the pair (x, y) of before the exposure, 0 of no past.

    xu … yv: products with the pair (x, y) of since then.
    """

    u: float
    v: float
    uu: float
    vv: float
    uv: float
    xu: float
    xv: float
    yu: float
    yv: float


@dataclass(frozen=True)
class Adjusted:
    """An arm without what the past explains of it."""

    n: int
    mean: float
    variance: float


@dataclass(frozen=True)
class _Moments:
    """Per exposed unit, linearised: variance since the exposure, and mean, variance, covariance of the past."""

    present: float
    mean: float
    past: float
    covariance: float


def adjust(arms: Sequence[RatioArm], exposed: Sequence[int], pasts: Sequence[Past]) -> list[Adjusted] | None:
    """Every arm with the same coefficient, so that their difference stays unbiased; None where the past explains
    nothing: nobody has one, or all have the same.

    exposed: units of each arm, also those without a value, whose y and x are 0. Over those with a value alone the past
    could differ between arms because of what the arms did.
    """
    units, bottom = sum(exposed), sum(past.u for past in pasts)
    if min(exposed) < 2 or bottom <= 0 or any(arm.n < 2 or arm.sum_x <= 0 for arm in arms):
        return None
    ratio, mean_u = sum(past.v for past in pasts) / bottom, bottom / units
    found = [_moments(arm, n, past, ratio, mean_u) for arm, n, past in zip(arms, exposed, pasts, strict=True)]
    weights = [n - 1 for n in exposed]
    spread = sum(weight * one.past for weight, one in zip(weights, found, strict=True))
    if spread <= 1e-12 * units * (1 + ratio**2):
        return None
    theta = sum(weight * one.covariance for weight, one in zip(weights, found, strict=True)) / spread
    adjusted = []
    for arm, n, one in zip(arms, exposed, found, strict=True):
        variance = max(one.present - 2 * theta * one.covariance + theta**2 * one.past, 0.0)
        adjusted.append(Adjusted(arm.n, arm.mean - theta * one.mean, variance / n * arm.n))
    return adjusted


def reduction(before: Sequence[HasMoments], after: Sequence[HasMoments]) -> float | None:
    """The part of the difference's variance that the past explained, 0 to 1; None of a difference that has none."""
    old, new = (sum(arm.variance / arm.n for arm in arms) for arms in (before, after))
    return 1 - new / old if old > 0 else None


def _moments(arm: RatioArm, n: int, past: Past, ratio: float, mean_u: float) -> _Moments:
    here, mean_x = arm.mean, arm.sum_x / n
    present = max(arm.sum_yy - 2 * here * arm.sum_xy + here**2 * arm.sum_xx, 0.0) / mean_x**2 / (n - 1)
    mean = (past.v - ratio * past.u) / (n * mean_u)
    squares = (past.vv - 2 * ratio * past.uv + ratio**2 * past.uu) / mean_u**2
    # The linearised present has mean 0 in each arm, so that the product needs no centring.
    products = (past.yv - ratio * past.yu - here * past.xv + here * ratio * past.xu) / (mean_x * mean_u)
    return _Moments(present, mean, max(squares - n * mean**2, 0.0) / (n - 1), products / (n - 1))
