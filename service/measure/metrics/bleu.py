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
from service.measure.texts import TextMetric

ORDER = 4

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class BleuReferences:
    """How often each n-gram occurs at most in a reference of an item, and the references' lengths in tokens."""

    ngrams: Counter[Ngram]
    lengths: list[int]


@dataclass(frozen=True)
class Bleu(TextMetric[BleuReferences]):
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

    def read(self, references: list[list[str]]) -> list[BleuReferences]:
        tokens = self._tokeniser()
        return [self._of_item([tokens(text) for text in item]) for item in references]

    def count(self, outputs: list[str], references: list[BleuReferences]) -> FloatArray:
        tokens = self._tokeniser()
        return np.array([_counts(tokens(text), item) for text, item in zip(outputs, references, strict=True)], float)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return bleu_of_counts(weighted_sum(statistics, weights), effective_order=False)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return bleu_of_counts(statistics, effective_order=True) / 100.0

    def _tokeniser(self) -> Callable[[str], list[str]]:
        from sacrebleu.metrics import BLEU  # slow to import, and only needed here

        # A scorer of our own for each call: sacrebleu's keep state and are not for sharing between threads.
        scorer = BLEU(tokenize=self.tokenize, lowercase=self.lowercase)
        return lambda text: scorer._preprocess_segment(text).split()

    @staticmethod
    def _of_item(references: list[list[str]]) -> BleuReferences:
        most = _ngrams(references[0])
        for tokens in references[1:]:
            most |= _ngrams(tokens)
        return BleuReferences(most, [len(tokens) for tokens in references])


def _ngrams(tokens: list[str]) -> Counter[Ngram]:
    second, third, fourth = tokens[1:], tokens[2:], tokens[3:]
    found: Counter[Ngram] = Counter(zip(tokens, strict=True))
    found.update(zip(tokens, second, strict=False))
    found.update(zip(tokens, second, third, strict=False))
    found.update(zip(tokens, second, third, fourth, strict=False))
    return found


def _counts(tokens: list[str], references: BleuReferences) -> list[int]:
    n, ngrams, wanted = len(tokens), _ngrams(tokens), references.ngrams
    matched = [0] * ORDER
    for ngram in ngrams.keys() & wanted.keys():
        ours, theirs = ngrams[ngram], wanted[ngram]
        matched[len(ngram) - 1] += ours if ours < theirs else theirs
    closest = min(references.lengths, key=lambda length: (abs(length - n), length))
    return [n, closest, *matched, *(max(n - order, 0) for order in range(ORDER))]


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
