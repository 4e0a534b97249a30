"""What two texts have in common, for many pairs at once: n-grams, and the longest common subsequence.

A text is a run of integer codes, of its characters or of its tokens. The counts are those that a dictionary of n-grams
gives, and exact: keys are packed into 63 bits where they fit, and numbered anew where they do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat, zip_longest

import numpy as np
from numpy.typing import NDArray

from service.measure.metric import IntArray

PAIRS_AT_ONCE = 2048
"""Pairs of one block: enough to hide the cost of a call, few enough for the processor's caches."""
WORD_BITS = 64
_BITS = [1 << place for place in range(WORD_BITS)]


@dataclass(frozen=True)
class Codes:
    """Texts one after the other: `codes` of all of them, and the length of each (n,)."""

    codes: IntArray
    lengths: IntArray

    @property
    def text(self) -> IntArray:
        """The text that each code is in."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def starts(self) -> IntArray:
        starts: IntArray = np.cumsum(self.lengths) - self.lengths
        return starts


def of_characters(*sides: Sequence[str]) -> list[Codes]:
    """Characters numbered from 0 without gaps, alike on all sides."""
    points = [np.frombuffer("".join(side).encode("utf-32-le", "surrogatepass"), dtype="<u4") for side in sides]
    present = np.zeros(max((int(one.max(initial=0)) for one in points), default=0) + 1, dtype=bool)
    for one in points:
        present[one] = True
    table = np.cumsum(present) - 1
    return [
        Codes(table[one], np.fromiter(map(len, side), np.int64, len(side)))
        for one, side in zip(points, sides, strict=True)
    ]


def of_tokens(*sides: Sequence[Sequence[str]]) -> list[Codes]:
    """Tokens numbered in order of appearance, alike on all sides."""
    number: defaultdict[str, int] = defaultdict(count().__next__)
    found = []
    for side in sides:
        lengths = np.fromiter(map(len, side), np.int64, len(side))
        codes = map(number.__getitem__, chain.from_iterable(side))
        found.append(Codes(np.fromiter(codes, np.int64, int(lengths.sum())), lengths))
    return found


def ngram_totals(codes: Codes, orders: int) -> IntArray:
    """How many n-grams of each order a text has: (n, orders)."""
    totals: IntArray = np.maximum(codes.lengths[:, None] - np.arange(orders), 0)
    return totals


def shared_ngrams(ours: Codes, theirs: Codes, orders: int, *, lowest: int = 1) -> IntArray:
    """n-grams that a pair has in common, each as often as in the text that has it less often: (n, orders).

    lowest: the orders below are not counted, and are 0.
    """
    n = len(ours.lengths)
    size = int(max(ours.codes.max(initial=0), theirs.codes.max(initial=0))) + 1
    shared = np.zeros((n, orders), dtype=np.int64)
    sides = [(side.codes, side.text, (side.starts + side.lengths)[side.text]) for side in (ours, theirs)]
    places = [np.arange(len(side.codes)) for side in (ours, theirs)]
    keys, width = [ours.codes, theirs.codes], size
    for order in range(orders):
        if order:
            if width * size * n * 2 >= 1 << 63:
                values, numbered = np.unique(np.concatenate(keys), return_inverse=True)
                keys, width = np.split(numbered, [len(keys[0])]), len(values)
            for at, (codes, _, ends) in enumerate(sides):
                long_enough = places[at] + order < ends[places[at]]
                places[at] = places[at][long_enough]
                keys[at] = keys[at][long_enough] * size + codes[places[at] + order]
            width *= size
        if order + 1 < lowest:
            continue
        first, second = (sides[at][1][places[at]] * width + keys[at] for at in (0, 1))
        shared[:, order] = _in_both(first, second, width, n)
    return shared


def _in_both(ours: IntArray, theirs: IntArray, width: int, n: int) -> IntArray:
    """Size of the multiset intersection of keys (text * width + n-gram) by text: (n,)."""
    both = np.concatenate([ours * 2, theirs * 2 + 1])
    both.sort()
    starts = np.flatnonzero(np.append(True, both[1:] != both[:-1])) if len(both) else np.empty(0, dtype=np.int64)
    times = np.diff(np.append(starts, len(both)))
    runs = both[starts]
    # A key of ours is even, and the same one of theirs comes right after it.
    pairs = np.flatnonzero((runs[1:] == runs[:-1] + 1) & (runs[:-1] % 2 == 0))
    common = np.minimum(times[pairs], times[pairs + 1])
    return np.bincount(runs[pairs] // (2 * width), weights=common, minlength=n).astype(np.int64)


def token_overlap(ours: Sequence[str], theirs: Sequence[str]) -> IntArray:
    """What pairs of texts share, by their tokens between white space: (n, 5).

    Number of tokens of ours and of theirs; tokens and bigrams in common, each as often as in the text that has it less
    often; length of the longest common subsequence.
    """
    found: list[int] = []
    masks: list[int] = []
    long: list[int] = []
    for one, other in zip(ours, theirs, strict=True):
        shorter, longer = one.split(), other.split()
        found += (len(shorter), len(longer))
        if len(shorter) > len(longer):
            shorter, longer = longer, shorter
        if len(shorter) > WORD_BITS:
            long.append(len(found) // 2 - 1)
            continue
        # No list or tuple outlives its pair: the garbage collector would walk them all, many times.
        places: dict[str, int] = {}
        seen = places.get
        for token, bit in zip(shorter, _BITS, strict=False):
            places[token] = seen(token, 0) | bit
        masks += map(seen, longer, repeat(0))
    counts = np.zeros((len(ours), 5), dtype=np.int64)
    counts[:, :2] = np.array(found, dtype=np.int64).reshape(-1, 2)
    sizes = counts[:, :2].max(axis=1, initial=0)
    sizes[long] = 0
    counts[:, 2:] = _step_through(np.array(masks, dtype=np.uint64), sizes)
    if long:
        counts[long, 2:] = _overlap_of_long([ours[at].split() for at in long], [theirs[at].split() for at in long])
    return counts


def _step_through(masks: NDArray[np.uint64], sizes: IntArray) -> IntArray:
    """Tokens, bigrams and longest subsequence in common (n, 3), one step for a place in all of the longer texts.

    masks: for each place of the longer texts (sizes of them, one pair after the other) in which of the 64 places of the
    shorter one the same token is. A token takes the first such place that is free, so that each counts as often as in
    the text that has it less often. The subsequence is Hyyrö's (2004) bit-parallel table, a machine word a pair.
    """
    n, steps = len(sizes), int(sizes.max(initial=0))
    longest_first = np.argsort(-sizes, kind="stable")
    rank = np.empty(n, dtype=np.int64)
    rank[longest_first] = np.arange(n)
    active = np.searchsorted(-sizes[longest_first], -np.arange(steps), side="left")
    starts = np.cumsum(active) - active
    place = np.arange(len(masks)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    by_step = np.empty_like(masks)
    by_step[starts[place] + np.repeat(rank, sizes)] = masks
    rows = [by_step[start : start + width] for start, width in zip(starts.tolist(), active.tolist(), strict=True)]
    free = np.full((3, n), ~np.uint64(0))
    for row, after in zip_longest(rows, rows[1:], fillvalue=by_step[:0]):
        _take_first(free[0, : len(row)], row)
        _take_first(free[1, : len(after)], row[: len(after)] & (after >> np.uint64(1)))
        vector = free[2, : len(row)]
        hit = vector & row
        free[2, : len(row)] = (vector + hit) | (vector - hit)
    counts = np.empty((n, 3), dtype=np.int64)
    counts[longest_first] = np.bitwise_count(~free).T
    return counts


def _take_first(free: NDArray[np.uint64], sought: NDArray[np.uint64]) -> None:
    hit = free & sought
    hit &= np.negative(hit)
    free ^= hit


def _overlap_of_long(ours: list[list[str]], theirs: list[list[str]]) -> IntArray:
    codes, other_codes = of_tokens(ours, theirs)
    shared = shared_ngrams(codes, other_codes, 2)
    # Python's integers have any length.
    longest = [lcs_rows(other, one)[-1].bit_count() for one, other in zip(ours, theirs, strict=True)]
    return np.column_stack([shared, longest])


def lcs_rows(reference: Sequence[str], output: Sequence[str]) -> list[int]:
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
