"""Treatment against control: effects with intervals, the split check, and sizes before the start.

`welch` is for one look planned beforehand; `confidence_sequence` holds at every look at once. A relative effect is
(treatment - control) / control with a delta-method error. What cannot be computed is an `Effect` with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.measure.arms import HasMoments, RatioArm
from service.measure.distributions import (
    chi_square_tail,
    lambert_w_lower,
    normal_quantile,
    t_cdf,
    t_quantile,
    t_two_sided,
)
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError, check_probability

Alternative = Literal["two-sided", "greater", "less"]
Analysis = Literal["fixed", "always_valid"]
POWER = 0.8


@dataclass(frozen=True)
class Effect:
    """Treatment minus control, absolute or relative (0.05 is +5 %).

    interval: level 1 - alpha; a one-sided one ends in math.inf (JSON has none: send null). dof: Welch's degrees of
    freedom, None for a confidence sequence. reason, with all else None: too_few_units (an arm has under 2),
    no_denominator (a ratio over 0), no_variation (both arms constant), zero_control_mean (no relative effect).
    """

    estimate: float | None
    interval: tuple[float, float] | None
    se: float | None
    p_value: float | None
    dof: float | None
    reason: str | None = None


@dataclass(frozen=True)
class _Difference:
    estimate: float
    control_part: float
    treatment_part: float

    @property
    def squared_error(self) -> float:
        return self.control_part + self.treatment_part


def welch(
    control: HasMoments,
    treatment: HasMoments,
    alpha: float = 0.05,
    relative: bool = False,
    alternative: Alternative = "two-sided",
    null: float = 0.0,
) -> Effect:
    """Welch's t test of the difference of means (or of the relative effect), for one planned look.

    null: the effect under the null hypothesis; -margin with `greater` tests non-inferiority.
    Same numbers as GrowthBook's gbstats and R's t.test.
    """
    check_probability(alpha, "alpha")
    found = _difference(control, treatment, relative)
    if isinstance(found, Effect):
        return found
    se = math.sqrt(found.squared_error)
    # Welch-Satterthwaite, on the absolute scale for a relative effect too, as gbstats does.
    absolute = _difference(control, treatment, False)
    parts = found if isinstance(absolute, Effect) else absolute
    dof = parts.squared_error**2 / (
        parts.control_part**2 / (control.n - 1) + parts.treatment_part**2 / (treatment.n - 1)
    )
    t = (found.estimate - null) / se
    if alternative == "two-sided":
        half = t_quantile(1 - alpha / 2, dof) * se
        return Effect(found.estimate, (found.estimate - half, found.estimate + half), se, t_two_sided(t, dof), dof)
    half = t_quantile(1 - alpha, dof) * se
    if alternative == "greater":
        return Effect(found.estimate, (found.estimate - half, math.inf), se, t_cdf(-t, dof), dof)
    return Effect(found.estimate, (-math.inf, found.estimate + half), se, t_cdf(t, dof), dof)


def confidence_sequence(
    control: HasMoments, treatment: HasMoments, alpha: float = 0.05, n_tuned: int = 1000, relative: bool = False
) -> Effect:
    """Asymptotic confidence sequence for the effect: look as often as you like (Waudby-Smith et al. 2024, Prop. 2.5).

    n_tuned: total units of both arms at which the interval is tightest; fix it before the start. p_value: the
    always-valid p, the smallest alpha at which the sequence, with its rho kept, excludes 0. Asymptotic: hold the first
    look until each arm has some tens of units.
    """
    check_probability(alpha, "alpha")
    if n_tuned < 1:
        raise OutOfRangeError(f"n_tuned must be at least 1 unit, got {n_tuned}")
    found = _difference(control, treatment, relative)
    if isinstance(found, Effect):
        return found
    n = control.n + treatment.n
    variance = found.squared_error * n
    # Proposition 2.5 mixes over the running variance; dividing rho by its root tunes it at n_tuned units.
    rho = tuned_rho(n_tuned, alpha) / math.sqrt(variance)
    half = sequence_margin(variance, n, alpha, rho)
    p_value = _sequence_p(found.estimate, variance, n, rho)
    se = math.sqrt(found.squared_error)
    return Effect(found.estimate, (found.estimate - half, found.estimate + half), se, p_value, None)


def sequence_margin(variance: float, n: float, alpha: float, rho: float) -> float:
    """Half-width of the asymptotic confidence sequence of a mean of n values (Waudby-Smith et al., Prop. 2.5).

    sqrt((n v rho^2 + 1) / (n^2 rho^2) * log((n v rho^2 + 1) / alpha^2)).
    """
    intrinsic = n * variance * rho**2 + 1
    return math.sqrt(intrinsic / (n * rho) ** 2 * (math.log(intrinsic) - 2 * math.log(alpha)))


def tuned_rho(n_tuned: float, alpha: float) -> float:
    """The rho that makes the half-width smallest at n_tuned unit-variance values.

    Exact: x = n rho^2 solves x = log((x + 1) / alpha^2), so x + 1 = -W_{-1}(-alpha^2 / e).
    """
    return math.sqrt((-lambert_w_lower(-(alpha**2) / math.e) - 1) / n_tuned)


def sample_ratio(observed: Sequence[int], weights: Sequence[float]) -> float:
    """p of Pearson's chi-square test that units split as planned. Below 0.001 something is broken.

    weights: planned shares, in the same order, of any positive sum. An arm planned at 0 that has units gives p = 0.
    """
    if len(observed) != len(weights) or len(observed) < 2:
        raise LengthMismatchError(f"{len(observed)} arms observed, {len(weights)} planned; two or more are needed")
    if min(observed) < 0 or min(weights) < 0 or sum(weights) <= 0:
        raise OutOfRangeError("counts and weights cannot be negative, nor all weights 0")
    total, scale = sum(observed), sum(weights)
    if total == 0:
        return 1.0
    statistic, planned = 0.0, 0
    for count, weight in zip(observed, weights, strict=True):
        expected = total * weight / scale
        if expected == 0:
            if count:
                return 0.0
            continue
        statistic += (count - expected) ** 2 / expected
        planned += 1
    return chi_square_tail(statistic, planned - 1) if planned > 1 else 1.0


def proportion_variance(rate: float) -> float:
    """Variance of a binary metric with this base rate."""
    if not 0 <= rate <= 1:
        raise OutOfRangeError(f"a rate lies in [0, 1], got {rate}")
    return rate * (1 - rate)


def design_effect(requests_per_unit: float, intra_unit_correlation: float) -> float:
    """1 + (m - 1) icc: by how much requests of one unit, being alike, inflate the variance."""
    if requests_per_unit < 0 or not 0 <= intra_unit_correlation <= 1:
        raise OutOfRangeError(
            f"requests per unit {requests_per_unit} must be >= 0 and the correlation {intra_unit_correlation} in [0, 1]"
        )
    return 1 + max(requests_per_unit - 1, 0.0) * intra_unit_correlation


def minimum_detectable_effect(
    variance: float,
    n_control: float,
    n_treatment: float,
    alpha: float = 0.05,
    power: float = POWER,
    *,
    analysis: Analysis = "fixed",
    rating_rate: float = 1.0,
    requests_per_unit: float = 1.0,
    intra_unit_correlation: float = 0.0,
) -> float:
    """The smallest absolute difference an experiment of this size shows with the given power, two-sided.

    n_control, n_treatment: requests (units when each makes one) expected in each arm. rating_rate: share of requests
    with an outcome. With always_valid, at the size the sequence is tuned for.
    """
    _check_rate(rating_rate)
    if n_control <= 0 or n_treatment <= 0:
        raise EmptySetError("both arms need requests")
    inflation = design_effect(_rated_together(requests_per_unit, rating_rate), intra_unit_correlation)
    per_arm = variance * inflation / rating_rate
    return _critical(alpha, power, analysis) * math.sqrt(per_arm / n_control + per_arm / n_treatment)


def units_needed(
    variance: float,
    effect: float,
    alpha: float = 0.05,
    power: float = POWER,
    *,
    treatment_share: float = 0.5,
    analysis: Analysis = "fixed",
    rating_rate: float = 1.0,
    requests_per_unit: float = 1.0,
    intra_unit_correlation: float = 0.0,
) -> int:
    """Units over both arms that show an absolute difference of `effect`; the inverse of `minimum_detectable_effect`."""
    _check_rate(rating_rate)
    check_probability(treatment_share, "treatment_share")
    if effect == 0 or requests_per_unit <= 0:
        raise OutOfRangeError("an effect of 0 is never shown, and units without requests show nothing")
    inflation = design_effect(_rated_together(requests_per_unit, rating_rate), intra_unit_correlation)
    spread = variance * inflation / rating_rate / (treatment_share * (1 - treatment_share))
    requests = (_critical(alpha, power, analysis) / effect) ** 2 * spread
    return max(2, math.ceil(requests / requests_per_unit - 1e-9))


def duration(units: float, units_per_day: float, coverage: float = 1.0) -> float:
    """Days until `units` have been seen at this traffic, `coverage` of which enters the experiment."""
    if units_per_day <= 0 or not 0 < coverage <= 1:
        raise OutOfRangeError(f"traffic {units_per_day} must be positive and coverage {coverage} in (0, 1]")
    return units / (units_per_day * coverage)


def _critical(alpha: float, power: float, analysis: Analysis) -> float:
    """Standard errors between 0 and an effect shown with `power`; a tuned sequence is sqrt(x + 1) of them wide."""
    check_probability(alpha, "alpha")
    check_probability(power, "power")
    if analysis == "fixed":
        return normal_quantile(1 - alpha / 2) + normal_quantile(power)
    return math.sqrt(tuned_rho(1, alpha) ** 2 + 1) + normal_quantile(power)


def _sequence_p(estimate: float, variance: float, n: float, rho: float) -> float:
    """Inverts `sequence_margin` in alpha, capped at 1."""
    intrinsic = n * variance * rho**2 + 1
    log_p = (math.log(intrinsic) - (estimate * n * rho) ** 2 / intrinsic) / 2
    return math.exp(min(log_p, 0.0))


def _difference(control: HasMoments, treatment: HasMoments, relative: bool) -> _Difference | Effect:
    """The effect and what each arm adds to its squared error, or the reason there is none."""
    if control.n < 2 or treatment.n < 2:
        return _no_effect("too_few_units")
    if any(isinstance(arm, RatioArm) and arm.sum_x == 0 for arm in (control, treatment)):
        return _no_effect("no_denominator")
    control_part, treatment_part = control.variance / control.n, treatment.variance / treatment.n
    if control_part + treatment_part <= 0:
        return _no_effect("no_variation")
    if not relative:
        return _Difference(treatment.mean - control.mean, control_part, treatment_part)
    if control.mean == 0:
        return _no_effect("zero_control_mean")
    ratio = treatment.mean / control.mean
    scale = control.mean**2
    relative_parts = control_part * ratio**2 / scale, treatment_part / scale
    # A treatment that is 0 throughout is 100 % less, whatever the control's error: of that there is no interval.
    return _Difference(ratio - 1, *relative_parts) if sum(relative_parts) > 0 else _no_effect("no_variation")


def _no_effect(reason: str) -> Effect:
    return Effect(None, None, None, None, None, reason)


def _rated_together(requests_per_unit: float, rating_rate: float) -> float:
    """How many ratings of its unit a rating is among: E[k^2] / E[k] for k ratings out of m requests, binomial.

    Not m times the rate: units that rated nothing do not count, and one that rated twice counts for two.
    """
    return 1 + max(requests_per_unit - 1, 0.0) * rating_rate


def _check_rate(rating_rate: float) -> None:
    if not 0 < rating_rate <= 1:
        raise OutOfRangeError(f"a rating rate lies in (0, 1], got {rating_rate}")
