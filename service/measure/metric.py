"""What a metric is: per-item sufficient statistics, and how they become one number.

A metric never scores twice. Intervals, slices, paired tests and gates are sums over the statistics
that `statistics` extracted once, in the manner of sacrebleu.

What a metric reads, by its `reads`:

| reads      | an output                                        | references of the item | a missing output (None)   |
|------------|--------------------------------------------------|------------------------|---------------------------|
| label      | the predicted label                              | the true label         | is wrong                  |
| labels     | the predicted labels, any number                 | any true labels        | predicts none             |
| scores     | a number for each label of the vocabulary        | the true label         | is certain of a wrong one |
| text       | the text                                         | one or more texts      | is the empty text         |
| samples    | several answers, each None where there was none, | the right answers,     | is wrong each time        |
|            | or (number of answers, number of right ones)     | or none                |                           |
| likelihood | (negative log-likelihood in nats, tokens) of ... | ... the one text       | is left out               |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Reads = Literal["label", "labels", "scores", "text", "samples", "likelihood"]
Kind = Literal["proportion", "mean", "corpus"]

MEASURE_VERSION = 1
"""Part of every signature; raised by any change that can alter a number."""


@runtime_checkable
class Metric(Protocol):
    """One named metric. Instances are stateless and safe to share between threads.

    `reads`: what outputs and references are, see above.
    `kind`: "proportion" (a mean of 0/1), "mean" (a mean of real per-item scores), "corpus" (a function
    of sums over the set, such as BLEU or macro-F1).
    """

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> Reads: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def kind(self) -> Kind: ...

    def signature(self) -> str:
        """All that can alter the score, `key:value` joined by `|`, library versions included."""
        ...

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        """Sufficient statistics, shape (n, k), a row an item.

        labels: the vocabulary, for metrics that read labels; the others ignore it. Absent: the sorted labels of this
        call (`labels.vocabulary`). No row depends on another one, so a set scored in chunks, each with the whole set's
        vocabulary, has the same statistics to the bit as the set scored at once.
        Raises a `MeasureError` naming the item for anything that cannot be scored.
        """
        ...

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        """Scores of R resamples, shape (R,); without weights the score of the set, shape (1,).

        weights: shape (R, n), how often each item occurs in each resample. NaN where undefined.
        """
        ...

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        """Each item's own score, shape (n,); None where only the set has a score.

        In the metric's unit where the set's score is their mean, else as a share: of 1, where the metric goes to 100.
        """
        ...


def option(default: Any, parse: Callable[[str], Any]) -> Any:
    """A dataclass field that a metric's name can set, as in "rouge1:stemmer=yes". `parse` raises ValueError."""
    return field(default=default, metadata={"parse": parse})


def yes_or_no(text: str) -> bool:
    return one_of("yes", "no")(text) == "yes"


def one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"one of {', '.join(values)} is asked for")
        return text

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high} is asked for")
        return int(text)

    return parse


def base_name(name: str) -> str:
    """A metric's name without its options."""
    return name.partition(":")[0]


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
