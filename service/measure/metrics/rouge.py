"""ROUGE-1, -2, -L and -Lsum (Lin 2004) with the numbers of rouge_score 0.1.2, stemmer off.

"rouge1:stemmer=yes" stems tokens of more than three letters with NLTK's Porter stemmer, as rouge_score does.

The score of a set is the true mean of item F1 scores (rouge_score's own aggregator reports a median of random
resamples). With several references each item keeps the one of best F1, per type, as `RougeScorer.score_multi` does.

rouge_score reads ASCII letters and digits only, so two identical Japanese texts score 0. A reference without any
readable token is refused here, by item; use chrF for such scripts.

Property tests hold this code to rouge_score's numbers, bit for bit. Longest common subsequences come from a
bit-parallel table (Hyyrö 2004): one machine-word operation covers 64 cells of rouge_score's quadratic one, for the
same lengths and, in ROUGE-Lsum, the same choice among equally long subsequences. The first three types are counted
together, and share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from itertools import chain, islice
from string import ascii_lowercase, digits
from typing import Any, cast

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
    weighted_mean,
    yes_or_no,
)
from service.measure.overlap import PAIRS_AT_ONCE, lcs_rows, token_overlap
from service.measure.texts import Parsed, TextMetric
from service.measure.validation import UnreadableTextError

MATCHES = "rouge_score-0.1.2"
_BETWEEN = "\0"
_READABLE = bytes(code if chr(code) in f"{ascii_lowercase}{digits}\n{_BETWEEN}" else 32 for code in range(256))

Tokens = list[str]


@dataclass(frozen=True)
class Block:
    """Pairs of an output and one of its references, as ROUGE reads them, and how many pairs each item has (n,)."""

    outputs: list[str]
    references: list[str]
    several: IntArray

    @cached_property
    def counts(self) -> IntArray:
        return token_overlap(self.outputs, self.references)


@dataclass(frozen=True)
class Rouge(TextMetric[tuple[str, ...]]):
    """Mean F1 of one ROUGE type. Statistics (n, 3): precision, recall, F1 of each item's best reference."""

    name: str
    overlap: Callable[[Block], IntArray]
    stemmer: bool = option(False, yes_or_no)
    reads: Reads = "text"
    kind: Kind = "mean"
    higher_is_better: bool = True

    def signature(self) -> str:
        stemmer = f"porter-nltk-{version('nltk')}" if self.stemmer else "no"
        return (
            f"{base_name(self.name)}|value:f1|stemmer:{stemmer}|split:newline|references:best|missing:empty"
            f"|matches:{MATCHES}|measure:{MEASURE_VERSION}"
        )

    @property
    def reader(self) -> str:
        return f"rouge|stemmer:{self.stemmer}"

    def read(self, references: list[list[str]]) -> list[tuple[str, ...]]:
        texts = [text for item in references for text in item]
        found = _readable(texts)
        if not all(map(str.strip, found)):
            _check_readable(references, found)
        stemmed = self._stemmed(found)
        if len(texts) == len(references):
            return list(zip(stemmed, strict=True))
        read = iter(stemmed)
        return [tuple(islice(read, len(item))) for item in references]

    def read_outputs(self, outputs: list[str]) -> list[str]:
        return self._stemmed(_readable(outputs))

    def count(self, outputs: Parsed[str], references: Parsed[tuple[str, ...]]) -> FloatArray:
        if references.derived.get("outputs") is not outputs:
            references.derived.update(outputs=outputs, blocks=_blocks(outputs.items, references.items))
        return np.concatenate([self._scores(block) for block in references.derived["blocks"]])

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return weighted_mean(statistics[:, 2], weights)

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return statistics[:, 2]

    def _scores(self, block: Block) -> FloatArray:
        shared, in_output, in_reference = self.overlap(block).T
        precision, recall = shared / np.maximum(in_output, 1), shared / np.maximum(in_reference, 1)
        scores = np.column_stack([precision, recall, divide(2 * precision * recall, precision + recall)])
        if len(scores) == len(block.several):
            return scores
        starts = np.cumsum(block.several) - block.several
        # The first of equals, as rouge_score.
        return scores[
            [at + int(np.argmax(scores[at : at + size, 2])) for at, size in zip(starts, block.several, strict=True)]
        ]

    def _stemmed(self, texts: list[str]) -> list[str]:
        if not self.stemmer:
            return texts
        return ["\n".join(" ".join(map(_stem, line.split())) for line in text.split("\n")) for text in texts]


