"""Scores of every class, checked: what metrics of probabilities and of rankings read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.measure.labels import codes_of
from service.measure.metric import FloatArray, IntArray
from service.measure.validation import (
    Label,
    NotALabelError,
    OutOfRangeError,
    Rows,
    check_labels,
    check_referenced,
    single_references,
)

SUM_TOLERANCE = 0.01
"""Probabilities come rounded: those of 150 classes to four digits may miss 1 by so much."""


@dataclass(frozen=True)
class ClassScores:
    """`scores` (n, C), a column a label, NaN in the rows that are `missing` (n,); `true`: codes (n,)."""

    labels: list[Label]
    scores: FloatArray
    true: IntArray
    missing: npt.NDArray[np.bool_]

    def of_true(self) -> FloatArray:
        """The score of the true label, shape (n,)."""
        of_true: FloatArray = self.scores[np.arange(len(self.true)), self.true]
        return of_true


def read_scores(
    outputs: Rows, references: Rows, labels: Sequence[Label] | None, *, probabilities: bool = False
) -> ClassScores:
    """Validated scores; `labels` absent: the sorted true labels are the vocabulary.

    outputs: a row of C numbers for each item, or None; or an array (n, C), where a row of NaN is missing.
    probabilities: refuse what is not between 0 and 1, or does not add up to 1.
    """
    check_referenced(outputs, references)
    true = single_references(references)
    check_labels(true, "true label")
    known, (codes, _) = codes_of((true, true), labels)
    if len(known) < 2:
        raise NotALabelError(f"scores are of two labels or more, and the vocabulary has {len(known)}: give `labels`")
    scores = _table(outputs, len(known))
    missing: npt.NDArray[np.bool_] = np.asarray(np.isnan(scores).all(axis=1))
    unfit = np.asarray(~np.isfinite(scores).all(axis=1) & ~missing)
    _refuse(unfit, scores, "are not finite")
    if probabilities:
        _refuse(
            np.asarray(((scores < 0) | (scores > 1)).any(axis=1)), scores, "are not probabilities: 0 to 1 is asked for"
        )
        _refuse(np.abs(scores.sum(axis=1) - 1) > SUM_TOLERANCE, scores, "do not add up to 1")
    return ClassScores(known, scores, codes, missing)


def _table(outputs: Rows, size: int) -> FloatArray:
    if isinstance(outputs, np.ndarray) and outputs.ndim == 2 and outputs.dtype.kind == "f":
        if outputs.shape[1] != size:
            raise OutOfRangeError(f"item 0 has {outputs.shape[1]} scores for {size} labels", 0)
        return outputs.astype(np.float64)
    table = np.full((len(outputs), size), np.nan)
    for index, row in enumerate(outputs):
        if row is None:
            continue
        if isinstance(row, str) or not hasattr(row, "__len__"):
            raise OutOfRangeError(f"the scores of item {index} are {row!r}, not a number for each label", index)
        if len(row) != size:
            raise OutOfRangeError(f"item {index} has {len(row)} scores for {size} labels", index)
        table[index] = _numbers(row, index)
        if np.isnan(table[index]).any():
            raise OutOfRangeError(f"the scores of item {index} are not finite: {list(row)!r}", index)
    return table


def _numbers(row: Any, index: int) -> FloatArray:
    try:
        return np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OutOfRangeError(f"the scores of item {index} are not numbers: {row!r}", index) from error


def _refuse(bad: npt.NDArray[np.bool_], scores: FloatArray, why: str) -> None:
    if bad.any():
        index = int(np.argmax(bad))
        raise OutOfRangeError(f"the scores of item {index} {why}: {scores[index].tolist()[:8]}", index)
