"""The calibration curve of an evaluation, held against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from starlette.testclient import TestClient
from statsmodels.stats.proportion import proportion_confint

from .wire import Json, evaluate, get, label_items, make_suite, text_items


def answered(client: TestClient, sure: list[float | None], right: list[bool]) -> Json:
    suite = make_suite(client, label_items(["yes"] * len(right)), metrics=["accuracy"], labels=["yes", "no"])
    given = [
        {"id": f"i{place}", "output": "yes" if good else "no", "probability": confidence}
        for place, (confidence, good) in enumerate(zip(sure, right, strict=True))
    ]
    return get(client, f"evaluations/{evaluate(client, suite, given)['id']}/calibration")


def test_the_curve_is_scikit_learns_and_sums_up_to_the_error(client: TestClient) -> None:
    draw = np.random.default_rng(5)
    sure = draw.uniform(0.3, 1, 400)
    right = draw.random(400) < sure**2
    found = answered(client, [*sure.tolist(), None], [*right.tolist(), True])
    share, confidence = calibration_curve(right, sure, n_bins=15)
    assert [one["confidence"] for one in found["bins"]] == pytest.approx(confidence, abs=1e-12)
    assert [one["accuracy"] for one in found["bins"]] == pytest.approx(share, abs=1e-12)
    n = np.array([one["n"] for one in found["bins"]])
    assert found["ece"] == pytest.approx(float((n * abs(share - confidence)).sum() / 400), abs=1e-12)
    assert found["interval"][0] < found["ece"] < found["interval"][1]
    assert (found["n"], found["n_without"], found["reason"]) == (400, 1, None)
    for one in found["bins"]:
        expected = proportion_confint(round(one["accuracy"] * one["n"]), one["n"], method="wilson")
        assert one["interval"] == pytest.approx(expected, abs=1e-9)


def test_without_probabilities_there_is_a_reason(client: TestClient) -> None:
    found = answered(client, [None, None], [True, False])
    assert (found["bins"], found["ece"], found["n_without"]) == ([], None, 2)
    assert found["reason"] == "no_probabilities"


def test_without_a_right_or_wrong_there_is_a_reason(client: TestClient) -> None:
    suite = make_suite(client, text_items([["a b c d"]]), metrics=["bleu"])
    evaluation = evaluate(client, suite, [{"id": "i0", "output": "a b c d", "probability": 0.9}])
    assert get(client, f"evaluations/{evaluation['id']}/calibration")["reason"] == "not_right_or_wrong"


def test_one_answer_has_an_error_and_no_interval(client: TestClient) -> None:
    found = answered(client, [0.75], [True])
    assert found["ece"] == pytest.approx(0.25)
    assert (found["interval"], found["reason"]) == (None, "too_few_items")
