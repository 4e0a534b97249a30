"""chrF (Popović 2015) as sacrebleu computes it, on sacrebleu's scale of 0 to 100.

Character n-grams up to 6, no word n-grams, beta 2, white space ignored, effective order on. Of several references the
one with the best item score counts. It needs no tokeniser, so it reads every script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, divide, weighted_sum
from service.measure.validation import check_texts

ORDER = 6
BETA = 2


@dataclass(frozen=True)
class Chrf:
    """Corpus chrF2. Statistics (n, 18): n-grams of the output, of the reference and in both, for each of 6 orders."""

    name: str = "chrf"
    reads: Reads = "text"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        return (
            f"{self.name}{BETA}|nrefs:var|case:mixed|eff:yes|nc:{ORDER}|nw:0|space:no|missing:empty"
            f"|version:{version('sacrebleu')}|measure:{MEASURE_VERSION}"
        )

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        texts, reference_texts = check_texts(outputs, references)
        from sacrebleu.metrics import CHRF  # slow to import, and only needed here

        # A scorer of our own for each call, and its counts through sacrebleu's extension points, as in `bleu`.
        scorer = CHRF(char_order=ORDER, word_order=0, beta=BETA)
        counts = np.empty((len(texts), 3 * ORDER))
        for index, (text, item) in enumerate(zip(texts, reference_texts, strict=True)):
            counts[index] = scorer._compute_segment_statistics(text, scorer._extract_reference_info(item))
        return counts

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return chrf_of_counts(weighted_sum(statistics, weights))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return chrf_of_counts(statistics) / 100.0


def chrf_of_counts(counts: FloatArray) -> FloatArray:
    """chrF2 in [0, 100] of each row of counts (R, 18), as `sacrebleu.CHRF` with effective order."""
    output, reference, matched = (counts[:, offset::3] for offset in range(3))
    counted = (output > 0) & (reference > 0)
    orders = counted.sum(axis=1).astype(np.float64)
    precision = divide(np.where(counted, divide(matched, output), 0.0).sum(axis=1), orders)
    recall = divide(np.where(counted, divide(matched, reference), 0.0).sum(axis=1), orders)
    factor = float(BETA**2)
    return 100.0 * divide((1 + factor) * precision * recall, factor * precision + recall)


FAMILY: list[Metric] = [Chrf()]
