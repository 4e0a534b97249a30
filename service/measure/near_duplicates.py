"""Texts that are nearly the same: every pair whose sets of shingles have at least a given Jaccard similarity.

A text is normalised (Unicode NFKC, case folded, runs of white space made one space) and taken as the set of its
substrings of five characters: a unit that every script has. The join is exact, with the prefix and position filters of
AllPairs and PPJoin (Bayardo et al. 2007; Xiao et al. 2008): two sets of similarity t share one of their
|x| - ceil(t |x|) + 1 rarest shingles, so only texts that do are compared. What it finds is what comparing each text
with each other finds, and does not depend on a seed; SciPy's sparse matrices do the comparing.

Memory is bounded: a block of pairs at a time, and `COMPARISONS` in all. A set beyond that (a hundred thousand texts
made from one template) is compared with near neighbours only, and the answer says so (`complete`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.measure import ngrams
from service.measure.metric import FloatArray, IntArray
from service.measure.validation import OutOfRangeError

if TYPE_CHECKING:
    from scipy import sparse

SHINGLE = 5
CHARACTERS = 60_000_000  # texts of more together are not joined: their shingles would take gigabytes
COMPARISONS = 64_000_000  # pairs that share a rare shingle and fit in length
CANDIDATES = 8_000_000  # pairs compared in full
BLOCK = 2_000_000
_SLACK = 1e-9  # 0.8 * 5 is a little over 4 in floating point


class TooManyCharacters(OutOfRangeError):
    code = "too_many_characters"


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of texts (`first` < `second`, counted from 0) with their exact similarity, most similar first."""

    first: IntArray
    second: IntArray
    similarity: FloatArray
    complete: bool

    def __len__(self) -> int:
        return len(self.first)

    def clusters(self, n: int) -> IntArray:
        """The number of each of n texts' cluster: texts joined by a chain of pairs have the same."""
        return components(self.first, self.second, n)


def components(first: IntArray, second: IntArray, n: int) -> IntArray:
    """The number, from 0 without gaps, of each of n things' component: what a chain of pairs joins has the same."""
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], dtype=np.int64)


def shingles(text: str) -> set[str]:
    """The set that the similarity of a normalised text is made of; of a shorter text, the text itself."""
    return {text[place : place + SHINGLE] for place in range(max(1, len(text) - SHINGLE + 1))} if text else set()


