"""pass@k: the chance that one of k samples is right, estimated without bias from n of them.

1 - C(n - c, k) / C(n, k) where c of n are right, as the product that HumanEval's code multiplies (Chen et al. 2021,
figure 3). A sample is right when it equals one of the references: a parsed answer, or "passed" where tests decide. An
output may also be how many samples there were and how many of them right (`Sampled`): no reference is asked for then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    Kind,
    Metric,
    Reads,
    base_name,
    option,
    weighted_mean,
    whole,
)
from service.measure.validation import MissingReferenceError, NotTextError, OutOfRangeError, check_aligned


class Sampled(NamedTuple):
    """Samples of an item, counted by whoever ran the tests."""

    n: int
    right: int


@dataclass(frozen=True)
class PassAtK:
    """Statistics (n, 3): samples, right ones, and the item's estimate."""

    name: str = "pass_at_k"
    k: int = option(1, whole(1, 1_000_000))
    reads: Reads = "samples"
    kind: Kind = "mean"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{base_name(self.name)}|k:{self.k}|estimate:unbiased|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        check_aligned(outputs, references)
        rows = np.zeros((len(outputs), 3))
        for index, (samples, item) in enumerate(zip(outputs, references, strict=True)):
            if samples is None:
                continue
            n, right = samples if isinstance(samples, Sampled) else _counted(samples, item, index)
            if n < self.k:
                raise OutOfRangeError(f"item {index} has {n} samples: pass@{self.k} takes {self.k}", index)
            if not 0 <= right <= n:
                raise OutOfRangeError(f"item {index} has {right} right samples of {n}", index)
            rows[index] = n, right, pass_at_k(n, right, self.k)
        return rows

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 2], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 2]


def _counted(samples: Any, references: Sequence[Any], index: int) -> Sampled:
    if isinstance(samples, str) or not hasattr(samples, "__len__"):
        raise NotTextError(f"the output of item {index} is {samples!r}, not a list of samples", index)
    if any(sample is not None and not isinstance(sample, str) for sample in samples):
        raise NotTextError(f"a sample of item {index} is neither text nor None", index)
    if not len(references):
        raise MissingReferenceError(f"item {index} has no reference", index)
    if not all(isinstance(reference, str) for reference in references):
        raise NotTextError(f"a reference of item {index} is not text", index)
    return Sampled(len(samples), sum(sample in references for sample in samples))


def pass_at_k(n: int, right: int, k: int) -> float:
    """The estimate from n samples of which `right` are; k is at most n."""
    if not (0 <= right <= n and 1 <= k <= n):
        raise OutOfRangeError(f"{right} right of {n} samples has no pass@{k}")
    if n - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - right + 1, n + 1)))


FAMILY: list[Metric] = [PassAtK()]
