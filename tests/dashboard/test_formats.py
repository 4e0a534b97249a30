"""Numbers as a person reads them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboard import formats
from service.evaluation.wording import is_share
from service.measure.metrics import METRICS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("NaN", "NaN"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (0, "0"),
        (0.30002, "0.3"),
        (-1.23456, "−1.235"),
        (12345.6, "12,346"),
        (2e-05, "2e-05"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.9281, "92.8 %"),
        ("f1_macro", 0.5, "50.0 %"),
        ("mcc", 0.9431, "0.9431"),
        ("latency_p95", 1.18, "1.18 s"),
        ("first_token", 0.199, "199 ms"),
        ("cost", 0.0000440, "$0.0440"),
        ("accuracy", None, "–"),
    ],
)
def test_a_metric_has_its_unit(metric: str, value: float | None, text: str) -> None:
    assert formats.measured(metric, value) == text


@pytest.mark.parametrize("name", [*METRICS, "top_k_accuracy:k=5", "pass_at_k:k=5"])
def test_the_services_sentences_agree_on_what_is_a_share(name: str) -> None:
    assert formats.is_share(name) == is_share(METRICS[name])


@pytest.mark.parametrize("name", ["match_count", "recall_requests", "precision", "f1_seconds", "eval/accuracy"])
def test_what_users_log_keeps_its_unit(name: str) -> None:
    assert not formats.is_share(name)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.0214, "+2.1 points"),
        ("accuracy", -0.0004, "0.0 points"),
        ("accuracy", -0.292, "−29.2 points"),
        ("latency", -0.05, "−50 ms"),
        ("cost", 0.000004, "+$0.00400"),
        ("bleu", 1.5, "+1.5"),
        ("bleu", None, "–"),
    ],
)
def test_a_difference_has_its_sign(metric: str, value: float | None, text: str) -> None:
    assert formats.change(metric, value).replace("−0.0 ", "0.0 ") == text


def test_intervals_say_their_unit_once_and_no_bound_as_dots() -> None:
    assert formats.interval("accuracy", (0.921, 0.937)) == "[92.1 %, 93.7 %]"
    assert formats.interval("accuracy", (-0.009, 0.033), difference=True) == "[−0.9, +3.3]"
    assert formats.interval("latency", (0.0211, None), difference=True) == "[+21.1 ms, …]"
    assert formats.interval("accuracy", None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0421, "42.1 ms"), (3.25, "3.25 s"), (3480, "58 min 00 s"), (4800, "1 h 20 min"), (90_000, "1 d 1 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_sizes_counts_and_ages() -> None:
    assert formats.size(9.1e9) == "9.1 GB"
    assert formats.size(512) == "512 B"
    assert formats.count(2_162_688) == "2.16 M"
    assert formats.count(1234) == "1,234"
    assert formats.ago(1000, now=1190) == "3 min ago"
    assert formats.ago(1000, now=1001) == "just now"
    assert formats.p_value(1e-9) == "< 0.001"
    assert formats.p_value(0.0421) == "0.042"
    assert formats.plural(1, "run") == "1 run"
    assert formats.plural(2000, "run") == "2,000 runs"


def test_namesakes_are_told_apart() -> None:
    assert formats.told_apart(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def test_config_is_flattened_in_its_own_order() -> None:
    config = {"b": {"r": 16, "modules": ["q", "v"]}, "a": None}
    assert list(formats.flatten(config).items()) == [("b.r", "16"), ("b.modules", "q, v"), ("a", "–")]
