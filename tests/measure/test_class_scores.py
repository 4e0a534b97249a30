"""Metrics that read scores of all classes, against scikit-learn and torchmetrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve as sk_calibration_curve
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from service.measure.calibration import bin_edges, calibration_curve
from service.measure.configurations import compare_configurations
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.score import score
from service.measure.validation import MeasureError, NotALabelError, OutOfRangeError

from .cases import Case, parametrised

# scikit-learn warns of classes without items, which are drawn here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")

Sets = st.tuples(st.integers(2, 5), st.integers(1, 30), st.integers(0, 10**6))


def drawn(size: int, n: int, seed: int) -> tuple[list[int], FloatArray]:
    """True labels, and probabilities with many ties."""
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, size=(n, size)) + (generator.random((n, size)) if seed % 2 else 0.25)
    return generator.integers(0, size, n).tolist(), weights / weights.sum(axis=1, keepdims=True)


def value(name: str, true: Any, scores: Any, labels: Any = None) -> float:
    metric: Any = METRICS[name]
    statistics = metric.statistics(scores, [[label] for label in true], labels)
    return float(metric.aggregate(statistics)[0])


def sk_top_k(true: list[int], scores: FloatArray, k: int) -> float:
    size = scores.shape[1]
    if size == 2:
        return float(sk.top_k_accuracy_score(true, scores[:, 1], k=k, labels=[0, 1]))
    return float(sk.top_k_accuracy_score(true, scores, k=k, labels=list(range(size))))


@settings(max_examples=30)
@given(drawing=Sets)
def test_top_k_is_scikit_learns(drawing: tuple[int, int, int]) -> None:
    true, scores = drawn(*drawing)
    for k in range(1, drawing[0]):
        got = value(f"top_k_accuracy:k={k}", true, scores, list(range(drawing[0])))
        assert got == pytest.approx(sk_top_k(true, scores, k), abs=1e-14)


@settings(max_examples=30)
@given(drawing=Sets)
def test_log_loss_and_brier_are_scikit_learns(drawing: tuple[int, int, int]) -> None:
    true, scores = drawn(*drawing)
    labels = list(range(drawing[0]))
    assert value("log_loss", true, scores, labels) == pytest.approx(
        sk.log_loss(true, y_proba=scores, labels=labels), rel=1e-13
    )
    assert value("brier_score", true, scores, labels) == pytest.approx(
        sk.brier_score_loss(true, y_proba=scores, labels=labels), rel=1e-13
    )


@settings(max_examples=30)
@given(drawing=Sets)
def test_areas_and_precisions_are_scikit_learns(drawing: tuple[int, int, int]) -> None:
    true, scores = drawn(*drawing)
    size = drawing[0]
    labels = list(range(size))
    if len(set(true)) < size:
        assert math.isnan(value("roc_auc", true, scores, labels))
        assert math.isnan(value("average_precision", true, scores, labels)) or size == 2
        return
    given_scores = scores[:, 1] if size == 2 else scores
    assert value("average_precision", true, scores, labels) == pytest.approx(
        sk.average_precision_score(true, given_scores), abs=1e-13
    )
    for way in ("ovr", "ovo"):
        expected = sk.roc_auc_score(true, given_scores, multi_class=way)
        assert value(f"roc_auc:multi_class={way}", true, scores, labels) == pytest.approx(expected, abs=1e-13)


@settings(max_examples=25)
@given(drawing=Sets, bins=st.integers(1, 20))
def test_ece_is_torchmetrics(drawing: tuple[int, int, int], bins: int) -> None:
    size, n, seed = drawing
    true, scores = drawn(size, n, 2 * seed + 1)  # odd: none lies on an edge
    labels, target, predictions = list(range(size)), torch.tensor(true), torch.tensor(scores)
    expected = float(multiclass_calibration_error(predictions, target, size, n_bins=bins))
    assert value(f"ece:bins={bins}", true, scores, labels) == pytest.approx(expected, abs=1e-6)
    if size == 2:
        expected = float(binary_calibration_error(predictions[:, 1].contiguous(), target, n_bins=bins))
        assert value(f"ece:bins={bins},of=positive", true, scores, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10, 15, 16, 100])
def test_bins_have_torchs_edges_up_to_the_last_bit(bins: int) -> None:
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64).tolist()
    assert bin_edges(bins).tolist() == pytest.approx(edges, rel=3e-16)


def test_the_calibration_curve_is_scikit_learns_and_sums_up_to_the_error() -> None:
    generator = np.random.default_rng(4)
    confidence = np.append(generator.random(500), [1.0, 1.0])
    right = (generator.random(502) < confidence**2).astype(np.float64)
    curve = calibration_curve(confidence, right, 10)
    accuracy, mean = sk_calibration_curve(right[:500], confidence[:500], n_bins=10)
    assert [one.accuracy for one in curve[:10]] == pytest.approx(accuracy)
    assert [one.confidence for one in curve[:10]] == pytest.approx(mean)
    assert (curve[10].low, curve[10].confidence, curve[10].n) == (1.0, 1.0, 2)
    error = sum(one.n * abs(one.accuracy - one.confidence) for one in curve) / 502
    assert error == pytest.approx(METRICS["ece:bins=10"].aggregate(np.column_stack([confidence, right]))[0])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "name", ["top_k_accuracy:k=1", "log_loss", "brier_score", "roc_auc", "average_precision", "ece"]
)
def test_a_weighted_resample_scores_as_its_items_written_out(name: str, size: int) -> None:
    true, scores = drawn(size, 40, 7)
    labels = list(range(size))
    metric: Any = METRICS[name]
    statistics = metric.statistics(scores, [[label] for label in true], labels)
    weights = np.random.default_rng(3).integers(0, 4, size=(5, 40))
    for row, got in zip(weights, metric.aggregate(statistics, weights.astype(np.float64)), strict=True):
        chosen = np.repeat(np.arange(40), row)
        assert got == pytest.approx(value(name, np.array(true)[chosen].tolist(), scores[chosen], labels), abs=1e-13)
    result = score(metric, statistics)
    assert result.interval is not None
    assert result.value is not None
    assert result.interval[0] <= result.value <= result.interval[1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("top_k_accuracy:k=1", [1.0, 0.0, 0.0]),
        ("log_loss", [1.0, 0.0, 0.0]),
        ("brier_score", [1.0, 0.0, 0.0]),
        ("roc_auc", [9.0, -9.0, 9.0]),
        ("average_precision", [9.0, -9.0, 9.0]),
        ("ece", [1.0, 0.0, 0.0]),
    ],
)
def test_a_missing_output_is_certain_of_a_wrong_label(name: str, wrong: list[float]) -> None:
    true, scores = drawn(3, 12, 5)
    true[0] = 1
    rows: list[Any] = scores.tolist()
    absent, certain = value(name, true, [None, *rows[1:]], [0, 1, 2]), value(name, true, [wrong, *rows[1:]], [0, 1, 2])
    assert absent == pytest.approx(certain, abs=1e-14)
    as_array = scores.copy()
    as_array[0] = np.nan
    assert value(name, true, as_array, [0, 1, 2]) == absent


@parametrised("metrics", lambda case: case["metric"] in ("roc_auc", "log_loss", "brier"))
def test_published_scores(case: Case) -> None:
    given_ = case["input"]
    scores = np.array(given_.get("y_score", given_.get("y_prob")), dtype=np.float64)
    if scores.ndim == 1:
        scores = np.column_stack([1 - scores, scores])
    name = "brier_score" if case["metric"] == "brier" else str(case["metric"])
    options = f":multi_class={case['params']['multi_class']}" if "multi_class" in case["params"] else ""
    assert value(name + options, given_["y_true"], scores) == pytest.approx(case["expected"], abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"].startswith("ece"))
def test_published_calibration_errors(case: Case) -> None:
    given_, bins = case["input"], case["params"]["n_bins"]
    if "probs" in given_:
        got = value(f"ece:bins={bins}", given_["y_true"], given_["probs"])
    else:
        positive = np.array(given_["prob_positive"])
        got = value(f"ece:bins={bins},of=positive", given_["y_true"], np.column_stack([1 - positive, positive]))
    assert got == pytest.approx(case["expected"], abs=1e-7)


REFUSED: list[tuple[type[MeasureError], Any, str, int]] = [
    (OutOfRangeError, [[0.5, 0.5], [0.2, 0.3, 0.5]], "3 scores for 2 labels", 1),
    (OutOfRangeError, [[0.5, 0.5], 0.7], "not a number for each label", 1),
    (OutOfRangeError, [[0.5, 0.5], [0.5, math.nan]], "not finite", 1),
    (OutOfRangeError, [[0.5, 0.5], [0.5, math.inf]], "not finite", 1),
    (OutOfRangeError, [[0.5, 0.5], ["a", "b"]], "not numbers", 1),
]
NO_PROBABILITIES: list[tuple[type[MeasureError], Any, str, int]] = [
    (OutOfRangeError, [[0.5, 0.5], [1.5, -0.5]], "0 to 1", 1),
    (OutOfRangeError, [[0.5, 0.5], [0.7, 0.7]], "do not add up to 1", 1),
]


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.reads == "scores"])
def test_metrics_of_scores_refuse_by_item(name: str) -> None:
    metric: Any = METRICS["top_k_accuracy:k=1" if name == "top_k_accuracy" else name]
    cases = REFUSED + (NO_PROBABILITIES if name in ("log_loss", "brier_score", "ece") else [])
    for error, outputs, message, index in cases:
        with pytest.raises(error, match=message) as refused:
            metric.statistics(outputs, [["a"], ["b"]])
        assert refused.value.index == index
    with pytest.raises(NotALabelError, match="give `labels`"):
        metric.statistics([[1.0]], [["a"]])
    with pytest.raises(NotALabelError, match="item 0 is 'x'"):
        metric.statistics([[0.5, 0.5]], [["x"]], ["a", "b"])
    with pytest.raises(OutOfRangeError, match="2 scores for 3 labels"):
        metric.statistics(np.array([[0.5, 0.5]]), [["a"]], ["a", "b", "c"])


def test_top_k_of_all_labels_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="top 2 of 2"):
        value("top_k_accuracy", ["a", "b"], [[0.5, 0.5], [0.5, 0.5]])


def test_an_item_score_of_a_loss_is_in_the_metrics_unit() -> None:
    metric = METRICS["log_loss"]
    statistics = metric.statistics([[0.5, 0.5], [0.25, 0.75]], [["a"], ["a"]], ["a", "b"])
    item_scores = metric.item_scores(statistics)
    assert item_scores is not None
    assert item_scores.tolist() == pytest.approx([math.log(2), math.log(4)])


def test_many_classes_are_resampled_by_the_jackknife_and_agree_with_the_bootstrap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true, scores = drawn(3, 300, 1)
    statistics = METRICS["roc_auc"].statistics(scores, [[label] for label in true], [0, 1, 2])
    bootstrap = score(METRICS["roc_auc"], statistics)
    monkeypatch.setattr("service.measure.score.MAX_BOOTSTRAP_ITEMS", 3 * 300 - 1)
    jackknife = score(METRICS["roc_auc"], statistics)
    assert (bootstrap.method, jackknife.method) == ("bca-bootstrap-4000", "jackknife-250")
    assert jackknife.value == bootstrap.value
    assert jackknife.interval == pytest.approx(bootstrap.interval, abs=0.01)
    # Two classes are one ranking.
    monkeypatch.setattr("service.measure.score.MAX_BOOTSTRAP_ITEMS", 300)
    true, scores = drawn(2, 300, 1)
    statistics = METRICS["roc_auc"].statistics(scores, [[label] for label in true], [0, 1])
    assert score(METRICS["roc_auc"], statistics).method == "bca-bootstrap-4000"


def test_a_class_of_one_item_has_no_jackknife(monkeypatch: pytest.MonkeyPatch) -> None:
    true, scores = drawn(2, 40, 1)
    true = [0] * 39 + [1]
    statistics = METRICS["roc_auc"].statistics(scores, [[label] for label in true], [0, 1])
    monkeypatch.setattr("service.measure.score.MAX_BOOTSTRAP_ITEMS", 30)
    result = score(METRICS["roc_auc"], statistics)
    assert (result.value is None, result.interval, result.reason) == (False, None, "undefined_resamples")
    seeds = [[statistics], [statistics[::-1].copy()]]
    compared = compare_configurations(METRICS["roc_auc"], *seeds)
    assert (compared.interval, compared.p_value, compared.reason) == (None, None, "too_few_items")
