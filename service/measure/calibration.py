"""Bins of confidence: the calibration curve, and what the expected calibration error sums up.

Bins are equally wide and closed below, as torchmetrics has them; a confidence of exactly 1 has a bin of its own, as
there. An edge is k / bins, rounded once; torch's own edges differ in the last bit from one processor to another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.measure.metric import FloatArray, IntArray

BINS = 15


@dataclass(frozen=True)
class CalibrationBin:
    """Confidences in [low, high): how many, their mean, and the share that was right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def bin_edges(bins: int = BINS) -> FloatArray:
    edges: FloatArray = np.arange(bins + 1) / bins
    return edges


def bin_of(confidence: FloatArray, bins: int = BINS) -> IntArray:
    """The bin of each confidence, 0 to `bins`; the last one holds what is exactly 1."""
    return np.digitize(confidence, bin_edges(bins)) - 1


def calibration_curve(confidence: FloatArray, right: FloatArray, bins: int = BINS) -> list[CalibrationBin]:
    """The bins that are not empty, from low to high. confidence: 0 to 1, shape (n,); right: 1 or 0, shape (n,)."""
    edges, places = np.append(bin_edges(bins), 1.0), bin_of(confidence, bins)
    counts, confidences, hits = (
        np.bincount(places, weights=weights, minlength=bins + 1) for weights in (None, confidence, right)
    )
    return [
        CalibrationBin(
            float(edges[place]),
            float(edges[place + 1]),
            int(counts[place]),
            float(confidences[place] / counts[place]),
            float(hits[place] / counts[place]),
        )
        for place in np.flatnonzero(counts)
    ]
