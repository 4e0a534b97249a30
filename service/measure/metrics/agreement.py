"""Agreement beyond chance between predicted and true labels: Matthews correlation and Cohen's kappa.

Same numbers as scikit-learn's `matthews_corrcoef` and unweighted `cohen_kappa_score`. A missing prediction
is a category of its own on the predicted side.
"""

from __future__ import annotations

import numpy as np

from service.measure.labels import ClassTotals, CountMetric
from service.measure.metric import FloatArray, Metric, divide


def _mcc(totals: ClassTotals) -> FloatArray:
    """Gorodkin's multi-class form; 0 when either side is constant, as scikit-learn has it."""
    n, hits = totals.n, totals.hits.sum(axis=1)
    missing = n - totals.predicted.sum(axis=1)
    covariance = hits * n - (totals.predicted * totals.true).sum(axis=1)
    predicted_variance = n * n - (totals.predicted**2).sum(axis=1) - missing**2
    true_variance = n * n - (totals.true**2).sum(axis=1)
    return divide(covariance, np.sqrt(predicted_variance * true_variance))


def _cohen_kappa(totals: ClassTotals) -> FloatArray:
    """(observed - expected) / (1 - expected); undefined (NaN) when chance alone would agree on everything."""
    n, hits = totals.n, totals.hits.sum(axis=1)
    by_chance = (totals.predicted * totals.true).sum(axis=1)
    return divide(n * hits - by_chance, n * n - by_chance, undefined=np.nan)


FAMILY: list[Metric] = [
    CountMetric("mcc", "form:gorodkin|constant:0", _mcc),
    CountMetric("cohen_kappa", "weights:none", _cohen_kappa),
]
