"""Precision, recall and F1: of the positive class, and averaged over classes.

Same numbers as scikit-learn's `precision_recall_fscore_support`. The macro average runs over the labels that occur
among the true or the predicted ones; in a resample, likewise over those in it. The positive class of two is the second
one of the vocabulary. `zero_division` (0, 1 or nan) is the value of a rate without a denominator; nan is left out of an
average, and where nothing else is left there is no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.measure.labels import ClassTotals, CountBased, encode
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
)
from service.measure.validation import Label, NotALabelError, check_label_pairs

Rate = Literal["precision", "recall", "f1"]
Average = Literal["binary", "macro", "micro", "weighted"]
RATES: tuple[Rate, ...] = ("f1", "precision", "recall")
AVERAGES: tuple[Average, ...] = ("macro", "micro", "weighted", "binary")


def zero_division(text: str) -> float:
    return float(one_of("0", "1", "nan")(text))


@dataclass(frozen=True)
class ClassRate(CountBased):
    """One rate under one average. Statistics (n, 2): true and predicted code."""

    name: str
    rate: Rate
    average: Average
    zero_division: float = option(0.0, zero_division)
    reads: Reads = "label"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        undefined = f"{self.zero_division:g}"
        average = f"average:{self.average}|zero_division:{undefined}"
        return f"{base_name(self.name)}|{average}|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self,
        outputs: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[Label] | None = None,
    ) -> FloatArray:
        true, predicted = check_label_pairs(outputs, references)
        known, codes = encode(true, predicted, labels)
        if self.average == "binary" and len(known) != 2:
            raise NotALabelError(
                f"{self.name} takes two labels, the second of which is the positive one, but there are {len(known)}: "
                f"{', '.join(map(repr, known[:5]))}. Declare two labels, or use {self.rate}_macro"
            )
        return codes

    def scores(self, totals: ClassTotals) -> FloatArray:
        occurring = (totals.true + totals.predicted) > 0
        return averaged(totals, occurring, self.rate, self.average, self.zero_division)


def averaged(
    totals: ClassTotals,
    counted: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    rate: Rate,
    average: Average,
    undefined: float,
) -> FloatArray:
    """The average of a rate over the classes that are `counted` (R, C): shape (R,), NaN where there is none."""
    if average == "micro":
        hits, predicted, true = (
            column.sum(axis=1, keepdims=True) for column in (totals.hits, totals.predicted, totals.true)
        )
        value = _rates(hits, predicted, true, rate, undefined)[:, 0]
        return np.where(counted.any(axis=1), value, np.nan)
    values = _rates(totals.hits, totals.predicted, totals.true, rate, undefined)
    if average == "binary":
        if values.shape[1] > 2:
            return np.full(len(values), np.nan)
        # A positive class that nobody has or predicts is not among the codes.
        positive = values[:, 1] if values.shape[1] == 2 else np.full(len(values), undefined)
        return np.where(counted.any(axis=1), positive, np.nan)
    defined = counted & ~np.isnan(values)
    filled = np.where(defined, values, 0.0)
    plain = divide(filled.sum(axis=1), defined.sum(axis=1).astype(np.float64), undefined=np.nan)
    if average == "macro":
        return plain
    weights = np.where(defined, totals.true, 0.0)
    weighted = divide((filled * weights).sum(axis=1), weights.sum(axis=1), undefined=np.nan)
    # scikit-learn drops weights that are all 0.
    return np.where(np.isnan(weighted), plain, weighted)


def _rates(hits: FloatArray, predicted: FloatArray, true: FloatArray, rate: Rate, undefined: float) -> FloatArray:
    if rate == "precision":
        return divide(hits, predicted, undefined=undefined)
    if rate == "recall":
        return divide(hits, true, undefined=undefined)
    return divide(2.0 * hits, true + predicted, undefined=undefined)


FAMILY: list[Metric] = [ClassRate(f"{rate}_{average}", rate, average) for rate in RATES for average in AVERAGES]
