"""A phase: a stretch of an experiment in which no unit moves between arms. Each keeps its weights, by which its split
is judged for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.store.tables import Experiment


def begin(experiment: Experiment, weights: Mapping[str, float], now: float, **more: Any) -> None:
    """From now on traffic is split by `weights`, in the phase that `experiment.phase` says."""
    experiment.phase_started_at = now
    record = {"phase": experiment.phase, "weights": dict(weights), "started_at": now, **more}
    experiment.phases = [*(experiment.phases or []), record]


def weights_of(experiment: Experiment, phase: int) -> dict[str, float]:
    """Arm -> weight; of a step of a rollout, only the two arms it is about. A phase that is older than this record
    of it is taken to have had the weights of now."""
    record = record_of(experiment, phase)
    return dict(record["weights"]) if record else planned(experiment)


def judged(experiment: Experiment) -> int:
    """The phase that the experiment is read by: the newest, but for the steps of a rollout, which come after it."""
    steps = [record for record in experiment.phases or [] if "rollout_step" in record]
    return int(steps[0]["phase"]) - 1 if steps else experiment.phase


def record_of(experiment: Experiment, phase: int) -> dict[str, Any] | None:
    return next((record for record in experiment.phases or [] if record["phase"] == phase), None)


def planned(experiment: Experiment) -> dict[str, float]:
    return {variant["key"]: variant["weight"] for variant in experiment.plan["variants"]}
