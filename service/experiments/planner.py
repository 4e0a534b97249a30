"""Before the start: the smallest difference that so much traffic shows, and the days that a difference takes."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from service.experiments.schemas import Number, Strict
from service.measure.ab import duration, minimum_detectable_effect, proportion_variance, units_needed
from service.shapes import Reply


class Question(Strict):
    """What is known before an experiment starts. Give `base_rate` for a share, `mean` and `sd` for any other metric."""

    units_per_day: Number = Field(gt=0, le=1e12, description="Units that are seen for the first time, a day.")
    base_rate: Number | None = Field(None, gt=0, lt=1, description="The control's share, such as 0.6 satisfied.")
    mean: Number | None = Field(None, description="The control's mean, where the metric is no share.")
    sd: Number | None = Field(None, gt=0, le=1e100, description="Standard deviation of one request's value.")
    effect: Number | None = Field(None, gt=0, description="The difference worth finding, in the metric's unit.")
    days: list[Number] = Field([7, 14, 28], min_length=1, max_length=20, description="Durations to answer for.")
    weights: list[Number] = Field([1, 1], min_length=2, max_length=20, description="Of the arms; the control first.")
    coverage: Number = Field(1.0, gt=0, le=1)
    rating_rate: Number = Field(1.0, gt=0, le=1, description="Share of requests that have a value of the metric.")
    requests_per_unit: Number = Field(1.0, ge=1, le=1e9, description="That a unit makes while the experiment runs.")
    intra_unit_correlation: Number = Field(0.0, ge=0, le=1, description="How alike one unit's values are.")
    alpha: Number = Field(0.05, gt=0, lt=0.5)
    power: Number = Field(0.8, gt=0.5, lt=1)
    analysis: Literal["always_valid", "fixed"] = "always_valid"

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if (self.base_rate is None) == (self.sd is None):
            raise ValueError("give either base_rate (a share), or sd (and mean) of any other metric")
        if min(self.weights) <= 0:
            raise ValueError("every arm needs a weight above 0")
        if not all(0 < day <= 3650 for day in self.days):
            raise ValueError("days lie above 0 and within ten years")
        return self

    @property
    def variance(self) -> float:
        return proportion_variance(self.base_rate) if self.base_rate is not None else float(self.sd or 0) ** 2

    @property
    def level(self) -> float:
        """Of one comparison: with several variants, the strictest that Holm asks for."""
        return self.alpha / (len(self.weights) - 1)


class Horizon(Reply):
    """What so many days show."""

    days: float
    units: int = Field(description="Over all arms.")
    minimum_detectable_effect: float | None
    relative: float | None = Field(description="The same, as a part of the control's value.")
    reason: Literal["too_few_units", "effect_impossible"] | None = Field(
        description="effect_impossible: the share would have to leave [0, 1]."
    )


class Plan(Reply):
    horizons: list[Horizon]
    units: int | None = Field(description="Over all arms, to show `effect`; good as the plan's expected_units.")
    days: float | None = Field(description="Until those units have come.")
    power: float
    level: float = Field(description="Of each comparison: alpha, divided by how many variants there are.")
    sentence: str


def plan(question: Question) -> Plan:
    """Answers for the weakest comparison: the smallest arm against the control."""
    horizons = [_horizon(question, days) for days in question.days]
    units = _units(question) if question.effect is not None else None
    days = duration(units, question.units_per_day, question.coverage) if units is not None else None
    return Plan(
        horizons=horizons,
        units=units,
        days=days,
        power=question.power,
        level=question.level,
        sentence=_sentence(question, horizons, units, days),
    )


def _horizon(question: Question, days: float) -> Horizon:
    units = question.units_per_day * question.coverage * days
    total = sum(question.weights)
    control, smallest = (units * weight / total for weight in (question.weights[0], min(question.weights[1:])))
    if min(control, smallest) < 2:
        return _shows_nothing(days, units, "too_few_units")
    found = minimum_detectable_effect(
        question.variance,
        control * question.requests_per_unit,
        smallest * question.requests_per_unit,
        question.level,
        question.power,
        analysis=question.analysis,
        rating_rate=question.rating_rate,
        requests_per_unit=question.requests_per_unit,
        intra_unit_correlation=question.intra_unit_correlation,
    )
    if question.base_rate is not None and found > max(question.base_rate, 1 - question.base_rate):
        return _shows_nothing(days, units, "effect_impossible")
    base = question.base_rate if question.base_rate is not None else question.mean
    relative = found / abs(base) if base else None
    return Horizon(days=days, units=int(units), minimum_detectable_effect=found, relative=relative, reason=None)


def _shows_nothing(days: float, units: float, reason: Literal["too_few_units", "effect_impossible"]) -> Horizon:
    return Horizon(days=days, units=int(units), minimum_detectable_effect=None, relative=None, reason=reason)


def _units(question: Question) -> int:
    control, smallest, total = question.weights[0], min(question.weights[1:]), sum(question.weights)
    pair = units_needed(
        question.variance,
        float(question.effect or 0),
        question.level,
        question.power,
        treatment_share=smallest / (control + smallest),
        analysis=question.analysis,
        rating_rate=question.rating_rate,
        requests_per_unit=question.requests_per_unit,
        intra_unit_correlation=question.intra_unit_correlation,
    )
    return math.ceil(pair * total / (control + smallest) - 1e-9)


def _sentence(question: Question, horizons: list[Horizon], units: int | None, days: float | None) -> str:
    chance = f"{100 * question.power:.0f} % of the time"
    if units is not None and days is not None:
        return (
            f"A difference of {_amount(question, question.effect or 0)} is shown {chance} by {units:,} units, "
            f"which take {_days(days)}."
        )
    last = horizons[-1]
    if last.minimum_detectable_effect is None:
        return f"{last.units:,} units in {_days(last.days)} are too few to show any difference {chance}."
    found = _amount(question, last.minimum_detectable_effect)
    return f"{last.units:,} units in {_days(last.days)} show a difference of {found} or more {chance}."


def _days(days: float) -> str:
    text = f"{days:,.1f}".removesuffix(".0")
    return f"{text} day" if text == "1" else f"{text} days"


def _amount(question: Question, value: float) -> str:
    return f"{100 * value:.1f} points" if question.base_rate is not None else f"{value:.4g}"
