"""What a metric is: per-item sufficient statistics, and how they become one number.

A metric never scores twice. Intervals, slices, paired tests and gates are sums over the statistics
that `statistics` extracted once, in the manner of sacrebleu.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MEASURE_VERSION = 1
"""Part of every signature; raised by any change that can alter a number."""


@runtime_checkable
class Metric(Protocol):
    """One named metric. Instances are stateless and safe to share between threads.

    `reads`: "label" metrics take one reference label an item, "text" metrics one or more texts.
    `kind`: "proportion" (a mean of 0/1), "mean" (a mean of real per-item scores), "corpus" (a function
    of sums over the set, such as BLEU or macro-F1).
    """

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> Literal["label", "text"]: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def kind(self) -> Literal["proportion", "mean", "corpus"]: ...

    def signature(self) -> str:
        """All that can alter the score, `key:value` joined by `|`, library versions included."""
        ...

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        """Sufficient statistics, shape (n, k). An output of None counts as wrong (or as empty text).

        Raises a `MeasureError` naming the item for anything that cannot be scored.
        """
        ...

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """Scores of R resamples, shape (R,); without weights the score of the set, shape (1,).

        weights: shape (R, n), how often each item occurs in each resample. NaN where undefined.
        """
        ...

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        """Each item's own score in [0, 1], shape (n,); None where only the set has a score."""
        ...


def weighted_mean(values: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Mean of `values` (n,) under each row of `weights` (R, n): shape (R,), NaN for an empty row."""
    if weights is None:
        return np.array([values.mean() if len(values) else np.nan])
    totals = weights.sum(axis=1)
    return divide(weights @ values, totals, undefined=np.nan)


def weighted_sum(statistics: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Column sums of `statistics` (n, k) under each row of `weights` (R, n): shape (R, k)."""
    if weights is None:
        return np.asarray(statistics.sum(axis=0, keepdims=True))
    return np.asarray(weights @ statistics)


def divide(numerator: FloatArray, denominator: FloatArray, *, undefined: float = 0.0) -> FloatArray:
    """Element-wise quotient with `undefined` where the denominator is 0 (sklearn's zero_division)."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient = np.full(shape, undefined)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
