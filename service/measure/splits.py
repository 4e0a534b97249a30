"""Train, validation and test, or k folds, out of one set: by label, with what belongs together kept together.

The unit is a cluster: items of one group, and items with the same text, are never on two sides. Where a unit goes
depends on its own content and the seed (a hash of both), not on its place in the file: the same rows in another order
are split the same way. Each label's units are put in the order of their hashes and cut by the shares, so the parts
have the shares exactly and not just on average; rows that are added later move only units beside a cut.

Multi-label items are stratified iteratively (Sechidis, Tsoumakas & Vlahavas 2011): the rarest label's units first, each
to the part that wants most of that label.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.metric import FloatArray, IntArray
from service.measure.validation import MeasureError

SMALL_SET, LARGE_SET = 5_000, 10_000
TOLERANCE = 0.1  # how far a part's share may be from what was asked, relative to it, before that is said


class CannotSplit(MeasureError):
    """What was asked cannot be done with these items."""

    code = "cannot_split"


@dataclass(frozen=True)
class Split:
    """`part`: the number of each item's part. `units`: how many clusters there are."""

    names: list[str]
    part: IntArray
    shares: list[float]
    units: int

    def sizes(self) -> list[int]:
        return [int(size) for size in np.bincount(self.part, minlength=len(self.names))]


def default_shares(n: int) -> list[float]:
    """70/15/15 up to 5,000 items, 80/10/10 from 10,000 on; between, in proportion: 75/12.5/12.5 at 7,500."""
    train = 0.7 + 0.1 * min(1.0, max(0.0, (n - SMALL_SET) / (LARGE_SET - SMALL_SET)))
    return [train, (1 - train) / 2, (1 - train) / 2]


def split(
    keys: Sequence[str],
    units: IntArray,
    labels: Sequence[str | None] | None,
    *,
    sets: Sequence[Sequence[str] | None] | None = None,
    names: Sequence[str],
    shares: Sequence[float],
    seed: int,
) -> Split:
    """Assign items to parts.

    keys: what an item is, in the order of the items; a unit is placed by its smallest key.
    units: the number of each item's unit, from 0 without gaps.
    labels: stratify by these; None does not. sets: by these labels of multi-label items instead; a label may be too
    rare to be in every part.
    shares: of the items, one a name; they add up to 1.

    Raises:
        CannotSplit: more parts than units, a label with fewer units than parts, or a unit that fits in no part.
    """
    n, n_units = len(keys), int(units.max(initial=-1)) + 1
    if n_units < len(names):
        raise CannotSplit(f"{_many(n_units, 'unit')} cannot be split into {len(names)} parts")
    sizes = np.bincount(units, minlength=n_units)
    largest = int(sizes.argmax())
    if sizes[largest] > max(shares) * n + 0.5 and sizes[largest] > 1:
        raise CannotSplit(
            f"{int(sizes[largest]):,} of {n:,} items belong together, and the largest part is to have "
            f"{round(max(shares) * n):,}",
            index=int(np.flatnonzero(units == largest)[0]),
        )
    order = _order(keys, units, n_units, seed)
    if sets is not None:
        by_labels = _assign_sets(units, order, sets, np.asarray(shares, dtype=np.float64))
        return Split(list(names), by_labels[units], list(shares), n_units)
    strata = np.zeros(n, dtype=np.int64) if labels is None else _strata(labels, units, len(names))
    chosen = _assign(units, order, strata, _targets(strata, np.asarray(shares, dtype=np.float64)))
    return Split(list(names), chosen[units], list(shares), n_units)


def warnings(found: Split) -> list[str]:
    """Where the shares could not be kept, in words."""
    n = len(found.part)
    return [
        f"'{name}' has {100 * size / n:.1f} % of the items where {100 * share:.1f} % were asked: {found.units:,} "
        "texts or groups cannot be cut finer"
        for name, size, share in zip(found.names, found.sizes(), found.shares, strict=True)
        if abs(size - share * n) > max(1.0, TOLERANCE * share * n)
    ]


def _strata(labels: Sequence[str | None], units: IntArray, parts: int) -> IntArray:
    """The number of each item's label. Raises `CannotSplit` where a label cannot be in every part."""
    own: dict[str | None, set[int]] = {}
    for label, unit in zip(labels, units.tolist(), strict=True):
        own.setdefault(label, set()).add(unit)
    for label in sorted(own, key=lambda one: (one is None, one)):
        if len(own[label]) < parts:
            counted = Counter(labels)[label]
            apart = (
                ""
                if counted == len(own[label])
                else f" in {_many(len(own[label]), 'text or group', 'texts or groups')}"
            )
            what = "no label" if label is None else f"the label '{label}'"
            raise CannotSplit(
                f"{what} has {_many(counted, 'item')}{apart}, too few to be in each of {parts} parts",
                index=labels.index(label),
            )
    code = {label: number for number, label in enumerate(sorted(own, key=lambda one: (one is None, one)))}
    return np.fromiter((code[label] for label in labels), np.int64, len(labels))


