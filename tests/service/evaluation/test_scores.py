"""Scores over HTTP are those of the reference libraries, with their intervals and signatures."""

from __future__ import annotations

import csv
import json
import math
import random
import time
from itertools import zip_longest
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from sklearn import metrics as sklearn_metrics
from starlette.testclient import TestClient
from statsmodels.stats.proportion import proportion_confint

from .wire import Json, evaluate, get, label_items, make_suite, text_items, value

LABEL_METRICS = [
    "accuracy", "balanced_accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro",
    "mcc", "cohen_kappa",
]  # fmt: skip
TEXT_METRICS = ["exact_match", "token_f1", "bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum"]
CASES = json.loads((Path(__file__).parents[2] / "cases" / "metrics.json").read_text())["cases"]
E2E = Path(__file__).parents[4] / "shared" / "data" / "e2e_nlg" / "testset_w_refs.csv"


def _labels(n: int = 300) -> tuple[list[str], list[str]]:
    generator = random.Random(5)
    true = generator.choices(["a", "b", "c", "d"], [5, 3, 1, 1], k=n)
    return true, [label if generator.random() < 0.7 else generator.choice("abcde") for label in true]


def test_label_metrics_are_scikit_learns(client: TestClient) -> None:
    true, predicted = _labels()
    suite = make_suite(client, label_items(true), task_type="classification", metrics=LABEL_METRICS)
    evaluation = evaluate(client, suite, predicted)
    f1, zero = sklearn_metrics.f1_score, {"zero_division": 0.0}
    present = sorted(set(true))
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "balanced_accuracy": sklearn_metrics.recall_score(true, predicted, labels=present, average="macro"),
        "f1_macro": f1(true, predicted, average="macro", **zero),
        "f1_micro": f1(true, predicted, average="micro", **zero),
        "f1_weighted": f1(true, predicted, average="weighted", **zero),
        "precision_macro": sklearn_metrics.precision_score(true, predicted, average="macro", **zero),
        "recall_macro": sklearn_metrics.recall_score(true, predicted, average="macro", **zero),
        "mcc": sklearn_metrics.matthews_corrcoef(true, predicted),
        "cohen_kappa": sklearn_metrics.cohen_kappa_score(true, predicted),
    }
    assert {score["name"]: score["value"] for score in evaluation["scores"]} == pytest.approx(expected, abs=1e-12)
    for score in evaluation["scores"]:
        low, high = score["interval"]
        assert low < score["value"] < high
        assert (score["n"], score["confidence"], score["reason"]) == (300, 0.95, None)
        assert score["signature"].startswith(score["name"])


def test_the_interval_of_a_proportion_is_wilsons(client: TestClient) -> None:
    suite = make_suite(client, text_items([["yes"]] * 40))
    score = evaluate(client, suite, ["yes"] * 33 + ["no"] * 7)["scores"][0]
    assert score["interval"] == pytest.approx(proportion_confint(33, 40, method="wilson"), abs=1e-12)
    assert (score["method"], score["seed"]) == ("wilson", None)


def test_text_metrics_are_the_reference_libraries(client: TestClient) -> None:
    references = [
        ["The dog bit the man.", "The dog had bit the man."],
        ["It was not unexpected.", "No one was surprised."],
        ["The man bit him first.", "The man had bitten the dog."],
        ["Pythons bite."],
    ]
    outputs = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.", ""]
    suite = make_suite(client, text_items(references), metrics=TEXT_METRICS)
    evaluation = evaluate(client, suite, outputs)
    streams = [list(stream) for stream in zip_longest(*references)]
    assert value(evaluation, "bleu") == pytest.approx(BLEU().corpus_score(outputs, streams).score, abs=1e-9)
    assert value(evaluation, "chrf") == pytest.approx(CHRF().corpus_score(outputs, streams).score, abs=1e-9)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    for name in scorer.rouge_types:
        each = [scorer.score_multi(own, output)[name].fmeasure for own, output in zip(references, outputs, strict=True)]
        assert value(evaluation, name) == pytest.approx(sum(each) / 4, abs=1e-12)
    assert value(evaluation, "exact_match") == 0.25
    item = get(client, f"evaluations/{evaluation['id']}/items")["items"][0]
    assert item["scores"]["rougeL"] == 1.0
    assert set(item["scores"]) >= {"exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum"}


