"""ROUGE-1, -2, -L and -Lsum (Lin 2004) with the numbers of rouge_score 0.1.2, stemmer off.

"rouge1:stemmer=yes" stems tokens of more than three letters with NLTK's Porter stemmer, as rouge_score does.

The score of a set is the true mean of item F1 scores (rouge_score's own aggregator reports a median of random
resamples). With several references each item keeps the one of best F1, per type, as `RougeScorer.score_multi` does.

rouge_score reads ASCII letters and digits only, so two identical Japanese texts score 0. A reference without any
readable token is refused here, by item; use chrF for such scripts.

Property tests hold this code to rouge_score's numbers, bit for bit. Longest common subsequences come from a
bit-parallel table (Hyyrö 2004): one machine-word operation covers 64 cells of rouge_score's quadratic one, for the
same lengths and, in ROUGE-Lsum, the same choice among equally long subsequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from itertools import chain
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
from service.measure.overlap import (
    PAIRS_AT_ONCE,
    WORD_BITS,
    Codes,
    longest_common,
    ngram_totals,
    of_tokens,
    shared_ngrams,
)
from service.measure.texts import Parsed, TextMetric
from service.measure.validation import UnreadableTextError

MATCHES = "rouge_score-0.1.2"
_BETWEEN = "\0"
_READABLE = bytes(code if chr(code) in f"{ascii_lowercase}{digits}\n{_BETWEEN}" else 32 for code in range(256))

Tokens = tuple[str, ...]
Lines = tuple[Tokens, ...]
"""A text as the tokens of its lines; only ROUGE-Lsum looks at where lines end.

