"""What two texts have in common, for many pairs at once: n-grams, and the longest common subsequence.

A text is a run of integer codes, of its characters or of its tokens. The counts are those that a dictionary of n-grams
gives, and exact: keys are packed into 63 bits where they fit, and numbered anew where they do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from service.measure.metric import IntArray

PAIRS_AT_ONCE = 2048
"""Pairs of one block: enough to hide the cost of a call, few enough for the processor's caches."""
WORD_BITS = 64


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


def longest_common(ours: Codes, theirs: Codes) -> IntArray:
    """Length of the longest common subsequence of each pair (n,), where ours is of 64 codes at most; else any number.

    Hyyrö's (2004) bit-parallel table, a machine word for each of our texts, one step for a place in all of theirs.
    """
    n = len(ours.lengths)
    if not len(ours.codes) or not len(theirs.codes):
        return np.zeros(n, dtype=np.int64)
    size = int(max(ours.codes.max(), theirs.codes.max())) + 1
    place = (np.arange(len(ours.codes)) - ours.starts[ours.text]).astype(np.uint64)
    keys = ours.text * size + ours.codes
    order = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
    known, masks = keys[order][first], np.bitwise_or.reduceat(np.uint64(1) << (place[order] % WORD_BITS), first)
    sought = theirs.text * size + theirs.codes
    found = np.minimum(np.searchsorted(known, sought), len(known) - 1)
    matches = np.where(known[found] == sought, masks[found], np.uint64(0))
    longest_first = np.argsort(-theirs.lengths, kind="stable")
    starts, lengths = theirs.starts[longest_first], theirs.lengths[longest_first]
    vector = np.full(n, ~np.uint64(0))
    for step in range(int(lengths[0])):
        active = int(np.searchsorted(-lengths, -step))
        row = vector[:active]
        hit = row & matches[starts[:active] + step]
        vector[:active] = (row + hit) | (row - hit)
    grown = ~vector
    our_lengths = ours.lengths[longest_first].astype(np.uint64)
    within = np.where(
        our_lengths >= WORD_BITS, ~np.uint64(0), (np.uint64(1) << (our_lengths % WORD_BITS)) - np.uint64(1)
    )
    counts = np.empty(n, dtype=np.int64)
    counts[longest_first] = np.bitwise_count(grown & within)
    return counts
