"""Scores of all classes, item by item: top-k accuracy, log-loss, Brier score, expected calibration error.

Same numbers as scikit-learn's `top_k_accuracy_score`, `log_loss` and `brier_score_loss`, and as torchmetrics'
`multiclass_calibration_error` (15 bins, l1). Columns are the vocabulary's labels. Ties of top-k go to the later column,
with two labels to the first, as in scikit-learn. A missing output is certain of a wrong label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.measure.calibration import BINS, bin_of
from service.measure.class_scores import ClassScores, read_scores
from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    Kind,
    Metric,
    Reads,
    base_name,
    divide,
    one_of,
    option,
    weighted_mean,
    weighted_sum,
    whole,
)
from service.measure.validation import OutOfRangeError

EPSILON = float(np.finfo(np.float64).eps)


class MeanOfItems:
    """Statistics (n, 1): each item's score; the set's is their mean."""

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 0], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 0]


@dataclass(frozen=True)
class TopK(MeanOfItems):
    """Share of items whose true label is among the k of highest score."""

    name: str = "top_k_accuracy"
    k: int = option(2, whole(1, 1_000_000))
    reads: Reads = "scores"
    kind: Kind = "proportion"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{base_name(self.name)}|k:{self.k}|ties:later-label|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        given = read_scores(outputs, references, labels)
        size = len(given.labels)
        if self.k >= size:
            raise OutOfRangeError(f"every item is right among the top {self.k} of {size} labels: ask for a smaller k")
        of_true, places = given.of_true()[:, None], np.arange(size)
        first = given.true[:, None] > places if size == 2 else given.true[:, None] < places
        ahead = (given.scores > of_true) | ((given.scores == of_true) & first)
        right = (np.count_nonzero(ahead, axis=1) < self.k) & ~given.missing
        return np.asarray(right[:, None], dtype=np.float64)


@dataclass(frozen=True)
class LogLoss(MeanOfItems):
    """Mean negative logarithm of the probability of the true label, clipped to the spacing of doubles about 1."""

    name: str = "log_loss"
    reads: Reads = "scores"
    kind: Kind = "mean"
    higher_is_better: bool = False

    def signature(self) -> str:
        return f"{self.name}|log:natural|clip:float64-eps|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        given = read_scores(outputs, references, labels, probabilities=True)
        probability = np.where(given.missing, 0.0, given.of_true())
        return np.asarray(-np.log(np.clip(probability, EPSILON, 1 - EPSILON))[:, None])


@dataclass(frozen=True)
class Brier(MeanOfItems):
    """Mean squared distance of the probabilities from the true label's, halved for two labels."""

    name: str = "brier_score"
    reads: Reads = "scores"
    kind: Kind = "mean"
    higher_is_better: bool = False

    def signature(self) -> str:
        return f"{self.name}|scale:half-if-binary|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        given = read_scores(outputs, references, labels, probabilities=True)
        wanted = np.zeros(given.scores.shape)
        wanted[np.arange(len(wanted)), given.true] = 1.0
        distance = ((wanted - given.scores) ** 2).sum(axis=1)
        distance[given.missing] = 2.0
        return np.asarray((distance * (0.5 if len(given.labels) == 2 else 1.0))[:, None])


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error. Statistics (n, 2): confidence, and 1 where it was right.

    of: "top", the label of highest probability, or "positive", the second of two labels and whether it was true
    (torchmetrics' `binary_calibration_error`).
    """

    name: str = "ece"
    bins: int = option(BINS, whole(1, 1000))
    of: str = option("top", one_of("top", "positive"))
    reads: Reads = "scores"
    kind: Kind = "corpus"
    higher_is_better: bool = False

    def signature(self) -> str:
        options = f"norm:l1|bins:{self.bins}|of:{self.of}|binning:torchmetrics"
        return f"{base_name(self.name)}|{options}|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        given = read_scores(outputs, references, labels, probabilities=True)
        if self.of == "positive":
            return self._of_positive(given)
        filled = np.where(np.isnan(given.scores), 0.0, given.scores)
        best = filled.argmax(axis=1)
        confidence = np.where(given.missing, 1.0, filled[np.arange(len(filled)), best])
        return np.column_stack([confidence, (best == given.true) & ~given.missing]).astype(np.float64)

    def _of_positive(self, given: ClassScores) -> FloatArray:
        if len(given.labels) != 2:
            raise OutOfRangeError(f"of:positive takes two labels, there are {len(given.labels)}")
        confidence = np.where(given.missing, given.true == 0, given.scores[:, 1])
        return np.column_stack([confidence, given.true]).astype(np.float64)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        confidence, right = statistics.T
        one_hot = np.eye(self.bins + 1)[bin_of(confidence, self.bins)]
        gaps = weighted_sum(one_hot * (right - confidence)[:, None], weights)
        total = np.array([float(len(right))]) if weights is None else weights.sum(axis=1)
        return divide(np.abs(gaps).sum(axis=1), total, undefined=np.nan)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None


FAMILY: list[Metric] = [TopK(), LogLoss(), Brier(), CalibrationError()]
