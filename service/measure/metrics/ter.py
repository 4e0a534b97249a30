"""TER (Snover et al. 2006) as sacrebleu computes it: edits, shifts included, per 100 words of the references.

Case ignored, no normalisation, punctuation kept. Of several references the nearest one counts, against their mean
length. Lower is better, and an output much longer than its reference goes beyond 100.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    Kind,
    Metric,
    Reads,
    base_name,
    divide,
    option,
    weighted_sum,
    yes_or_no,
)
from service.measure.texts import Parsed, TextMetric


@dataclass(frozen=True)
class Ter(TextMetric[dict[str, Any]]):
    """Corpus TER. Statistics (n, 2): edits to the nearest reference, mean length of the references in words."""

    name: str = "ter"
    normalized: bool = option(False, yes_or_no)
    no_punct: bool = option(False, yes_or_no)
    asian_support: bool = option(False, yes_or_no)
    case_sensitive: bool = option(False, yes_or_no)
    reads: Reads = "text"
    kind: Kind = "corpus"
    higher_is_better: bool = False

    def signature(self) -> str:
        case, norm, punct, asian = (
            "mixed" if self.case_sensitive else "lc",
            *("yes" if one else "no" for one in (self.normalized, not self.no_punct, self.asian_support)),
        )
        return (
            f"{base_name(self.name)}|nrefs:var|case:{case}|tok:tercom|norm:{norm}|punct:{punct}|asian:{asian}"
            f"|missing:empty|version:{version('sacrebleu')}|measure:{MEASURE_VERSION}"
        )

    def read(self, references: list[list[str]]) -> list[dict[str, Any]]:
        scorer = self._scorer()
        return [scorer._extract_reference_info(item) for item in references]

    def count(self, outputs: Parsed[str], references: Parsed[dict[str, Any]]) -> FloatArray:
        scorer = self._scorer()
        rows = [
            scorer._compute_segment_statistics(scorer._preprocess_segment(text), item)
            for text, item in zip(outputs.items, references.items, strict=True)
        ]
        return np.array(rows, dtype=np.float64)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        sums = weighted_sum(statistics, weights)
        return 100.0 * _rate(sums[:, 0], sums[:, 1])

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return _rate(statistics[:, 0], statistics[:, 1])

    def _scorer(self) -> Any:
        from sacrebleu.metrics import TER  # slow to import, and only needed here

        # One for each call, and its counts through sacrebleu's extension points for metrics, which 2.x keeps.
        return TER(
            normalized=self.normalized,
            no_punct=self.no_punct,
            asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )


def _rate(edits: FloatArray, length: FloatArray) -> FloatArray:
    """Edits per word; 1 for a text where the reference is empty, 0 where both are."""
    return np.where(length > 0, divide(edits, length), (edits > 0).astype(np.float64))


FAMILY: list[Metric] = [Ter()]
