"""What a phase has shown, as arms that can be compared: sums, less what the past explains, and quantiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlmodel import Session

from service.experiments import phases
from service.experiments.assignment import shares
from service.experiments.effects import Arms, Evidence, Metric, Totals, arm_of, metrics_of
from service.experiments.rollup import QUANTILES, SKETCHED, UNITS
from service.measure.arms import Arm, HasMoments, RatioArm
from service.measure.bandit import weighted
from service.measure.cuped import Past, adjust
from service.measure.quantiles import cluster_factor, quantile, quantile_arm
from service.store import events
from service.store.events import Before, Sums
from service.store.tables import Experiment

# Units of an arm whose requests are read to learn how alike a unit's requests are.
SAMPLED_UNITS = 1_000
Bins = Mapping[tuple[str, str], Mapping[int, int]]


@dataclass(frozen=True)
class Phase:
    """Everything that is read of one phase, or of all phases of a bandit."""

    evidence: Evidence
    totals: Totals
    weights: Mapping[str, float]
    bins: Bins = field(default_factory=dict)


def read(session: Session, experiment: Experiment, phase: int, *, watched: bool = False) -> Phase:
    """What this phase has shown. `watched`: only metrics that can stop a rollout."""
    weights = phases.weights_of(experiment, phase)
    totals = events.arm_sums(session, experiment.id, phase)
    bins = events.latency_bins(session, experiment.id, phase)
    metrics = metrics_of(experiment.plan, totals, {name for name, _ in bins})
    if watched:
        metrics = [metric for metric in metrics if metric.role != "secondary"]
    plain = arms_of(metrics, list(weights), totals)
    plain |= _quantiles(session, experiment.id, phase, metrics, totals, bins, list(weights))
    arms = dict(plain)
    if experiment.plan.get("covariate_days"):
        pasts = events.before_sums(session, experiment.id, phase)
        arms |= adjusted(metrics, list(weights), plain, totals, pasts)
    return Phase(Evidence(metrics, list(weights), arms, plain, exposed_of(weights, totals)), totals, weights, bins)


def arms_of(metrics: Sequence[Metric], variants: Sequence[str], totals: Totals) -> dict[tuple[str, str], HasMoments]:
    return {(metric.name, variant): arm_of(metric, variant, totals) for metric in metrics for variant in variants}


def exposed_of(variants: Sequence[str] | Mapping[str, float], totals: Totals) -> dict[str, int]:
    return {variant: totals.get((UNITS, variant), Sums()).n for variant in variants}


def _quantiles(
    session: Session, experiment_id: str, phase: int, metrics: Sequence[Metric], totals: Totals, bins: Bins,
    variants: Sequence[str],
) -> Arms:  # fmt: skip
    wanted = [metric.name for metric in metrics if metric.name in QUANTILES]
    found: dict[tuple[str, str], HasMoments] = {}
    for variant in variants if wanted else ():
        sample = events.sampled_durations(session, experiment_id, phase, variant, SAMPLED_UNITS)
        numbers = np.array([row[0] for row in sample], dtype=np.int64)
        for name in wanted:
            base, share = QUANTILES[name]
            counted = bins.get((base, variant), {})
            value = quantile(counted, share)
            found[name, variant] = Arm(0, 0.0, 0.0)
            if value is None:
                continue
            seconds = np.array([row[1 + SKETCHED.index(base)] for row in sample], dtype=np.float64)
            known = ~np.isnan(seconds)
            factor = cluster_factor(numbers[known], seconds[known], value)
            units = totals.get((base, variant), Sums()).n
            arm = quantile_arm(counted, units, share, factor) if factor is not None else None
            found[name, variant] = arm or Arm(0, 0.0, 0.0)
    return found


def adjusted(
    metrics: Sequence[Metric],
    variants: Sequence[str],
    plain: Arms,
    totals: Totals,
    pasts: Mapping[tuple[str, str], Before],
) -> dict[tuple[str, str], HasMoments]:
    """The declared metrics' arms without what the units' pasts explain, where they explain something."""
    exposed = [totals.get((UNITS, variant), Sums()).n for variant in variants]
    found: dict[tuple[str, str], HasMoments] = {}
    for metric in metrics:
        if not any((metric.name, variant) in pasts for variant in variants):
            continue
        arms = [as_ratio(plain[metric.name, variant]) for variant in variants]
        past = [
            _past(metric, arm, n, pasts.get((metric.name, variant), Before()))
            for variant, arm, n in zip(variants, arms, exposed, strict=True)
        ]
        for variant, arm in zip(variants, adjust(arms, exposed, past) or (), strict=False):
            found[metric.name, variant] = arm
    return found


def _past(metric: Metric, arm: RatioArm, n: int, before: Before) -> Past:
    """Of totals by unit the denominator is 1, also of a unit that has no past."""
    if not metric.is_total:
        return Past(*(getattr(before, name) for name in Before.__slots__))
    one = replace(before, u=n, uu=n, uv=before.v, xu=n, xv=before.v, yu=arm.sum_y)
    return Past(*(getattr(one, name) for name in Before.__slots__))


def as_ratio(arm: Any) -> RatioArm:
    """An arm of one value a unit as the ratio to its number of units."""
    if isinstance(arm, RatioArm):
        return arm
    return RatioArm(arm.n, arm.sum, float(arm.n), arm.sum_squares, float(arm.n), arm.sum)


# --- bandits ------------------------------------------------------------------------------------------


def read_bandit(session: Session, experiment: Experiment) -> Phase:
    """All phases together, each unit weighted by the inverse of the share that its arm had when it came in."""
    by_phase = events.arm_sums_by_phase(session, experiment.id)
    variants = list(phases.planned(experiment))
    whole: dict[tuple[str, str], Sums] = defaultdict(Sums)
    for totals in by_phase.values():
        for key, sums in totals.items():
            whole[key] += sums
    metrics = metrics_of(experiment.plan, whole, set())
    propensities = {phase: dict(shares(phases.weights_of(experiment, phase))) for phase in by_phase}
    arms: dict[tuple[str, str], HasMoments] = {}
    for metric in metrics:
        for variant in variants:
            parts = [
                (as_ratio(arm_of(metric, variant, by_phase[phase])), propensities[phase][variant]) for phase in by_phase
            ]
            parts = [(arm, propensity) for arm, propensity in parts if arm.n]
            enough = sum(arm.n for arm, _ in parts) >= 2 and sum(arm.sum_x for arm, _ in parts) > 0
            arms[metric.name, variant] = weighted(parts) if enough else Arm(0, 0.0, 0.0)
    came = {phase: sum(exposed_of(variants, by_phase[phase]).values()) for phase in by_phase}
    everybody = sum(came.values()) or 1
    expected = {
        variant: sum(came[phase] * propensities[phase][variant] for phase in by_phase) / everybody
        for variant in variants
    }
    if not any(expected.values()):
        expected = phases.planned(experiment)
    return Phase(Evidence(metrics, variants, arms, arms, exposed_of(variants, whole)), whole, expected)
