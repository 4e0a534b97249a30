"""Perplexity and bits per byte by their definitions, pass@k against the count of all draws."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.measure.metrics import METRICS
from service.measure.metrics.likelihood import Scored
from service.measure.metrics.pass_at_k import Sampled, pass_at_k
from service.measure.score import score
from service.measure.validation import MissingReferenceError, NotTextError, OutOfRangeError

from .cases import Case, parametrised


def value(name: str, outputs: Any, references: Any) -> float:
    metric = METRICS[name]
    return float(metric.aggregate(metric.statistics(outputs, references))[0])


def test_perplexity_is_of_the_corpus_and_no_mean_of_perplexities() -> None:
    assert value("perplexity", [(6.0, 3), (1.0, 5)], [["x"], ["y"]]) == pytest.approx(math.exp(7 / 8))
    assert value("bits_per_byte", [(6.0, 3), (1.0, 5)], [["né"], ["abc"]]) == pytest.approx(7 / math.log(2) / 6)


def test_a_missing_likelihood_is_left_out_and_nothing_has_none() -> None:
    assert value("perplexity", [(6.0, 3), None], [["x"], ["y"]]) == pytest.approx(math.exp(2))
    metric = METRICS["perplexity"]
    result = score(metric, metric.statistics([None], [["x"]]), n_missing=1)
    assert (result.value, result.reason) == (None, "undefined")
    assert math.isnan(value("perplexity", [(1e6, 1)], [["x"]]))


@pytest.mark.parametrize("name", ["perplexity", "bits_per_byte"])
def test_resamples_of_a_likelihood_are_its_items_written_out(name: str) -> None:
    outputs, references = [(6.0, 3), (1.0, 5), (0.5, 1)], [["abcd"], ["ab"], ["c"]]
    metric = METRICS[name]
    statistics, weights = metric.statistics(outputs, references), np.array([[1, 2, 0], [0, 1, 3]])
    for row, got in zip(weights, metric.aggregate(statistics, weights.astype(float)), strict=True):
        chosen = np.repeat(np.arange(3), row)
        assert got == pytest.approx(value(name, [outputs[i] for i in chosen], [references[i] for i in chosen]))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("1.5", "is asked for"),
        (1.5, "is asked for"),
        ((1.5,), "is asked for"),
        ((-1.0, 2), "0 or more"),
        ((math.nan, 2), "finite"),
        ((1.0, 0), "1 or more"),
        ((1.0, 2.5), "whole number"),
    ],
)
@pytest.mark.parametrize("name", ["perplexity", "bits_per_byte"])
def test_what_is_no_likelihood_is_refused(name: str, output: Any, message: str) -> None:
    with pytest.raises(OutOfRangeError, match=message) as refused:
        METRICS[name].statistics([(1.0, 1), output], [["x"], ["y"]])
    assert refused.value.index == 1


def test_a_likelihood_is_of_one_text_that_is_not_empty() -> None:
    with pytest.raises(MissingReferenceError, match="item 0 has 2 texts"):
        METRICS["perplexity"].statistics([(1.0, 1)], [["x", "y"]])
    with pytest.raises(OutOfRangeError, match="no bytes"):
        METRICS["bits_per_byte"].statistics([(1.0, 1)], [[""]])


@parametrised("metrics", lambda case: case["metric"] == "pass_at_k")
def test_published_pass_at_k(case: Case) -> None:
    n, right, k = case["input"]["n"], case["input"]["c"], case["params"]["k"]
    assert pass_at_k(n, right, k) == pytest.approx(case["expected"], abs=1e-14)
    samples = ["passed"] * right + ["failed", None, "", "no", "x", "y", "z"][: n - right]
    assert value(f"pass_at_k:k={k}", [samples], [["passed"]]) == pytest.approx(case["expected"], abs=1e-14)


@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=9), k=st.integers(1, 9))
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(outcomes: list[bool], k: int) -> None:
    k = min(k, len(outcomes))
    draws = [any(draw) for draw in combinations(outcomes, k)]
    assert pass_at_k(len(outcomes), sum(outcomes), k) == pytest.approx(np.mean(draws), abs=1e-12)


def test_bytes_of_another_text_and_no_tokens() -> None:
    assert value("bits_per_byte", [Scored(6.0, None, 12), Scored(2.0)], [[""], ["abcd"]]) == pytest.approx(
        8 / math.log(2) / 16
    )
    for name, output, message in (
        ("perplexity", Scored(1.0), "number of tokens of item 0 is None"),
        ("bits_per_byte", Scored(1.0, None, 0), "number of bytes of item 0 is 0"),
    ):
        with pytest.raises(OutOfRangeError, match=message):
            METRICS[name].statistics([output], [["x"]])


@given(counts=st.lists(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1))
def test_counted_samples_are_samples(counts: list[tuple[int, int]]) -> None:
    listed = [["yes"] * right + ["no"] * (n - right) for n, right in counts]
    counted = [Sampled(n, right) for n, right in counts]
    assert value("pass_at_k", counted, [[]] * len(counts)) == value("pass_at_k", listed, [["yes"]] * len(counts))


def test_more_right_than_samples() -> None:
    with pytest.raises(OutOfRangeError, match="item 0 has 3 right samples of 2"):
        METRICS["pass_at_k"].statistics([Sampled(2, 3)], [[]])
    with pytest.raises(MissingReferenceError, match="item 0"):
        METRICS["pass_at_k"].statistics([["a"]], [[]])


def test_samples_that_are_none_or_too_few() -> None:
    assert value("pass_at_k", [None, ["a", "b"]], [["a"], ["a", "c"]]) == 0.25
    with pytest.raises(OutOfRangeError, match="item 1 has 2 samples: pass@5 takes 5"):
        METRICS["pass_at_k:k=5"].statistics([["a"] * 5, ["a", "b"]], [["a"], ["a"]])
    for output in ("abc", 3, [1, 2]):
        with pytest.raises(NotTextError, match="item 1") as refused:
            METRICS["pass_at_k"].statistics([["a"], output], [["a"], ["a"]])
        assert refused.value.index == 1
    with pytest.raises(OutOfRangeError):
        pass_at_k(3, 4, 1)
