"""Shares that follow the results (Thompson sampling), in an experiment that asks for it.

Each change of the shares is a phase: its weights are the propensities of the units that come in by it, kept with it for
ever. Units keep the arm they came in by, and count in that phase, so that the readout can weight each by the inverse of
its own propensity.
"""

from __future__ import annotations

import zlib

from sqlmodel import Session

from service.experiments import phases
from service.experiments.assignment import shares
from service.experiments.effects import Metric, arm_of, metrics_of
from service.experiments.evidence import as_ratio
from service.experiments.rollup import CROSSED
from service.measure.bandit import Counts, counts_of, thompson
from service.store import events
from service.store import experiments as store
from service.store.events import Sums
from service.store.tables import Experiment

WATCHER = "tunescope"
# A smaller change of every share is not worth a phase.
LEAST_CHANGE = 0.01
# What the shares are then, they stay: each phase is part of the experiment's record.
MOST_PHASES = 1_000


def is_due(experiment: Experiment, now: float) -> bool:
    """Whether the shares have stayed as long as they were to. A clock that went back does not stop them for long."""
    rules = experiment.plan.get("bandit")
    if not rules or experiment.status != "running" or experiment.phase >= MOST_PHASES:
        return False
    return abs(now - (experiment.phase_started_at or 0.0)) >= float(rules["every_seconds"])


def follow(session: Session, key: str, now: float) -> bool:
    """Begin a phase of new shares, if they are due and differ; whether it has. Of several replicas one does: the others
    wait for its transaction, and find nothing due."""
    experiment = store.find_for_change(session, key)
    if experiment is None or not is_due(experiment, now):
        return False
    rules, variants = experiment.plan["bandit"], list(phases.planned(experiment))
    counts = _counts(session, experiment, variants)
    # A seed of its own for each experiment and phase: whoever looks draws the same.
    seed = zlib.crc32(f"{experiment.id}/{experiment.phase}".encode())
    wanted = dict(zip(variants, thompson(counts, tuple(rules["prior"]), rules["floor"], seed), strict=True))
    present = dict(shares(phases.weights_of(experiment, experiment.phase)))
    if max(abs(wanted[variant] - present[variant]) for variant in variants) < LEAST_CHANGE:
        return False
    state = {variant: [one.successes, one.failures] for variant, one in zip(variants, counts, strict=True)}
    experiment.phase += 1
    phases.begin(experiment, wanted, now, counts=state)
    details = {"phase": experiment.phase, "shares": wanted, "counts": state, "prior": rules["prior"]}
    store.log(session, experiment, WATCHER, "bandit_step", details)
    return True


def _counts(session: Session, experiment: Experiment, variants: list[str]) -> list[Counts]:
    """Of each arm over all phases, for the metric that is followed."""
    whole: dict[tuple[str, str], Sums] = {}
    for totals in events.arm_sums_by_phase(session, experiment.id).values():
        for place, sums in totals.items():
            if place[0] != CROSSED:
                whole[place] = whole.get(place, Sums()) + sums
    metric = _followed(experiment, whole)
    return [counts_of(as_ratio(arm_of(metric, variant, whole))) for variant in variants]


def _followed(experiment: Experiment, totals: dict[tuple[str, str], Sums]) -> Metric:
    name = experiment.plan["bandit"]["metric"]
    return next(metric for metric in metrics_of(experiment.plan, totals, set()) if metric.name == name)
