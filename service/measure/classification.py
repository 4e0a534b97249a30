"""The confusion matrix and the scores of each class.

Same numbers as scikit-learn's `confusion_matrix` and `precision_recall_fscore_support`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.measure.labels import (
    CountBased,
    checked_vocabulary,
    class_totals,
    codes_of,
    count_pairs,
    is_right,
)
from service.measure.metric import FloatArray, IntArray, divide
from service.measure.metrics import METRICS
from service.measure.metrics.f1 import ClassRate
from service.measure.resampling import Distinct
from service.measure.score import wilson_interval
from service.measure.validation import EmptySetError, Label, Labels, LengthMismatchError, check_same_kind

Interval = tuple[float, float]


@dataclass(frozen=True)
class ConfusionMatrix:
    """`counts[i, j]`: items whose true label is `labels[i]` and predicted label `labels[j]`, shape (C, C).

    `missing[i]`: items of true label i without a prediction, shape (C,). `outside`: items whose true or
    predicted label is not among the labels asked for; they are in no cell, as in scikit-learn. `support[i]` and
    `predicted[i]`, shape (C,): items whose true or predicted label is i, those outside included.
    """

    labels: list[Label]
    counts: IntArray
    missing: IntArray
    support: IntArray
    predicted: IntArray
    outside: int = 0

    def normalised(self, over: Literal["true", "pred", "all"]) -> FloatArray:
        """Shares within rows (true), columns (pred) or the whole; 0 where there is nothing to share."""
        counts = self.counts.astype(np.float64)
        if over == "all":
            return divide(counts, counts.sum(keepdims=True))
        return divide(counts, counts.sum(axis=1 if over == "true" else 0, keepdims=True))


@dataclass(frozen=True)
class ClassScore:
    """One class. A rate without a denominator is None: no predictions (precision), no items (recall).

    Intervals are Wilson's, of the predictions (precision) and of the items (recall). F1 is 2J/(1+J) with J the share of
    hits among the items that have the class or were predicted it, a proportion of its own: its ends are those of J.
    """

    label: Label
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    precision_interval: Interval | None
    recall_interval: Interval | None
    f1_interval: Interval | None


def confusion_matrix(
    true: Labels, predicted: Labels, labels: Sequence[Label] | None = None, times: Sequence[int] | None = None
) -> ConfusionMatrix:
    """Counts of (true, predicted) pairs; rows are true labels.

    labels: which ones, in which order; by default every label seen on either side, sorted. A predicted
    label of None is counted under `missing`. times: how often each pair occurs, where each is given once.
    Raises a `MeasureError` naming the item on bad input.
    """
    if len(true) != len(predicted):
        shorter = min(len(true), len(predicted))
        raise LengthMismatchError(f"{len(true)} true labels but {len(predicted)} predicted", shorter)
    if not len(true):
        raise EmptySetError("there are no items to count")
    check_same_kind(true, predicted)
    if times is None:
        seen, pairs = count_pairs(true, predicted)
    else:
        seen, codes = codes_of((true, predicted))
        pairs = Distinct(np.column_stack(codes), np.asarray(times, dtype=np.int64))
    order = checked_vocabulary(labels) if labels is not None else seen
    # Map codes of seen labels to positions asked for; -1 is missing, -2 not asked for.
    position = {label: index for index, label in enumerate(order)}
    mapping = np.array([position.get(label, -2) for label in seen] + [-1], dtype=np.int64)
    rows, columns = (mapping[pairs.rows[:, side].astype(np.int64)] for side in (0, 1))
    counts = np.zeros((len(order), len(order)), dtype=np.int64)
    missing, support, guesses = (np.zeros(len(order), dtype=np.int64) for _ in range(3))
    inside, unanswered = (rows >= 0) & (columns >= 0), (rows >= 0) & (columns == -1)
    counts[rows[inside], columns[inside]] = pairs.counts[inside]
    missing[rows[unanswered]] = pairs.counts[unanswered]
    np.add.at(support, rows[rows >= 0], pairs.counts[rows >= 0])
    np.add.at(guesses, columns[columns >= 0], pairs.counts[columns >= 0])
    outside = int(pairs.counts[(rows == -2) | (columns == -2)].sum())
    return ConfusionMatrix(order, counts, missing, support, guesses, outside)


def count_scores(true: Labels, predicted: Labels, labels: Sequence[Label] | None = None) -> dict[str, float | None]:
    """Every metric that reads labels, by name, from one pass over the pairs; None where it has no value.

    labels: the vocabulary, as in `Metric.statistics`. Arrays of integers are the fast way in.
    """
    if len(true) != len(predicted):
        shorter = min(len(true), len(predicted))
        raise LengthMismatchError(f"{len(true)} true labels but {len(predicted)} predicted", shorter)
    if not len(true):
        raise EmptySetError("there are no items to count")
    check_same_kind(true, predicted)
    known, pairs = count_pairs(true, predicted, labels)
    weights = pairs.counts.astype(np.float64)[None, :]
    totals, right = class_totals(pairs.rows, weights), is_right(pairs.rows)[:, None]
    scores: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        if metric.reads == "label":
            if isinstance(metric, ClassRate) and metric.average == "binary" and len(known) != 2:
                value = math.nan
            elif isinstance(metric, CountBased):
                value = float(metric.scores(totals)[0])
            else:
                value = float(metric.aggregate(right, weights)[0])
            scores[name] = None if math.isnan(value) else value
    return scores


def per_class(matrix: ConfusionMatrix, confidence: float = 0.95) -> list[ClassScore]:
    """Precision, recall, F1 and support of each label, in the matrix's order. Missing answers cost recall."""
    counts = zip(matrix.counts.diagonal().tolist(), matrix.support.tolist(), matrix.predicted.tolist(), strict=True)
    return [class_score(label, *each, confidence) for label, each in zip(matrix.labels, counts, strict=True)]


def class_score(label: Label, hits: int, support: int, predicted: int, confidence: float = 0.95) -> ClassScore:
    """One class from the items that have it (`support`), those predicted it, and those that are both."""
    either = support + predicted - hits
    of_either = wilson_interval(hits, either, confidence) if either else None
    return ClassScore(
        label=label,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
        support=support,
        predicted=predicted,
        precision_interval=wilson_interval(hits, predicted, confidence) if predicted else None,
        recall_interval=wilson_interval(hits, support, confidence) if support else None,
        f1_interval=None if of_either is None else (_f1_of(of_either[0]), _f1_of(of_either[1])),
    )


def _f1_of(share: float) -> float:
    return 2 * share / (1 + share)
