"""What people said of outputs: the share that they called good, and the share of comparisons that a side won.

Human judgements become statistics where a review is closed. Judgements made elsewhere come in as predictions whose
parsed answer is `good` or `bad`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, Metric, Reads, weighted_mean
from service.measure.validation import NotALabelError, check_texts

GOOD, BAD = "good", "bad"


@dataclass(frozen=True)
class HumanShare:
    """A share of judgements, the same weight for each item. Statistics (n, 1): the item's own share.

    With one judgement an item the shares are 0, 1 (or 1/2, a tie), and `kind` is "proportion". With several they are
    means of judgements that belong together: `kind` is "mean", whose intervals and tests take an item as one unit.
    """

    name: str
    kind: Literal["proportion", "mean", "corpus"]
    reads: Reads = "text"
    higher_is_better: bool = True

    def signature(self) -> str:
        judgements = "one" if self.kind == "proportion" else "mean"
        return f"{self.name}|judgements:{judgements}|missing:wrong|measure:{MEASURE_VERSION}"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Sequence[Any]], labels: Sequence[Any] | None = None
    ) -> FloatArray:
        """1 for `good`, 0 for `bad` or nothing; anything else is refused. References are not read."""
        check_texts(outputs, references)
        for index, said in enumerate(outputs):
            if said not in (GOOD, BAD, None):
                raise NotALabelError(f"item {index} is judged {said!r}: people say '{GOOD}' or '{BAD}'", index)
        return np.array([[float(said == GOOD)] for said in outputs])

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 0], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 0]


HUMAN_GOOD = HumanShare("human_good", "proportion")
HUMAN_GOOD_MEAN = HumanShare("human_good_mean", "mean")
# No metrics of a single model: what one side won, the other lost.
HUMAN_WINS = HumanShare("human_wins", "proportion")
HUMAN_WINS_MEAN = HumanShare("human_wins_mean", "mean")

FAMILY: list[Metric] = [HUMAN_GOOD, HUMAN_GOOD_MEAN]
