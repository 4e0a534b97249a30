"""A variant against the control, metric by metric: pure arithmetic on the arms' sums."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.experiments.report import EffectReport, EffectVerdict, Interval, MetricValue, Role
from service.experiments.rollup import (
    BUILT_IN,
    ERROR_RATE,
    FALLBACK_RATE,
    FIRST_TOKEN,
    QUANTILES,
    RATING_RATE,
    UNITS,
    By,
    Kind,
)
from service.experiments.wording import effect_sentence
from service.measure.ab import Effect, confidence_sequence, sequence_margin, tuned_rho, units_needed, welch
from service.measure.adjust import benjamini_hochberg, holm
from service.measure.arms import Arm, HasMoments, RatioArm
from service.measure.cuped import Adjusted, reduction
from service.measure.distributions import t_quantile
from service.store.events import Sums

# Guardrails by themselves, declared or not.
GUARDRAILS = {ERROR_RATE, FALLBACK_RATE, FIRST_TOKEN}
# Below this many units with a value the normal approximation is not to be trusted.
FEWEST_VALUES = 30
# A need for more units than this is no plan.
MOST_UNITS = 1_000_000_000

Totals = Mapping[tuple[str, str], Sums]
Arms = Mapping[tuple[str, str], HasMoments]
"""(metric, variant) -> the arm; one of no units where nothing is known."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is compared, and in which direction it is good."""

    name: str
    role: Role
    direction: Literal["higher", "lower"]
    kind: Kind = "real"
    by: By = "request"
    margin: float | None = None

    @property
    def is_share(self) -> bool:
        """A proportion: said in percent and points."""
        return self.kind == "binary" or self.name in {RATING_RATE, ERROR_RATE, FALLBACK_RATE}

    @property
    def is_total(self) -> bool:
        """One value of every exposed unit, 0 of one that was silent."""
        return self.by == "unit" and self.kind in {"binary", "count"}

    @property
    def sign(self) -> int:
        return 1 if self.direction == "higher" else -1


@dataclass(frozen=True, slots=True)
class Design:
    """How the experiment is read, fixed before its start."""

    alpha: float
    analysis: Literal["always_valid", "fixed"]
    minimum_units: int
    expected_units: int | None
    n_arms: int

    @property
    def n_tuned(self) -> int:
        """Units of control and one variant at which the sequence is tightest."""
        per_arm = self.expected_units / self.n_arms if self.expected_units else 10 * self.minimum_units
        return max(2, round(2 * per_arm))

    @property
    def fewest_values(self) -> int:
        return min(FEWEST_VALUES, self.minimum_units)

    @property
    def method(self) -> str:
        if self.analysis == "fixed":
            return "Welch's t test on units (delta method for ratios)"
        rho = tuned_rho(self.n_tuned, self.alpha)
        return f"asymptotic confidence sequence on units (delta method for ratios), rho = {rho:.4g} / sd"


@dataclass(frozen=True)
class Evidence:
    """What is compared. `plain`: the arms before anything was taken out of them. The first variant is the control."""

    metrics: Sequence[Metric]
    variants: Sequence[str]
    arms: Arms
    plain: Arms
    exposed: Mapping[str, int]

    def pair(self, metric: Metric, variant: str) -> tuple[HasMoments, HasMoments]:
        return self.arms[metric.name, self.variants[0]], self.arms[metric.name, variant]

    def variance_reduction(self, metric: Metric, variant: str) -> float | None:
        """The part of the difference's variance that the units' pasts explain; None where none was taken out."""
        pair = self.pair(metric, variant)
        if not all(isinstance(arm, Adjusted) for arm in pair):
            return None
        return reduction([self.plain[metric.name, arm] for arm in (self.variants[0], variant)], pair)


@dataclass(frozen=True)
class _Shifted:
    """An arm moved by a constant: how a margin enters a test against zero."""

    arm: HasMoments
    by: float

    @property
    def n(self) -> int:
        return self.arm.n

    @property
    def mean(self) -> float:
        return self.arm.mean + self.by

    @property
    def variance(self) -> float:
        return self.arm.variance


def metrics_of(plan: Mapping[str, Any], totals: Totals, sketched: Collection[str]) -> list[Metric]:
    """Declared metrics first, then the built-in ones that have values. `sketched`: durations with a histogram."""
    declared = [
        Metric(m["name"], m["role"], m["direction"], _kind(m["name"], m["kind"]), m["by"], m["margin"])
        for m in plan["metrics"]
    ]
    names = {metric.name for metric in declared}
    recorded = {name for name, _ in totals}
    built_in = [
        Metric(name, "guardrail" if name in GUARDRAILS else "secondary", direction, _kind(name, "real"))
        for name, direction in BUILT_IN.items()
        if name in recorded and name not in names
    ]
    built_in += [
        Metric(name, "secondary", "lower")
        for name, (base, _) in QUANTILES.items()
        if base in sketched and name not in names
    ]
    return [replace(m, by="request") if m.name in BUILT_IN else m for m in declared] + built_in


