"""What comparisons look like on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.evaluation.schemas import EvaluationOut, SuiteItemOut
from service.shapes import Reply


class VerdictCard(Reply):
    verdict: Literal["better", "worse", "equivalent", "inconclusive"]
    sentence: str
    metric: str
    baseline_value: float | None
    candidate_value: float | None
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float
    p_value: float | None
    test: str | None = Field(description="Null where there is too little to test; `reason` says what.")
    n: int
    gained: int | None
    lost: int | None
    margin: float
    smallest_detectable: float | None
    n_needed: int | None = Field(description="Items that would settle an inconclusive comparison.")
    reason: str | None
    baseline: EvaluationOut
    candidate: EvaluationOut


class CandidateCard(VerdictCard):
    p_adjusted: float | None = Field(
        description="After Holm, over the verdicts given together; the verdict goes by it."
    )


class SeveralCard(Reply):
    metric: str
    baseline: EvaluationOut
    items: list[CandidateCard] = Field(description="As the candidates were given.")


class SpreadOut(Reply):
    names: list[str]
    values: list[float | None]
    mean: float | None
    sd: float | None = Field(description="Between runs; null for one run.")
    evaluations: list[EvaluationOut]


class ConfigurationCard(Reply):
    verdict: Literal["better", "worse", "equivalent", "inconclusive"]
    sentence: str
    metric: str
    baseline: SpreadOut
    candidate: SpreadOut
    difference: float | None
    interval: tuple[float, float] | None
    confidence: float
    p_value: float | None
    test: str
    n: int
    margin: float
    share_of_seeds: float | None = Field(
        description="Of the difference's variance, what comes from seeds; the rest comes from items."
    )
    reason: str | None


class ComparisonItem(SuiteItemOut):
    baseline_output: str | None
    candidate_output: str | None


class ComparisonItemPage(Reply):
    items: list[ComparisonItem]
    next_cursor: str | None