def _order(keys: Sequence[str], units: IntArray, n_units: int, seed: int) -> IntArray:
    """Units in the order of the hash of their smallest key and the seed."""
    smallest: list[str | None] = [None] * n_units
    for key, unit in zip(keys, units.tolist(), strict=True):
        known = smallest[unit]
        if known is None or key < known:
            smallest[unit] = key
    hashes = [hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest() for key in smallest]
    return np.array(sorted(range(n_units), key=hashes.__getitem__), dtype=np.int64)


def _targets(strata: IntArray, shares: FloatArray) -> IntArray:
    """Items of each stratum (rows) for each part, whole numbers: what rounding takes from one, the next gets back."""
    counts = np.bincount(strata)
    targets = np.zeros((len(counts), len(shares)), dtype=np.int64)
    owed = np.zeros(len(shares))
    for stratum, count in enumerate(counts.tolist()):
        ideal = np.maximum(0.0, count * shares + owed)
        ideal *= count / ideal.sum() if ideal.sum() else 0.0
        targets[stratum] = np.floor(ideal)
        rest = count - int(targets[stratum].sum())
        targets[stratum, np.argsort(targets[stratum] - ideal, kind="stable")[:rest]] += 1
        owed += count * shares - targets[stratum]
    return targets


def _assign(units: IntArray, order: IntArray, strata: IntArray, targets: IntArray) -> IntArray:
    """The part of each unit: units of several items first, the largest first, each where it leaves the parts closest to
    their targets; then the others, which fill up what is left of their stratum exactly."""
    n_units, parts = len(order), targets.shape[1]
    counts: list[Counter[int]] = [Counter() for _ in range(n_units)]
    for unit, stratum in zip(units.tolist(), strata.tolist(), strict=True):
        counts[unit][stratum] += 1
    left = targets.astype(np.float64)
    chosen = np.zeros(n_units, dtype=np.int64)
    rank = np.empty(n_units, dtype=np.int64)
    rank[order] = np.arange(n_units)
    large = sorted((u for u in range(n_units) if counts[u].total() > 1), key=lambda u: (-counts[u].total(), rank[u]))
    singles = [unit for unit in order.tolist() if counts[unit].total() == 1]
    taken = np.zeros(parts, dtype=np.int64)
    for number, unit in enumerate([*large, *singles]):
        rows = list(counts[unit])
        own = np.array([counts[unit][row] for row in rows], dtype=np.float64)[:, None]
        # The last units go to parts that have none yet.
        barred = (taken > 0) & (n_units - number <= np.count_nonzero(taken == 0))
        if len(own) == 1 and own[0, 0] == 1:
            part = int(np.lexsort((np.maximum(0.5 - left[rows[0]], 0.0), barred))[0])
        else:
            free = left[rows]
            # How much further from the targets each choice leads: overfull parts count against it, by the square.
            cost = (np.square(free - own) - np.square(free)).sum(axis=0)
            part = int(np.lexsort((cost, left.sum(axis=0) < own.sum() - 0.5, barred))[0])
        chosen[unit] = part
        taken[part] += 1
        left[rows, part] -= own[:, 0]
    return chosen


def _assign_sets(
    units: IntArray, order: IntArray, sets: Sequence[Sequence[str] | None], shares: FloatArray
) -> IntArray:
    """The part of each unit. `wanted`: items of each label that a part still wants; `room`: items in all."""
    counts: list[Counter[str]] = [Counter() for _ in order]
    for unit, own in zip(units.tolist(), sets, strict=True):
        counts[unit].update(own or ())
    holders: dict[str, list[int]] = {}
    for unit in order.tolist():
        for label in counts[unit]:
            holders.setdefault(label, []).append(unit)
    wanted = {label: sum(counts[unit][label] for unit in own) * shares for label, own in holders.items()}
    left = {label: len(own) for label, own in holders.items()}
    sizes, room = np.bincount(units, minlength=len(order)), len(units) * shares
    chosen, taken = np.full(len(order), -1), np.zeros(len(shares), dtype=np.int64)

    def place(unit: int, wish: FloatArray) -> None:
        """Of parts that want as many, the one with most room; a full part last. The last units go to empty parts."""
        barred = (taken > 0) & (np.count_nonzero(chosen < 0) <= np.count_nonzero(taken == 0))
        part = int(np.lexsort((-room, -wish, room < sizes[unit] - 0.5, barred))[0])
        chosen[unit] = part
        taken[part] += 1
        room[part] -= sizes[unit]
        for label, n in counts[unit].items():
            wanted[label][part] -= n
            if label in left:
                left[label] -= 1

    while left:
        # The name decides between equals, so that the order of the rows does not.
        rarest = min(left, key=lambda label: (left[label], label))
        for unit in holders[rarest]:
            if chosen[unit] < 0:
                place(unit, wanted[rarest])
        del left[rarest]
        left = {label: n for label, n in left.items() if n}
    for unit in order.tolist():
        if chosen[unit] < 0:
            place(unit, room)
    return chosen


def _many(n: int, one: str, several: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else several or one + 's'}"