Tuples, since Python's garbage collector soon leaves tuples of texts alone: lists it would walk again and again, which
took 40 % of the time.
"""


@dataclass(frozen=True)
class Block:
    """Pairs of an output and one of its references, and how many pairs each item has (n,)."""

    outputs: list[Lines]
    references: list[Lines]
    several: IntArray

    @cached_property
    def codes(self) -> tuple[Codes, Codes]:
        ours, theirs = of_tokens(_joined_each(self.outputs), _joined_each(self.references))
        return ours, theirs


@dataclass(frozen=True)
class Rouge(TextMetric[list[Lines]]):
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

    def read(self, references: list[list[str]]) -> list[list[Lines]]:
        texts = [text for item in references for text in item]
        found = _parse(texts)
        if not all(map(any, found)):
            _check_readable(references, found)
        stemmed = self._stemmed(found)
        if len(texts) == len(references):
            return [[lines] for lines in stemmed]
        read = iter(stemmed)
        return [[next(read) for _ in item] for item in references]

    def read_outputs(self, outputs: list[str]) -> list[Lines]:
        return self._stemmed(_parse(outputs))

    def count(self, outputs: Parsed[Lines], references: Parsed[list[Lines]]) -> FloatArray:
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

    def _stemmed(self, texts: list[Lines]) -> list[Lines]:
        if not self.stemmer:
            return texts
        return [
            tuple(tuple(_stem(token) if len(token) > 3 else token for token in line) for line in text) for text in texts
        ]


@lru_cache(maxsize=1 << 16)
def _stem(token: str) -> str:
    return cast(str, _porter().stem(token))


@cache
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer  # slow to import, and only needed here

    return PorterStemmer()


def _blocks(outputs: list[Lines], references: list[list[Lines]]) -> list[Block]:
    blocks = []
    for at in range(0, len(outputs), PAIRS_AT_ONCE):
        ours, theirs = outputs[at : at + PAIRS_AT_ONCE], references[at : at + PAIRS_AT_ONCE]
        several = np.fromiter(map(len, theirs), np.int64, len(theirs))
        pairs = [output for output, item in zip(ours, theirs, strict=True) for _ in item]
        blocks.append(Block(pairs, [one for item in theirs for one in item], several))
    return blocks


def _parse(texts: list[str]) -> list[Lines]:
    """What remains when rouge_score lower-cases texts and blanks all but ASCII letters and digits; all in one go."""
    joined = _BETWEEN.join(texts)
    if joined.count(_BETWEEN) >= len(texts):
        joined = _BETWEEN.join(text.replace(_BETWEEN, " ") for text in texts)
    readable = joined.lower().encode("ascii", "replace").translate(_READABLE).decode("ascii")
    return [
        tuple(tuple(line.split()) for line in text.split("\n")) if "\n" in text else (tuple(text.split()),)
        for text in readable.split(_BETWEEN)
    ]


def _check_readable(references: list[list[str]], parsed: list[Lines]) -> None:
    texts = ((index, text) for index, item in enumerate(references) for text in item)
    for (index, text), lines in zip(texts, parsed, strict=True):
        if not any(lines) and any(character.isalnum() for character in text):
            raise UnreadableTextError(
                f"ROUGE reads ASCII letters and digits only and would score a reference of item {index} 0 whatever the "
                f"output: {text[:40]!r}. Use chrf for this script.",
                index,
            )


def _joined_each(texts: list[Lines]) -> list[Tokens]:
    return [lines[0] if len(lines) == 1 else _joined(lines) for lines in texts]


def _joined(lines: Lines) -> Tokens:
    # A line break separates tokens, so the tokens of the lines are the tokens of the text.
    return lines[0] if len(lines) == 1 else tuple(chain.from_iterable(lines))


def _ngrams(order: int) -> Callable[[Block], IntArray]:
    def overlap(block: Block) -> IntArray:
        ours, theirs = block.codes
        totals = (ngram_totals(codes, order)[:, -1] for codes in (ours, theirs))
        return np.column_stack([shared_ngrams(ours, theirs, order, lowest=order)[:, -1], *totals])

    return overlap


def _longest_common(block: Block) -> IntArray:
    ours, theirs = block.codes
    long = np.flatnonzero(ours.lengths > WORD_BITS)
    shared = longest_common(ours, theirs)
    for at in long:
        # Longer than a machine word: Python's integers have any length.
        shared[at] = _lcs_rows(_joined(block.references[at]), _joined(block.outputs[at]))[-1].bit_count()
    return np.column_stack([shared, ours.lengths, theirs.lengths])


def _each(overlap: Callable[[Lines, Lines], tuple[int, int, int]]) -> Callable[[Block], IntArray]:
    return lambda block: np.array([*map(overlap, block.outputs, block.references)], dtype=np.int64)


def _union_of_longest_common(output: Lines, reference: Lines) -> tuple[int, int, int]:
    """Summary level, section 3.2 of the paper: union over output lines, each token counted no more than it occurs."""
    ours, theirs = (tuple(line for line in lines if line) for lines in (output, reference))
    left_ours, left_theirs = Counter(_joined(ours)), Counter(_joined(theirs))
    hits = 0
    for line in theirs:
        matched = sorted({position for other in ours for position in _lcs_positions(line, other)})
        for token in (line[position] for position in matched):
            if left_ours[token] > 0 and left_theirs[token] > 0:
                hits += 1
                left_ours[token] -= 1
                left_theirs[token] -= 1
    return hits, sum(map(len, ours)), sum(map(len, theirs))


def _lcs_rows(reference: Tokens, output: Tokens) -> list[int]:
    """Row i, bit j: whether the longest common subsequence of reference[:i] grows with output[j].

    The length for reference[:i] and output[:j] is the number of set bits of row i below j.
    """
    places: dict[str, int] = {}
    for position, token in enumerate(output):
        places[token] = places.get(token, 0) | 1 << position
    full = (1 << len(output)) - 1
    vector, rows = full, [0]
    for token in reference:
        matches = vector & places.get(token, 0)
        vector = ((vector + matches) | (vector - matches)) & full
        rows.append(full & ~vector)
    return rows


def _lcs_positions(reference: Tokens, output: Tokens) -> list[int]:
    """Positions in `reference` of the longest common subsequence rouge_score would pick."""
    rows = _lcs_rows(reference, output)
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
    Rouge("rougeLsum", _each(_union_of_longest_common)),
]
