"""Which bucket a unit falls into, and which arm owns the bucket. Pure.

GrowthBook's published hash and ranges (SDK specification 0.8), so that this package, the service and any client that
knows them decide alike. FNV-1a is read from left to right, so a seed in front is hashed once and not for each unit.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

__all__ = [
    "bucket",
    "bucket_from_state",
    "bucket_ranges",
    "choose",
    "fnv1a32",
    "in_namespace",
    "owners",
    "place_from_state",
]

OFFSET = 0x811C9DC5
PRIME = 0x01000193
MASK = 0xFFFFFFFF
FEW = 16
NOBODY = 255

Ranges = list[tuple[float, float]]


def fnv1a32(text: str, state: int = OFFSET) -> int:
    """32-bit FNV-1a over UTF-16 code units (the specification is written in JavaScript), going on from `state`."""
    prime, mask = PRIME, MASK  # local names: these loops are what a decision costs
    units = text.encode() if text.isascii() else _utf16(text)
    if len(units) <= FEW:
        # What is cut off never comes back into the lowest 32 bits: once is enough, and cheaper while numbers are small.
        for unit in units:
            state = (state ^ unit) * prime
        return state & mask
    for unit in units:
        state = (state ^ unit) * prime & mask
    return state


def _utf16(text: str) -> array[int]:
    units = array("H", text.encode("utf-16-le", "surrogatepass"))
    if sys.byteorder == "big":
        units.byteswap()
    return units


def bucket(seed: str, value: str, version: int) -> float | None:
    """Where in [0, 1) a value falls; None for a hash version that is not known."""
    if version == 2:
        return bucket_from_state(fnv1a32(seed), value)
    if version == 1:
        return fnv1a32(value + seed) % 1000 / 1000
    return None


def bucket_from_state(seed_state: int, value: str) -> float:
    """Version 2, for a seed that has been hashed already."""
    return place_from_state(seed_state, value) / 10000


def place_from_state(seed_state: int, value: str) -> int:
    """Which of version 2's 10,000 places, for a seed that has been hashed already."""
    prime, state = PRIME, OFFSET
    for digit in b"%d" % fnv1a32(value, seed_state):  # ten at most: see `fnv1a32` for why nothing is cut off
        state = (state ^ digit) * prime
    return (state & MASK) % 10000


def bucket_ranges(n: int, coverage: float, weights: Sequence[float] | None) -> Ranges:
    """The slice of [0, 1) of each arm; coverage shrinks each inside its own slice, so that it moves nobody."""
    coverage = min(max(coverage, 0.0), 1.0)
    if weights is None or len(weights) != n or not 0.99 <= sum(weights) <= 1.01:
        weights = [1 / n] * n
    ranges, start = [], 0.0
    for weight in weights:
        ranges.append((start, start + coverage * weight))
        start += weight
    return ranges


def choose(point: float, ranges: Sequence[Sequence[float]]) -> int:
    """The index of the range the point is in; -1 for none."""
    for index, (low, high) in enumerate(ranges):
        if low <= point < high:
            return index
    return -1


def owners(ranges: Ranges) -> bytes:
    """The index of the range of each of version 2's 10,000 places, NOBODY for none: `choose`, done beforehand."""
    table = bytearray([NOBODY]) * 10_000
    for index, (low, high) in reversed(list(enumerate(ranges))):
        for place in range(int(low * 10_000), min(int(high * 10_000) + 2, 10_000)):
            if low <= place / 10_000 < high:
                table[place] = index
    return bytes(table)


def in_namespace(unit_id: str, namespace: tuple[str, float, float]) -> bool:
    """Whether a unit belongs to this part of a namespace: what keeps experiments from sharing units."""
    name, start, end = namespace
    point = bucket("__" + name, unit_id, 1)
    return point is not None and start <= point < end