def near_duplicates(texts: Sequence[str], threshold: float, sides: Sequence[int] | None = None) -> NearDuplicates:
    """All pairs of `texts` (normalised, and no two the same) of at least this similarity.

    threshold: Jaccard similarity, from 0.5 to 1.
    sides: which of two sets each text is of; pairs within one are not looked for.

    Raises:
        OutOfRangeError: the threshold is outside its range.
        TooManyCharacters: the texts have more than `CHARACTERS` together.
    """
    if not 0.5 <= threshold <= 1.0:
        raise OutOfRangeError(f"the threshold {threshold:g} is not between 0.5 and 1")
    total = sum(map(len, texts))
    if total > CHARACTERS:
        raise TooManyCharacters(f"{total:,} characters are more than the {CHARACTERS:,} that are compared")
    sets = _Sets.of(texts)
    side = None if sides is None else np.asarray(sides, dtype=np.int64)
    codes, complete = _candidates(sets, threshold, side)
    pairs = [_compare(sets, codes[start : start + BLOCK // 8], threshold) for start in range(0, len(codes), BLOCK // 8)]
    first, second, similarity = (np.concatenate(part) for part in zip(*pairs, strict=True)) if pairs else _NONE
    order = np.lexsort((second, first, -similarity))
    return NearDuplicates(first[order], second[order], similarity[order], complete)


_NONE = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class _Sets:
    """Every text's shingles as numbers, 0 the rarest, ascending within a text: a matrix of texts by shingles."""

    matrix: sparse.csr_array
    sizes: IntArray

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Sets:
        from scipy import sparse

        matrix = ngrams.matrix(texts, SHINGLE)
        frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
        rank = np.empty(matrix.shape[1], dtype=matrix.indices.dtype)
        rank[np.argsort(frequency, kind="stable")] = np.arange(matrix.shape[1], dtype=matrix.indices.dtype)
        ranked = sparse.csr_array((matrix.data, rank[matrix.indices], matrix.indptr), shape=matrix.shape)
        ranked.sort_indices()
        return cls(ranked, np.diff(ranked.indptr).astype(np.int64))


def _candidates(sets: _Sets, threshold: float, side: IntArray | None) -> tuple[IntArray, bool]:
    """Pairs to compare, as first * n + second, ascending; and whether they are all that can be similar enough."""
    text, place, following = _rare_neighbours(sets, threshold)
    complete = int(following.sum()) <= COMPARISONS
    if not complete:
        following = np.minimum(following, _width(following))
    n, sizes = len(sets.sizes), sets.sizes
    found: list[IntArray] = []
    kept = 0
    for start, end in _blocks(following):
        counts = following[start:end]
        own = np.repeat(np.arange(start, end), counts)
        other = own + 1 + np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)
        one, two = text[own], text[other]
        # What both have from here on is all they can share: this is the first shingle they have in common.
        left = np.minimum(sizes[one] - place[own], sizes[two] - place[other])
        keep = left >= np.ceil(threshold / (1 + threshold) * (sizes[one] + sizes[two]) - _SLACK)
        if side is not None:
            keep &= side[one] != side[two]
        one, two = one[keep], two[keep]
        found.append(ngrams.distinct(np.minimum(one, two) * n + np.maximum(one, two)))
        kept += len(found[-1])
        if kept > CANDIDATES:
            found = [ngrams.distinct(np.concatenate(found))]
            kept = len(found[0])
            if kept > CANDIDATES:
                return found[0][:CANDIDATES], False
    return (ngrams.distinct(np.concatenate(found)) if found else _NONE[0]), complete


def _rare_neighbours(sets: _Sets, threshold: float) -> tuple[IntArray, IntArray, IntArray]:
    """The rarest shingles of all texts, grouped by shingle and in a group by the text's size.

    (text, place, following): which text, which of its shingles (from the rarest on), and how many of the entries that
    follow belong to the same shingle and to a text that is not too large to be similar.
    """
    sizes = sets.sizes
    entry_text = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(entry_text)) - np.repeat(sets.matrix.indptr[:-1].astype(np.int64), sizes)
    rare = place < (sizes - np.ceil(threshold * sizes - _SLACK).astype(np.int64) + 1)[entry_text]
    text, place, shingle = entry_text[rare], place[rare], sets.matrix.indices[rare].astype(np.int64)
    order = np.lexsort((text, sizes[text], shingle))
    text, place, shingle = text[order], place[order], shingle[order]
    longest = int(sizes.max(initial=0)) + 1
    largest = np.minimum(np.floor(sizes[text] / threshold + _SLACK).astype(np.int64), longest - 1)
    last = np.searchsorted(shingle * longest + sizes[text], shingle * longest + largest, side="right")
    return text, place, last - np.arange(len(text)) - 1


def _width(following: IntArray) -> int:
    """The largest number of neighbours an entry can be compared with so that all are within `COMPARISONS`."""
    low, high = 1, int(following.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(following, middle).sum() <= COMPARISONS else (low, middle - 1)
    return low


def _blocks(following: IntArray) -> Iterator[tuple[int, int]]:
    """Ranges of entries with about `BLOCK` comparisons each."""
    total = np.cumsum(following)
    start = 0
    while start < len(total):
        before = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + BLOCK, side="right")))
        yield start, end
        start = end


def _compare(sets: _Sets, codes: IntArray, threshold: float) -> tuple[IntArray, IntArray, FloatArray]:
    """The pairs among these that are similar enough, with their similarity."""
    n = len(sets.sizes)
    first, second = codes // n, codes % n
    shared = np.asarray(sets.matrix[first].multiply(sets.matrix[second]).sum(axis=1), dtype=np.int64).ravel()
    union = sets.sizes[first] + sets.sizes[second] - shared
    keep = shared >= threshold * union - _SLACK
    return first[keep], second[keep], shared[keep] / union[keep]


def jaccard(one: str, other: str) -> float:
    """The similarity of two texts as it is defined: the reference that the join is held to. Two empty texts: 1."""
    left, right = shingles(ngrams.normalise(one)), shingles(ngrams.normalise(other))
    union = len(left | right)
    return len(left & right) / union if union else 1.0
