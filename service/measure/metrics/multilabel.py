"""Several labels an item: precision, recall and F1 over labels or items, subset accuracy, Hamming loss.

Same numbers as scikit-learn's on indicator matrices whose columns are the vocabulary: a label that nobody has or
predicts counts in the macro average, with `zero_division`, and in Hamming loss. A missing output predicts no label; it
is right about nothing, also where there was none to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.measure.labels import ClassTotals, checked_vocabulary, vocabulary
from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    IntArray,
    Kind,
    Metric,
    Reads,
    base_name,
    divide,
    option,
    weighted_mean,
    weighted_sum,
)
from service.measure.metrics.f1 import Average, Rate, averaged, zero_division
from service.measure.validation import Label, NotALabelError, check_aligned, check_labels

TRUE, PREDICTED = 1, 2
RATES: tuple[Rate, ...] = ("f1", "precision", "recall")
AVERAGES: tuple[Average, ...] = ("macro", "micro", "weighted")


@dataclass(frozen=True)
class LabelSetRate:
    """A rate averaged over labels. Statistics (n, L): for each label 0, or 1 if true, plus 2 if predicted."""

    name: str
    rate: Rate
    average: Average
    zero_division: float = option(0.0, zero_division)
    reads: Reads = "labels"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        average = f"average:{self.average}|zero_division:{self.zero_division:g}"
        return f"{base_name(self.name)}|{average}|missing:none|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        return _indicators(outputs, references, labels).astype(np.float64)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        codes = statistics.astype(np.int64)
        of_code = [weighted_sum((codes == code).astype(np.float64), weights) for code in (1, 2, 3)]
        totals = ClassTotals(
            hits=of_code[2],
            predicted=of_code[1] + of_code[2],
            true=of_code[0] + of_code[2],
            n=np.array([float(len(codes))]) if weights is None else weights.sum(axis=1),
        )
        counted = np.broadcast_to(totals.n[:, None] > 0, totals.hits.shape)
        return averaged(totals, counted, self.rate, self.average, self.zero_division)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None


@dataclass(frozen=True)
class LabelSetScore:
    """A mean of item scores. Statistics (n, 1): `of_item` of hits, predicted and true labels, and vocabulary size."""

    name: str
    of_item: Callable[[FloatArray, FloatArray, FloatArray, int], FloatArray]
    when_missing: float | None
    kind: Kind = "mean"
    higher_is_better: bool = True
    reads: Reads = "labels"

    def signature(self) -> str:
        missing = "none" if self.when_missing is None else "wrong"
        return f"{base_name(self.name)}|average:items|missing:{missing}|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        codes = _indicators(outputs, references, labels)
        hits, predicted, true = (
            np.count_nonzero((codes & bits) == bits, axis=1).astype(np.float64)
            for bits in (TRUE | PREDICTED, PREDICTED, TRUE)
        )
        scores = self.of_item(hits, predicted, true, codes.shape[1])
        if self.when_missing is not None:
            scores[[output is None for output in outputs]] = self.when_missing
        return scores[:, None]

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 0], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 0]


def _indicators(outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None) -> IntArray:
    """Codes (n, L) of validated sets of labels."""
    check_aligned(outputs, references)
    kinds = {_checked_set(item, "true", index) for index, item in enumerate(references)}
    kinds |= {_checked_set(item, "predicted", index) for index, item in enumerate(outputs) if item is not None}
    if len(kinds - {None}) > 1:
        raise NotALabelError("some labels are text and some are integers: they could never be equal")
    given: list[Sequence[Label]] = [() if output is None else output for output in outputs]
    known = vocabulary(*references, *given) if labels is None else checked_vocabulary(labels)
    if not known:
        raise NotALabelError("no item has or predicts a label: give the vocabulary")
    place = {label: index for index, label in enumerate(known)}
    codes = np.zeros((len(outputs), len(known)), dtype=np.int64)
    for what, bit, sets in (("true", TRUE, references), ("predicted", PREDICTED, given)):
        for index, item in enumerate(sets):
            for label in item:
                if label not in place:
                    raise NotALabelError(f"the {what} label {label!r} of item {index} is not among the labels", index)
                codes[index, place[label]] |= bit
    return codes


def _checked_set(item: Any, what: str, index: int) -> type[Label] | None:
    if isinstance(item, str) or not hasattr(item, "__iter__"):
        raise NotALabelError(f"the {what} labels of item {index} are {item!r}, not a list of labels", index)
    try:
        kind = check_labels(list(item), f"{what} label")
    except NotALabelError as error:
        raise NotALabelError(
            f"the {what} labels of item {index} are {list(item)!r}: text or integers", index
        ) from error
    if len(set(item)) != len(item):
        raise NotALabelError(f"a {what} label of item {index} comes twice", index)
    return kind


def _item_f1(hits: FloatArray, predicted: FloatArray, true: FloatArray, size: int) -> FloatArray:
    return divide(2 * hits, predicted + true)


def _subset(hits: FloatArray, predicted: FloatArray, true: FloatArray, size: int) -> FloatArray:
    same: FloatArray = ((hits == predicted) & (hits == true)).astype(np.float64)
    return same


def _hamming(hits: FloatArray, predicted: FloatArray, true: FloatArray, size: int) -> FloatArray:
    differing: FloatArray = (predicted + true - 2 * hits) / size
    return differing


FAMILY: list[Metric] = [
    *(LabelSetRate(f"multilabel_{rate}_{average}", rate, average) for rate in RATES for average in AVERAGES),
    LabelSetScore("multilabel_f1_samples", _item_f1, when_missing=0.0),
    LabelSetScore("subset_accuracy", _subset, when_missing=0.0, kind="proportion"),
    LabelSetScore("hamming_loss", _hamming, when_missing=None, higher_is_better=False),
]
