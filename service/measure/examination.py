"""All rules on one run: which of its metrics they read, and what each says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.measure.curve_rules import (
    gradients_exploding,
    loss_diverging,
    loss_not_finite,
    loss_oscillating,
    no_progress,
    overfitting,
)
from service.measure.diagnosis import RULES, Curve, Diagnosis, not_measured
from service.measure.machine_rules import gpu_idle, out_of_memory, silent, throughput_falling
from service.measure.metric_names import Role, loss_is_no_yardstick, preference, role

# Series read of each role, at most: the one with the most points first. `progress` is read from its summary alone.
READ: dict[Role, int] = {
    "train_loss": 1,
    "eval_loss": 4,
    "grad_norm": 1,
    "learning_rate": 1,
    "throughput": 1,
    "memory_percent": 1,
    "gpu_utilisation": 16,
    "gpu_memory": 16,
}
_SHAPE_RULES = ("loss_diverging", "loss_oscillating", "no_progress", "overfitting")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules ask of a run beside its curves. `share_done`: of the planned steps, 0 to 1; None: not known."""

    running: bool
    heartbeat_at: float
    error: str | None = None
    exit_code: int | None = None
    share_done: float | None = None
    loss_is_yardstick: bool = True


def watched(key: str) -> bool:
    """Does any rule read this metric?"""
    return role(key) in READ


def chosen(counts: Mapping[str, int]) -> list[str]:
    """The metrics to read, of all that a run has (with the number of points of each)."""
    by_role: dict[Role, list[str]] = {}
    for key in counts:
        found = role(key)
        if found in READ:
            by_role.setdefault(found, []).append(key)
    return [
        key
        for found, keys in by_role.items()
        for key in sorted(keys, key=lambda key: (-counts[key], preference(key)))[: READ[found]]
    ]


def loss_is_yardstick(keys: Iterable[str]) -> bool:
    """False where reward or an opponent sets the pace (reinforcement learning, GANs): a healthy loss may rise there."""
    return not any(map(loss_is_no_yardstick, keys))


def examine(facts: Facts, curves: Iterable[Curve], *, now: float, silent_after: float) -> list[Diagnosis]:
    """What every rule says of the run, in the order of `RULES`; a rule that reads several metrics speaks for each."""
    by_role: dict[Role, list[Curve]] = {}
    for curve in curves:
        found = role(curve.key)
        if found is not None and len(curve):
            by_role.setdefault(found, []).append(curve)

    def one(wanted: Role) -> Curve | None:
        return next(iter(by_role.get(wanted, [])), None)

    said = _losses(facts, one("train_loss"), by_role.get("eval_loss", []), one("learning_rate"))
    gradients, throughput = one("grad_norm"), one("throughput")
    said += [
        not_measured("gradients_exploding", "No gradient norm is logged.")
        if gradients is None
        else gradients_exploding(gradients),
        not_measured("throughput_falling", "No samples, steps or tokens per second are logged.")
        if throughput is None
        else throughput_falling(throughput),
        gpu_idle(by_role.get("gpu_utilisation", []), by_role.get("gpu_memory", [])),
        out_of_memory(facts.error, facts.exit_code, one("memory_percent")),
        silent(facts.running, facts.heartbeat_at, now, silent_after),
    ]
    order = list(RULES)
    return sorted(said, key=lambda diagnosis: order.index(diagnosis.rule))


def _losses(facts: Facts, training: Curve | None, held_out: list[Curve], rate: Curve | None) -> list[Diagnosis]:
    losses = held_out if training is None else [training, *held_out]
    said = [loss_not_finite(curve, not facts.running) for curve in losses]
    if not losses:
        said = [not_measured("loss_not_finite", "No loss is logged.")]
    if not facts.loss_is_yardstick:
        reason = "Reward or an opponent sets the pace here: the loss is no measure of progress."
        return said + [not_measured(rule, reason) for rule in _SHAPE_RULES]
    if training is None:
        said += [not_measured(rule, "No training loss is logged.") for rule in _SHAPE_RULES[:3]]
    else:
        said += [loss_diverging(training), loss_oscillating(training), no_progress(training, facts.share_done, rate)]
    if not held_out:
        return [*said, not_measured("overfitting", "No held-out loss is logged.")]
    return said + [overfitting(curve, training) for curve in held_out]
