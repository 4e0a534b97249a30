"""How well the scores of a class rank its items before the others: area under the ROC curve, average precision.

Same numbers as scikit-learn's `roc_auc_score` and `average_precision_score`. With two labels, the scores of the second
one; with more, the mean over labels, each against the rest (`multi_class=ovr`), or for ROC over pairs (`ovo`).
Undefined where a label of the vocabulary has no item, or every item. A missing output ranks where it does most harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from service.measure.class_scores import read_scores
from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, base_name, divide, one_of, option


class Ranking:
    """Statistics (n, 2): score of the second label, and 1 where it is true; or (n, C + 1): all scores, true code."""

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        given = read_scores(outputs, references, labels)
        scores = given.scores.copy()
        scores[given.missing] = np.inf
        places = np.flatnonzero(given.missing)
        scores[places, given.true[places]] = -np.inf
        if len(given.labels) == 2:
            scores = scores[:, 1:]
        return np.column_stack([scores, given.true]).astype(np.float64)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None


@dataclass(frozen=True)
class RocAuc(Ranking):
    """Area under the ROC curve: how often an item of the class scores higher than another, ties counting half."""

    name: str = "roc_auc"
    multi_class: str = option("ovr", one_of("ovr", "ovo"))
    reads: Reads = "scores"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        options = f"average:macro|multi_class:{self.multi_class}"
        return f"{base_name(self.name)}|{options}|missing:worst|measure:{MEASURE_VERSION}"

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        weights = np.ones((1, len(statistics))) if weights is None else weights
        scores, true = statistics[:, :-1], statistics[:, -1]
        size = scores.shape[1]
        if size == 1:
            return _area(scores[:, 0], true == 1, weights)
        if self.multi_class == "ovr":
            return _mean([_area(scores[:, label], true == label, weights) for label in range(size)])
        areas = []
        for one, other in combinations(range(size), 2):
            inside = (true == one) | (true == other)
            kept, drawn = true[inside], weights[:, inside]
            areas += [_area(scores[inside, label], kept == label, drawn) for label in (one, other)]
        return _mean(areas)


@dataclass(frozen=True)
class AveragePrecision(Ranking):
    """Precision at each threshold, weighted by the recall that it adds; not interpolated."""

    name: str = "average_precision"
    reads: Reads = "scores"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{self.name}|average:macro|multi_class:ovr|missing:worst|measure:{MEASURE_VERSION}"

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        weights = np.ones((1, len(statistics))) if weights is None else weights
        scores, true = statistics[:, :-1], statistics[:, -1]
        if scores.shape[1] == 1:
            return _precision(scores[:, 0], true == 1, weights)
        return _mean([_precision(scores[:, label], true == label, weights) for label in range(scores.shape[1])])


def _mean(values: list[FloatArray]) -> FloatArray:
    return np.asarray(np.mean(values, axis=0))


def _by_threshold(scores: FloatArray, positive: Any, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights of positive and of negative items at each distinct score, from the highest down: (R, u) each."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    drawn, kind = weights[:, order], positive[order]
    return (
        np.add.reduceat(np.where(kind, drawn, 0.0), starts, axis=1),
        np.add.reduceat(np.where(kind, 0.0, drawn), starts, axis=1),
    )


def _area(scores: FloatArray, positive: Any, weights: FloatArray) -> FloatArray:
    if not len(scores):
        return np.full(len(weights), np.nan)
    hits, others = _by_threshold(scores, positive, weights)
    below = others.sum(axis=1, keepdims=True) - np.cumsum(others, axis=1)
    ordered = (hits * (below + others / 2)).sum(axis=1)
    return divide(ordered, hits.sum(axis=1) * others.sum(axis=1), undefined=np.nan)


def _precision(scores: FloatArray, positive: Any, weights: FloatArray) -> FloatArray:
    hits, others = _by_threshold(scores, positive, weights)
    found = np.cumsum(hits, axis=1)
    precision = divide(found, found + np.cumsum(others, axis=1))
    return divide((hits * precision).sum(axis=1), hits.sum(axis=1), undefined=np.nan)


FAMILY: list[Metric] = [RocAuc(), AveragePrecision()]
