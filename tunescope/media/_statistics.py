"""Histograms, confusion matrices and precision–recall curves: as counts, from which a page draws."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tunescope._values import to_plain
from tunescope.media._media import JSON, Frozen, Media, MediaProblem, json_content, listed, ready

__all__ = ["ConfusionMatrix", "Histogram", "PRCurve", "average_precision"]

# Values counted at once: they stay in the processor's cache, and bound the memory for their places.
PIECE = 1 << 16
PIECE_ON_GPU = 1 << 22
MOST_BINS = 4096
MOST_CLASSES = 1000


class Histogram(Media):
    """How values are distributed: exact counts in `bins` bins of equal width from the least to the greatest.

    The same as `numpy.histogram` in float64: a bin holds what is at or above its lower edge and below its upper one,
    the last also what is at its upper edge. `values` is an array, a tensor (counted on its own device), or a list of
    any shape; NaN and infinities are counted apart.
    """

    kind = "histogram"

    def __init__(self, values: Any, bins: int = 64, caption: str | None = None) -> None:
        super().__init__(caption)
        self.values = values
        self.bins = bins

    def freeze(self) -> Frozen:
        if not isinstance(self.bins, int) or not 1 <= self.bins <= MOST_BINS:
            raise MediaProblem(f"a histogram has 1 to {MOST_BINS:,} bins, not {self.bins!r}")
        counted = _count(self.values, self.bins)
        content = json_content(counted._asdict())
        details = {"n": sum(counted.counts) + counted.nan + counted.infinite, "bins": len(counted.counts)}
        return ready(self, content, JSON, details)


class Counted(NamedTuple):
    """Counts of the bins between `edges` (one more than there are bins); both are empty if no value is finite."""

    edges: list[float]
    counts: list[int]
    nan: int
    infinite: int


def _count(values: Any, bins: int) -> Counted:
    if hasattr(values, "detach"):
        values = values.detach().reshape(-1)
        if values.device.type == "cuda":
            return count_tensor(values, bins)
        # Half precision, which NumPy does not have or is slow at, is exact in single.
        values = (values.float() if values.is_floating_point() and values.element_size() < 4 else values).cpu().numpy()
    if hasattr(values, "dtype") and hasattr(values, "shape"):
        return _count_array(sys.modules["numpy"].asarray(values).reshape(-1), bins)
    return _count_list([float(value) for value in listed(values)], bins)


def _count_list(values: list[float], bins: int) -> Counted:
    finite = [value for value in values if math.isfinite(value)]
    nan = sum(value != value for value in values)
    if not finite:
        return _nothing_finite(len(values), nan)
    edges = _edges(min(finite), max(finite), bins)
    counts = [0] * bins
    for value in finite:
        counts[min(bisect_right(edges, value) - 1, bins - 1)] += 1
    return Counted(edges, counts, nan, len(values) - len(finite) - nan)


def _count_array(values: Any, bins: int) -> Counted:
    numpy = sys.modules["numpy"]
    if values.dtype.kind not in "biuf":
        raise MediaProblem(f"values of type {values.dtype} are no numbers")
    finite = values
    nan = infinite = 0
    if values.dtype.kind == "f" and not (keep := numpy.isfinite(values)).all():
        finite = values[keep]
        nan = int(numpy.isnan(values).sum())
        infinite = len(values) - len(finite) - nan
    if not len(finite):
        return _nothing_finite(len(values), nan)
    edges = _edges(float(finite.min()), float(finite.max()), bins)
    borders, counts = numpy.array(edges), numpy.zeros(bins, numpy.int64)
    # NumPy's own histogram refuses ranges that are too narrow or too wide for bins of equal width.
    even = edges[-1] - edges[0] < sys.float_info.max / 2 and (borders[1:] > borders[:-1]).all()
    for start in range(0, len(finite), PIECE):
        piece = finite[start : start + PIECE].astype(numpy.float64)
        if even:
            counts += numpy.histogram(piece, bins, (edges[0], edges[-1]))[0]
        else:
            places = numpy.searchsorted(borders, piece, side="right") - 1
            counts += numpy.bincount(places.clip(0, bins - 1), minlength=bins)
    return Counted(edges, counts.tolist(), nan, infinite)


def count_tensor(values: Any, bins: int) -> Counted:
    """On the tensor's GPU: only the counts leave it."""
    torch = sys.modules["torch"]
    if values.is_complex():
        raise MediaProblem("complex values have no histogram")
    finite = values
    nan = infinite = 0
    if values.is_floating_point() and not (keep := torch.isfinite(values)).all():
        finite = values[keep]
        nan = int(torch.isnan(values).sum())
        infinite = len(values) - len(finite) - nan
    if not len(finite):
        return _nothing_finite(len(values), nan)
    low, high = (float(end) for end in torch.aminmax(finite))
    edges = _edges(low, high, bins)
    borders = torch.tensor(edges, dtype=torch.float64, device=values.device)
    counts = torch.zeros(bins, dtype=torch.int64, device=values.device)
    for start in range(0, len(finite), PIECE_ON_GPU):
        piece = finite[start : start + PIECE_ON_GPU].double()
        places = torch.bucketize(piece, borders, right=True) - 1
        counts += torch.bincount(places.clamp(0, bins - 1), minlength=bins)
    return Counted(edges, counts.tolist(), nan, infinite)


