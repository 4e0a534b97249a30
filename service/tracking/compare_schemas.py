"""The wire shapes of comparing runs: tables, curves, importance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.measure.direction import Direction
from service.measure.importance import Kind
from service.shapes import Reply
from service.tracking.schemas import MetricSummary, Rank, Request, Status

MAX_RUNS = 200

RunIds = list[str]
GROUP_BY = (
    "Average over groups: `params.KEY`, `tags.KEY`, `group` (several are combined), or `seed` alone: runs of the same "
    "config but for seeds and output places."
)


class CompareRequest(Request):
    run_ids: RunIds = Field(min_length=1, max_length=MAX_RUNS)
    metrics: list[str] | None = Field(None, max_length=500, description="Absent: all metrics, 500 at most.")
    directions: dict[str, Direction] = Field({}, description="Which way a metric is better; absent: by its name.")


class Difference(Reply):
    key: str
    values: list[str | None] = Field(description="A value a run, in the order of `runs`; null where it is not set.")
    numbers: list[float | None] = Field(description="The same as numbers, where they are.")


class Differences(Reply):
    differing: list[Difference]
    equal: int = Field(description="How many keys are set in every run and the same in all.")


class ComparedRun(Reply):
    id: str
    name: str
    project: str
    status: Status
    group: str | None
    created_at: float
    duration: float


class Leaders(Reply):
    """Run ids; several on a tie. Empty without a direction, or when every run has the same value."""

    last: list[str]
    best: list[str] = Field(description="By each run's best value: its min or max, as the direction says.")


class ComparedMetric(Reply):
    key: str
    direction: Direction | None = Field(description="Given, else told from the name; null: unknown.")
    values: list[MetricSummary | None] = Field(description="A summary a run, in the order of `runs`.")
    leaders: Leaders


class Comparison(Reply):
    runs: list[ComparedRun]
    config: Differences
    environment: Differences
    tags: Differences
    data_hash: Differences
    metrics: list[ComparedMetric]


class CurvesRequest(Request):
    run_ids: RunIds = Field(min_length=1, max_length=MAX_RUNS)
    keys: list[str] = Field(min_length=1, max_length=200)
    x: Literal["step", "time", "epoch"] = Field(
        "step",
        description="`time`: seconds since the run's first point. "
        "`epoch`: what the run logged as its epoch at that step.",
    )
    max_points: int = Field(1000, ge=2, le=5000, description="Pixels of the chart: entries a curve has at most.")
    smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Time-weighted moving average; 0: as measured.")
    group_by: list[str] = Field([], max_length=5, description=GROUP_BY)
    rank: Rank = Field(0, description="The process of a run; `all`: a curve for each. Groups are of one rank.")
    after: str | None = Field(
        None, description="A cursor: only curves that grew since, each as a whole (its pixels shift as it grows)."
    )


class CurveOut(Reply):
    """Columns of equal length. A null value is a gap: no finite point there."""

    run_id: str
    key: str
    rank: int
    count: int = Field(description="Points stored in the series.")
    sampled: bool = Field(description="True when an entry stands for several points: their mean, min and max.")
    not_finite: int = Field(description="Points that are NaN or infinite.")
    x: list[float]
    value: list[float | None] = Field(description="The mean of the entry's points, smoothed if asked.")
    min: list[float | None]
    max: list[float | None]


class GroupOut(Reply):
    label: str
    settings: dict[str, str | None] = Field(description="What its runs have in common and other groups have not.")
    run_ids: list[str]


class GroupCurveOut(Reply):
    """Columns of equal length over the runs that have a value there; sd is null where that is one run."""

    group: int = Field(description="Place in `groups`.")
    key: str
    n_runs: int = Field(description="Runs of the group that have the metric.")
    x: list[float]
    mean: list[float | None]
    sd: list[float | None]
    n: list[int]
    min: list[float | None]
    max: list[float | None]


class Missing(Reply):
    run_id: str
    key: str
    reason: Literal["no_metric", "no_epoch"]


class Curves(Reply):
    curves: list[CurveOut] = Field(description="Empty when grouped.")
    groups: list[GroupOut]
    group_curves: list[GroupCurveOut]
    missing: list[Missing]
    cursor: str = Field(description="Give it back as `after` to read only what grew since.")


class ImportanceRequest(Request):
    metric: str
    by: Literal["last", "min", "max", "best"] = Field("last", description="Which value of the metric counts.")
    direction: Direction | None = Field(None, description="For `best`; absent: by the metric's name.")
    project: str | None = None
    query: str = Field("", description="Which runs, in the search language; its newest 1,000 count.")
    run_ids: RunIds | None = Field(None, min_length=1, max_length=1000, description="Or these runs.")
    top: int = Field(20, ge=1, le=50, description="Settings to give an interval, the most telling first.")


class SettingImportance(Reply):
    key: str
    kind: Kind
    levels: int = Field(description="Different values it took.")
    missing: int = Field(description="Runs that do not set it.")
    importance: float = Field(description="Share of the metric's variation (of its ranks) explained by this alone.")
    interval: tuple[float, float] = Field(description="95 %, bootstrap over runs.")
    correlation: float | None = Field(description="Spearman's ρ; null for values without an order.")
    correlation_interval: tuple[float, float] | None
    twins: list[str] = Field(
        description="Settings that split the runs in the very same way: they cannot be told apart."
    )


class Importance(Reply):
    metric: str
    by: Literal["last", "min", "max"]
    n: int = Field(description="Runs that count.")
    without: int = Field(description="Runs found that have no finite value of the metric.")
    truncated: bool = Field(description="True when more runs were found than count.")
    settings: list[SettingImportance]
    left_out: int = Field(description="Settings beyond `top`.")
    unclear: list[str] = Field(description="Settings with a value of their own in nearly every run.")
    constant: int = Field(description="Settings that are the same in all runs.")
    reason: Literal["too_few_runs", "no_variation"] | None = Field(description="Why nothing can be told; else null.")
    message: str | None = Field(description="The reason in words.")
