"""Count-based metrics against scikit-learn, on cases, random labels and resamples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from service.measure.classification import confusion_matrix, per_class
from service.measure.metrics import METRICS, Metric
from service.measure.resampling import count_draws, distinct_rows

from .cases import Case, parametrised

Oracle = Callable[[list[str], list[str]], float]

# scikit-learn warns about sets of one label, which are drawn here on purpose; its numbers are the oracle.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

ORACLES: dict[str, Oracle] = {
    "accuracy": sk.accuracy_score,
    "f1_macro": lambda t, p: sk.f1_score(t, p, average="macro", zero_division=0),
    "f1_micro": lambda t, p: sk.f1_score(t, p, average="micro", zero_division=0),
    "f1_weighted": lambda t, p: sk.f1_score(t, p, average="weighted", zero_division=0),
    "precision_macro": lambda t, p: sk.precision_score(t, p, average="macro", zero_division=0),
    "recall_macro": lambda t, p: sk.recall_score(t, p, average="macro", zero_division=0),
    "balanced_accuracy": lambda t, p: sk.recall_score(t, p, average="macro", labels=sorted(set(t)), zero_division=0),
    "mcc": sk.matthews_corrcoef,
}

LABELS = st.sampled_from(["a", "b", "c", "đ", "東"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)


def value(metric: Metric, true: list[str], predicted: list[str | None]) -> float:
    return float(metric.aggregate(metric.statistics(predicted, [[label] for label in true]))[0])


def test_all_promised_metrics_are_found() -> None:
    assert set(METRICS) == {
        *ORACLES,
        "cohen_kappa",
        "exact_match",
        "token_f1",
        "bleu",
        "chrf",
        "human_good",
        "human_good_mean",
    } | {f"rouge{kind}" for kind in ("1", "2", "L", "Lsum")}
    assert all(isinstance(metric, Metric) and name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=60)
@given(pairs=PAIRS)
def test_the_value_is_scikit_learns(name: str, pairs: list[tuple[str, str]]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    assert value(METRICS[name], true, list(predicted)) == pytest.approx(ORACLES[name](true, predicted), abs=1e-14)


@settings(max_examples=60)
@given(pairs=PAIRS)
def test_kappa_is_scikit_learns_and_undefined_only_for_one_constant_label(pairs: list[tuple[str, str]]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    ours = value(METRICS["cohen_kappa"], true, list(predicted))
    if len(set(true) | set(predicted)) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(sk.cohen_kappa_score(true, predicted), abs=1e-14)


@pytest.mark.parametrize("name", [*ORACLES, "cohen_kappa"])
def test_a_weighted_resample_scores_as_its_items_written_out(name: str) -> None:
    """The contract of `aggregate`: weights are how often each item occurs."""
    metric, generator = METRICS[name], np.random.default_rng(7)
    true, predicted = (generator.choice(list("abcd"), 60) for _ in range(2))
    statistics = metric.statistics(list(predicted), [[label] for label in true])
    weights = generator.integers(0, 4, size=(5, 60))
    scores = metric.aggregate(statistics, weights.astype(np.float64))
    for row, score in zip(weights, scores, strict=True):
        written_out = value(metric, list(np.repeat(true, row)), list(np.repeat(predicted, row)))
        assert score == pytest.approx(written_out, abs=1e-13)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 2 / 4),
        ("f1_macro", (2 / 3 + 2 / 3) / 2),  # a: 1 hit, 2 true, 1 predicted; b likewise
        ("f1_micro", 2 * 2 / (4 + 2)),
        ("recall_macro", 1 / 2),
        ("precision_macro", 1.0),
        ("balanced_accuracy", 1 / 2),
    ],
)
def test_a_missing_answer_is_wrong_but_no_class(name: str, expected: float) -> None:
    assert value(METRICS[name], ["a", "a", "b", "b"], ["a", None, "b", None]) == pytest.approx(expected)


def test_a_missing_answer_is_a_category_of_its_own_for_mcc() -> None:
    true, predicted = ["a", "a", "b", "b", "c"], ["a", None, "b", "c", None]
    named = [label or "(missing)" for label in predicted]
    assert value(METRICS["mcc"], true, predicted) == pytest.approx(sk.matthews_corrcoef(true, named))


def test_a_million_pairs_resample_as_their_few_distinct_ones() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 5, size=(1_000_000, 2)).astype(np.float64)
    distinct = distinct_rows(codes)
    assert distinct is not None
    assert len(distinct.rows) == 25
    assert distinct.counts.sum() == 1_000_000
    metric = METRICS["f1_macro"]
    whole = metric.aggregate(codes)[0]
    assert metric.aggregate(distinct.rows, distinct.counts[None, :].astype(np.float64))[0] == pytest.approx(whole)
    resampled = np.concatenate([metric.aggregate(distinct.rows, w) for w in count_draws(distinct.counts, seed=1)])
    assert resampled.std() == pytest.approx(0.0004, rel=0.15)  # sqrt(0.2 * 0.8 / 1e6)


@parametrised("metrics", lambda case: case["metric"] == "precision_recall_f1")
def test_published_precision_recall_and_f1(case: Case) -> None:
    true, predicted = case["input"]["y_true"], case["input"]["y_pred"]
    classes = per_class(confusion_matrix(true, predicted))
    for key in ("precision", "recall", "f1"):
        rates = [getattr(one, key) or 0.0 for one in classes]
        expected = case["expected"][key]
        got = rates if case["params"]["average"] is None else float(np.mean(rates))
        assert got == pytest.approx(expected, abs=case["tolerance"])
        if case["params"]["average"] == "macro":
            metric = METRICS[f"{key}_macro"]
            statistics = metric.statistics(list(map(str, predicted)), [[str(label)] for label in true])
            assert metric.aggregate(statistics)[0] == pytest.approx(expected, abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"] == "matthews_corrcoef")
def test_published_mcc(case: Case) -> None:
    true, predicted = (list(map(str, case["input"][key])) for key in ("y_true", "y_pred"))
    assert value(METRICS["mcc"], true, list(predicted)) == pytest.approx(case["expected"], abs=case["tolerance"])


@parametrised("metrics", lambda case: case["metric"] == "confusion_matrix")
def test_published_confusion_matrices(case: Case) -> None:
    matrix = confusion_matrix(case["input"]["y_true"], case["input"]["y_pred"])
    over = case["params"].get("normalize")
    got = matrix.counts if over is None else matrix.normalised(over)
    assert got.tolist() == [pytest.approx(row, abs=case["tolerance"]) for row in case["expected"]]


@settings(max_examples=40)
@given(pairs=PAIRS, asked=st.lists(LABELS, min_size=1, max_size=4, unique=True))
def test_confusion_matrix_and_class_scores_are_scikit_learns(pairs: list[tuple[str, str]], asked: list[str]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    matrix = confusion_matrix(true, list(predicted))
    np.testing.assert_array_equal(matrix.counts, sk.confusion_matrix(true, predicted, labels=list(matrix.labels)))
    expected = sk.precision_recall_fscore_support(true, predicted, labels=list(matrix.labels), zero_division=0)
    for index, one in enumerate(per_class(matrix)):
        assert (one.precision or 0.0, one.recall or 0.0, one.f1 or 0.0, one.support) == pytest.approx(
            tuple(float(column[index]) for column in expected)
        )
    chosen = confusion_matrix(true, list(predicted), asked)
    if set(asked) & set(true):
        np.testing.assert_array_equal(chosen.counts, sk.confusion_matrix(true, predicted, labels=asked))
    assert chosen.counts.sum() + chosen.outside == len(true)


def test_normalised_rows_are_shares_of_true_labels() -> None:
    matrix = confusion_matrix(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert matrix.normalised("true").tolist() == [[2 / 3, 1 / 3], [0.0, 1.0]]


def test_missing_answers_have_their_own_column_and_cost_recall() -> None:
    matrix = confusion_matrix(["a", "a", "b"], ["a", None, None])
    assert matrix.labels == ["a", "b"]
    assert matrix.counts.tolist() == [[1, 0], [0, 0]]
    assert matrix.missing.tolist() == [1, 1]
    first, second = per_class(matrix)
    assert (first.precision, first.recall, first.support) == (1.0, 0.5, 2)
    assert (second.precision, second.recall, second.f1) == (None, 0.0, 0.0)
