"""Thompson sampling for binary metrics, and reading what it collected by inverse propensity. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.arms import RatioArm
from service.measure.validation import EmptySetError, OutOfRangeError

DRAWS = 20_000


@dataclass(frozen=True)
class Counts:
    """Of one arm: how many successes and failures its posterior rests on, besides the prior."""

    successes: float
    failures: float


@dataclass(frozen=True)
class WeightedArm:
    """An arm over stretches of different propensities: `variance / n` is the squared error of `mean`."""

    n: int
    mean: float
    variance: float


def counts_of(arm: RatioArm) -> Counts:
    """Successes and failures of units, where one unit's values are alike: as many as independent ones would tell.

    The values are divided by the design effect, the clustered variance over that of independent values.
    """
    if arm.n < 2 or arm.sum_x <= 0:
        return Counts(0.0, 0.0)
    rate, independent = arm.mean, arm.mean * (1 - arm.mean) / arm.sum_x
    clustered = arm.variance / arm.n
    factor = max(1.0, clustered / independent) if independent > 0 else max(1.0, arm.sum_x / arm.n)
    return Counts(rate * arm.sum_x / factor, (1 - rate) * arm.sum_x / factor)


def thompson(
    counts: Sequence[Counts], prior: tuple[float, float] = (1.0, 1.0), floor: float = 0.05, seed: int = 0
) -> list[float]:
    """The share of new units for each arm: how likely it is the best one, and never below `floor`.

    The posterior of an arm is Beta(prior + counts); shares are floor + (1 - arms * floor) * P(best), by 20,000 draws.
    """
    if len(counts) * floor > 1 + 1e-9 or floor < 0:
        raise OutOfRangeError(f"a floor of {floor} for {len(counts)} arms is more than there is")
    generator = np.random.default_rng(seed)
    draws = [generator.beta(prior[0] + one.successes, prior[1] + one.failures, DRAWS) for one in counts]
    best = np.bincount(np.argmax(draws, axis=0), minlength=len(counts)) / DRAWS
    return [float(floor + (1 - len(counts) * floor) * chance) for chance in best]


def weighted(parts: Sequence[tuple[RatioArm, float]]) -> WeightedArm:
    """One arm over several stretches, each unit weighted by 1 / the propensity it was assigned with (Hajek's form of
    Horvitz and Thompson's estimator), with its delta-method error over units.

    parts: the arm's sums in a stretch, and its propensity there, above 0. Stretches whose shares follow what was seen
    before stay unbiased, since a unit's own chance never hangs on its own outcome; a floor bounds the weights (Hadad et
    al. 2021, 'Confidence intervals for policy evaluation in adaptive experiments').
    """
    if any(propensity <= 0 for _, propensity in parts):
        raise OutOfRangeError("propensities lie above 0")
    n = sum(arm.n for arm, _ in parts)
    bottom = sum(arm.sum_x / propensity for arm, propensity in parts)
    if n < 2 or bottom <= 0:
        raise EmptySetError("an arm needs two units and a denominator above 0")
    mean = sum(arm.sum_y / propensity for arm, propensity in parts) / bottom
    squares = sum(
        max(arm.sum_yy - 2 * mean * arm.sum_xy + mean**2 * arm.sum_xx, 0.0) / propensity**2 for arm, propensity in parts
    )
    return WeightedArm(n, mean, squares / bottom**2 * n / (n - 1) * n)
