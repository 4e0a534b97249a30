"""The items behind a number: an evaluation's answers, filtered, and its confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from service.errors import Invalid
from service.evaluation.schemas import (
    ClassScoreOut,
    ConfusedPair,
    Confusion,
    EvaluationItem,
    EvaluationItemPage,
    SuiteItemOut,
    SuiteItemPage,
)
from service.measure.classification import ConfusionMatrix, confusion_matrix, per_class
from service.measure.metrics import METRICS
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]


class NoLabels(Invalid):
    code = "no_labels"


@dataclass(frozen=True)
class Filter:
    """Which items to show; None does not filter."""

    correct: bool | None = None
    tag: str | None = None
    group: str | None = None
    true: str | None = None
    predicted: str | None = None

    def rows(self, items: pa.Table, answers: pa.Table) -> NDArray[np.int64]:
        import pyarrow.compute as pc

        keep = np.ones(len(items), dtype=bool)
        for column, value in (
            (answers.column("correct"), self.correct),
            (answers.column("parsed"), self.predicted),
            (items.column("label"), self.true),
            (items.column("group"), self.group),
        ):
            if value is not None:
                keep &= pc.fill_null(pc.equal(column, value), False).to_numpy()
        if self.tag is not None:
            keep &= has_tag(items, self.tag)
        return np.flatnonzero(keep)


def has_tag(items: pa.Table, tag: str) -> Mask:
    import pyarrow.compute as pc

    tags = items.column("tags").combine_chunks()
    found = np.zeros(len(tags), dtype=bool)
    parents = pc.list_parent_indices(tags).to_numpy()
    found[parents[pc.equal(pc.list_flatten(tags), tag).to_numpy(zero_copy_only=False)]] = True
    return found


def of_suite(suite: Suite, blobs: BlobStore, limit: int, cursor: str | None) -> SuiteItemPage:
    rows, next_cursor = parquet.page(np.arange(suite.n_items), limit, cursor)
    found = suites.read_items(blobs, suite).take(rows).to_pylist()
    return SuiteItemPage(items=[SuiteItemOut.model_validate(item) for item in found], next_cursor=next_cursor)


def of_evaluation(
    evaluation: Evaluation, suite: Suite, blobs: BlobStore, wanted: Filter, limit: int, cursor: str | None
) -> EvaluationItemPage:
    metrics: list[str] = suite.definition["metrics"]
    items = suites.read_items(blobs, suite)
    answers = evaluations.read_answers(blobs, evaluation, metrics=metrics)
    rows, next_cursor = parquet.page(wanted.rows(items, answers), limit, cursor)
    shown, given = items.take(rows), answers.take(rows)
    scores = {name: METRICS[name].item_scores(evaluations.statistics(given, name)) for name in metrics}
    by_item = [
        {name: float(values[place]) for name, values in scores.items() if values is not None}
        for place in range(len(rows))
    ]
    answered = given.select(["output", "parsed", "probability", "correct"]).to_pylist()
    return EvaluationItemPage(
        items=[
            EvaluationItem.model_validate({**item, **answer, "scores": values})
            for item, answer, values in zip(shown.to_pylist(), answered, by_item, strict=True)
        ],
        next_cursor=next_cursor,
    )


def confusion(evaluation: Evaluation, suite: Suite, blobs: BlobStore) -> Confusion:
    """Rows are true labels. Declared labels keep their order; otherwise all that occur, sorted."""
    true = suites.read_items(blobs, suite, ["label"]).column("label").to_pylist()
    if None in true:
        raise NoLabels(f"The suite '{suite.name}' has items without a label: there is no confusion matrix.")
    predicted = evaluations.read_answers(blobs, evaluation, ["parsed"]).column("parsed").to_pylist()
    matrix = confusion_matrix(true, predicted, suite.definition["labels"])
    return Confusion(
        labels=cast(list[str], matrix.labels),
        counts=matrix.counts.tolist(),
        unanswered=matrix.missing.tolist(),
        classes=[ClassScoreOut.model_validate(one, from_attributes=True) for one in per_class(matrix)],
        most_confused=_most_confused(matrix),
    )


def _most_confused(matrix: ConfusionMatrix, limit: int = 10) -> list[ConfusedPair]:
    wrong = matrix.counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        ConfusedPair(true=str(matrix.labels[row]), predicted=str(matrix.labels[column]), n=int(wrong[row, column]))
        for row, column in pairs
        if wrong[row, column]
    ]
