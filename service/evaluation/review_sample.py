"""What of an evaluation is put before people, and in which order: drawn once, from a seed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def draw(candidates: Rows, n: int | None, seed: int, groups: Sequence[Hashable] | None = None) -> Rows:
    """`n` of the candidate rows, sorted; all of them when there are no more.

    groups: the group of each candidate. Groups are then drawn in proportion to their size: whole shares first, and
    what is left to those with the largest remainders (Hamilton's method), ties by the seed.
    """
    if n is None or n >= len(candidates):
        return np.sort(candidates)
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(candidates))
    if groups is None:
        return np.sort(candidates[shuffled[:n]])
    members: dict[Hashable, list[int]] = {}
    for place in shuffled.tolist():
        members.setdefault(groups[place], []).append(place)
    shares = {group: n * len(places) / len(candidates) for group, places in members.items()}
    sizes = {group: int(share) for group, share in shares.items()}
    for group in sorted(shares, key=lambda one: sizes[one] - shares[one])[: n - sum(sizes.values())]:
        sizes[group] += 1
    return np.sort(candidates[[place for group, places in members.items() for place in places[: sizes[group]]]])


def pairs(n_evaluations: int, baseline: int | None) -> list[tuple[int, int]]:
    """The pairs of a pairwise review: every one against the baseline, or all."""
    if baseline is None:
        return list(combinations(range(n_evaluations), 2))
    return [(baseline, other) for other in range(n_evaluations) if other != baseline]


def tasks(
    outputs: Sequence[Sequence[str | None]], sides: Sequence[tuple[int, int | None]], overlap: int, seed: int
) -> list[dict[str, Any]]:
    """Each item under each of `sides` (an evaluation alone, or two), in random order.

    outputs: of each item, one for each evaluation. Two that are the same are nothing to ask about: nobody is wanted.
    """
    found = [
        {
            "row": row,
            "first": first,
            "second": second,
            "wanted": 0 if second is not None and texts[first] == texts[second] else overlap,
        }
        for row, texts in enumerate(outputs)
        for first, second in sides
    ]
    order = np.random.default_rng(seed).permutation(len(found))
    return [{**found[chosen], "place": place} for place, chosen in enumerate(order.tolist())]


def is_swapped(review_id: str, place: int, reviewer: str) -> bool:
    """Does this reviewer see the second of a pair on the left? As good as a coin, and the same whenever asked."""
    return bool(hashlib.sha256(f"{review_id}\x00{place}\x00{reviewer}".encode()).digest()[0] & 1)
