"""Candidate against baseline: verdicts, their sentences, the items that flipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from starlette.testclient import TestClient
from statsmodels.stats.contingency_tables import mcnemar

from service.evaluation.wording import sentence
from service.measure.comparison import Comparison
from service.measure.metrics import METRICS

from .wire import Json, all_items, evaluate, get, label_items, make_suite, text_items

CASES = json.loads((Path(__file__).parents[2] / "cases" / "forgetting.json").read_text())["cases"]
MCNEMAR = [case for case in CASES if case["metric"] == "mcnemar_exact" and case["input"]["n10"] > 0]


def outputs(n: int, right: range | set[int]) -> list[str]:
    return ["yes" if place in set(right) else "no" for place in range(n)]


@pytest.fixture
def suite(client: TestClient) -> Json:
    return make_suite(client, text_items([["yes"]] * 200), metrics=["exact_match", "token_f1", "bleu"])


def compare(client: TestClient, baseline: Json, candidate: Json, **params: Any) -> Json:
    return get(client, "comparisons", baseline=baseline["id"], candidate=candidate["id"], **params)


def test_a_clear_gain(client: TestClient, suite: Json) -> None:
    base = evaluate(client, suite, outputs(200, range(100)), name="base")
    tuned = evaluate(client, suite, outputs(200, range(10, 160)), name="tuned")
    card = compare(client, base, tuned)
    assert (card["verdict"], card["n"], card["gained"], card["lost"]) == ("better", 200, 60, 10)
    assert card["difference"] == pytest.approx(0.25)
    expected = mcnemar([[90, 10], [60, 40]], exact=True).pvalue
    assert card["p_value"] == pytest.approx(expected, rel=1e-9)
    low, high = (100 * bound for bound in card["interval"])
    assert card["sentence"] == f"tuned is better than base on facts by 25.0 points [{low:.1f}, {high:.1f}]."
    assert (card["baseline"], card["candidate"]) == (base, tuned)
    back = compare(client, tuned, base)
    assert back["verdict"] == "worse"
    assert back["sentence"] == f"base is worse than tuned on facts by 25.0 points [{low:.1f}, {high:.1f}]."


@pytest.mark.parametrize("case", MCNEMAR, ids=[case["id"] for case in MCNEMAR])
def test_published_mcnemar(client: TestClient, case: Json) -> None:
    lost, gained = case["input"]["n10"], case["input"]["n01"]
    suite = make_suite(client, text_items([["yes"]] * 200), name="published")
    base = evaluate(client, suite, outputs(200, range(lost)))
    tuned = evaluate(client, suite, outputs(200, range(lost, lost + gained)))
    card = compare(client, base, tuned)
    assert (card["lost"], card["gained"]) == (lost, gained)
    assert card["p_value"] == pytest.approx(case["expected"], abs=case["tolerance"])


def test_no_difference_to_tell(client: TestClient, suite: Json) -> None:
    base = evaluate(client, suite, outputs(200, range(100)), name="base")
    tuned = evaluate(client, suite, outputs(200, range(5, 107)), name="tuned")
    card = compare(client, base, tuned)
    assert (card["verdict"], card["reason"]) == ("inconclusive", "covers_zero")
    assert card["n_needed"] > 200
    assert card["sentence"].startswith("tuned cannot be told apart from base on facts: difference 1.0 points [")
    assert card["sentence"].endswith(f"]; about {card['n_needed']:,} items would settle it.")


def test_a_margin_makes_equivalence_possible(client: TestClient, suite: Json) -> None:
    base = evaluate(client, suite, outputs(200, range(100)), name="base")
    tuned = evaluate(client, suite, outputs(200, range(1, 101)), name="tuned")
    card = compare(client, base, tuned, margin=0.05)
    assert (card["verdict"], card["margin"]) == ("equivalent", 0.05)
    assert card["sentence"].startswith(
        "tuned and base are equivalent on facts within ± 5.0 points: difference 0.0 points ["
    )
    assert compare(client, base, tuned)["verdict"] == "inconclusive"


def test_confidence_widens_the_interval(client: TestClient, suite: Json) -> None:
    base, tuned = evaluate(client, suite, outputs(200, range(100))), evaluate(client, suite, outputs(200, range(120)))
    wide, narrow = (compare(client, base, tuned, confidence=level)["interval"] for level in (0.99, 0.8))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_real_scores_are_compared_by_the_paired_t_interval(client: TestClient) -> None:
    suite = make_suite(client, text_items([["a b c d"]] * 30), metrics=["token_f1"])
    words = ["b", "b c", "b c d", "b c d e"]
    base = evaluate(client, suite, [words[place % 4] for place in range(30)])
    tuned = evaluate(client, suite, [words[(place * place) % 4] for place in range(30)])
    card = compare(client, base, tuned)
    scores = [
        np.array([item["scores"]["token_f1"] for item in get(client, f"evaluations/{one['id']}/items")["items"]])
        for one in (base, tuned)
    ]
    differences = scores[1] - scores[0]
    assert card["difference"] == pytest.approx(differences.mean())
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert card["interval"] == pytest.approx([expected.low, expected.high])
    assert (card["lost"], card["gained"]) == ((differences < 0).sum(), (differences > 0).sum())


def test_corpus_metrics_are_compared_too(client: TestClient) -> None:
    reference = "the cat sat on the mat with a red hat"
    suite = make_suite(client, text_items([[reference]] * 40), metrics=["bleu"])
    base = evaluate(client, suite, ["the cat sat on a mat"] * 20 + ["a dog"] * 20, name="base")
    tuned = evaluate(client, suite, [reference] * 20 + ["the cat sat on the mat"] * 20, name="tuned")
    card = compare(client, base, tuned)
    assert card["verdict"] == "better"
    assert card["test"].startswith("paired bootstrap")
    assert "bleu [" in card["sentence"]
    other = compare(client, base, tuned, test="randomisation")
    assert (other["test"], other["p_value"]) == ("approximate randomisation (sacrebleu)", 1 / 10_001)
    assert other["interval"] == card["interval"]
    several = get(client, "comparisons/several", baseline=base["id"], candidate=[tuned["id"]], test="randomisation")
    assert several["items"][0]["test"] == other["test"]
    refused = client.get("/api/v1/comparisons", params={"baseline": "a", "candidate": "b", "test": "jackknife"})
    assert (refused.status_code, "'bootstrap' or 'randomisation'" in refused.text) == (400, True)


def test_label_metrics_of_the_whole_set(client: TestClient) -> None:
    suite = make_suite(client, label_items(["a", "b"] * 100), metrics=["f1_macro", "accuracy"])
    base = evaluate(client, suite, ["a"] * 200)
    tuned = evaluate(client, suite, ["a", "b"] * 95 + ["b", "a"] * 5)
    card = compare(client, base, tuned)
    assert (card["metric"], card["verdict"]) == ("f1_macro", "better")
    assert (card["lost"], card["gained"]) == (5, 95)


def test_many_groups_are_clusters_and_few_are_categories(client: TestClient) -> None:
    for n_groups, test in ((50, "sign-flip by group"), (5, "mcnemar")):
        items = text_items([["yes"]] * 200)
        for place, item in enumerate(items):
            item["group"] = f"g{place % n_groups}"
        suite = make_suite(client, items, name=f"groups {n_groups}")
        base, tuned = (evaluate(client, suite, outputs(200, right)) for right in (range(100), range(130)))
        assert compare(client, base, tuned)["test"] == test


def test_several_candidates_share_one_risk(client: TestClient, suite: Json) -> None:
    """Six gained and none lost is p = 1/32: enough alone, not enough among three."""
    base = evaluate(client, suite, outputs(200, range(100)), name="base")
    ids = [evaluate(client, suite, outputs(200, range(top)), name=f"to {top}")["id"] for top in (106, 150, 100)]
    assert compare(client, base, {"id": ids[0]})["verdict"] == "better"
    found = get(client, "comparisons/several", baseline=base["id"], candidate=ids)
    assert (found["metric"], found["baseline"]) == ("exact_match", base)
    assert [one["candidate"]["name"] for one in found["items"]] == ["to 106", "to 150", "to 100"]
    assert [one["verdict"] for one in found["items"]] == ["inconclusive", "better", "inconclusive"]
    first, second, _ = found["items"]
    assert (first["reason"], first["p_value"]) == ("not_after_holm", pytest.approx(1 / 32))
    assert first["p_adjusted"] == pytest.approx(2 / 32)
    assert "(not after adjusting for the number of candidates)" in first["sentence"]
    assert second == {**compare(client, base, {"id": ids[1]}), "p_adjusted": second["p_adjusted"]}


def test_seeds_of_two_configurations(client: TestClient, suite: Json) -> None:
    before = [evaluate(client, suite, outputs(200, range(top)), name=f"full seed {top}") for top in (100, 104, 97)]
    after = [evaluate(client, suite, outputs(200, range(top)), name=f"lora seed {top}") for top in (150, 155)]
    full, lora = ([one["id"] for one in side] for side in (before, after))
    card = get(client, "comparisons/configurations", baseline=full, candidate=lora)
    assert card["baseline"]["values"] == [0.5, 0.52, 0.485]
    assert card["candidate"]["mean"] == pytest.approx(0.7625)
    assert card["candidate"]["sd"] == pytest.approx(np.std([0.75, 0.775], ddof=1))
    assert card["candidate"]["evaluations"] == after
    assert card["difference"] == pytest.approx(0.7625 - 1.505 / 3)
    assert card["verdict"] == "better"
    low, high = (100 * bound for bound in card["interval"])
    who = "lora seed 150 (2 seeds) is better than full seed 100 (3 seeds)"
    assert card["sentence"] == f"{who} on facts by 26.1 points [{low:.1f}, {high:.1f}]."
    same = get(client, "comparisons/configurations", baseline=full, candidate=full[:2])
    assert (same["verdict"], same["reason"]) == ("inconclusive", "covers_zero")
    assert same["sentence"].startswith("full seed 100 (2 seeds) cannot be told apart from full seed 100 (3 seeds) on")
    wide = get(client, "comparisons/configurations", baseline=full, candidate=full[:2], margin=0.5)
    assert wide["verdict"] == "equivalent"
    bleu = get(client, "comparisons/configurations", baseline=full, candidate=lora, metric="bleu")
    assert bleu["metric"] == "bleu"
    assert "bleu" in bleu["sentence"]


def test_seeds_are_joined_by_id_across_suites_of_the_same_content(client: TestClient) -> None:
    items = text_items([[word] for word in ("one", "two", "three", "four")])
    first, second = make_suite(client, items), make_suite(client, items[::-1], name="reversed")
    ids = [evaluate(client, suite, ["one", "x", "x", "x"])["id"] for suite in (first, second)]
    card = get(client, "comparisons/configurations", baseline=ids[:1], candidate=ids[1:])
    assert (card["difference"], card["reason"]) == (0.0, "no_variation")


@pytest.mark.parametrize("path", ["several", "configurations"])
def test_several_of_different_suites_are_refused(client: TestClient, suite: Json, path: str) -> None:
    changed = make_suite(client, text_items([["yes"]] * 199))
    one, two = evaluate(client, suite, outputs(200, range(3))), evaluate(client, changed, outputs(199, range(3)))
    params = {"baseline": one["id"], "candidate": [one["id"], two["id"]]}
    answer = client.get(f"/api/v1/comparisons/{path}", params=params)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "suites_differ")
    assert client.get(f"/api/v1/comparisons/{path}", params={"baseline": one["id"]}).status_code == 400


def test_only_the_same_items_can_be_compared(client: TestClient, suite: Json) -> None:
    changed = make_suite(client, text_items([["yes"]] * 199))
    base, tuned = evaluate(client, suite, outputs(200, range(3))), evaluate(client, changed, outputs(199, range(3)))
    for path in ("comparisons", "comparisons/items"):
        answer = client.get(
            f"/api/v1/{path}", params={"baseline": base["id"], "candidate": tuned["id"], "kind": "lost"}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "suites_differ")
    assert "'facts' version 1" in answer.json()["error"]["message"]
    assert "version 2" in answer.json()["error"]["message"]


def test_items_are_joined_by_id_across_suites_of_the_same_content(client: TestClient) -> None:
    items = text_items([[word] for word in ("one", "two", "three", "four")])
    first, second = make_suite(client, items), make_suite(client, items[::-1], name="reversed")
    assert first["hash"] == second["hash"]
    base = evaluate(client, first, ["one", "two", "x", "four"])
    tuned = evaluate(client, second, ["one", "y", "three", "four"])
    card = compare(client, base, tuned)
    assert (card["lost"], card["gained"]) == (1, 1)
    (lost,) = changed(client, base, tuned, "lost")
    assert (lost["id"], lost["baseline_output"], lost["candidate_output"]) == ("i1", "two", "y")
    (gained,) = changed(client, base, tuned, "gained")
    assert (gained["id"], gained["references"], gained["candidate_output"]) == ("i2", ["three"], "three")


def changed(client: TestClient, baseline: Json, candidate: Json, kind: str, **params: Any) -> list[Json]:
    return all_items(
        client, "comparisons/items", baseline=baseline["id"], candidate=candidate["id"], kind=kind, **params
    )


def test_the_largest_changes_come_first(client: TestClient) -> None:
    suite = make_suite(client, text_items([["a b c d"]] * 5), metrics=["token_f1"])
    base = evaluate(client, suite, ["b c d"] * 5)
    tuned = evaluate(client, suite, ["b c", "b c d", "x", "b", "b c d"])
    assert [item["id"] for item in changed(client, base, tuned, "lost")] == ["i2", "i3", "i0"]
    assert changed(client, base, tuned, "gained") == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (({"name": "a"}, {"name": "b"}), ("a", "b")),
        (({"name": "a", "step": 10}, {"name": "a", "step": 20}), ("a (step 10)", "a (step 20)")),
        (({"run": "calm-owl"}, {"run": "swift-fox"}), ("calm-owl", "swift-fox")),
        (({"version": True}, {"name": "b"}), ("tiny v1", "b")),
    ],
)
def test_whose_names_the_sentence_bears(
    client: TestClient, suite: Json, names: tuple[Json, Json], expected: tuple[str, str]
) -> None:
    evaluations = []
    for fields, right in zip(names, (range(20), range(80)), strict=True):
        links: Json = {key: fields[key] for key in ("name", "step") if key in fields}
        if "run" in fields:
            body = {"project": "p", "name": fields["run"]}
            links["run_id"] = client.post("/api/v1/runs", json=body).json()["id"]
        if "version" in fields:
            links["model_version_id"] = client.post("/api/v1/models/tiny/versions", json={}).json()["id"]
        evaluations.append(evaluate(client, suite, outputs(200, right), **links))
    found = compare(client, *evaluations)["sentence"]
    assert found.startswith(f"{expected[1]} is better than {expected[0]} on facts by 30.0 points [")


def test_nameless_evaluations_are_told_apart_by_id(client: TestClient, suite: Json) -> None:
    base, tuned = (evaluate(client, suite, outputs(200, right)) for right in (range(20), range(80)))
    found = compare(client, base, tuned)["sentence"]
    assert found.startswith(f"evaluation {tuned['id']} is better than evaluation {base['id']} on facts")


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"metric": "accuracy"}, 400, "unknown_metric"),
        ({"margin": -1}, 400, "invalid_request"),
        ({"confidence": 1}, 400, "invalid_request"),
        ({"candidate": "none"}, 404, "evaluation_not_found"),
        ({"baseline": None}, 400, "invalid_request"),
    ],
)
def test_refusals(client: TestClient, suite: Json, params: Json, status: int, code: str) -> None:
    evaluation = evaluate(client, suite, outputs(200, range(20)))
    wanted = {"baseline": evaluation["id"], "candidate": evaluation["id"], **params}
    answer = client.get(
        "/api/v1/comparisons", params={key: given for key, given in wanted.items() if given is not None}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def _result(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {
        "verdict": "inconclusive", "metric": "accuracy", "baseline_value": 0.8, "candidate_value": 0.804,
        "difference": 0.004, "interval": (-0.01, 0.018), "confidence": 0.95, "p_value": 0.5, "test": "mcnemar",
        "n": 500, "gained": 4, "lost": 2, "margin": 0.0, "smallest_detectable": 0.02, "n_needed": 1234,
        "reason": "covers_zero",
    }  # fmt: skip
    return Comparison(**{**fields, **changes})


@pytest.mark.parametrize(
    ("metric", "changes", "expected"),
    [
        (
            "accuracy",
            {},
            "new cannot be told apart from old on mail: difference 0.4 points [−1.0, 1.8]; about 1,234 items would "
            "settle it.",
        ),
        (
            "accuracy",
            {"difference": 0.1, "interval": (0.01, 0.2), "p_value": 0.081, "reason": "test_disagrees"},
            "new cannot be told apart from old on mail: difference 10.0 points [1.0, 20.0] (the interval excludes no "
            "difference, the test does not, p = 0.081); about 1,234 items would settle it.",
        ),
        (
            "accuracy",
            {"verdict": "better", "difference": 0.021, "interval": (0.009, 0.033)},
            "new is better than old on mail by 2.1 points [0.9, 3.3].",
        ),
        (
            "accuracy",
            {"verdict": "worse", "difference": -0.021, "interval": (-0.033, -0.009)},
            "new is worse than old on mail by 2.1 points [0.9, 3.3].",
        ),
        (
            "bleu",
            {"verdict": "better", "difference": 2.14, "interval": (1.0, 3.0), "candidate_value": 30.0},
            "new is better than old on mail by 2.1 bleu [1.0, 3.0].",
        ),
        (
            "rougeL",
            {"verdict": "better", "difference": 0.0214, "interval": (0.01, 0.03)},
            "new is better than old on mail by 0.021 rougeL [0.010, 0.030].",
        ),
        (
            "f1_macro",
            {"verdict": "better", "difference": 0.0214, "interval": (0.01, 0.03)},
            "new is better than old on mail by 2.1 points [1.0, 3.0].",
        ),
        (
            "accuracy",
            {"difference": 0.0, "interval": (-0.0001, 0.02), "n_needed": None},
            "new cannot be told apart from old on mail: difference 0.0 points [0.0, 2.0].",
        ),
        (
            "mcc",
            {"difference": None, "interval": None, "n_needed": None, "reason": "undefined"},
            "new cannot be told apart from old on mail: difference unknown (the metric has no value on one side).",
        ),
    ],
)
def test_sentences(metric: str, changes: Json, expected: str) -> None:
    result = _result(metric=metric, **changes)
    assert sentence(result, METRICS[metric], baseline="old", candidate="new", suite="mail") == expected
