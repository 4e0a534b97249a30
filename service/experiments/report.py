"""What a readout says: the wire's words, without the arithmetic. 'Cannot tell' is a reason, never NaN."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.experiments.schemas import ExperimentView, Status
from service.shapes import ModelVersionOut, Reply

EffectVerdict = Literal["better", "worse", "not_worse", "no_difference", "inconclusive", "too_little_data"]
Decision = Literal["broken", "too_little_data", "better", "worse", "not_worse", "no_difference", "inconclusive"]
Role = Literal["primary", "secondary", "guardrail"]
Interval = tuple[float | None, float | None]


class Reason(Reply):
    code: str
    message: str


class OverallVerdict(Reply):
    decision: Decision
    sentence: str
    variant: str | None = Field(description="The variant the decision is about; null when about the experiment.")
    n_more_units: int | None = Field(description="How many more units would likely settle it; null when unknown.")
    reasons: list[Reason]


class Split(Reply):
    observed: dict[str, int]
    expected: dict[str, float] = Field(description="Planned shares.")
    p_value: float | None
    ok: bool
    crossed_units: int = Field(description="Units seen in two arms; they stay with the first.")


class MetricValue(Reply):
    value: float | None
    interval: Interval | None
    count: float = Field(description="The denominator: mostly, how many values.")


class ArmReport(Reply):
    variant: str
    is_control: bool
    model_version: ModelVersionOut | None
    units: int
    requests: int
    metrics: dict[str, MetricValue]


class EffectReport(Reply):
    """A variant against the control. Intervals of guardrails are one-sided: null is no bound."""

    metric: str
    variant: str
    role: Role
    direction: Literal["higher", "lower"]
    margin: float | None
    control_value: float | None
    variant_value: float | None
    absolute: float | None
    absolute_interval: Interval | None
    relative: float | None
    relative_interval: Interval | None
    p_value: float | None
    p_adjusted: float | None = Field(description="Holm over primary metrics, Benjamini-Hochberg over secondary ones.")
    verdict: EffectVerdict
    sentence: str
    method: str
    n_more_units: int | None
    reason: str | None = Field(description="Why there is no number: a code.")
    variance_reduction: float | None = Field(
        None, description="The part of the variance that what units did before explained (CUPED); null: not adjusted."
    )


class TimelinePoint(Reply):
    at: float
    variant: str
    metric: str
    absolute: float | None
    interval: Interval | None


class AgePoint(Reply):
    """The effect on a primary metric by how long before its call a unit was exposed first."""

    variant: str
    metric: str
    from_day: int
    to_day: int | None = Field(description="Up to, not included; null: all later days.")
    units: int = Field(description="Of control and variant, with a value on these days.")
    absolute: float | None
    interval: Interval | None
    reason: str | None = Field(description="Why there is no number: a code.")


class SharePoint(Reply):
    """What a bandit made of the shares, and when; a unit's propensity is its arm's share when it came in."""

    phase: int
    at: float
    shares: dict[str, float]


class Readout(Reply):
    experiment: ExperimentView
    phase: int
    status: Status
    computed_at: float
    verdict: OverallVerdict
    split: Split
    arms: list[ArmReport]
    effects: list[EffectReport]
    timeline: list[TimelinePoint]
    by_age: list[AgePoint] = Field(description="Whether the effect fades or grows as units get used to an arm.")
    holdout: ArmReport | None = Field(
        description="Units that keep the control in every experiment; compared with none."
    )
    shares_over_time: list[SharePoint] = Field(description="Of a bandit; the newest 500 changes.")
