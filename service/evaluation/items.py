"""The items behind a number: an evaluation's answers, filtered, and its confusion matrix."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from service.errors import Invalid
from service.evaluation.schemas import (
    ClassScoreList,
    ClassScoreOut,
    ConfusedPair,
    Confusion,
    EvaluationItem,
    EvaluationItemPage,
    SuiteItemOut,
    SuiteItemPage,
)
from service.measure.classification import ClassScore, ConfusionMatrix, class_score, confusion_matrix, per_class
from service.measure.metrics import METRICS
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]


MAX_CLASSES = 2_000
SHOWN = 5


class NoLabels(Invalid):
    code = "no_labels"


class TooManyClasses(Invalid):
    code = "too_many_labels"


@dataclass(frozen=True)
class Filter:
    """Which items to show; None does not filter."""

    correct: bool | None = None
    tag: str | None = None
    group: str | None = None
    true: str | None = None
    predicted: str | None = None

    def rows(self, items: parquet.Reader, answers: parquet.Reader, enough: int) -> NDArray[np.int64]:
        """The places of the items that all conditions hold for, in order; no more are looked for than `enough`."""
        if self == Filter():
            return np.arange(min(len(answers), enough))
        found: list[NDArray[np.int64]] = []
        start = count = 0
        sets = [name for name in ("labels",) if self.true is not None and name in items.names]
        answered = [name for name in ("predicted_labels",) if self.predicted is not None and name in answers.names]
        columns = ["label", "group", "tags", *sets], ["correct", "parsed", *answered]
        for piece in parquet.side_by_side(items, columns[0], answers, columns[1]):
            found.append(start + np.flatnonzero(self._holds(piece)))
            start, count = start + len(piece), count + len(found[-1])
            if count >= enough:
                break
        return np.concatenate(found)[:enough]

    def _holds(self, piece: pa.Table) -> Mask:
        import pyarrow.compute as pc

        keep = np.ones(len(piece), dtype=bool)
        for column, several, value in (
            ("correct", None, self.correct),
            ("parsed", "predicted_labels", self.predicted),
            ("label", "labels", self.true),
            ("group", None, self.group),
        ):
            if value is not None:
                holds = pc.fill_null(pc.equal(piece.column(column), value), False).to_numpy()
                keep &= holds | _has(piece, several, value) if several in piece.column_names else holds
        if self.tag is not None:
            keep &= has_tag(piece, self.tag)
        return keep


def has_tag(items: pa.Table, tag: str) -> Mask:
    return _has(items, "tags", tag)


def _has(table: pa.Table, column: str | None, value: object) -> Mask:
    """The rows whose list in this column holds the value."""
    import pyarrow.compute as pc

    lists = table.column(column).combine_chunks()
    found = np.zeros(len(lists), dtype=bool)
    parents = pc.list_parent_indices(lists).to_numpy()
    found[parents[pc.equal(pc.list_flatten(lists), value).to_numpy(zero_copy_only=False)]] = True
    return found


def of_suite(suite: Suite, blobs: BlobStore, limit: int, cursor: str | None) -> SuiteItemPage:
    rows, next_cursor = parquet.page(np.arange(suite.n_items), limit, cursor)
    with suites.items(blobs, suite) as items:
        found = items.take(rows).to_pylist()
    return SuiteItemPage(items=[SuiteItemOut.model_validate(item) for item in found], next_cursor=next_cursor)


def of_evaluation(
    evaluation: Evaluation, suite: Suite, blobs: BlobStore, wanted: Filter, limit: int, cursor: str | None
) -> EvaluationItemPage:
    enough = parquet.place(cursor) + limit + 1
    with suites.items(blobs, suite) as items, evaluations.answers(blobs, evaluation) as answers:
        rows, next_cursor = parquet.page(wanted.rows(items, answers, enough), limit, cursor)
        metrics = [name for name in suite.definition["metrics"] if evaluations.is_scored(answers, name)]
        shown, given = items.take(rows).to_pylist(), answers.take(rows)
    scores = {name: METRICS[name].item_scores(evaluations.statistics(given, name)) for name in metrics}
    by_item = [
        {name: float(values[place]) for name, values in scores.items() if values is not None}
        for place in range(len(rows))
    ]
    own = ("output", "parsed", "probability", "correct", *evaluations.EVIDENCE_COLUMNS)
    answered = given.select([name for name in own if name in given.column_names]).to_pylist(maps_as_pydicts="strict")
    return EvaluationItemPage(
        items=[
            EvaluationItem.model_validate({**item, **answer, "scores": values})
            for item, answer, values in zip(shown, answered, by_item, strict=True)
        ],
        next_cursor=next_cursor,
    )


def confusion(evaluation: Evaluation, suite: Suite, blobs: BlobStore) -> Confusion:
    """Rows are true labels. Declared labels keep their order; otherwise all that occur, sorted."""
    matrix = _matrix(evaluation, suite, blobs)
    return Confusion(
        labels=cast(list[str], matrix.labels),
        counts=matrix.counts.tolist(),
        unanswered=matrix.missing.tolist(),
        classes=[ClassScoreOut.model_validate(one, from_attributes=True) for one in per_class(matrix)],
        most_confused=_most_confused(matrix, evaluation, suite, blobs),
    )


def classes(evaluation: Evaluation, suite: Suite, blobs: BlobStore) -> ClassScoreList:
    """Of items with one label or with several, the lowest F1 first; what has none, last."""
    with suites.items(blobs, suite) as items, evaluations.answers(blobs, evaluation) as answers:
        several = any(METRICS[name].reads == "labels" for name in suite.definition["metrics"])
        found = _of_sets(items, answers) if several else per_class(_matrix(evaluation, suite, blobs))
    found.sort(key=lambda one: (one.f1 is None, one.f1 or 0.0, str(one.label)))
    return ClassScoreList(items=[ClassScoreOut.model_validate(one, from_attributes=True) for one in found])


def _of_sets(items: parquet.Reader, answers: parquet.Reader) -> list[ClassScore]:
    hits, support, predicted = Counter[str](), Counter[str](), Counter[str]()
    for piece in parquet.side_by_side(items, ["labels"], answers, ["predicted_labels"]):
        rows = zip(*(piece.column(name).to_pylist() for name in ("labels", "predicted_labels")), strict=True)
        for true, said in rows:
            support.update(true)
            predicted.update(said or ())
            hits.update(set(true).intersection(said or ()))
    labels = sorted(support.keys() | predicted.keys())
    return [class_score(label, hits[label], support[label], predicted[label]) for label in labels]


def _matrix(evaluation: Evaluation, suite: Suite, blobs: BlobStore) -> ConfusionMatrix:
    pairs = _label_pairs(evaluation, suite, blobs)
    true, predicted = zip(*pairs, strict=True)
    return confusion_matrix(true, predicted, suite.definition["labels"], times=list(pairs.values()))


def _label_pairs(evaluation: Evaluation, suite: Suite, blobs: BlobStore) -> Counter[tuple[str, str | None]]:
    """How often each (true, predicted) occurs."""
    pairs: Counter[tuple[str, str | None]] = Counter()
    with suites.items(blobs, suite) as items, evaluations.answers(blobs, evaluation) as answers:
        for piece in parquet.side_by_side(items, ["label"], answers, ["parsed"]):
            true = piece.column("label").to_pylist()
            if None in true:
                raise NoLabels(f"The suite '{suite.name}' has items without a label: there is no confusion matrix.")
            pairs.update(zip(true, piece.column("parsed").to_pylist(), strict=True))
            if len({label for pair in pairs for label in pair}) > MAX_CLASSES:
                raise TooManyClasses(
                    f"There are over {MAX_CLASSES:,} different labels, too many for a matrix: declare the suite's "
                    "`labels`, or a `parser` that reads a label out of an output."
                )
    return pairs


def _most_confused(
    matrix: ConfusionMatrix, evaluation: Evaluation, suite: Suite, blobs: BlobStore, limit: int = 10
) -> list[ConfusedPair]:
    wrong = matrix.counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    cells = [
        (str(matrix.labels[row]), str(matrix.labels[column]), int(wrong[row, column]))
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    pairs = {
        (true, predicted): ConfusedPair(true=true, predicted=predicted, n=n, items=[]) for true, predicted, n in cells
    }
    with suites.items(blobs, suite) as items, evaluations.answers(blobs, evaluation) as answers:
        for piece in parquet.side_by_side(items, ["id", "label"], answers, ["parsed"]):
            if all(len(pair.items) == min(pair.n, SHOWN) for pair in pairs.values()):
                break
            columns = (piece.column(name).to_pylist() for name in ("id", "label", "parsed"))
            for item_id, true, predicted in zip(*columns, strict=True):
                pair = pairs.get((true, predicted))
                if pair is not None and len(pair.items) < SHOWN:
                    pair.items.append(item_id)
    return list(pairs.values())
