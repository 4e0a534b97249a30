"""BLEU (Papineni et al. 2002) as sacrebleu computes it, on sacrebleu's scale of 0 to 100.

Tokeniser 13a, exponential smoothing, closest reference length (ties to the shorter), effective order off for the
corpus and on for a single item. sacrebleu tokenises; counts and the score of resampled counts are made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    Kind,
    Metric,
    Reads,
    base_name,
    divide,
    one_of,
    option,
    weighted_sum,
    yes_or_no,
)
from service.measure.overlap import PAIRS_AT_ONCE, ngram_totals, of_tokens, shared_ngrams
from service.measure.texts import Parsed, TextMetric

ORDER = 4

Tokens = list[str]


@dataclass(frozen=True)
class Bleu(TextMetric[list[Tokens]]):
    """Corpus BLEU. Statistics (n, 10): output length, reference length, 4 matched and 4 total n-gram counts."""

    name: str = "bleu"
    tokenize: str = option("13a", one_of("13a", "intl", "zh", "char", "none"))
    lowercase: bool = option(False, yes_or_no)
    reads: Reads = "text"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        case = "lc" if self.lowercase else "mixed"
        return (
            f"{base_name(self.name)}|nrefs:var|case:{case}|eff:no|tok:{self.tokenize}|smooth:exp|missing:empty"
            f"|version:{version('sacrebleu')}|measure:{MEASURE_VERSION}"
        )

    def read(self, references: list[list[str]]) -> list[list[Tokens]]:
        tokens = self._tokeniser()
        return [[tokens(text) for text in item] for item in references]

    def count(self, outputs: Parsed[str], references: Parsed[list[Tokens]]) -> FloatArray:
        tokens = self._tokeniser()
        counts = np.empty((len(outputs), 2 + 2 * ORDER))
        for at in range(0, len(outputs), PAIRS_AT_ONCE):
            block = [tokens(text) for text in outputs.items[at : at + PAIRS_AT_ONCE]]
            counts[at : at + len(block)] = _counts(block, references.items[at : at + PAIRS_AT_ONCE])
        return counts

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return bleu_of_counts(weighted_sum(statistics, weights), effective_order=False)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return bleu_of_counts(statistics, effective_order=True) / 100.0

    def _tokeniser(self) -> Callable[[str], Tokens]:
        from sacrebleu.metrics import BLEU  # slow to import, and only needed here

        # A scorer of our own for each call: sacrebleu's keep state and are not for sharing between threads.
        scorer = BLEU(tokenize=self.tokenize, lowercase=self.lowercase)
        return lambda text: scorer._preprocess_segment(text).split()


def _counts(outputs: list[Tokens], references: list[list[Tokens]]) -> FloatArray:
    ours, theirs = of_tokens(outputs, [item[0] for item in references])
    closest = theirs.lengths.copy()
    matched = shared_ngrams(ours, theirs, ORDER)
    for at, item in enumerate(references):
        if len(item) > 1:
            n = len(outputs[at])
            closest[at] = min(map(len, item), key=lambda length: (abs(length - n), length))
            matched[at] = _matched(outputs[at], item)
    return np.column_stack([ours.lengths, closest, matched, ngram_totals(ours, ORDER)]).astype(np.float64)


def _matched(tokens: Tokens, references: list[Tokens]) -> list[int]:
    """Matched n-grams where there are several references: each no more often than in the one that has it most often."""
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= _ngrams(reference)
    matched = [0] * ORDER
    for ngram, count in _ngrams(tokens).items():
        matched[len(ngram) - 1] += min(count, most[ngram])
    return matched


def _ngrams(tokens: Tokens) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(tokens[at : at + order]) for order in range(1, ORDER + 1) for at in range(len(tokens) - order + 1)
    )


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
