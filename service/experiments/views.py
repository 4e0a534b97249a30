"""From rows to what the wire shows."""

from __future__ import annotations

from service.experiments import phases
from service.experiments.assignment import shares
from service.experiments.schemas import ExperimentView, UpstreamView
from service.experiments.snapshot import compile_upstream
from service.store.tables import Experiment, Upstream


def experiment_view(row: Experiment) -> ExperimentView:
    weights = phases.weights_of(row, row.phase) if row.plan.get("bandit") else phases.planned(row)
    return ExperimentView(**row.plan, **row.model_dump(exclude={"plan", "phases"}), shares=dict(shares(weights)))


def upstream_view(row: Upstream) -> UpstreamView:
    """The key reference is shown, the key never."""
    return UpstreamView(**row.model_dump(), problem=compile_upstream(row).problem)
