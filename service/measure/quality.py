"""What a set of items is like: its labels, lengths, repeated texts, tags; and how like two sets are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.measure.distributions import chi_square_tail, kolmogorov_tail, normal_quantile
from service.measure.metric import FloatArray, IntArray

SMALL = 100  # items under which a score says little
RARE = 5.0  # the least expected count of a cell for the chi-square distribution to hold (Cochran 1954)
BINS = 30


@dataclass(frozen=True)
class Balance:
    """How many items each label has, most frequent first.

    `evenness` is the entropy over its largest possible value: 1 when all labels are equally frequent. `unlabelled`:
    items of whose labels nothing is said; `without`: items that have none. `per_item`: labels an item, the unlabelled
    left out (label cardinality, Tsoumakas & Katakis 2007).
    """

    labels: list[tuple[str, int]]
    unlabelled: int
    without: int
    per_item: float | None
    ratio: float | None
    evenness: float | None
    reason: str | None


def balance(labels: Sequence[Sequence[str] | None]) -> Balance:
    """labels: those of each item, one or several or none; None where nothing is said of them."""
    said = [own for own in labels if own is not None]
    ordered = coverage(said)
    counts = Counter(dict(ordered))
    unlabelled, without = len(labels) - len(said), sum(not own for own in said)
    per_item = counts.total() / len(said) if said else None
    if len(ordered) < 2:
        reason = "no_labels" if not ordered else "one_label"
        return Balance(ordered, unlabelled, without, per_item, None, None, reason)
    shares = np.array([n for _, n in ordered]) / counts.total()
    evenness = float(-(shares * np.log(shares)).sum() / math.log(len(ordered)))
    return Balance(ordered, unlabelled, without, per_item, ordered[0][1] / ordered[-1][1], evenness, None)


@dataclass(frozen=True)
class Lengths:
    """Characters a text: quantiles, and a histogram of `counts` between `edges` (one more than counts)."""

    n: int
    mean: float
    quantiles: dict[str, int]
    edges: list[int]
    counts: list[int]


def lengths(texts: Sequence[str]) -> Lengths | None:
    """None where there is no text. Edges are whole numbers; a bin holds its lower edge and not its upper one."""
    if not texts:
        return None
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    low, high = int(sizes.min()), int(sizes.max()) + 1
    width = max(1, math.ceil((high - low) / BINS))
    edges = np.arange(low, high + width, width)
    quantiles = {
        name: int(np.quantile(sizes, share, method="higher"))
        for name, share in (("min", 0.0), ("p5", 0.05), ("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }
    counts = np.histogram(sizes, bins=edges)[0]
    return Lengths(len(texts), float(sizes.mean()), quantiles, edges.tolist(), counts.tolist())


def repeated(keys: Sequence[str]) -> list[list[int]]:
    """The places of each key that occurs more than once: the largest groups first, then by first place."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return sorted((group for group in places.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def coverage(tags: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """Items each tag is on, most first. An item may have several."""
    counts = Counter(tag for own in tags for tag in set(own))
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


@dataclass(frozen=True)
class Difference:
    """Do two samples come from the same distribution? `effect` is from 0 (the same) to 1."""

    test: str
    statistic: float | None
    p_value: float | None
    effect: float | None
    reason: str | None


def label_difference(one: Sequence[str | None], other: Sequence[str | None]) -> Difference:
    """Pearson's chi-square test of the labels of two sets; effect: Cramér's V.

    Labels too rare for the test (an expected count under 5) are one label.
    """
    test = "chi_square"
    first, second = (Counter(label for label in labels if label is not None) for labels in (one, other))
    if not first or not second:
        return Difference(test, None, None, None, "no_labels")
    names = sorted(first.keys() | second.keys())
    table = np.array([[side[name] for name in names] for side in (first, second)], dtype=np.float64)
    table = _pooled(table)
    if table.shape[1] < 2:
        return Difference(test, None, None, None, "one_label" if len(names) == 1 else "too_few_items")
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistic = float((np.square(table - expected) / expected).sum())
    effect = math.sqrt(statistic / float(table.sum()))  # of two rows, V divides by 1
    return Difference(test, statistic, chi_square_tail(statistic, table.shape[1] - 1), effect, None)


def _pooled(table: FloatArray) -> FloatArray:
    """Columns with an expected count under `RARE` added up into one; that one with the next rarest if it needs to."""
    expected = table.sum(axis=1).min() / table.sum() * table.sum(axis=0)
    order = np.argsort(expected, kind="stable")
    rare = int(np.count_nonzero(expected < RARE))
    if rare and expected[order[:rare]].sum() < RARE:
        rare += 1
    if rare < 2:
        return table
    rest = np.ascontiguousarray(table[:, order[rare:]])
    return np.column_stack([rest, table[:, order[:rare]].sum(axis=1)])


def length_difference(one: Sequence[str], other: Sequence[str]) -> Difference:
    """The two-sample Kolmogorov-Smirnov test of characters a text; effect: the largest distance of the two curves.

    Lengths tie, which makes its p-value too large: it says 'different' too rarely, never too often.
    """
    if not one or not other:
        return Difference("kolmogorov_smirnov", None, None, None, "no_items")
    first, second = (np.sort(np.fromiter(map(len, texts), np.int64, len(texts))) for texts in (one, other))
    at = np.concatenate([first, second])
    curves = [np.searchsorted(sizes, at, side="right") / len(sizes) for sizes in (first, second)]
    distance = float(np.abs(curves[0] - curves[1]).max())
    scale = math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    return Difference("kolmogorov_smirnov", distance, kolmogorov_tail(scale * distance), distance, None)


def half_width(n: int, confidence: float = 0.95) -> float:
    """Half of the widest interval a share of n items can have (Wilson, at one half)."""
    z = normal_quantile((1 + confidence) / 2)
    return z * math.sqrt(n + z * z) / (2 * (n + z * z))


@dataclass(frozen=True)
class Disagreement:
    """An item that models answer alike, and otherwise than its label."""

    item: int
    label: str
    suggested: str
    models: int
    asked: int
    probability: float | None


def disagreements(
    labels: Sequence[str | None],
    answers: Sequence[Sequence[str | None]],
    probabilities: Sequence[Sequence[float | None]],
    *,
    sure: float = 0.9,
) -> list[Disagreement]:
    """Items whose label confident models disagree with, the most agreed on first.

    answers, probabilities: one row a model, in the order of `labels`; None: no answer, no probability given.
    An answer counts when its probability is at least `sure`, or unknown. An item is listed when more than half of all
    models give the same other label in such answers, and either two models do or the one that does said how sure it is.
    """
    codes = {
        label: code
        for code, label in enumerate(sorted({*_known(labels), *(a for row in answers for a in _known(row))}))
    }
    names = list(codes)
    asked = len(answers)
    given = np.array([[codes.get(a, -1) if a is not None else -1 for a in row] for row in answers], dtype=np.int64)
    true = np.array([-1 if label is None else codes[label] for label in labels], dtype=np.int64)
    chance = np.array([[np.nan if p is None else p for p in row] for row in probabilities], dtype=np.float64)
    if not asked or not len(true):
        return []
    counted = (given >= 0) & (given != true) & (true >= 0) & ~(chance < sure)
    found = []
    for item in np.flatnonzero(counted.sum(axis=0) > asked / 2):
        votes = Counter(given[counted[:, item], item].tolist())
        suggested, models = max(votes.items(), key=lambda one: (one[1], -one[0]))
        own = chance[counted[:, item] & (given[:, item] == suggested), item]
        said = own[~np.isnan(own)]
        if models > asked / 2 and (models > 1 or len(said)):
            mean = float(said.mean()) if len(said) else None
            found.append(Disagreement(int(item), names[true[item]], names[suggested], models, asked, mean))
    return sorted(found, key=lambda one: (-one.models, -(one.probability or 0.0), one.item))


def _known(values: Sequence[str | None]) -> list[str]:
    return [value for value in values if value is not None]


def groups_of(keys: Sequence[str | None]) -> IntArray:
    """Numbers of equal keys, in the order they come; None is a group of its own each time."""
    numbers: dict[object, int] = {}
    return np.array(
        [numbers.setdefault(("row", place) if key is None else key, len(numbers)) for place, key in enumerate(keys)],
        dtype=np.int64,
    )
