"""Adjusted p-values for several tests at once, in the order given. Same numbers as R's `p.adjust`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.measure.metric import FloatArray
from service.measure.validation import OutOfRangeError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): controls the chance of any false rejection."""
    p, order = _sorted(p_values)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _restored(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg (1995): controls the expected share of false rejections."""
    p, order = _sorted(p_values)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _restored(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _sorted(p_values: Sequence[float]) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    p = np.asarray(p_values, dtype=np.float64)
    for index, value in enumerate(p):
        if not 0.0 <= value <= 1.0:
            raise OutOfRangeError(f"p-value {index} is {value}, outside [0, 1]", index)
    return p, np.argsort(p, kind="stable")


def _restored(adjusted: FloatArray, order: np.ndarray[tuple[int], np.dtype[np.intp]]) -> list[float]:
    result = np.empty(len(adjusted))
    result[order] = np.minimum(adjusted, 1.0)
    return [float(value) for value in result]
