"""A sequence of fine-tunes: the matrix of stages × suites from their evaluations, and its scores by convention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session

from service.errors import Invalid
from service.forgetting.stage_schemas import (
    StageCell,
    StageIn,
    StageMatrix,
    StageMatrixCreate,
    StageRow,
    StageScoreOut,
    SuiteColumn,
)
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.resampling import PAIRED_RESAMPLES, item_draws
from service.measure.stages import score_intervals, stage_scores
from service.store import evaluations, records, registry, runs
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

SEED = 0
MAX_RESAMPLED_ITEMS = 20_000
_SCANNED = 1000  # evaluations of one run or version, newest first


class StagesInvalid(Invalid):
    code = "stages_invalid"


@dataclass(frozen=True)
class Stage:
    """A stage with the evaluation that counts of each suite version, by the version's hash."""

    name: str
    found: dict[str, Evaluation]
    suites: frozenset[str]
    """The names of suites it was evaluated on, in any version."""


@dataclass(frozen=True)
class Column:
    """A suite's version that most stages answered, and the metric. suite None: nobody answered it."""

    name: str
    suite: Suite | None
    metric: str | None


@dataclass(frozen=True)
class Stages:
    """Everything the matrix is made of, so that scoring needs no session."""

    base: Stage | None
    stages: list[Stage]
    reference: Stage | None
    columns: list[Column]
    tasks: list[str] | None

    @property
    def rows(self) -> list[Stage]:
        return ([] if self.base is None else [self.base]) + self.stages


def gather(session: Session, wanted: StageMatrixCreate) -> Stages:
    for what, names in (("suites", wanted.suites), ("tasks", wanted.tasks or [])):
        if len(set(names)) < len(names):
            raise StagesInvalid(f"`{what}` names a suite twice.")
    if wanted.metric is not None and wanted.metric not in METRICS:
        raise StagesInvalid(f"There is no metric '{wanted.metric}'. Known: {', '.join(sorted(METRICS))}.")
    tasks = wanted.tasks
    if tasks is None and len(wanted.suites) == len(wanted.stages):
        tasks = wanted.suites
    if tasks is not None and (len(tasks) != len(wanted.stages) or not set(tasks) <= set(wanted.suites)):
        raise StagesInvalid("`tasks` names one of `suites` for each stage, in the order of the stages.")
    known: dict[str, Suite] = {}

    def stage(one: StageIn, place: int) -> Stage:
        return _stage(session, one, place, set(wanted.suites), known)

    base = None if wanted.base is None else stage(wanted.base, 0)
    stages = [stage(one, place) for place, one in enumerate(wanted.stages, start=1)]
    reference = None if wanted.reference is None else stage(wanted.reference, -1)
    by_hash = {suite.hash: suite for suite in known.values()}
    answered = Counter(key for one in (*([base] if base else []), *stages) for key in one.found)
    columns = [_column(name, by_hash, answered, wanted.metric) for name in wanted.suites]
    return Stages(base, stages, reference, columns, tasks)


def _stage(session: Session, one: StageIn, place: int, names: set[str], known: dict[str, Suite]) -> Stage:
    records.check_links(session, one.run_id, one.model_version_id)
    if one.evaluation_ids is not None:
        given: Sequence[Evaluation] = [evaluations.existing(session, each) for each in one.evaluation_ids]
    else:
        given, _ = evaluations.page(
            session, run_ids=one.run_id and [one.run_id], model_version_id=one.model_version_id, suite_id=None,
            suite=None, limit=_SCANNED, cursor=None,
        )  # fmt: skip
    of_suite = evaluations.suites_of(session, given)
    known.update(of_suite)
    found: dict[str, Evaluation] = {}
    # The last step first; without a step an evaluation is of the finished model. Of one step, the newest.
    for evaluation in sorted(given, key=lambda each: (_step(each), each.id), reverse=True):
        suite = of_suite[evaluation.suite_id]
        if suite.name in names and (one.step is None or evaluation.step == one.step):
            found.setdefault(suite.hash, evaluation)
    answered = frozenset(of_suite[each.suite_id].name for each in found.values())
    return Stage(one.name or _own_name(session, one, place), found, answered)


def _step(evaluation: Evaluation) -> float:
    return float("inf") if evaluation.step is None else evaluation.step


def _own_name(session: Session, one: StageIn, place: int) -> str:
    if one.run_id is not None and (run := runs.get(session, one.run_id)) is not None:
        return run.name if one.step is None else f"{run.name}, step {one.step:,}"
    if one.model_version_id is not None and (version := registry.get_version(session, one.model_version_id)):
        return f"{version.name} v{version.version}"
    return "base" if place == 0 else f"stage {place}"


def _column(name: str, by_hash: dict[str, Suite], answered: Counter[str], metric: str | None) -> Column:
    versions = [suite for key, suite in by_hash.items() if suite.name == name and answered[key]]
    suite = max(versions, key=lambda one: (answered[one.hash], one.version), default=None)
    return Column(name, suite, metric or (None if suite is None else str(suite.definition["primary_metric"])))


