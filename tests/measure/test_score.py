"""Intervals: Wilson against statsmodels, BCa against scipy.stats, and every coded reason."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from service.measure.metrics import METRICS
from service.measure.score import by_pieces, score, score_pieces, wilson_interval
from service.measure.validation import OutOfRangeError

from .cases import Case, parametrised


@parametrised("abtest", lambda case: case["category"] == "stats.proportion.wilson")
def test_published_wilson_intervals(case: Case) -> None:
    inputs = case["inputs"]
    got = wilson_interval(inputs["successes"], inputs["n"], 1 - inputs["alpha"])
    assert got == pytest.approx(case["expected"], abs=case["tolerance"])


@given(n=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_statsmodels(n: int, share: float, confidence: float) -> None:
    successes = round(n * share)
    expected = proportion_confint(successes, n, 1 - confidence, method="wilson")
    low, high = wilson_interval(successes, n, confidence)
    assert (low, high) == pytest.approx(expected, abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_a_proportion_is_scored_with_wilson_and_draws_nothing() -> None:
    statistics = np.array([[1.0]] * 81 + [[0.0]] * 182)
    result = score(METRICS["accuracy"], statistics, n_missing=4)
    assert (result.value, result.n, result.n_missing) == (81 / 263, 263, 4)
    assert result.interval == pytest.approx((0.2552885, 0.3662096), abs=1e-6)
    assert (result.method, result.seed, result.reason) == ("wilson", None, None)
    assert json.loads(json.dumps(asdict(result)))["signature"] == METRICS["accuracy"].signature()


def test_bca_of_a_skewed_mean_is_scipys_up_to_resampling_noise() -> None:
    values = np.random.default_rng(5).exponential(size=120) / 8
    statistics = values[:, None]
    result = score(METRICS["token_f1"], statistics, seed=3)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert result.method == "bca-bootstrap-4000"
    assert result.interval == pytest.approx((expected.low, expected.high), abs=0.04 * (expected.high - expected.low))
    mean, half = values.mean(), 1.96 * values.std() / np.sqrt(120)
    assert result.interval is not None
    assert result.interval[0] > mean - half  # the skew moves both ends up
    assert result.interval[1] > mean + half


def test_bca_of_a_biased_score_is_scipys_up_to_resampling_noise() -> None:
    """Resampling lowers macro-F1 where classes are rare; the interval has to move back up."""
    generator = np.random.default_rng(11)
    true = generator.choice(8, size=60, p=[0.4, 0.3, 0.1, 0.06, 0.05, 0.04, 0.03, 0.02])
    predicted = np.where(generator.random(60) < 0.75, true, generator.integers(0, 8, 60))
    codes, metric = np.column_stack([true, predicted]).astype(np.float64), METRICS["f1_macro"]
    expected = stats.bootstrap(
        (np.arange(60),),
        lambda rows: metric.aggregate(codes[rows])[0],
        vectorized=False,
        n_resamples=4_000,
        method="BCa",
        rng=1,
    ).confidence_interval
    result = score(metric, codes, seed=3)
    assert result.interval == pytest.approx((expected.low, expected.high), abs=0.015)


def test_label_and_text_paths_of_the_bootstrap_agree() -> None:
    """Multinomial draws of distinct rows and draws of items are one distribution."""
    generator = np.random.default_rng(2)
    codes = generator.integers(0, 3, size=(400, 2)).astype(np.float64)
    collapsed = score(METRICS["f1_macro"], codes, seed=1).interval
    spread = np.std([METRICS["f1_macro"].aggregate(codes[generator.integers(0, 400, 400)])[0] for _ in range(2000)])
    assert collapsed is not None
    assert (collapsed[1] - collapsed[0]) / (2 * 1.96) == pytest.approx(spread, rel=0.1)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    statistics = np.random.default_rng(0).random((50, 1))
    metric = METRICS["token_f1"]
    assert score(metric, statistics, seed=9) == score(metric, statistics, seed=9)
    assert score(metric, statistics, seed=9).interval != score(metric, statistics, seed=10).interval


def test_a_large_set_gets_the_jackknife_interval_of_the_mean() -> None:
    values = np.random.default_rng(4).random(20_001)
    result = score(METRICS["token_f1"], values[:, None])
    half = 1.959964 * values.std() / np.sqrt(20_001)
    assert result.method == "jackknife-250"
    assert result.interval is not None
    assert (result.interval[1] - result.interval[0]) / 2 == pytest.approx(half, rel=0.12)


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_a_set_in_pieces_is_scored_to_the_same_bits(name: str) -> None:
    metric, draw = METRICS[name], np.random.default_rng(0)
    some = metric.statistics(["a b c d e", "b c", "x y z"], [["a b c d f"], ["b c"], ["x z y q"]])
    statistics = some[draw.integers(0, 3, 21_000)]
    pieces = np.split(statistics, [5, 8_000, 20_000])
    assert by_pieces(metric, len(statistics))
    assert score_pieces(metric, pieces, len(statistics), n_missing=3, seed=1) == score(
        metric, statistics, n_missing=3, seed=1
    )
    same = np.repeat(some[:1], 21_000, axis=0)
    assert score_pieces(metric, [same], len(same)) == score(metric, same)
    assert not by_pieces(metric, 20_000)
    assert not by_pieces(METRICS["rougeL"], 30_000)


@pytest.mark.parametrize(
    ("name", "rows", "value", "reason"),
    [
        ("accuracy", np.empty((0, 1)), None, "no_items"),
        ("f1_macro", np.empty((0, 2)), None, "no_items"),
        ("cohen_kappa", np.zeros((9, 2)), None, "undefined"),
        ("token_f1", np.array([[0.5]]), 0.5, "too_few_items"),
        ("f1_macro", np.zeros((9, 2)), 1.0, "no_variation"),
        # Kappa has no value in a resample without the one differing item: over a third of them.
        ("cohen_kappa", np.array([[0.0, 0.0]] * 8 + [[1.0, 1.0]]), 1.0, "undefined_resamples"),
    ],
)
def test_what_cannot_be_computed_is_null_with_a_reason(
    name: str, rows: np.ndarray, value: float | None, reason: str
) -> None:
    result = score(METRICS[name], rows)
    assert (result.value, result.interval, result.reason) == (value, None, reason)


def test_a_confidence_outside_its_range_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="confidence"):
        score(METRICS["accuracy"], np.ones((3, 1)), confidence=95)
    with pytest.raises(OutOfRangeError, match="4 successes of 3"):
        wilson_interval(4, 3)
