"""The readout of an experiment: the arms' sums in, a verdict with everything behind it out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from service.experiments import lifecycle, phases
from service.experiments.assignment import shares
from service.experiments.effects import Design, Metric, Totals, arm_of, compare, effects_of, metric_value, metrics_of
from service.experiments.report import ArmReport, Interval, MetricValue, Readout, TimelinePoint
from service.experiments.rollup import RATING_RATE, SKETCHED, UNITS, quantile
from service.experiments.verdict import conclude, split_of
from service.experiments.views import experiment_view
from service.shapes import ModelVersionOut
from service.store import events, experiments, registry
from service.store.events import Sums
from service.store.tables import Experiment

MOST_POINTS = 40
Series = Sequence[tuple[int, str, str, Sums]]
Bins = Mapping[tuple[str, str], Mapping[int, int]]


def read(session: Session, key: str, phase: int | None = None) -> Readout:
    """The readout of the phase that the experiment is judged by, or of another one, such as a step of its rollout.

    Raises:
        ExperimentNotFound
    """
    experiment = lifecycle.find(session, key)
    phase = phase or phases.judged(experiment)
    totals = events.arm_sums(session, experiment.id, phase)
    metrics = metrics_of(experiment.plan, totals)
    primary = next(metric for metric in metrics if metric.role == "primary")
    series = events.arm_sums_by_time(session, experiment.id, phase, (primary.name, UNITS))
    bins = events.latency_bins(session, experiment.id, phase)
    wanted = {v["model_version_id"] for v in experiment.plan["variants"] if v["model_version_id"]}
    tags = registry.version_tags(session, list(wanted))
    versions = {
        version.id: ModelVersionOut(**version.model_dump(), aliases=aliases, tags=tags[version.id])
        for version, aliases in experiments.model_versions(session, wanted).values()
    }
    return build(experiment, phase, totals, metrics, primary, series, bins, versions, time.time())


def build(
    experiment: Experiment,
    phase: int,
    totals: Totals,
    metrics: Sequence[Metric],
    primary: Metric,
    series: Series,
    bins: Bins,
    versions: Mapping[str, ModelVersionOut],
    now: float,
) -> Readout:
    weights = phases.weights_of(experiment, phase)
    variants = list(weights)
    design = design_of(experiment, phase)
    split = split_of(dict(shares(weights)), totals)
    effects = effects_of(metrics, variants, totals, design)
    return Readout(
        experiment=experiment_view(experiment),
        phase=phase,
        status=experiment.status,
        computed_at=now,
        verdict=conclude(split, effects, design),
        split=split,
        arms=[
            _arm(variant, variant["key"] == variants[0], totals, metrics, design, bins, versions)
            for variant in experiment.plan["variants"]
            if variant["key"] in weights
        ],
        effects=effects,
        timeline=timeline(primary, variants, series, design, now),
    )


def design_of(experiment: Experiment, phase: int) -> Design:
    """The plan's; a step of a rollout is watched all the time, and for no planned number of units."""
    plan, n_arms = experiment.plan, len(phases.weights_of(experiment, phase))
    if "rollout_step" in (phases.record_of(experiment, phase) or {}):
        return Design(plan["alpha"], "always_valid", plan["minimum_units"], None, n_arms)
    return Design(plan["alpha"], plan["analysis"], plan["minimum_units"], plan["expected_units"], n_arms)


def _arm(
    variant: Mapping[str, Any],
    is_control: bool,
    totals: Totals,
    metrics: Sequence[Metric],
    design: Design,
    bins: Bins,
    versions: Mapping[str, ModelVersionOut],
) -> ArmReport:
    key = variant["key"]
    values = {metric.name: metric_value(metric, key, totals, design) for metric in metrics}
    for name in SKETCHED:
        counted = bins.get((name, key), {})
        for percent in (50, 95):
            value = quantile(counted, percent / 100)
            if value is not None:
                values[f"{name}_p{percent}"] = MetricValue(value=value, interval=None, count=sum(counted.values()))
    return ArmReport(
        variant=key,
        is_control=is_control,
        model_version=versions.get(variant["model_version_id"] or ""),
        units=totals.get((UNITS, key), Sums()).n,
        requests=round(totals.get((RATING_RATE, key), Sums()).x),
        metrics=values,
    )


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
