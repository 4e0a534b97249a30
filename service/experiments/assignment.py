"""Who gets which arm: a pure function of the experiment, the unit and its attributes.

The hash and the ranges are GrowthBook's (see `measure.bucketing`), so that any client that knows them
decides alike. Coverage shrinks every arm inside its own slice: raising it never moves a unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from service.experiments.sticky import StickyArms
from service.measure.bucketing import bucket, bucket_ranges, choose, in_namespace

Reason = Literal["forced", "not_running", "decided", "no_unit", "not_targeted", "not_covered", "holdout", "assigned"]

# Under this name units of the holdout are recorded; no variant can have it.
HOLDOUT = "(holdout)"
HOLDOUT_SALT = "__holdout"
NOBODY = StickyArms()
MOST_UNIT_CHARACTERS = 256


@dataclass(frozen=True)
class Variant:
    key: str
    weight: float
    upstream: str | None = None
    model_version_id: str | None = None
    value: Any = None


@dataclass(frozen=True)
class LiveExperiment:
    """An experiment as traffic sees it. The first variant is the control."""

    id: str
    key: str
    salt: str
    hash_version: int
    phase: int
    status: str
    variants: tuple[Variant, ...]
    coverage: float
    targeting: Mapping[str, Any]
    forced: Mapping[str, str]
    namespace: Mapping[str, Any] | None
    winner: str | None
    fallback_upstream: str | None
    store_content: bool
    # The share of all units that keep the control, whatever the experiment says.
    holdout: float = 0.0
    # Units that keep the arm they came in by, where the plan asks for it.
    sticky: bool = False
    kept: StickyArms = NOBODY

    @cached_property
    def by_key(self) -> dict[str, Variant]:
        return {variant.key: variant for variant in self.variants}

    @cached_property
    def ranges(self) -> list[tuple[float, float]]:
        shares = [share for _, share in self.shares]
        return [(low, high) for low, high in bucket_ranges(len(shares), self.coverage, shares)]

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Each arm's part of the covered traffic; they add up to 1."""
        return shares({variant.key: variant.weight for variant in self.variants})


@dataclass(frozen=True, slots=True)
class Assignment:
    """An arm, and whether this unit counts in the analysis."""

    variant: Variant
    counted: bool
    reason: Reason
    recorded: str | None = None
    """The arm as it is recorded: a held-out unit is seen beside the arms, though it counts in none. None: it is not."""


def shares(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    total = sum(weights.values())
    # Weights that add up to 1 stay the bits they are: ranges must not move by a rounding.
    scale = 1.0 if abs(total - 1) < 1e-9 else total
    return [(key, weight / scale) for key, weight in weights.items()]


def assign(experiment: LiveExperiment, unit_id: str | None, attributes: Mapping[str, Any]) -> Assignment:
    """The arm of one unit. Whoever is not in the experiment gets the control (or the winner), uncounted."""
    control = experiment.variants[0]
    forced = experiment.forced.get(unit_id) if unit_id else None
    if forced in experiment.by_key:
        return Assignment(experiment.by_key[forced], False, "forced")
    if experiment.status == "decided":
        if unit_id and held_out(unit_id, experiment.holdout):
            return Assignment(control, False, "holdout")
        return Assignment(experiment.by_key.get(experiment.winner or "", control), False, "decided")
    if experiment.status != "running":
        return Assignment(control, False, "not_running")
    if not unit_id:
        return Assignment(control, False, "no_unit")
    if not matches(experiment.targeting, attributes):
        return Assignment(control, False, "not_targeted")
    index = _index(experiment, unit_id)
    if index < 0:
        return Assignment(control, False, "not_covered")
    if held_out(unit_id, experiment.holdout):
        return Assignment(control, False, "holdout", HOLDOUT)
    variant = experiment.variants[_kept(experiment, unit_id, index)]
    return Assignment(variant, True, "assigned", variant.key)


def held_out(unit_id: str, share: float) -> bool:
    """Whether a unit is in the holdout: the same units in every experiment, and a larger share holds out more."""
    return share > 0 and (bucket(HOLDOUT_SALT, unit_id) or 0.0) < share


def _index(experiment: LiveExperiment, unit_id: str) -> int:
    space = experiment.namespace
    if space is not None and not in_namespace(unit_id, (space["name"], space["start"], space["end"])):
        return -1
    point = bucket(experiment.salt, unit_id, experiment.hash_version)
    return -1 if point is None else choose(point, experiment.ranges)


def _kept(experiment: LiveExperiment, unit_id: str, index: int) -> int:
    """The arm that the unit came in by, unless that gets nobody any more; else the one it would get today."""
    came_by = experiment.kept.arm_of(unit_id)
    return index if came_by is None or experiment.variants[came_by].weight <= 0 else came_by


def matches(targeting: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """Whether every condition holds: a value (equal), a list (one of), or {"min", "max"} (both inclusive)."""
    return all(_holds(condition, attributes.get(name)) for name, condition in targeting.items())


def _holds(condition: Any, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(condition, Mapping):
        number = _number(value)
        low, high = condition.get("min"), condition.get("max")
        return number is not None and (low is None or number >= low) and (high is None or number <= high)
    if isinstance(condition, list):
        return any(_equal(option, value) for option in condition)
    return _equal(condition, value)


def _equal(condition: Any, value: Any) -> bool:
    # OpenAI's metadata carries text only: 18 and "18", true and "true" are the same answer.
    return condition == value or _text(condition) == _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