# --- the matrix ---


def matrix(sequence: Stages, blobs: BlobStore) -> StageMatrix:
    first = 1 if sequence.base is None else 0
    rows = [
        StageRow(name=one.name, stage=place, cells=[_cell(one, column) for column in sequence.columns])
        for place, one in enumerate(sequence.rows, start=first)
    ]
    columns = [_column_out(column, place, rows, sequence) for place, column in enumerate(sequence.columns)]
    return StageMatrix(columns=columns, rows=rows, tasks=sequence.tasks, scores=_scores(sequence, blobs))


def _cell(stage: Stage, column: Column) -> StageCell:
    evaluation = None if column.suite is None else stage.found.get(column.suite.hash)
    if evaluation is None:
        reason = "other_version" if column.name in stage.suites else "not_evaluated"
        return StageCell(value=None, interval=None, n=None, evaluation_id=None, reason=reason)
    score = next((one for one in evaluation.scores if one["name"] == column.metric), None)
    if score is None or score["value"] is None:
        reason = "no_such_metric" if score is None else "undefined"
        return StageCell(value=None, interval=None, n=evaluation.n, evaluation_id=evaluation.id, reason=reason)
    return StageCell(
        value=score["value"], interval=score["interval"], n=evaluation.n, evaluation_id=evaluation.id, reason=None
    )


def _column_out(column: Column, place: int, rows: Sequence[StageRow], stages: Stages) -> SuiteColumn:
    known = column.suite is not None and column.metric in METRICS
    before, last = rows[0].cells[place].value, rows[-1].cells[place].value
    kept = None
    if stages.base is not None and before and last is not None:
        kept = last / before
    return SuiteColumn(
        suite=column.name,
        version=None if column.suite is None else column.suite.version,
        metric=column.metric,
        higher_is_better=METRICS[str(column.metric)].higher_is_better if known else None,
        retention=kept,
    )


# --- the scores ---


def _scores(stages: Stages, blobs: BlobStore) -> list[StageScoreOut]:
    if stages.tasks is None:
        return _no_scores("tasks_not_stated")
    columns = {column.name: column for column in stages.columns}
    tasks = [columns[name] for name in stages.tasks]
    R = _values(stages.stages, tasks)
    if R is None:
        return _no_scores("missing_cells")
    baseline = _row(stages.base, tasks)
    reference = _row(stages.reference, tasks)
    intervals = {}
    drawn = _resampled(stages.stages, tasks, blobs)
    if drawn is not None:
        own = None if baseline is None or stages.base is None else _resampled([stages.base], tasks, blobs)
        joint = None if reference is None or stages.reference is None else _resampled([stages.reference], tasks, blobs)
        intervals = score_intervals(
            drawn, None if own is None else own[:, 0, :], None if joint is None else joint[:, 0, :]
        )
    return [
        StageScoreOut(
            name=one.name,
            value=one.value,
            interval=intervals.get(one.name),
            formula=one.formula,
            source=one.source,
            higher_is_better=one.higher_is_better,
            reason=one.reason,
        )
        for one in stage_scores(R, baseline, reference)
    ]


def _no_scores(reason: str) -> list[StageScoreOut]:
    """Every convention by name, with why it has no value here."""
    return [
        StageScoreOut(
            name=one.name,
            value=None,
            interval=None,
            formula=one.formula,
            source=one.source,
            higher_is_better=one.higher_is_better,
            reason=reason,
        )
        for one in stage_scores([[0.0]])
    ]


def _values(stages: Sequence[Stage], tasks: Sequence[Column]) -> list[list[float]] | None:
    cells = [[_cell(stage, task).value for task in tasks] for stage in stages]
    rows = [[value for value in row if value is not None] for row in cells]
    return rows if all(len(row) == len(tasks) for row in rows) else None


def _row(stage: Stage | None, tasks: Sequence[Column]) -> list[float] | None:
    values = None if stage is None else _values([stage], tasks)
    return None if values is None else values[0]


def _resampled(stages: Sequence[Stage], tasks: Sequence[Column], blobs: BlobStore) -> FloatArray | None:
    """R under resamplings of each suite's items, shape (1000, stages, tasks): a suite's draws are the same for every
    stage, since all answered the same items. None for suites too large to draw from in the time of a request."""
    drawn = np.empty((PAIRED_RESAMPLES, len(stages), len(tasks)))
    for column, task in enumerate(tasks):
        assert task.suite is not None and task.metric is not None  # noqa: PT018 (there is a value in each cell)
        if not 2 <= task.suite.n_items <= MAX_RESAMPLED_ITEMS:
            return None
        metric = METRICS[task.metric]
        first = stages[0].found[task.suite.hash]
        for place, stage in enumerate(stages):
            with evaluations.Pair(blobs, first, stage.found[task.suite.hash]) as both:
                own = both.second(task.metric)
            draws = item_draws(len(own), SEED + column)
            drawn[:, place, column] = np.concatenate([metric.aggregate(own, weights) for weights in draws])
    return drawn
