"""Which variant a unit gets: GrowthBook's published hash and range rules (SDK specification 0.8.0).

Pure and stable for ever: `tests/cases/assignment.json` pins it. Any SDK that follows the specification puts the same
unit into the same variant.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache

Range = tuple[float, float]

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF
_FEW = 16


def fnv1a32(text: str, state: int = _OFFSET) -> int:
    """32-bit FNV-1a over UTF-16 code units, as the specification's JavaScript has it.

    state: the hash of what comes before `text`, so that fnv1a32(a + b) == fnv1a32(b, fnv1a32(a)).
    """
    units: bytes | array[int] = (
        text.encode() if text.isascii() else array("H", text.encode("utf-16-le", "surrogatepass"))
    )
    if len(units) <= _FEW:
        # The bits above the lowest 32 never come back into them: cut off once, as long as the number stays small.
        for unit in units:
            state = (state ^ unit) * _PRIME
        return state & _MASK
    for unit in units:
        state = ((state ^ unit) * _PRIME) & _MASK
    return state


def _utf16_units(text: str) -> array[int]:
    units = array("H", text.encode("utf-16-le", "surrogatepass"))
    if sys.byteorder == "big":
        units.byteswap()
    return units


@lru_cache(maxsize=4096)
def _seeded(seed: str) -> int:
    return fnv1a32(seed)


def bucket(seed: str, value: str, version: int = 2) -> float | None:
    """The unit's place in [0, 1): version 2 in steps of 1/10,000, version 1 of 1/1,000; None for other versions.

    Version 2 hashes twice, because a single FNV-1a of seed and value correlates between experiments.
    """
    if version == 2:
        return fnv1a32(str(fnv1a32(value, _seeded(seed)))) % 10_000 / 10_000
    if version == 1:
        return fnv1a32(value + seed) % 1_000 / 1_000
    return None


def bucket_ranges(n: int, coverage: float = 1.0, weights: Sequence[float] | None = None) -> list[Range]:
    """The slice [low, high) of each of n variants.

    Coverage (clamped to [0, 1]) shrinks each slice inside its own place, so raising it never moves a unit between
    variants. Weights of another length, or whose sum is off 1 by more than 0.01, count as equal, as specified.
    """
    coverage = min(max(coverage, 0.0), 1.0)
    if weights is None or len(weights) != n or not 0.99 <= sum(weights) <= 1.01:
        weights = [1.0 / n] * n
    ranges, start = [], 0.0
    for weight in weights:
        ranges.append((start, start + coverage * weight))
        start += weight
    return ranges


def choose(place: float, ranges: Sequence[Range]) -> int:
    """Index of the slice that holds `place`, -1 when none does."""
    for index, (low, high) in enumerate(ranges):
        if low <= place < high:
            return index
    return -1


def in_namespace(unit_id: str, namespace: tuple[str, float, float]) -> bool:
    """Whether a unit falls in [low, high) of a namespace (name, low, high).

    Experiments that hold disjoint parts of one namespace exclude each other.
    """
    name, low, high = namespace
    place = bucket(f"__{name}", unit_id, 1)
    return place is not None and low <= place < high
