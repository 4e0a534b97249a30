"""chrF (Popović 2015) and chrF++ (2017) as sacrebleu computes them, on sacrebleu's scale of 0 to 100.

Character n-grams up to 6, beta 2, white space ignored, effective order on; chrF++ adds words and pairs of words. Of
several references the one with the best item score counts. It needs no tokeniser, so it reads every script.
"""

from __future__ import annotations

from collections import Counter
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
    option,
    weighted_sum,
    whole,
    yes_or_no,
)
from service.measure.texts import TextMetric

ORDER = 6
BETA = 2
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

Ngrams = list[Counter[str]]
"""A text's n-grams and how often each occurs: of characters for each order, then of words."""


@dataclass(frozen=True)
class Chrf(TextMetric[list[Ngrams]]):
    """Corpus chrF2. Statistics (n, 3 k): n-grams of the output, of the reference and in both, for each of k orders."""

    name: str = "chrf"
    word_order: int = option(0, whole(0, 4))
    lowercase: bool = option(False, yes_or_no)
    reads: Reads = "text"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        case = "lc" if self.lowercase else "mixed"
        return (
            f"{base_name(self.name).replace('chrf', f'chrf{BETA}')}|nrefs:var|case:{case}|eff:yes|nc:{ORDER}"
            f"|nw:{self.word_order}|space:no|missing:empty|version:{version('sacrebleu')}|measure:{MEASURE_VERSION}"
        )

    def read(self, references: list[list[str]]) -> list[list[Ngrams]]:
        return [[self._ngrams(text) for text in item] for item in references]

    def count(self, outputs: list[str], references: list[list[Ngrams]]) -> FloatArray:
        counts = np.empty((len(outputs), 3 * (ORDER + self.word_order)))
        for index, (text, item) in enumerate(zip(outputs, references, strict=True)):
            ngrams = self._ngrams(text)
            rows = [_matches(ngrams, reference) for reference in item]
            # The first of equals, as in sacrebleu.
            counts[index] = rows[0] if len(rows) == 1 else max(rows, key=_f_score)
        return counts

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return chrf_of_counts(weighted_sum(statistics, weights))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return chrf_of_counts(statistics) / 100.0

    def _ngrams(self, text: str) -> Ngrams:
        text = text.lower() if self.lowercase else text
        words = text.split()
        characters = "".join(words)
        starts = range(len(characters))
        found = [Counter([*characters])]
        found += (Counter([characters[at : at + order] for at in starts[: 1 - order]]) for order in range(2, ORDER + 1))
        if self.word_order:
            tokens = [token for word in words for token in _split_punctuation(word)]
            found += (
                Counter(" ".join(tokens[at : at + order]) for at in range(len(tokens) - order + 1))
                for order in range(1, self.word_order + 1)
            )
        return found


def _split_punctuation(word: str) -> list[str]:
    """A word apart from its last mark, or else its first one (so '(hi)' keeps the first)."""
    if len(word) > 1 and word[-1] in _PUNCTUATION:
        return [word[:-1], word[-1]]
    if len(word) > 1 and word[0] in _PUNCTUATION:
        return [word[0], word[1:]]
    return [word]


def _matches(output: Ngrams, reference: Ngrams) -> list[int]:
    row: list[int] = []
    for ours, theirs in zip(output, reference, strict=True):
        matched = 0
        for ngram in ours.keys() & theirs.keys():
            one, other = ours[ngram], theirs[ngram]
            matched += one if one < other else other
        # An output's n-grams are not held against it where the reference has none.
        row += (ours.total() if theirs else 0, theirs.total(), matched)
    return row


def _f_score(row: list[int]) -> float:
    """chrF2 of one row of counts, with sacrebleu's own order of operations: it decides between references."""
    precision = recall = 0.0
    orders = 0
    for output, reference, matched in zip(row[::3], row[1::3], row[2::3], strict=True):
        if output > 0 and reference > 0:
            precision += matched / output
            recall += matched / reference
            orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 100 * ((1 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def chrf_of_counts(counts: FloatArray) -> FloatArray:
    """chrF2 in [0, 100] of each row of counts (R, 3 k), as `sacrebleu.CHRF` with effective order."""
    output, reference, matched = (counts[:, offset::3] for offset in range(3))
    counted = (output > 0) & (reference > 0)
    orders = counted.sum(axis=1).astype(np.float64)
    precision = divide(np.where(counted, divide(matched, output), 0.0).sum(axis=1), orders)
    recall = divide(np.where(counted, divide(matched, reference), 0.0).sum(axis=1), orders)
    factor = float(BETA**2)
    return 100.0 * divide((1 + factor) * precision * recall, factor * precision + recall)


FAMILY: list[Metric] = [Chrf(), Chrf("chrf++", word_order=2)]