def _kind(name: str, otherwise: Kind) -> Kind:
    return "binary" if name in {"satisfaction", "task_success"} else otherwise


def arm_of(metric: Metric, variant: str, totals: Totals) -> Arm | RatioArm:
    """The metric in one arm. By unit, 'ever' and totals are over all exposed units: silence is a zero."""
    sums = totals.get((metric.name, variant), Sums())
    if metric.is_total:
        return Arm(totals.get((UNITS, variant), Sums()).n, sums.y, sums.yy)
    return arm_of_valued(metric, sums)


def arm_of_valued(metric: Metric, sums: Sums) -> Arm | RatioArm:
    """The metric over the units that have a value."""
    if metric.by == "request" or metric.kind == "ratio":
        return RatioArm(sums.n, sums.y, sums.x, sums.yy, sums.xx, sums.xy)
    return Arm(sums.n, sums.y, sums.yy)


def value_of(arm: HasMoments) -> float | None:
    if arm.n == 0 or (isinstance(arm, RatioArm) and arm.sum_x == 0):
        return None
    return arm.mean


def metric_value(metric: Metric, arm: HasMoments, design: Design, count: float | None = None) -> MetricValue:
    """The arm's own value with its interval, by the same analysis as the effects."""
    value = value_of(arm)
    if count is None:
        count = arm.sum_x if isinstance(arm, RatioArm) else float(arm.n)
    if value is None or arm.n < 2 or arm.variance <= 0:
        return MetricValue(value=value, interval=None, count=count)
    if design.analysis == "fixed":
        half = t_quantile(1 - design.alpha / 2, arm.n - 1) * math.sqrt(arm.variance / arm.n)
    else:
        rho = tuned_rho(max(1, design.n_tuned // 2), design.alpha) / math.sqrt(arm.variance)
        half = sequence_margin(arm.variance, arm.n, design.alpha, rho)
    low, high = value - half, value + half
    if metric.is_share:
        low, high = max(low, 0.0), min(high, 1.0)
    return MetricValue(value=value, interval=(low, high), count=count)


def compare(control: HasMoments, variant: HasMoments, design: Design, *, relative: bool = False) -> Effect:
    if design.analysis == "fixed":
        return welch(control, variant, design.alpha, relative)
    return confidence_sequence(control, variant, design.alpha, design.n_tuned, relative)


def compare_one_sided(control: HasMoments, variant: HasMoments, metric: Metric, design: Design) -> Effect:
    """Harm: how likely so bad a value is if the variant does no harm; the bound is on the good side of it."""
    if design.analysis == "fixed":
        return welch(control, variant, design.alpha, alternative="less" if metric.sign > 0 else "greater")
    # Half of a two-sided sequence at twice the level is a one-sided one at the level.
    effect = confidence_sequence(control, variant, 2 * design.alpha, design.n_tuned)
    if effect.estimate is None or effect.interval is None or effect.p_value is None:
        return effect
    harmful = effect.estimate * metric.sign < 0
    low, high = effect.interval
    return replace(
        effect,
        interval=(-math.inf, high) if metric.sign > 0 else (low, math.inf),
        p_value=effect.p_value / 2 if harmful else 1.0,
    )


def effects_of(evidence: Evidence, design: Design) -> list[EffectReport]:
    """Every metric of every variant against the control, adjusted for how many there are."""
    pairs = [(metric, variant) for variant in evidence.variants[1:] for metric in evidence.metrics]
    raw = {
        (metric.name, variant): _measure(metric, evidence.pair(metric, variant), design) for metric, variant in pairs
    }
    by_name = {metric.name: metric for metric in evidence.metrics}
    corrected = _adjust({key: found.p_value for key, found in raw.items()}, by_name)
    return [
        _report(metric, variant, evidence, design, raw[metric.name, variant], corrected[metric.name, variant])
        for metric, variant in pairs
    ]


def _measure(metric: Metric, arms: tuple[HasMoments, HasMoments], design: Design) -> Effect:
    if metric.role == "guardrail":
        return compare_one_sided(*arms, metric, design)
    return compare(*arms, design)


def _adjust(
    p_values: Mapping[tuple[str, str], float | None], metrics: Mapping[str, Metric]
) -> dict[tuple[str, str], float | None]:
    """Holm over the primary family, Benjamini-Hochberg over the secondary one. Guardrails stand alone: an
    alarm does not wait for other alarms."""
    adjusted = dict(p_values)
    for role, method in (("primary", holm), ("secondary", benjamini_hochberg)):
        family = {key: p for key, p in p_values.items() if p is not None and metrics[key[0]].role == role}
        adjusted |= dict(zip(family, method(list(family.values())), strict=True))
    return adjusted


def _report(
    metric: Metric, variant: str, evidence: Evidence, design: Design, found: Effect, p_adjusted: float | None
) -> EffectReport:
    arms = evidence.pair(metric, variant)
    relative = compare(*arms, design, relative=True)
    explained = evidence.variance_reduction(metric, variant)
    verdict = _judge(metric, arms, design, found, p_adjusted)
    report = EffectReport(
        metric=metric.name,
        variant=variant,
        role=metric.role,
        direction=metric.direction,
        margin=metric.margin,
        control_value=value_of(arms[0]),
        variant_value=value_of(arms[1]),
        absolute=found.estimate,
        absolute_interval=_finite(found.interval),
        relative=relative.estimate,
        relative_interval=_finite(relative.interval),
        p_value=found.p_value,
        p_adjusted=p_adjusted,
        verdict=verdict,
        sentence="",
        method=design.method + (", adjusted for the units' pasts (CUPED)" if explained is not None else ""),
        n_more_units=_more_units(metric, variant, evidence, design, found, verdict),
        reason=found.reason,
        variance_reduction=explained,
    )
    report.sentence = effect_sentence(report, evidence.variants[0], metric.is_share)
    return report


def _judge(
    metric: Metric,
    arms: tuple[HasMoments, HasMoments],
    design: Design,
    found: Effect,
    p_adjusted: float | None,
) -> EffectVerdict:
    if found.reason == "no_variation" and arms[0].mean == arms[1].mean:
        return "no_difference"
    if min(arm.n for arm in arms) < design.fewest_values or found.estimate is None or p_adjusted is None:
        return "too_little_data"
    good = found.estimate * metric.sign > 0
    if p_adjusted < design.alpha:
        if good:
            return "better"
        return "not_worse" if _within_margin(metric, arms, design) else "worse"
    if metric.margin is not None:
        two_sided = compare(*arms, design).interval
        if two_sided is not None and -metric.margin < two_sided[0] and two_sided[1] < metric.margin:
            return "no_difference"
        if _within_margin(metric, arms, design):
            return "not_worse"
    elif metric.role != "guardrail" and _planned_units_reached(arms, design):
        return "no_difference"
    return "inconclusive"


def _within_margin(metric: Metric, arms: tuple[HasMoments, HasMoments], design: Design) -> bool:
    """Whether it is shown, one-sided, that the variant is worse by less than the margin."""
    if metric.margin is None:
        return False
    shifted = _Shifted(arms[1], metric.sign * metric.margin)
    opposite = replace(metric, direction="lower" if metric.direction == "higher" else "higher")
    p_value = compare_one_sided(arms[0], shifted, opposite, design).p_value
    return p_value is not None and p_value < design.alpha


def _planned_units_reached(arms: tuple[HasMoments, HasMoments], design: Design) -> bool:
    return design.expected_units is not None and sum(arm.n for arm in arms) >= design.n_tuned


def _more_units(
    metric: Metric, variant: str, evidence: Evidence, design: Design, found: Effect, verdict: EffectVerdict
) -> int | None:
    """Exposed units still needed, over both arms, to show a difference of the margin (else, of what is seen)."""
    arms = evidence.pair(metric, variant)
    exposed = sum(evidence.exposed[arm] for arm in (evidence.variants[0], variant))
    if verdict not in {"inconclusive", "too_little_data"}:
        return 0
    valued = sum(arm.n for arm in arms)
    per_value = exposed / valued if valued else 1.0
    lacking = sum(max(0, design.fewest_values - arm.n) for arm in arms)
    if found.estimate is None or found.se is None or lacking:
        return math.ceil(lacking * per_value) or None
    target = metric.margin or abs(found.estimate)
    share = arms[1].n / valued
    spread = arms[0].variance * share + arms[1].variance * (1 - share)
    if target <= 0 or spread / target**2 > MOST_UNITS:
        return None
    needed = units_needed(spread, target, design.alpha, treatment_share=share, analysis=design.analysis)
    return max(1, math.ceil((needed - valued) * per_value))


def _finite(interval: tuple[float, float] | None) -> Interval | None:
    if interval is None:
        return None
    low, high = (bound if math.isfinite(bound) else None for bound in interval)
    return low, high
