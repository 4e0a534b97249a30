"""Label pairs as integer codes, and the class totals every count-based metric is made of.

Statistics of a label metric: shape (n, 2), columns true code and predicted code. A code is a label's place in the
vocabulary; a missing prediction is -1. It counts as wrong and belongs to no class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from service.measure.metric import MEASURE_VERSION, FloatArray, IntArray, Kind, Reads, base_name
from service.measure.resampling import Distinct
from service.measure.validation import Label, Labels, NotALabelError, Rows, check_label_pairs, check_labels

NO_PREDICTION = -1


@dataclass(frozen=True)
class ClassTotals:
    """Sums over R resamples and C classes: `hits`, `predicted`, `true` are (R, C), `n` is (R,).

    `predicted` does not count missing predictions, so its rows may sum to less than `n`.
    """

    hits: FloatArray
    predicted: FloatArray
    true: FloatArray
    n: FloatArray


def vocabulary(*labels: Iterable[Label | None]) -> list[Label]:
    """The labels that occur, sorted: the vocabulary of a set from all its true and predicted labels.

    It may be built chunk by chunk: `known = vocabulary(known, true, predicted)`.
    """
    seen: set[Label | None] = set()
    for some in labels:
        seen.update(some.tolist() if isinstance(some, np.ndarray) else some)
    seen.discard(None)
    return sorted(cast("set[Label]", seen), key=lambda label: (isinstance(label, str), label))


def encode(true: Labels, predicted: Labels, labels: Sequence[Label] | None = None) -> tuple[list[Label], FloatArray]:
    """(vocabulary, codes of shape (n, 2)). The caller has checked that labels are of one kind.

    labels: the vocabulary; absent, the sorted labels of both sides. A label outside of it is refused.
    """
    known, codes = codes_of((true, predicted), labels)
    pairs = np.empty((len(true), 2))
    pairs[:, 0], pairs[:, 1] = codes
    return known, pairs


def codes_of(
    sides: tuple[Labels, Labels], labels: Sequence[Label] | None = None
) -> tuple[list[Label], tuple[IntArray, IntArray]]:
    """(vocabulary, integer codes of true labels, of predicted ones), as in `encode`."""
    if all(_integers(side) for side in sides):
        return _codes_of_integers(cast("tuple[IntArray, IntArray]", sides), labels)
    true, predicted = (side.tolist() if isinstance(side, np.ndarray) else side for side in sides)
    known = vocabulary(true, predicted) if labels is None else checked_vocabulary(labels)
    code: dict[Label | None, int] = {label: index for index, label in enumerate(known)}
    code[None] = NO_PREDICTION
    try:
        first, second = ([code[label] for label in side] for side in (true, predicted))
    except KeyError:
        for what, side in (("true", true), ("predicted", predicted)):
            index = next((index for index, label in enumerate(side) if label not in code), None)
            if index is not None:
                raise _outside(what, index, side[index]) from None
        raise
    return known, (np.array(first, dtype=np.int64), np.array(second, dtype=np.int64))


def _integers(side: Labels) -> bool:
    return isinstance(side, np.ndarray) and side.dtype.kind in "iu"


def _codes_of_integers(
    sides: tuple[IntArray, IntArray], labels: Sequence[Label] | None
) -> tuple[list[Label], tuple[IntArray, IntArray]]:
    """The same for arrays of integers, through a table of codes where their range is no longer than the arrays."""
    low = min(int(side.min()) for side in sides)
    high = max(int(side.max()) for side in sides)
    if high - low > max(2 * len(sides[0]), 1 << 16):
        values, places = np.unique(np.concatenate(sides), return_inverse=True)
        first, second = np.split(places, 2)
    else:
        present = np.zeros(high - low + 1, dtype=bool)
        for side in sides:
            present[side - low] = True
        values = np.flatnonzero(present) + low
        table = np.cumsum(present) - 1
        first, second = (table[side - low] for side in sides)
    if labels is None:
        return values.tolist(), (first, second)
    known = checked_vocabulary(labels)
    position = {label: index for index, label in enumerate(known)}
    mapping = np.array([position.get(value, NO_PREDICTION) for value in values.tolist()], dtype=np.int64)
    first, second = mapping[first], mapping[second]
    for what, side, codes in (("true", sides[0], first), ("predicted", sides[1], second)):
        if (codes == NO_PREDICTION).any():
            index = int(np.argmax(codes == NO_PREDICTION))
            raise _outside(what, index, int(side[index]))
    return known, (first, second)


def checked_vocabulary(labels: Sequence[Label]) -> list[Label]:
    """Labels of one kind, each once."""
    known = list(labels)
    check_labels(known, "label of the vocabulary")
    if len(set(known)) != len(known):
        raise NotALabelError("the labels asked for contain a repeated one")
    return known


def _outside(what: str, index: int, label: Label | None) -> NotALabelError:
    return NotALabelError(f"the {what} label of item {index} is {label!r}, which is not among the labels", index)


def label_statistics(outputs: Labels, references: Rows, labels: Sequence[Label] | None = None) -> FloatArray:
    """Codes (n, 2) of validated label pairs."""
    true, predicted = check_label_pairs(outputs, references)
    return encode(true, predicted, labels)[1]


def count_pairs(true: Labels, predicted: Labels, labels: Sequence[Label] | None = None) -> tuple[list[Label], Distinct]:
    """(vocabulary, the distinct pairs of codes and how often each occurs), as `encode` would number them."""
    if labels is None and all(_integers(side) for side in (true, predicted)):
        counted = _count_integers(np.asarray(true, dtype=np.int64), np.asarray(predicted, dtype=np.int64))
        if counted is not None:
            return counted
    known, codes = codes_of((true, predicted), labels)
    return known, pair_counts(*codes, len(known))


def _count_integers(true: IntArray, predicted: IntArray) -> tuple[list[Label], Distinct] | None:
    """The same in one count over the pairs as they are; None where the labels lie too far apart for that."""
    low, high = int(min(true.min(), predicted.min())), int(max(true.max(), predicted.max()))
    span = high - low + 1
    if span * span > max(4 * len(true), 1 << 16):
        return None
    keys = true * span
    keys += predicted
    keys -= low * (span + 1)
    counts = np.bincount(keys, minlength=span * span).reshape(span, span)
    present = np.flatnonzero(counts.any(axis=0) | counts.any(axis=1))
    cells = np.searchsorted(present, np.argwhere(counts)).astype(np.float64)
    return [*(present + low).tolist()], Distinct(cells, counts[counts > 0])


def pair_counts(true: IntArray, predicted: IntArray, n_classes: int) -> Distinct:
    """The distinct (true, predicted) codes, in order, and how often each occurs: all that count-based metrics need."""
    keys = true * (n_classes + 1) + (predicted + 1)
    cells = n_classes * (n_classes + 1)
    if cells <= max(4 * len(keys), 1 << 16):
        counts = np.bincount(keys, minlength=cells)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(keys, return_counts=True)
    first, second = np.divmod(present, n_classes + 1)
    return Distinct(np.column_stack([first, second - 1]).astype(np.float64), counts)


def class_totals(statistics: FloatArray, weights: FloatArray | None = None) -> ClassTotals:
    """Totals per class, of the set (R = 1) or of each resample in `weights` (R, n)."""
    true = statistics[:, 0].astype(np.int64)
    predicted = statistics[:, 1].astype(np.int64)
    n_classes = int(max(true.max(initial=-1), predicted.max(initial=-1))) + 1
    hit = np.where(true == predicted, true, NO_PREDICTION)
    if weights is None:
        hits, guesses, trues = (_count(codes, n_classes) for codes in (hit, predicted, true))
        return ClassTotals(hits, guesses, trues, n=np.array([float(len(true))]))
    hits, guesses, trues = (_weigh(codes, weights, n_classes) for codes in (hit, predicted, true))
    return ClassTotals(hits, guesses, trues, n=weights.sum(axis=1))


def _count(codes: IntArray, n_classes: int) -> FloatArray:
    # Shifting by one gives missing predictions their own bin, which is then dropped.
    return np.bincount(codes + 1, minlength=n_classes + 1)[1:].astype(np.float64)[None, :]


def _weigh(codes: IntArray, weights: FloatArray, n_classes: int) -> FloatArray:
    """Sums of weight columns by code: sort the columns once, then add up each run."""
    totals = np.zeros((len(weights), n_classes))
    order = np.argsort(codes, kind="stable")
    order = order[codes[order] >= 0]
    if len(order):
        present, starts = np.unique(codes[order], return_index=True)
        totals[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return totals


def is_right(statistics: FloatArray) -> FloatArray:
    """1.0 where the prediction equals the true label, shape (n,)."""
    return cast(FloatArray, (statistics[:, 0] == statistics[:, 1]).astype(np.float64))


class CountBased(ABC):
    """What metrics that are a formula of class totals share: `scores` maps (R, C) totals to (R,) scores."""

    @abstractmethod
    def scores(self, totals: ClassTotals) -> FloatArray: ...

    def statistics(
        self,
        outputs: Sequence[str | None],
        references: Sequence[Sequence[str]],
        labels: Sequence[Label] | None = None,
    ) -> FloatArray:
        return label_statistics(outputs, references, labels)

    def aggregate(self, statistics: FloatArray, weights: FloatArray | None = None) -> FloatArray:
        return self.scores(class_totals(statistics, weights))

    def item_scores(self, statistics: FloatArray) -> FloatArray | None:
        return None


@dataclass(frozen=True)
class CountMetric(CountBased):
    """A corpus metric given by its formula of class totals."""

    name: str
    options: str
    formula: Callable[[ClassTotals], FloatArray]
    reads: Reads = "label"
    kind: Kind = "corpus"
    higher_is_better: bool = True

    def signature(self) -> str:
        return f"{base_name(self.name)}|{self.options}|missing:wrong|measure:{MEASURE_VERSION}"

    def scores(self, totals: ClassTotals) -> FloatArray:
        return self.formula(totals)
