"""What is refused before anything is scored.

Reference tools answer these inputs with a wrong number: lengths that differ are cut to the shorter,
transposed references are scored as they come, `0.6` is cast to label 0, and a text that a tokenizer
cannot read scores 0. Every error below names the item (its position, counted from 0).

    MeasureError(ValueError)
    ├── EmptySetError               nothing to score
    ├── LengthMismatchError         outputs and references (or two evaluations) of different lengths
    │   └── TransposedReferencesError
    ├── MissingReferenceError       an item without a reference, or a label item with several
    ├── NotTextError                an output or reference that is not text
    ├── NotALabelError              a label that is neither text nor integer, or a mix of both
    ├── UnreadableTextError         a text the metric's tokenizer would drop entirely
    └── OutOfRangeError             a number outside what the formula takes (NaN, negative count, ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Label = str | int
Labels = Sequence[Label | None] | npt.NDArray[Any]
"""Labels of items: a sequence of texts or integers, None where missing, or an array of integers or texts."""
Rows = Sequence[Any] | npt.NDArray[Any]


class MeasureError(ValueError):
    """Base of every refusal in `measure`. `index` is the offending item's position, when there is one."""

    code = "invalid_measurement"

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class EmptySetError(MeasureError):
    code = "empty_set"


class LengthMismatchError(MeasureError):
    code = "length_mismatch"


class TransposedReferencesError(LengthMismatchError):
    code = "references_transposed"


class MissingReferenceError(MeasureError):
    code = "missing_reference"


class NotTextError(MeasureError):
    code = "not_text"


class NotALabelError(MeasureError):
    code = "not_a_label"


class UnreadableTextError(MeasureError):
    code = "unreadable_text"


class OutOfRangeError(MeasureError):
    code = "out_of_range"


def check_aligned(outputs: Rows, references: Rows) -> None:
    """One list of references for each output, which may be empty; raises on anything else."""
    if isinstance(references, str) or any(issubclass(kind, str) for kind in _types(references)):
        index = next((i for i, item in enumerate(references) if isinstance(item, str)), None)
        raise NotTextError("references must be a list of lists: wrap a single reference as [text]", index)
    if not len(outputs) and not len(references):
        raise EmptySetError("there is nothing to score: no outputs and no references")
    if len(outputs) != len(references):
        if len(outputs) > 1 and all(len(stream) == len(outputs) for stream in references):
            raise TransposedReferencesError(
                f"references come as {len(references)} streams of {len(outputs)} texts; "
                "give one list of references per item instead (the transpose)"
            )
        raise LengthMismatchError(
            f"{len(outputs)} outputs but {len(references)} lists of references: item "
            f"{min(len(outputs), len(references))} has no counterpart",
            min(len(outputs), len(references)),
        )


def _types(rows: Rows) -> set[type]:
    return set() if isinstance(rows, np.ndarray) and rows.ndim > 1 else set(map(type, rows))


def _lengths(rows: Rows) -> set[int]:
    return {rows.shape[1]} if isinstance(rows, np.ndarray) and rows.ndim > 1 else set(map(len, rows))


def check_referenced(outputs: Rows, references: Rows) -> None:
    """One non-empty list of references for each output; raises on anything else."""
    check_aligned(outputs, references)
    if 0 in _lengths(references):
        index = next(index for index, item in enumerate(references) if not len(item))
        raise MissingReferenceError(f"item {index} has no reference", index)


def check_texts(
    outputs: Sequence[str | None], references: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Texts ready to score: an output of None (the model gave nothing) becomes the empty text."""
    check_referenced(outputs, references)
    texts = check_outputs(outputs)
    if set(map(type, chain.from_iterable(references))) != {str}:
        for index, item in enumerate(references):
            for reference in item:
                if not isinstance(reference, str):
                    raise NotTextError(f"a reference of item {index} is {type(reference).__name__}, not text", index)
    return texts, [list(item) for item in references]


def check_outputs(outputs: Sequence[str | None]) -> list[str]:
    if not set(map(type, outputs)) <= {str, type(None)}:
        for index, output in enumerate(outputs):
            if output is not None and not isinstance(output, str):
                raise NotTextError(f"the output of item {index} is {type(output).__name__}, not text", index)
    return [output or "" for output in outputs]


def check_labels(labels: Labels, what: str, *, missing_allowed: bool = False) -> type[Label] | None:
    """All text or all integers; returns which (None when every label is missing).

    Floats and booleans are refused: 0.6 is a probability, and a cast would call it class 0.
    """
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind in "iu":
            return int
        labels = cast("list[Label | None]", labels.tolist())
    kinds = set(map(type, labels))
    if missing_allowed:
        kinds.discard(type(None))
    if kinds == {str}:
        return str
    if kinds == {int}:
        return int
    return _kind_of_each(labels, what, missing_allowed)


def _kind_of_each(labels: Sequence[Label | None], what: str, missing_allowed: bool) -> type[Label] | None:
    kind: type[Label] | None = None
    for index, label in enumerate(labels):
        if label is None and missing_allowed:
            continue
        if isinstance(label, bool) or not isinstance(label, (str, int)):
            hint = "; a probability is not a label" if isinstance(label, float) else ""
            raise NotALabelError(f"the {what} of item {index} is {label!r} ({type(label).__name__}){hint}", index)
        this: type[Label] = str if isinstance(label, str) else int
        if kind is not None and this is not kind:
            raise NotALabelError(
                f"the {what} of item {index} is {this.__name__}, earlier ones are {kind.__name__}", index
            )
        kind = this
    return kind


def check_label_pairs(outputs: Labels, references: Rows) -> tuple[Labels, Labels]:
    """(true, predicted) labels of a set where each item has exactly one reference label.

    references: a list of one-label lists, or an array of shape (n, 1).
    """
    check_referenced(outputs, references)
    true = single_references(references)
    check_same_kind(true, outputs)
    return true, outputs


def single_references(references: Rows) -> Labels:
    """The one reference label of each item, shape (n,)."""
    if _lengths(references) != {1}:
        index, item = next((index, item) for index, item in enumerate(references) if len(item) != 1)
        raise MissingReferenceError(f"item {index} has {len(item)} labels; a label metric takes one", index)
    return references[:, 0] if isinstance(references, np.ndarray) else [item[0] for item in references]


def check_same_kind(true: Labels, predicted: Labels) -> None:
    """Both sides all text or all integers: '1' never equals 1, and would score 0 in silence."""
    true_kind = check_labels(true, "true label")
    predicted_kind = check_labels(predicted, "predicted label", missing_allowed=True)
    if true_kind is not None and predicted_kind is not None and true_kind is not predicted_kind:
        index = next(i for i, label in enumerate(predicted) if label is not None)
        raise NotALabelError(
            f"true labels are {true_kind.__name__} but the predicted label of item {index} is "
            f"{predicted_kind.__name__}: they could never be equal",
            index,
        )


def check_probability(value: float, what: str) -> None:
    """Strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise OutOfRangeError(f"{what} must lie strictly between 0 and 1, got {value!r}")
