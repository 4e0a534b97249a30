"""Count-based metrics against scikit-learn, on cases, random labels and resamples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from service.measure.classification import class_score, confusion_matrix, count_scores, per_class
from service.measure.labels import vocabulary
from service.measure.metrics import METRICS, Metric
from service.measure.resampling import count_draws, distinct_rows
from service.measure.score import wilson_interval
from service.measure.validation import NotALabelError

from .cases import Case, parametrised

Oracle = Callable[[list[str], list[str]], float]

# scikit-learn warns about sets of one label, which are drawn here on purpose; its numbers are the oracle.
pytestmark = pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")

RATES = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}
ORACLES: dict[str, Oracle] = {
    "accuracy": sk.accuracy_score,
    **{
        f"{rate}_{average}": partial(oracle, average=average, zero_division=0)
        for rate, oracle in RATES.items()
        for average in ("macro", "micro", "weighted")
    },
    "balanced_accuracy": lambda t, p: sk.recall_score(t, p, average="macro", labels=sorted(set(t)), zero_division=0),
    "mcc": sk.matthews_corrcoef,
}

LABELS = st.sampled_from(["a", "b", "c", "đ", "東"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)


def value(metric: Metric, true: list[str], predicted: list[str | None]) -> float:
    return float(metric.aggregate(metric.statistics(predicted, [[label] for label in true]))[0])


def test_all_promised_metrics_are_found() -> None:
    assert set(METRICS) == {
        *ORACLES, "cohen_kappa", "f1_binary", "precision_binary", "recall_binary",
        "top_k_accuracy", "roc_auc", "average_precision", "log_loss", "brier_score", "ece",
        "multilabel_f1_samples", "subset_accuracy", "hamming_loss",
        *(f"multilabel_{rate}_{average}" for rate in RATES for average in ("macro", "micro", "weighted")),
        "exact_match", "token_f1", "bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "rougeLsum",
        "perplexity", "bits_per_byte", "pass_at_k", "human_good", "human_good_mean",
    }  # fmt: skip
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


def test_every_rate_of_a_class_has_its_interval() -> None:
    [one] = per_class(confusion_matrix(["a"] * 50, ["a"] * 30 + [None] * 15 + ["b"] * 5, ["a"]))
    assert one.recall_interval == wilson_interval(30, 50)
    assert one.precision_interval == wilson_interval(30, 30)
    low, high = wilson_interval(30, 50)
    assert one.f1_interval == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    assert one.f1 == pytest.approx(2 * 30 / 80)
    nobody = class_score("c", 0, 0, 0)
    assert (nobody.f1, nobody.f1_interval, nobody.recall_interval, nobody.precision_interval) == (None,) * 4
    never = class_score("c", 0, 4, 0)
    assert (never.precision, never.precision_interval, never.f1) == (None, None, 0.0)
    assert never.f1_interval is not None
    assert never.f1_interval[0] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("n", "share", "right"), [(300, 0.1, 0.8), (300, 0.3, 0.5), (2000, 0.02, 0.9)])
def test_intervals_of_a_classs_f1_cover_the_true_one(n: int, share: float, right: float) -> None:
    """Of a class with this share of n items, each right with this chance; a tenth as many others are taken for it."""
    draw = np.random.default_rng(0)
    false = 0.1 * share
    truth = 2 * share * right / (share + share * right + (1 - share) * false)
    covered = 0
    for _ in range(4000):
        have = draw.random(n) < share
        said = np.where(have, draw.random(n) < right, draw.random(n) < false)
        hits, support, predicted = (int(np.count_nonzero(one)) for one in (have & said, have, said))
        interval = class_score("c", hits, support, predicted).f1_interval
        covered += interval is not None and interval[0] <= truth <= interval[1]
    assert covered / 4000 == pytest.approx(0.95, abs=0.015)


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


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("undefined", ["0", "1", "nan"])
@settings(max_examples=30)
@given(pairs=PAIRS)
def test_every_average_and_zero_division_is_scikit_learns(
    rate: str, average: str, undefined: str, pairs: list[tuple[str, str]]
) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    expected = RATES[rate](true, predicted, average=average, zero_division=float(undefined))
    metric = METRICS[f"{rate}_{average}:zero_division={undefined}"]
    assert value(metric, true, list(predicted)) == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert f"zero_division:{undefined}" in metric.signature().split("|")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("undefined", ["0", "1", "nan"])
@settings(max_examples=40)
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
def test_rates_of_the_positive_class_are_scikit_learns(rate: str, undefined: str, pairs: list[tuple[int, int]]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    metric = METRICS[f"{rate}_binary:zero_division={undefined}"]
    got = metric.aggregate(metric.statistics(predicted, [[label] for label in true], [0, 1]))[0]
    assert got == pytest.approx(RATES[rate](true, predicted, zero_division=float(undefined)), abs=1e-14, nan_ok=True)


def test_the_positive_class_is_the_second_of_two_labels() -> None:
    metric, true = METRICS["f1_binary"], [["ham"], ["spam"], ["spam"]]
    spam = metric.aggregate(metric.statistics(["spam", "spam", "ham"], true))[0]
    ham = metric.aggregate(metric.statistics(["spam", "spam", "ham"], true, ["spam", "ham"]))[0]
    assert (spam, ham) == (0.5, 0.0)
    with pytest.raises(NotALabelError, match="there are 3: 'a', 'b', 'c'"):
        metric.statistics(["a", "b"], [["a"], ["c"]])
    with pytest.raises(NotALabelError, match="there are 1: 'a'"):
        metric.statistics(["a"], [["a"]])
    assert count_scores(["a", "b", "c"], ["a", "b", "c"])["f1_binary"] is None


@parametrised("metrics", lambda case: case["metric"] in ("f1", "recall") and "labels" not in case["params"])
def test_published_rates_of_the_positive_class(case: Case) -> None:
    true, predicted = case["input"]["y_true"], case["input"]["y_pred"]
    positive = case["params"].get("pos_label", 1)
    undefined = int(case["params"].get("zero_division", 0))
    metric = METRICS[f"{case['metric']}_binary:zero_division={undefined}"]
    statistics = metric.statistics(predicted, [[label] for label in true], [1 - positive, positive])
    assert metric.aggregate(statistics)[0] == pytest.approx(case["expected"], abs=case["tolerance"])


def test_a_label_that_was_not_asked_for_still_costs_recall() -> None:
    """scikit-learn's test_precision_recall_f_ignored_labels, macro recall of the labels 1 and 3."""
    classes = per_class(confusion_matrix([1, 1, 2, 3], [1, 3, 3, 3], [1, 3]))
    assert [one.recall for one in classes] == [0.5, 1.0]
    assert [one.precision for one in classes] == [1.0, 1 / 3]
    assert confusion_matrix([1, 1, 2], [2, 1, 3], [1]).support.tolist() == [2]


