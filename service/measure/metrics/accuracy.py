"""Accuracy, and its mean over classes.

Same numbers as scikit-learn's `accuracy_score` and `balanced_accuracy_score`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.labels import ClassTotals, CountMetric, is_right, label_statistics
from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, divide, weighted_mean


@dataclass(frozen=True)
class Accuracy:
    """Share of items whose predicted label is the true one. Statistics (n, 1): 1 right, 0 wrong."""

    name: str = "accuracy"
    reads: Reads = "label"
    kind: Kind = "proportion"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{self.name}|match:label|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        return is_right(label_statistics(outputs, references, labels))[:, None]

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 0], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 0]


def _balanced_accuracy(totals: ClassTotals) -> FloatArray:
    """Mean recall over the classes that occur among the true labels."""
    recall = divide(totals.hits, totals.true)
    occurring = np.count_nonzero(totals.true, axis=1).astype(np.float64)
    return divide(recall.sum(axis=1), occurring, undefined=np.nan)


FAMILY: list[Metric] = [Accuracy(), CountMetric("balanced_accuracy", "average:true-classes", _balanced_accuracy)]