def test_a_published_bleu(client: TestClient) -> None:
    case = next(case for case in CASES if case["id"] == "m001")
    streams, outputs = case["input"]["reference_streams"], case["input"]["predictions"]
    suite = make_suite(client, text_items(list(zip(*streams, strict=True))), metrics=["bleu"])
    evaluation = evaluate(client, suite, outputs)
    assert value(evaluation, "bleu") == pytest.approx(case["expected"]["score"], abs=case["tolerance"])
    assert "version:" in evaluation["scores"][0]["signature"]
    assert get(client, f"evaluations/{evaluation['id']}/items")["items"][0]["correct"] is None


@pytest.mark.parametrize("outputs", [["", ""], [None, None], ["東京", "😀"]])
def test_outputs_with_nothing_to_read_score_zero(client: TestClient, outputs: list[str | None]) -> None:
    suite = make_suite(client, text_items([["one two three four five"], ["six"]]), metrics=TEXT_METRICS)
    evaluation = evaluate(client, suite, outputs)
    assert [score["value"] for score in evaluation["scores"]] == pytest.approx([0.0] * len(TEXT_METRICS), abs=1e-9)


def test_what_cannot_be_computed_is_null_with_a_reason(client: TestClient) -> None:
    suite = make_suite(client, label_items(["a", "a"]), metrics=["cohen_kappa"])
    score = evaluate(client, suite, ["a", "a"])["scores"][0]
    assert (score["value"], score["interval"], score["reason"]) == (None, None, "undefined")


def test_the_same_predictions_give_the_same_bits(client: TestClient) -> None:
    suite = make_suite(client, text_items([["a b c d e"], ["f g h"], ["x y z"]]), metrics=["bleu", "rougeL"])
    first, second = (evaluate(client, suite, ["a b c d f", "f g", "x"])["scores"] for _ in range(2))
    assert first == second
    assert first[0]["seed"] == 0


@pytest.mark.skipif(not E2E.exists(), reason="the E2E NLG data is not there")
def test_e2e_nlg(client: TestClient) -> None:
    """The whole test set (630 meaning representations, 4,693 references) against sacrebleu and rouge_score."""
    by_meaning: dict[str, list[str]] = {}
    with E2E.open(encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            by_meaning.setdefault(row["mr"], []).append(row["ref"])
    # The first reference plays the model; the others judge it.
    chosen = {meaning: given for meaning, given in by_meaning.items() if len(given) > 1}
    assert len(chosen) > 600
    outputs, references = [given[0] for given in chosen.values()], [given[1:] for given in chosen.values()]
    items: list[Json] = [
        {"id": f"i{place}", "input": meaning, "references": own}
        for place, (meaning, own) in enumerate(zip(chosen, references, strict=True))
    ]
    suite = make_suite(client, items, name="e2e", metrics=["bleu", "chrf", "rouge1", "rougeL"])
    began = time.monotonic()
    evaluation = evaluate(client, suite, outputs)
    assert time.monotonic() - began < 120
    streams = [list(stream) for stream in zip_longest(*references)]
    assert value(evaluation, "bleu") == pytest.approx(BLEU().corpus_score(outputs, streams).score, abs=1e-9)
    assert value(evaluation, "chrf") == pytest.approx(CHRF().corpus_score(outputs, streams).score, abs=1e-9)
    scorer = RougeScorer(["rouge1", "rougeL"])
    each = [scorer.score_multi(own, output) for own, output in zip(references, outputs, strict=True)]
    for name in ("rouge1", "rougeL"):
        expected = math.fsum(one[name].fmeasure for one in each) / len(each)
        assert value(evaluation, name) == pytest.approx(expected, abs=1e-12)
