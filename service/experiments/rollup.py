"""How calls and outcomes add up per unit: pure arithmetic, without a session or a clock.

Every metric of a unit is a pair (count, sum): the ratio's denominator and numerator. What goes into the arms'
sums is (x, y) of `features`: the pair itself for a metric by request, one value for a metric by unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from service.experiments.events import HUNG_UP, Requested
from service.measure.bucketing import fnv1a32

Kind = Literal["binary", "count", "real", "ratio"]
By = Literal["unit", "request"]

SATISFACTION, RATING_RATE, TASK_SUCCESS = "satisfaction", "rating_rate", "task_success"
LATENCY, FIRST_TOKEN, COST, COST_PER_SUCCESS = "latency", "first_token", "cost", "cost_per_success"
ERROR_RATE, FALLBACK_RATE = "error_rate", "fallback_rate"

# Built-in metrics and whether more of them is good.
BUILT_IN: dict[str, Literal["higher", "lower"]] = {
    SATISFACTION: "higher",
    TASK_SUCCESS: "higher",
    RATING_RATE: "higher",
    LATENCY: "lower",
    FIRST_TOKEN: "lower",
    COST: "lower",
    COST_PER_SUCCESS: "lower",
    ERROR_RATE: "lower",
    FALLBACK_RATE: "lower",
}
# Kept beside the metrics in the arms' sums: how many units were exposed, and how many of them to two arms.
UNITS, CROSSED = "units", "crossed_units"
BINARY_OUTCOMES = {SATISFACTION, TASK_SUCCESS}
SKETCHED = (LATENCY, FIRST_TOKEN)

# Quantiles of durations: metric -> what it is a quantile of, and which.
QUANTILES = {f"{name}_p{percent}": (name, percent / 100) for name in SKETCHED for percent in (50, 95)}
# A primary metric is also added up by how many days before a unit was exposed; the last ones are weeks.
AGES = (0, 1, 2, 3, 4, 5, 6, 7, 14, 28)
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Definition:
    """What a readout must know to add a metric up."""

    name: str
    kind: Kind = "real"
    by: By = "request"
    numerator: str | None = None
    denominator: str | None = None


class Tally(msgspec.Struct, frozen=True):  # made for every call: a dataclass takes four times as long
    count: float = 0.0
    sum: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.count + other.count, self.sum + other.sum)


def draw_of(unit_id: str) -> int:
    """A number from 0 to 2^31 - 1, drawn for a unit once and for all."""
    return fnv1a32(str(fnv1a32(unit_id))) >> 1


def definitions(metrics: Iterable[Mapping[str, Any]]) -> dict[str, Definition]:
    """The own metrics of a plan; the built-in ones are always by request."""
    return {
        metric["name"]: Definition(
            metric["name"], metric["kind"], metric["by"], metric.get("numerator"), metric.get("denominator")
        )
        for metric in metrics
        if metric["name"] not in BUILT_IN and metric["name"] not in QUANTILES
    }


def of_request(request: Requested) -> dict[str, Tally]:
    """What one call adds to its unit. A caller who hung up is no error of the model."""
    failed = request.status >= 400 and request.status != HUNG_UP
    tallies = {
        RATING_RATE: Tally(1, 0),
        ERROR_RATE: Tally(1, float(failed)),
        FALLBACK_RATE: Tally(1, float(request.fell_back)),
    }
    if request.status < 400:
        for metric, seconds in ((LATENCY, request.latency), (FIRST_TOKEN, request.first_token)):
            if seconds is not None:
                tallies[metric] = Tally(1, seconds)
    if request.cost is not None:
        tallies[COST] = Tally(1, request.cost)
        tallies[COST_PER_SUCCESS] = Tally(0, request.cost)
    return tallies


def of_outcome(
    metric: str, old: float | None, new: float, *, cost_known: bool, own: Mapping[str, Definition]
) -> dict[str, Tally]:
    """What an outcome (or its correction from `old`) adds to its unit."""
    first, change = float(old is None), new - (old or 0.0)
    tallies = {metric: Tally(first, change)}
    if metric == SATISFACTION:
        tallies[RATING_RATE] = Tally(0, first)
    if metric == TASK_SUCCESS and cost_known:
        tallies[COST_PER_SUCCESS] = Tally(change, 0)
    for ratio in own.values():
        parts = Tally(change * (metric == ratio.denominator), change * (metric == ratio.numerator))
        if metric in (ratio.numerator, ratio.denominator):
            tallies[ratio.name] = tallies.get(ratio.name, Tally()) + parts
    return tallies


def features(definition: Definition | None, tally: Tally) -> tuple[float, float]:
    """(x, y) of one unit. By unit: binary is 'ever', count is the total, real is the unit's own mean."""
    if definition is None or definition.by == "request" or definition.kind == "ratio":
        return tally.count, tally.sum
    if definition.kind == "binary":
        return 1.0, float(tally.sum > 0)
    if definition.kind == "count" or tally.count == 0:
        return 1.0, tally.sum
    return 1.0, tally.sum / tally.count


def aged(metric: str, called_at: float, exposed_at: float) -> str:
    """The name by which a primary metric is also kept, by its unit's age in days at the call. No metric is named so."""
    days = (called_at - exposed_at) / _DAY
    return f"{metric}@{max(age for age in AGES if age == 0 or age <= days)}"


def stretch_of(now: float, started_at: float) -> int:
    """The end of the stretch of time that `now` falls into: seconds at first, wider as the phase grows older,
    so that a phase of any length has a few hundred of them. Never goes back as `now` goes on."""
    age = max(now - started_at, 1.0)
    width = 1 << max(0, math.ceil(math.log2(age / 64)))
    return (int(now // width) + 1) * width
