"""The confusion matrix and the scores of each class.

Same numbers as scikit-learn's `confusion_matrix` and `precision_recall_fscore_support`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.measure.labels import encode
from service.measure.metric import FloatArray, IntArray, divide
from service.measure.validation import (
    EmptySetError,
    Label,
    LengthMismatchError,
    NotALabelError,
    check_labels,
    check_same_kind,
)


@dataclass(frozen=True)
class ConfusionMatrix:
    """`counts[i, j]`: items whose true label is `labels[i]` and predicted label `labels[j]`, shape (C, C).

    `missing[i]`: items of true label i without a prediction, shape (C,). `outside`: items whose true or
    predicted label is not among the labels asked for; they are in no cell, as in scikit-learn.
    """

    labels: list[Label]
    counts: IntArray
    missing: IntArray
    outside: int = 0

    def normalised(self, over: Literal["true", "pred", "all"]) -> FloatArray:
        """Shares within rows (true), columns (pred) or the whole; 0 where there is nothing to share."""
        counts = self.counts.astype(np.float64)
        if over == "all":
            return divide(counts, counts.sum(keepdims=True))
        return divide(counts, counts.sum(axis=1 if over == "true" else 0, keepdims=True))


@dataclass(frozen=True)
class ClassScore:
    """One class. A rate without a denominator is None: no predictions (precision), no items (recall)."""

    label: Label
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


def confusion_matrix(
    true: Sequence[Label],
    predicted: Sequence[Label | None],
    labels: Sequence[Label] | None = None,
    counts: Sequence[int] | None = None,
) -> ConfusionMatrix:
    """Counts of (true, predicted) pairs; rows are true labels.

    labels: which ones, in which order; by default every label seen on either side, sorted. A predicted
    label of None is counted under `missing`. counts: how often each pair occurs; by default once.
    Raises a `MeasureError` naming the item on bad input.
    """
    if len(true) != len(predicted):
        shorter = min(len(true), len(predicted))
        raise LengthMismatchError(f"{len(true)} true labels but {len(predicted)} predicted", shorter)
    if not len(true):
        raise EmptySetError("there are no items to count")
    check_same_kind(true, predicted)
    seen, codes = encode(true, predicted)
    order = list(labels) if labels is not None else seen
    check_labels(order, "asked-for label")
    if len(set(order)) != len(order):
        raise NotALabelError("the labels asked for contain a repeated one")
    # Map codes of seen labels to positions asked for; -1 is missing, -2 not asked for.
    position = {label: index for index, label in enumerate(order)}
    mapping = np.array([position.get(label, -2) for label in seen] + [-1], dtype=np.int64)
    rows, columns = (mapping[codes[:, side].astype(np.int64)] for side in (0, 1))
    size = len(order)
    times = np.ones(len(rows), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
    cells, missing = np.zeros((size, size), dtype=np.int64), np.zeros(size, dtype=np.int64)
    inside, unanswered = (rows >= 0) & (columns >= 0), (rows >= 0) & (columns == -1)
    np.add.at(cells, (rows[inside], columns[inside]), times[inside])
    np.add.at(missing, rows[unanswered], times[unanswered])
    return ConfusionMatrix(order, cells, missing, int(times[(rows == -2) | (columns == -2)].sum()))


def per_class(matrix: ConfusionMatrix) -> list[ClassScore]:
    """Precision, recall, F1 and support of each label, in the matrix's order. Missing answers cost recall."""
    scores = []
    for index, label in enumerate(matrix.labels):
        hits = int(matrix.counts[index, index])
        support = int(matrix.counts[index].sum() + matrix.missing[index])
        predicted = int(matrix.counts[:, index].sum())
        scores.append(
            ClassScore(
                label=label,
                precision=hits / predicted if predicted else None,
                recall=hits / support if support else None,
                f1=2 * hits / (support + predicted) if support + predicted else None,
                support=support,
                predicted=predicted,
            )
        )
    return scores
