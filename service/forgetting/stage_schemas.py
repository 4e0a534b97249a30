"""What a sequence of fine-tunes looks like on the wire: stages × suites, scores, forgetting events."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.forgetting.schemas import Name
from service.shapes import Reply


class StageIn(BaseModel):
    """A model at a point of the sequence: what its evaluations are found by. Give one of the three."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = Field(None, description="What to call it; absent: the run's or version's own name.")
    run_id: str | None = Field(None, description="The run's last evaluation of each suite, or those at `step`.")
    model_version_id: str | None = None
    evaluation_ids: list[str] | None = Field(None, min_length=1)
    step: int | None = Field(None, ge=0, lt=2**63, description="With `run_id`: 0 is the model before training.")

    @model_validator(mode="after")
    def _one(self) -> StageIn:
        given = [one for one in (self.run_id, self.model_version_id, self.evaluation_ids) if one is not None]
        if len(given) != 1:
            raise ValueError("give one of run_id, model_version_id, evaluation_ids")
        if self.step is not None and self.run_id is None:
            raise ValueError("step goes with run_id")
        return self


Suites = Annotated[list[Name], Field(min_length=1, max_length=50)]


class StageMatrixCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    base: StageIn | None = Field(None, description="The model before the first stage: row 0 of the matrix.")
    stages: list[StageIn] = Field(min_length=1, max_length=50, description="In the order they were trained.")
    suites: Suites = Field(description="Names of suites: the columns.")
    tasks: Suites | None = Field(
        None, description="The suite each stage was trained for, in order; absent: `suites`, where there are as many."
    )
    reference: StageIn | None = Field(None, description="A model trained on all tasks at once, for intransigence.")
    metric: str | None = Field(None, description="Absent: each suite's primary metric.")


class SuiteColumn(Reply):
    suite: str
    version: int | None = Field(description="Null: no stage was evaluated on it.")
    metric: str | None
    higher_is_better: bool | None
    retention: float | None = Field(description="Last stage over base; null where the base is not there or is at 0.")


class StageCell(Reply):
    value: float | None
    interval: tuple[float, float] | None
    n: int | None
    evaluation_id: str | None
    reason: str | None = Field(description="Of a null value: not_evaluated, other_version, no_such_metric, undefined.")


class StageRow(Reply):
    name: str
    stage: int = Field(description="0 is the base, 1 the first fine-tune.")
    cells: list[StageCell] = Field(description="In the order of `columns`.")


class StageScoreOut(Reply):
    """One score of the matrix under one convention; conventions disagree, so none is shown without its name."""

    name: str
    value: float | None
    interval: tuple[float, float] | None = Field(
        description="95 %, percentiles of 1,000 resamplings of each suite's items, the same for all stages."
    )
    formula: str
    source: str
    higher_is_better: bool
    reason: str | None = Field(
        description="Of a null value: one_stage, no_baseline, no_reference, tasks_not_stated, missing_cells."
    )


class StageMatrix(Reply):
    columns: list[SuiteColumn]
    rows: list[StageRow] = Field(description="R[i][j]: row 0 is the base, where one was given.")
    tasks: list[str] | None
    scores: list[StageScoreOut]


class Checkpoint(Reply):
    step: int
    evaluation_id: str
    share_right: float
    forgotten: int = Field(description="Items right at the checkpoint before and wrong at this one.")
    learned: int = Field(description="The reverse.")


class ForgottenItem(Reply):
    id: str
    input: str
    group: str | None
    events: int
    right: list[bool] = Field(description="At each checkpoint.")


class ForgettingEvents(Reply):
    """Right-to-wrong transitions over checkpoints (Toneva et al. 2019)."""

    run_id: str
    suite: str
    version: int | None
    metric: str | None
    n: int
    checkpoints: list[Checkpoint]
    events: int | None = Field(description="Over all items; null where it cannot be told.")
    learned: int | None = Field(description="Items right at one checkpoint at least.")
    never_forgotten: int | None = Field(description="Learned, and right at every checkpoint from then on.")
    never_learned: int | None
    items_by_events: list[int] = Field(description="How many items had 0, 1, 2, … events.")
    most_forgotten: list[ForgottenItem] = Field(description="Most events first.")
    reason: str | None = Field(description="too_few_checkpoints, not_right_or_wrong.")