@lru_cache(maxsize=1 << 16)
def _stem(token: str) -> str:
    return cast(str, _porter().stem(token)) if len(token) > 3 else token


@cache
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer  # slow to import, and only needed here

    return PorterStemmer()


def _blocks(outputs: list[str], references: list[tuple[str, ...]]) -> list[Block]:
    blocks = []
    for at in range(0, len(outputs), PAIRS_AT_ONCE):
        ours, theirs = outputs[at : at + PAIRS_AT_ONCE], references[at : at + PAIRS_AT_ONCE]
        several = np.fromiter(map(len, theirs), np.int64, len(theirs))
        pairs = [output for output, item in zip(ours, theirs, strict=True) for _ in item]
        blocks.append(Block(pairs, [one for item in theirs for one in item], several))
    return blocks


def _readable(texts: list[str]) -> list[str]:
    """What remains when rouge_score lower-cases texts and blanks all but ASCII letters and digits; many in one go.

    Texts, not lists of tokens: the garbage collector would walk those again and again.
    """
    return [
        text for at in range(0, len(texts), PAIRS_AT_ONCE) for text in _readable_piece(texts[at : at + PAIRS_AT_ONCE])
    ]


def _readable_piece(texts: list[str]) -> list[str]:
    joined = _BETWEEN.join(texts)
    if joined.count(_BETWEEN) >= len(texts):
        joined = _BETWEEN.join(text.replace(_BETWEEN, " ") for text in texts)
    return joined.lower().encode("ascii", "replace").translate(_READABLE).decode("ascii").split(_BETWEEN)


def _check_readable(references: list[list[str]], readable: list[str]) -> None:
    texts = ((index, text) for index, item in enumerate(references) for text in item)
    for (index, text), left in zip(texts, readable, strict=True):
        if not left.strip() and any(character.isalnum() for character in text):
            raise UnreadableTextError(
                f"ROUGE reads ASCII letters and digits only and would score a reference of item {index} 0 whatever the "
                f"output: {text[:40]!r}. Use chrf for this script.",
                index,
            )


def _ngrams(order: int) -> Callable[[Block], IntArray]:
    def overlap(block: Block) -> IntArray:
        totals = np.maximum(block.counts[:, :2] - (order - 1), 0)
        return np.column_stack([block.counts[:, 1 + order], totals])

    return overlap


def _longest_common(block: Block) -> IntArray:
    return block.counts[:, [4, 0, 1]]


def _union_of_longest_common(block: Block) -> IntArray:
    counts = [_summary_level(*map(_lines, pair)) for pair in zip(block.outputs, block.references, strict=True)]
    return np.array(counts, dtype=np.int64)


def _lines(text: str) -> list[Tokens]:
    return [line.split() for line in text.split("\n") if line.strip()]


def _summary_level(ours: list[Tokens], theirs: list[Tokens]) -> tuple[int, int, int]:
    """Section 3.2 of the paper: union over output lines, each token counted no more than it occurs."""
    left_ours, left_theirs = (Counter(chain.from_iterable(lines)) for lines in (ours, theirs))
    hits = 0
    for line in theirs:
        matched = sorted({position for other in ours for position in _lcs_positions(line, other)})
        for token in (line[position] for position in matched):
            if left_ours[token] > 0 and left_theirs[token] > 0:
                hits += 1
                left_ours[token] -= 1
                left_theirs[token] -= 1
    return hits, sum(map(len, ours)), sum(map(len, theirs))


def _lcs_positions(reference: Tokens, output: Tokens) -> list[int]:
    """Positions in `reference` of the longest common subsequence rouge_score would pick."""
    rows = lcs_rows(reference, output)
    i, j, positions = len(reference), len(output), []
    while i > 0 and j > 0:
        if reference[i - 1] == output[j - 1]:
            positions.append(i - 1)
            i, j = i - 1, j - 1
        elif (rows[i] & ((1 << (j - 1)) - 1)).bit_count() > (rows[i - 1] & ((1 << j) - 1)).bit_count():
            j -= 1
        else:
            i -= 1
    return positions


FAMILY: list[Metric] = [
    Rouge("rouge1", _ngrams(1)),
    Rouge("rouge2", _ngrams(2)),
    Rouge("rougeL", _longest_common),
    Rouge("rougeLsum", _union_of_longest_common),
]
