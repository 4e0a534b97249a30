"""BLEU (Papineni et al. 2002) as sacrebleu computes it, on sacrebleu's scale of 0 to 100.

Tokeniser 13a, exponential smoothing, closest reference length (ties to the shorter), effective order off for the
corpus and on for a single item. sacrebleu extracts the counts; the score of resampled counts is vectorised here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, Kind, Metric, Reads, divide, weighted_sum
from service.measure.validation import check_texts

ORDER = 4


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU. Statistics (n, 10): output length, reference length, 4 matched and 4 total n-gram counts."""

    name: str = "bleu"
    reads: Reads = "text"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        return (
            f"{self.name}|nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|missing:empty"
            f"|version:{version('sacrebleu')}|measure:{MEASURE_VERSION}"
        )

    def statistics(
        self, outputs: Sequence[str | None], references: Sequence[Sequence[str]], labels: Sequence[str] | None = None
    ) -> FloatArray:
        texts, reference_texts = check_texts(outputs, references)
        from sacrebleu.metrics import BLEU  # slow to import, and only needed here

        # A scorer of our own for each call: sacrebleu's keep state and are not for sharing between threads. The counts
        # come from its extension points for metrics, which 2.x keeps; `sentence_score` would cost half as much again.
        scorer = BLEU()
        counts = np.empty((len(texts), 2 + 2 * ORDER))
        for index, (text, item) in enumerate(zip(texts, reference_texts, strict=True)):
            wanted = scorer._extract_reference_info([scorer._preprocess_segment(one) for one in item])
            counts[index] = scorer._compute_segment_statistics(scorer._preprocess_segment(text), wanted)
        return counts

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return bleu_of_counts(weighted_sum(statistics, weights), effective_order=False)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return bleu_of_counts(statistics, effective_order=True) / 100.0


def bleu_of_counts(counts: FloatArray, *, effective_order: bool) -> FloatArray:
    """BLEU in [0, 100] of each row of counts (R, 10), as `sacrebleu.BLEU.compute_bleu` with smoothing 'exp'.

    effective_order: average over the n-gram orders the output is long enough for, instead of always four.
    """
    output_length, reference_length = counts[:, 0], counts[:, 1]
    matched, total = counts[:, 2 : 2 + ORDER], counts[:, 2 + ORDER :]
    reachable = total > 0
    missed = reachable & (matched == 0)
    # The k-th order without a match counts as 1 / 2^k of a match.
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), matched)
    precision = divide(100.0 * smoothed, total)
    logs = np.log(precision, out=np.full(precision.shape, -9999999999.0), where=precision > 0)
    orders = reachable.sum(axis=1) if effective_order else np.full(len(counts), ORDER)
    used = np.arange(ORDER) < orders[:, None]
    mean_log = divide(np.where(used, logs, 0.0).sum(axis=1), orders.astype(np.float64))
    ratio = divide(reference_length, output_length, undefined=np.inf)
    brevity = np.where(output_length < reference_length, np.exp(1.0 - np.maximum(ratio, 1.0)), 1.0)
    scores: FloatArray = np.where(matched.any(axis=1), brevity * np.exp(mean_log), 0.0)
    return scores


FAMILY: list[Metric] = [Bleu()]
