"""What is refused, and that the message names the item."""

from __future__ import annotations

from typing import Any

import pytest

from service.measure.classification import confusion_matrix
from service.measure.metrics import METRICS
from service.measure.validation import (
    EmptySetError,
    LengthMismatchError,
    MeasureError,
    MissingReferenceError,
    NotALabelError,
    NotTextError,
    TransposedReferencesError,
)

LABEL_METRICS = [name for name, metric in METRICS.items() if metric.reads == "label"]
TEXT_METRICS = [name for name, metric in METRICS.items() if metric.reads == "text" and not name.startswith("human_")]

# A likelihood and samples are refused in test_likelihood_and_samples, scores and label sets in files of their own.
PAIRED = [*LABEL_METRICS, *TEXT_METRICS]

BOTH: list[tuple[type[MeasureError], Any, Any, int | None]] = [
    (EmptySetError, [], [], None),
    (LengthMismatchError, ["a", "b"], [["a"]], 1),
    (LengthMismatchError, ["a"], [["a"], ["b"]], 1),
    (TransposedReferencesError, ["a", "b", "c"], [["a", "b", "c"], ["a", "b", "c"]], None),
    (MissingReferenceError, ["a", "b"], [["a"], []], 1),
    (NotTextError, ["a", "b"], [["a"], "b"], 1),
    (NotTextError, ["a", "b"], "ab", 0),
]
LABEL: list[tuple[type[MeasureError], Any, Any, int | None]] = [
    (NotALabelError, ["a", 0.6], [["a"], ["b"]], 1),
    (NotALabelError, ["a", "b"], [["a"], [0.6]], 1),
    (NotALabelError, ["a", "b"], [["a"], [True]], 1),
    (NotALabelError, ["a", "b"], [["a"], [None]], 1),
    (NotALabelError, ["a", 1], [["a"], ["b"]], 1),
    (NotALabelError, [None, 1, 2], [["1"], ["1"], ["2"]], 1),
    (MissingReferenceError, ["a", "b"], [["a"], ["a", "b"]], 1),
]
TEXT: list[tuple[type[MeasureError], Any, Any, int | None]] = [
    (NotTextError, ["a", 3], [["a"], ["b"]], 1),
    (NotTextError, ["a", ["b"]], [["a"], ["b"]], 1),
    (NotTextError, ["a", "b"], [["a"], ["b", None]], 1),
]


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize(("error", "outputs", "references", "index"), BOTH)
def test_metrics_of_labels_and_texts_refuse(
    name: str, error: type[MeasureError], outputs: Any, references: Any, index: int | None
) -> None:
    with pytest.raises(error) as refused:
        METRICS[name].statistics(outputs, references)
    assert refused.value.index == index
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("name", LABEL_METRICS)
@pytest.mark.parametrize(("error", "outputs", "references", "index"), LABEL)
def test_label_metrics_refuse(
    name: str, error: type[MeasureError], outputs: Any, references: Any, index: int | None
) -> None:
    with pytest.raises(error, match=f"item {index}") as refused:
        METRICS[name].statistics(outputs, references)
    assert refused.value.index == index


@pytest.mark.parametrize("name", TEXT_METRICS)
@pytest.mark.parametrize(("error", "outputs", "references", "index"), TEXT)
def test_text_metrics_refuse(
    name: str, error: type[MeasureError], outputs: Any, references: Any, index: int | None
) -> None:
    with pytest.raises(error, match=f"item {index}") as refused:
        METRICS[name].statistics(outputs, references)
    assert refused.value.index == index


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_refuses_nothing_and_unequal_lengths(name: str) -> None:
    with pytest.raises(EmptySetError):
        METRICS[name].statistics([], [])
    with pytest.raises(LengthMismatchError) as refused:
        METRICS[name].statistics([None, None, None], [["a"], ["b"]])
    assert refused.value.index == 2
    with pytest.raises(NotTextError):
        METRICS[name].statistics([None], ["a"])


@pytest.mark.parametrize("name", PAIRED)
def test_a_square_set_of_one_reference_each_is_not_taken_for_transposed(name: str) -> None:
    metric = METRICS[name]
    assert len(metric.statistics(["a", "b"], [["a"], ["b"]])) == 2


def test_confusion_matrix_refuses_what_the_metrics_refuse() -> None:
    with pytest.raises(LengthMismatchError, match="2 true labels but 1"):
        confusion_matrix(["a", "b"], ["a"])
    with pytest.raises(EmptySetError):
        confusion_matrix([], [])
    with pytest.raises(NotALabelError, match="repeated"):
        confusion_matrix(["a"], ["a"], ["a", "a"])
    with pytest.raises(NotALabelError, match="never be equal"):
        confusion_matrix(["1"], [1])


def test_every_error_has_a_code_of_its_own() -> None:
    errors: list[type[MeasureError]] = [MeasureError, *_below(MeasureError)]
    assert len({error.code for error in errors}) == len(errors)


def _below(error: type[MeasureError]) -> list[type[MeasureError]]:
    return [child for one in error.__subclasses__() for child in (one, *_below(one))]
