"""chrF (Popović 2015) and chrF++ (2017) as sacrebleu computes them, on sacrebleu's scale of 0 to 100.

Character n-grams up to 6, beta 2, white space ignored, effective order on; chrF++ adds words and pairs of words. Of
several references the one with the best item score counts. It needs no tokeniser, so it reads every script.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from service.measure.metric import (
    MEASURE_VERSION,
    FloatArray,
    IntArray,
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
from service.measure.overlap import PAIRS_AT_ONCE, Codes, ngram_totals, of_characters, of_tokens, shared_ngrams
from service.measure.texts import Parsed, TextMetric

ORDER = 6
BETA = 2
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True)
class Read:
    """A text without white space, and its words where words count."""

    characters: str
    words: list[str]


@dataclass(frozen=True)
class Chrf(TextMetric[list[Read]]):
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

    def read(self, references: list[list[str]]) -> list[list[Read]]:
        return [[self._read(text) for text in item] for item in references]

    def read_outputs(self, outputs: list[str]) -> list[Read]:
        return [self._read(text) for text in outputs]

    def count(self, outputs: Parsed[Read], references: Parsed[list[Read]]) -> FloatArray:
        counts = np.empty((len(outputs), 3 * (ORDER + self.word_order)))
        for at in range(0, len(outputs), PAIRS_AT_ONCE // 2):
            block = slice(at, at + PAIRS_AT_ONCE // 2)
            counts[block] = self._best(outputs.items[block], references.items[block])
        return counts

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return chrf_of_counts(weighted_sum(statistics, weights))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return chrf_of_counts(statistics) / 100.0

    def _read(self, text: str) -> Read:
        words = (text.lower() if self.lowercase else text).split()
        return Read(
            "".join(words), [part for word in words for part in _split_punctuation(word)] if self.word_order else []
        )

    def _best(self, outputs: list[Read], references: list[list[Read]]) -> FloatArray:
        pairs = [output for output, item in zip(outputs, references, strict=True) for _ in item]
        rows = self._matches(pairs, [one for item in references for one in item])
        if len(pairs) == len(outputs):
            return rows
        best, at = [], 0
        for item in references:
            # The first of equals, as in sacrebleu.
            best.append(max(range(at, at + len(item)), key=lambda place: _f_score(rows[place].tolist())))
            at += len(item)
        return rows[best]

    def _matches(self, outputs: list[Read], references: list[Read]) -> FloatArray:
        ours, theirs = of_characters([one.characters for one in outputs], [one.characters for one in references])
        parts = [_matches(ours, theirs, ORDER)]
        if self.word_order:
            ours, theirs = of_tokens([one.words for one in outputs], [one.words for one in references])
            parts.append(_matches(ours, theirs, self.word_order))
        return np.hstack(parts).astype(np.float64)


def _matches(ours: Codes, theirs: Codes, orders: int) -> IntArray:
    """Columns by order: n-grams of the output, of the reference and in both."""
    in_output, in_reference = ngram_totals(ours, orders), ngram_totals(theirs, orders)
    # An output's n-grams are not held against it where the reference has none.
    in_output[in_reference == 0] = 0
    columns = [in_output, in_reference, shared_ngrams(ours, theirs, orders)]
    return np.stack(columns, axis=2).reshape(len(in_output), 3 * orders)


def _split_punctuation(word: str) -> list[str]:
    """A word apart from its last mark, or else its first one (so '(hi)' keeps the first)."""
    if len(word) > 1 and word[-1] in _PUNCTUATION:
        return [word[:-1], word[-1]]
    if len(word) > 1 and word[0] in _PUNCTUATION:
        return [word[0], word[1:]]
    return [word]


def _f_score(row: list[float]) -> float:
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
