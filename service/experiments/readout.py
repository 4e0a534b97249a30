"""The readout of an experiment: the arms' sums in, a verdict with everything behind it out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlmodel import Session

from service.experiments import evidence, lifecycle, phases
from service.experiments.ages import effects_by_age, novelty
from service.experiments.assignment import HOLDOUT, shares
from service.experiments.effects import Design, Metric, arm_of, compare, effects_of, metric_value
from service.experiments.evidence import Phase
from service.experiments.report import ArmReport, Interval, MetricValue, Readout, SharePoint, TimelinePoint
from service.experiments.rollup import QUANTILES, RATING_RATE, UNITS
from service.experiments.verdict import conclude, split_of
from service.experiments.views import experiment_view
from service.measure.quantiles import quantile
from service.shapes import ModelVersionOut
from service.store import events, experiments, registry
from service.store.events import Sums
from service.store.tables import Experiment

MOST_POINTS = 40
MOST_SHARES = 500
Series = Sequence[tuple[int, str, str, Sums]]


def read(session: Session, key: str, phase: int | None = None) -> Readout:
    """The readout of the phase that the experiment is judged by, or of another one, such as a step of its rollout. A
    bandit is judged by all its phases together.

    Raises:
        ExperimentNotFound
    """
    experiment = lifecycle.find(session, key)
    pooled = phase is None and bool(experiment.plan.get("bandit"))
    phase = phase or phases.judged(experiment)
    found = evidence.read_bandit(session, experiment) if pooled else evidence.read(session, experiment, phase)
    primary = next(metric for metric in found.evidence.metrics if metric.role == "primary")
    series = [] if pooled else events.arm_sums_by_time(session, experiment.id, phase, (primary.name, UNITS))
    wanted = {v["model_version_id"] for v in experiment.plan["variants"] if v["model_version_id"]}
    tags = registry.version_tags(session, list(wanted))
    versions = {
        version.id: ModelVersionOut(**version.model_dump(), aliases=aliases, tags=tags[version.id])
        for version, aliases in experiments.model_versions(session, wanted).values()
    }
    return build(experiment, phase, found, primary, series, versions, time.time())


def build(
    experiment: Experiment,
    phase: int,
    found: Phase,
    primary: Metric,
    series: Series,
    versions: Mapping[str, ModelVersionOut],
    now: float,
) -> Readout:
    variants, metrics = found.evidence.variants, found.evidence.metrics
    design = design_of(experiment, phase, metrics)
    split = split_of(dict(shares(found.weights)), found.totals)
    effects = effects_of(found.evidence, design)
    ages = effects_by_age(metrics, variants, found.totals, design)
    verdict = conclude(split, effects, design)
    if verdict.decision not in {"broken", "too_little_data"}:
        verdict.reasons.extend(novelty(metrics, variants, found.totals, design))
    arms = {variant["key"]: variant for variant in experiment.plan["variants"] if variant["key"] in found.weights}
    held_out = found.totals.get((UNITS, HOLDOUT), Sums()).n > 0
    return Readout(
        experiment=experiment_view(experiment),
        phase=phase,
        status=experiment.status,
        computed_at=now,
        verdict=verdict,
        split=split,
        arms=[
            _arm(key, found, design, versions.get(variant["model_version_id"] or "")) for key, variant in arms.items()
        ],
        effects=effects,
        timeline=timeline(primary, variants, series, design, now),
        by_age=ages,
        holdout=_arm(HOLDOUT, found, design, None) if held_out else None,
        shares_over_time=_shares(experiment),
    )


def design_of(experiment: Experiment, phase: int, metrics: Sequence[Metric]) -> Design:
    """The plan's. A step of a rollout is watched all the time, and for no planned number of units. Its level is the
    part of alpha for one of the metrics that can halt it, at one of its steps: then a harmless winner is halted at any
    of them in at most alpha of all rollouts."""
    plan, n_arms = experiment.plan, len(phases.weights_of(experiment, phase))
    if "rollout_step" in (phases.record_of(experiment, phase) or {}):
        steps = sum(share < 1 for share in (experiment.rollout or {})["steps"])
        watched = sum(metric.role != "secondary" for metric in metrics)
        return Design(plan["alpha"] / (steps * watched), "always_valid", plan["minimum_units"], None, n_arms)
    return Design(plan["alpha"], plan["analysis"], plan["minimum_units"], plan["expected_units"], n_arms)


def _arm(key: str, found: Phase, design: Design, version: ModelVersionOut | None) -> ArmReport:
    values: dict[str, MetricValue] = {}
    for metric in found.evidence.metrics:
        if metric.name in QUANTILES:
            base, share = QUANTILES[metric.name]
            counted = found.bins.get((base, key), {})
            value, count = quantile(counted, share), float(sum(counted.values()))
            arm = found.evidence.plain.get((metric.name, key))
            if arm is not None and arm.n:
                values[metric.name] = metric_value(metric, arm, design, count)
            elif value is not None:
                values[metric.name] = MetricValue(value=value, interval=None, count=count)
        else:
            arm = found.evidence.plain.get((metric.name, key)) or arm_of(metric, key, found.totals)
            values[metric.name] = metric_value(metric, arm, design)
    return ArmReport(
        variant=key,
        is_control=key == found.evidence.variants[0],
        model_version=version,
        units=found.totals.get((UNITS, key), Sums()).n,
        requests=round(found.totals.get((RATING_RATE, key), Sums()).x),
        metrics=values,
    )


def _shares(experiment: Experiment) -> list[SharePoint]:
    if not experiment.plan.get("bandit"):
        return []
    records = [record for record in experiment.phases or [] if "rollout_step" not in record][-MOST_SHARES:]
    return [
        SharePoint(phase=record["phase"], at=record["started_at"], shares=dict(shares(record["weights"])))
        for record in records
    ]


def timeline(
    metric: Metric, variants: Sequence[str], series: Series, design: Design, now: float
) -> list[TimelinePoint]:
    """The effect as it stood at up to 40 moments since the start, the newest last."""
    control, *others = variants
    running: dict[tuple[str, str], Sums] = defaultdict(Sums)
    moments = _moments(sorted({stretch for stretch, _, _, _ in series}))
    points: list[TimelinePoint] = []
    increments = iter([*series, None])
    pending = next(increments)
    for moment in moments:
        while pending is not None and pending[0] <= moment:
            running[pending[1], pending[2]] += pending[3]
            pending = next(increments)
        for variant in others:
            effect = compare(arm_of(metric, control, running), arm_of(metric, variant, running), design)
            interval: Interval | None = effect.interval
            at = min(float(moment), now)
            points.append(
                TimelinePoint(at=at, variant=variant, metric=metric.name, absolute=effect.estimate, interval=interval)
            )
    return points


def _moments(stretches: Sequence[int]) -> list[int]:
    """At most 40 of these ends of stretches, evenly spread over time, the last one always among them."""
    if len(stretches) <= MOST_POINTS:
        return list(stretches)
    first, last = stretches[0], stretches[-1]
    chosen: dict[int, int] = {}
    for stretch in stretches:
        chosen[int((stretch - first) / (last - first) * (MOST_POINTS - 1))] = stretch
    return sorted(chosen.values())
