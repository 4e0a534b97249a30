"""Precision, recall and F1 averaged over classes.

Same numbers as scikit-learn's `precision_recall_fscore_support` with `zero_division=0`: the macro average
runs over the labels that occur among the true or the predicted ones. In a resample, likewise over those in it.
"""

from __future__ import annotations

import numpy as np

from service.measure.labels import ClassTotals, CountMetric
from service.measure.metric import FloatArray, Metric, divide


def _macro(per_class: FloatArray, totals: ClassTotals) -> FloatArray:
    occurring = np.count_nonzero(totals.true + totals.predicted, axis=1).astype(np.float64)
    return divide(per_class.sum(axis=1), occurring, undefined=np.nan)


def _f1(totals: ClassTotals) -> FloatArray:
    """2 tp / (2 tp + fp + fn) for each class: (R, C)."""
    return divide(2.0 * totals.hits, totals.true + totals.predicted)


def _f1_macro(totals: ClassTotals) -> FloatArray:
    return _macro(_f1(totals), totals)


def _f1_weighted(totals: ClassTotals) -> FloatArray:
    return divide((_f1(totals) * totals.true).sum(axis=1), totals.true.sum(axis=1), undefined=np.nan)


def _f1_micro(totals: ClassTotals) -> FloatArray:
    pairs = totals.true.sum(axis=1) + totals.predicted.sum(axis=1)
    return divide(2.0 * totals.hits.sum(axis=1), pairs, undefined=np.nan)


def _precision_macro(totals: ClassTotals) -> FloatArray:
    return _macro(divide(totals.hits, totals.predicted), totals)


def _recall_macro(totals: ClassTotals) -> FloatArray:
    return _macro(divide(totals.hits, totals.true), totals)


FAMILY: list[Metric] = [
    CountMetric("f1_macro", "average:macro|zero_division:0", _f1_macro),
    CountMetric("f1_micro", "average:micro|zero_division:0", _f1_micro),
    CountMetric("f1_weighted", "average:weighted|zero_division:0", _f1_weighted),
    CountMetric("precision_macro", "average:macro|zero_division:0", _precision_macro),
    CountMetric("recall_macro", "average:macro|zero_division:0", _recall_macro),
]