def _nothing_finite(n: int, nan: int) -> Counted:
    if n == 0:
        raise MediaProblem("there are no values")
    return Counted([], [], nan, n - nan)


def _edges(low: float, high: float, bins: int) -> list[float]:
    """bins + 1 edges, bit for bit those of `numpy.linspace(low, high, bins + 1)`; around a single value, ±0.5."""
    if low == high:
        half = 0.5 if low - 0.5 < high + 0.5 else abs(low) * 2**-40  # to a large number ±0.5 is nothing
        low, high = max(low - half, -sys.float_info.max), min(high + half, sys.float_info.max)
    width = high - low
    step = width / bins
    if math.isinf(width):
        edges = [low * (1 - place / bins) + high * (place / bins) for place in range(bins + 1)]
    elif step == 0:
        edges = [low + place / bins * width for place in range(bins + 1)]
    else:
        edges = [low + place * step for place in range(bins + 1)]
    edges[-1] = high
    return edges


class ConfusionMatrix(Media):
    """Which class was taken for which: counts, rows the truth, columns the answer.

    `labels` are the classes in their order (default: those that occur, sorted). Where labels are names and answers
    whole numbers, a number is the place of its label.
    """

    kind = "confusion_matrix"

    def __init__(
        self, y_true: Any, y_pred: Any, labels: Sequence[Any] | None = None, caption: str | None = None
    ) -> None:
        super().__init__(caption)
        self.y_true = y_true
        self.y_pred = y_pred
        self.labels = labels

    def freeze(self) -> Frozen:
        true, predicted = listed(self.y_true), listed(self.y_pred)
        if len(true) != len(predicted) or not true:
            raise MediaProblem(f"{len(true):,} true and {len(predicted):,} predicted classes are not pairs")
        labels = _sorted({*true, *predicted}) if self.labels is None else listed(self.labels)
        if len(labels) > MOST_CLASSES:
            raise MediaProblem(f"{len(labels):,} classes are more than {MOST_CLASSES:,}")
        places: dict[Any, int] = {label: place for place, label in enumerate(labels)}
        if all(isinstance(label, str) for label in labels):
            places |= dict(zip(range(len(labels)), range(len(labels)), strict=True))
        unknown = next((one for one in (*true, *predicted) if one not in places), None)
        if unknown is not None:
            raise MediaProblem(f"the class {unknown!r} is none of the labels")
        counts = [[0] * len(labels) for _ in labels]
        for (one, other), n in Counter(zip(true, predicted, strict=True)).items():
            counts[places[one]][places[other]] += n
        right = sum(counts[place][place] for place in range(len(labels)))
        content = json_content({"labels": [to_plain(str(label)) for label in labels], "counts": counts})
        return ready(self, content, JSON, {"n": len(true), "classes": len(labels), "accuracy": right / len(true)})


def _sorted(labels: set[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:  # numbers and names together
        return sorted(labels, key=str)


class PRCurve(Media):
    """Precision against recall at every threshold, exactly: for each distinct score, from the highest down, how many
    items at or above it are positive (`tp`) and how many are not (`fp`).

    Precision is tp / (tp + fp) and recall tp / positives. `y_true` holds the classes, of which `positive` is the one
    looked for; `scores` are higher where the model is surer of it.
    """

    kind = "pr_curve"

    def __init__(self, y_true: Any, scores: Any, positive: Any = 1, caption: str | None = None) -> None:
        super().__init__(caption)
        self.y_true = y_true
        self.scores = scores
        self.positive = positive

    def freeze(self) -> Frozen:
        true, scores = listed(self.y_true), [float(score) for score in listed(self.scores)]
        if len(true) != len(scores):
            raise MediaProblem(f"{len(true):,} classes and {len(scores):,} scores are not pairs")
        if any(score != score for score in scores):
            raise MediaProblem("a score is NaN")
        curve = _curve([answer == self.positive for answer in true], scores)
        positives = curve.tp[-1] if curve.tp else 0
        if positives == 0:
            raise MediaProblem(f"no item is of the class {self.positive!r}, so that recall means nothing")
        content = json_content({**curve._asdict(), "positives": positives, "n": len(true)})
        average = average_precision(curve.tp, curve.fp)
        details = {"n": len(true), "positives": positives, "average_precision": average}
        return ready(self, content, JSON, details)


class _Curve(NamedTuple):
    thresholds: list[float]
    tp: list[int]
    fp: list[int]


def _curve(hits: list[bool], scores: list[float]) -> _Curve:
    curve, tp, fp = _Curve([], [], []), 0, 0
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    for place, item in enumerate(order):
        if hits[item]:
            tp += 1
        else:
            fp += 1
        # A threshold takes in all items of its score.
        if place + 1 == len(order) or scores[order[place + 1]] != scores[item]:
            curve.thresholds.append(scores[item])
            curve.tp.append(tp)
            curve.fp.append(fp)
    return curve


def average_precision(tp: Sequence[int], fp: Sequence[int]) -> float:
    """Σ (Rₙ − Rₙ₋₁) Pₙ over the thresholds, as scikit-learn defines it: no interpolation."""
    positives, before, total = tp[-1], 0, 0.0
    for hits, misses in zip(tp, fp, strict=True):
        total += (hits - before) / positives * (hits / (hits + misses))
        before = hits
    return total
