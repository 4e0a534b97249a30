"""Metrics of label sets against scikit-learn on indicator matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from service.measure.metrics import METRICS
from service.measure.validation import LengthMismatchError, NotALabelError, NotTextError

from .cases import Case, parametrised

LABELS = ["a", "b", "c", "đ", "東"]
SETS = st.lists(st.sampled_from(LABELS), unique=True, max_size=5)


def indicators(sets: list[list[str]]) -> np.ndarray:
    return np.array([[label in one for label in LABELS] for one in sets], dtype=int)


def value(name: str, true: Any, predicted: Any, labels: Any = None) -> float:
    metric = METRICS[name]
    return float(metric.aggregate(metric.statistics(predicted, true, labels))[0])


@settings(max_examples=20)
@given(pairs=st.lists(st.tuples(SETS, SETS), min_size=1, max_size=15))
def test_values_are_scikit_learns(pairs: list[tuple[list[str], list[str]]]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    matrices = indicators(true), indicators(predicted)
    for average in ("macro", "micro", "weighted"):
        for undefined in ("0", "1", "nan"):
            names = [f"multilabel_{rate}_{average}:zero_division={undefined}" for rate in ("precision", "recall", "f1")]
            *expected, _ = sk.precision_recall_fscore_support(
                *matrices, average=average, zero_division=float(undefined)
            )
            got = [value(name, true, predicted, LABELS) for name in names]
            assert got == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert value("multilabel_f1_samples", true, predicted, LABELS) == pytest.approx(
        sk.f1_score(*matrices, average="samples", zero_division=0)
    )
    assert value("subset_accuracy", true, predicted, LABELS) == sk.accuracy_score(*matrices)
    assert value("hamming_loss", true, predicted, LABELS) == pytest.approx(sk.hamming_loss(*matrices))


@parametrised("metrics", lambda case: case["metric"] == "precision_recall_f1_multilabel")
def test_published_averages(case: Case) -> None:
    true, predicted = (
        [[str(place) for place, on in enumerate(row) if on] for row in case["input"][key]]
        for key in ("y_true", "y_pred")
    )
    for average, expected in case["expected"].items():
        got = [
            value(f"multilabel_{rate}_{average}", true, predicted, list("0123"))
            for rate in ("precision", "recall", "f1")
        ]
        assert got == pytest.approx(expected, abs=case["tolerance"])


@pytest.mark.parametrize("name", ["multilabel_f1_macro", "multilabel_f1_samples", "subset_accuracy", "hamming_loss"])
def test_a_weighted_resample_scores_as_its_items_written_out(name: str) -> None:
    true, predicted = [["a"], ["a", "b"], [], ["c"]], [["a"], ["b"], ["c"], ["a", "c"]]
    metric = METRICS[name]
    weights = np.array([[2, 0, 1, 1], [1, 3, 0, 0]])
    scores = metric.aggregate(metric.statistics(predicted, true, list("abc")), weights.astype(np.float64))
    for row, got in zip(weights, scores, strict=True):
        chosen = np.repeat(np.arange(4), row)
        written_out = value(name, [true[i] for i in chosen], [predicted[i] for i in chosen], list("abc"))
        assert got == pytest.approx(written_out, abs=1e-14)


def test_a_missing_output_is_right_about_nothing() -> None:
    true, predicted = [[], ["a"]], [None, ["a"]]
    assert value("subset_accuracy", true, predicted) == 0.5
    assert value("subset_accuracy", true, [[], ["a"]]) == 1.0
    assert value("multilabel_f1_samples", true, predicted) == 0.5
    assert value("multilabel_f1_micro", [["a"], ["a"]], predicted) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.reads == "labels"])
def test_metrics_of_label_sets_refuse_by_item(name: str) -> None:
    metric = METRICS[name]
    refused: list[tuple[Any, Any, Any, str]] = [
        ([["a"], "a"], [["a"], ["a"]], None, "not a list of labels"),
        ([["a"], [0.5]], [["a"], ["a"]], None, "text or integers"),
        ([["a"], ["a", "a"]], [["a"], ["a"]], None, "comes twice"),
        ([["a"], ["x"]], [["a"], ["a"]], ["a"], "'x' of item 1 is not among"),
        ([["a"], ["a"]], [["a"], ["x"]], ["a"], "'x' of item 1 is not among"),
    ]
    for outputs, references, labels, message in refused:
        with pytest.raises(NotALabelError, match=message) as error:
            metric.statistics(outputs, references, labels)
        assert error.value.index == 1
    with pytest.raises(NotALabelError, match="never be equal"):
        metric.statistics([["1"]], [[1]])
    with pytest.raises(NotALabelError, match="give the vocabulary"):
        metric.statistics([[]], [[]])
    with pytest.raises(LengthMismatchError):
        metric.statistics([["a"], ["a"]], [["a"]])
    with pytest.raises(NotTextError):
        metric.statistics([["a"]], ["a"])