@pytest.mark.parametrize(
    "name",
    ["f1_macro:zero_division=2", "f1_macro:beta=1", "f1_macro:", "f1:macro", "accuracy:k=1", "top_k_accuracy:k=0",
     "top_k_accuracy:k=1,k=2", "rouge1:stemmer=maybe", "nothing", "nothing:k=1"],
)  # fmt: skip
def test_a_name_with_options_that_do_not_exist_is_no_metric(name: str) -> None:
    assert name not in METRICS
    with pytest.raises(KeyError):
        METRICS[name]


def test_a_name_with_options_is_a_metric_of_that_name() -> None:
    metric = METRICS["top_k_accuracy:k=5"]
    assert isinstance(metric, Metric)
    assert metric.name == "top_k_accuracy:k=5"
    assert metric is METRICS["top_k_accuracy:k=5"]
    assert metric.signature().startswith("top_k_accuracy|k:5|")
    assert "top_k_accuracy:k=5" not in list(METRICS)


CODES = st.lists(st.tuples(st.integers(-4, 9), st.integers(-4, 9)), min_size=1, max_size=60)


@settings(max_examples=40)
@given(pairs=CODES)
def test_one_pass_over_arrays_gives_every_count_based_metric(pairs: list[tuple[int, int]]) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    scores = count_scores(np.array(true), np.array(predicted))
    assert set(scores) == {name for name, metric in METRICS.items() if metric.reads == "label"}
    assert scores == count_scores(true, predicted)
    for name, got in scores.items():
        if name.endswith("_binary") and len({*true, *predicted}) != 2:
            assert got is None
            continue
        expected = float(METRICS[name].aggregate(METRICS[name].statistics(predicted, [[label] for label in true]))[0])
        assert got == (None if math.isnan(expected) else pytest.approx(expected, abs=1e-15))


@settings(max_examples=40)
@given(pairs=st.lists(st.tuples(LABELS, st.none() | LABELS), min_size=2, max_size=40), cut=st.integers(1, 39))
def test_chunks_scored_with_the_vocabulary_have_the_statistics_of_the_set(
    pairs: list[tuple[str, str | None]], cut: int
) -> None:
    true, predicted = [t for t, _ in pairs], [p for _, p in pairs]
    cut = min(cut, len(pairs) - 1)
    known = vocabulary(true[:cut], predicted[:cut])
    known = vocabulary(known, true[cut:], predicted[cut:])
    for metric in (METRICS["accuracy"], METRICS["f1_macro"]):
        whole = metric.statistics(predicted, [[label] for label in true])
        parts = [
            metric.statistics(predicted[chunk], [[label] for label in true[chunk]], known)
            for chunk in (slice(cut), slice(cut, None))
        ]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("sides", [(["a", "b"], ["a", "x"]), (np.array([1, 2]), np.array([1, 7]))])
def test_a_label_outside_the_vocabulary_is_refused_by_item(sides: tuple[Any, Any]) -> None:
    known = ["a", "b"] if isinstance(sides[0], list) else [1, 2]
    for (true, predicted), what in ((sides, "predicted"), (sides[::-1], "true")):
        with pytest.raises(NotALabelError, match=f"the {what} label of item 1 is") as refused:
            count_scores(true, predicted, known)
        assert refused.value.index == 1


def test_arrays_of_labels_are_held_to_the_same_rules() -> None:
    with pytest.raises(NotALabelError, match="a probability is not a label"):
        count_scores(np.array([0, 1]), np.array([0.2, 0.6]))
    with pytest.raises(NotALabelError, match="bool"):
        count_scores(np.array([0, 1]), np.array([False, True]))
    assert count_scores(np.array(["a", "b"]), np.array(["a", "a"]))["accuracy"] == 0.5
    far = np.array([0, 10**15, 10**15])
    assert count_scores(far, far[::-1].copy())["accuracy"] == 1 / 3


def test_thousands_of_labels_score_as_scikit_learns() -> None:
    generator = np.random.default_rng(8)
    true = generator.integers(0, 5000, 20_000)
    predicted = np.where(generator.random(20_000) < 0.6, true, generator.integers(0, 5000, 20_000))
    scores = count_scores(true, predicted)
    for name in ("f1_macro", "f1_weighted", "mcc", "accuracy", "precision_macro"):
        assert scores[name] == pytest.approx(ORACLES[name](true, predicted), rel=1e-12)  # type: ignore[arg-type]
