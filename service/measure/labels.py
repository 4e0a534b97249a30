"""Label pairs as integer codes, and the class totals every count-based metric is made of.

Statistics of a label metric: shape (n, 2), columns true code and predicted code. Codes number the sorted
union of labels seen on either side; a missing prediction is -1. It counts as wrong and belongs to no class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, IntArray
from service.measure.validation import Label, check_label_pairs

NO_PREDICTION = -1


@dataclass(frozen=True)
class ClassTotals:
    """Sums over R resamples and C classes: `hits`, `predicted`, `true` are (R, C), `n` is (R,).

    `predicted` does not count missing predictions, so its rows may sum to less than `n`.
    """

    hits: FloatArray
    predicted: FloatArray
    true: FloatArray
    n: FloatArray


def encode(
    true: Sequence[Label], predicted: Sequence[Label | None], vocabulary: Sequence[Label] | None = None
) -> tuple[list[Label], FloatArray]:
    """(sorted labels, codes of shape (n, 2)). The caller has checked that labels are of one kind."""
    seen = set(true)
    seen.update(label for label in predicted if label is not None)
    labels = sorted(seen, key=lambda label: (isinstance(label, str), label)) if vocabulary is None else list(vocabulary)
    code: dict[Label | None, int] = {label: index for index, label in enumerate(labels)}
    code[None] = NO_PREDICTION
    pairs = np.empty((len(true), 2))
    pairs[:, 0] = np.fromiter((code[label] for label in true), np.float64, len(true))
    pairs[:, 1] = np.fromiter((code[label] for label in predicted), np.float64, len(true))
    return labels, pairs


def label_statistics(
    outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
) -> FloatArray:
    """Codes (n, 2) of validated label pairs."""
    true, predicted = check_label_pairs(outputs, references)
    return encode(true, predicted, labels)[1]


def class_totals(statistics: FloatArray, weights: FloatArray | None = None) -> ClassTotals:
    """Totals per class, of the set (R = 1) or of each resample in `weights` (R, n)."""
    true = statistics[:, 0].astype(np.int64)
    predicted = statistics[:, 1].astype(np.int64)
    n_classes = int(max(true.max(initial=-1), predicted.max(initial=-1))) + 1
    hit = np.where(true == predicted, true, NO_PREDICTION)
    if weights is None:
        hits, guesses, trues = (_count(codes, n_classes) for codes in (hit, predicted, true))
        return ClassTotals(hits, guesses, trues, n=np.array([float(len(true))]))
    hits, guesses, trues = (_weigh(codes, weights, n_classes) for codes in (hit, predicted, true))
    return ClassTotals(hits, guesses, trues, n=weights.sum(axis=1))


def _count(codes: IntArray, n_classes: int) -> FloatArray:
    # Shifting by one gives missing predictions their own bin, which is then dropped.
    return np.bincount(codes + 1, minlength=n_classes + 1)[1:].astype(np.float64)[None, :]


def _weigh(codes: IntArray, weights: FloatArray, n_classes: int) -> FloatArray:
    """Sums of weight columns by code: sort the columns once, then add up each run."""
    totals = np.zeros((len(weights), n_classes))
    order = np.argsort(codes, kind="stable")
    order = order[codes[order] >= 0]
    if len(order):
        present, starts = np.unique(codes[order], return_index=True)
        totals[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return totals


def is_right(statistics: FloatArray) -> FloatArray:
    """1.0 where the prediction equals the true label, shape (n,)."""
    return cast(FloatArray, (statistics[:, 0] == statistics[:, 1]).astype(np.float64))


@dataclass(frozen=True)
class CountMetric:
    """A corpus metric that is a formula of class totals: `formula` maps (R, C) totals to (R,) scores."""

    name: str
    options: str
    formula: Callable[[ClassTotals], FloatArray]
    reads: Literal["label", "text"] = "label"
    kind: Literal["proportion", "mean", "corpus"] = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{self.name}|{self.options}|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        return label_statistics(outputs, references, labels)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return self.formula(class_totals(statistics, weights))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None
