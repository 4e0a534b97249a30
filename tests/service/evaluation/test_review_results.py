"""What people said, as scores, verdicts, agreement, and evaluations that work like any other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from starlette.testclient import TestClient
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from .test_reviews import ask, make_review, post, say
from .wire import Json, all_items, evaluate, get, make_suite

N = 24


def items() -> list[Json]:
    return [
        {"id": f"i{n}", "input": f"question {n}", "references": ["yes"], "group": ("tone", "fact")[n % 2]}
        for n in range(N)
    ]


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """SQLite alone: what is computed is the same on any database, and the queue's tests run on both."""
    path = tmp_path / "tunescope.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def three(client: TestClient) -> list[Json]:
    suite = make_suite(client, items())
    return [evaluate(client, suite, [f"{name} {n}" for n in range(N)], name=name) for name in ("base", "lora", "full")]


Judge = Callable[[Json], str]


def work(client: TestClient, review: Json, judge: Judge, reviewer: str = "ann") -> list[Json]:
    """Judge until nothing is left; the tasks, in order."""
    done = []
    while (task := ask(client, review, reviewer)["task"]) is not None:
        done.append(task)
        answer = judge(task)
        say(
            client, review, task["task"], answer, reviewer, **({"reasons": ["cannot tell"]} if answer == "skip" else {})
        )
    return done


def number(task: Json) -> int:
    return int(task["input"].split()[1])


def by_quality(quality: Mapping[str, Callable[[int], float]]) -> Judge:
    """Prefers the better output, wherever it is shown; ties where both are as good."""

    def judge(task: Json) -> str:
        left, right = (quality[shown["text"].split()[0]](number(task)) for shown in task["outputs"])
        return "tie" if left == right else "A" if left > right else "B"

    return judge


def result(client: TestClient, review: Json, **params: Any) -> Json:
    return get(client, f"reviews/{review['id']}/result", **params)


def test_a_rating_of_one_model(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, three[1])
    work(client, review, lambda task: "good" if number(task) % 2 or number(task) < 8 else "bad")
    found = result(client, review)
    (score,) = found["scores"]
    assert (score["name"], score["value"], score["n"], score["judgements"]) == ("human_good", 16 / 24, 24, 24)
    assert score["interval"] == pytest.approx(proportion_confint(16, 24, method="wilson"), abs=1e-12)
    assert (score["method"], score["evaluation"], score["evaluation_id"]) == ("wilson", "lora", three[1]["id"])
    assert score["signature"].startswith("human_good|judgements:one|")
    assert [(one["slice"], one["n"], one["value"]) for one in found["slices"]] == [
        ("tone", 12, 4 / 12), ("fact", 12, 1.0),
    ]  # fmt: skip
    assert found["agreement"] == {
        "method": None, "value": None, "observed": None, "n_overlap": 0, "n_reviewers": 1, "reason": "no_overlap",
    }  # fmt: skip
    assert (found["verdicts"], found["strengths"], found["position"], found["final"]) == ([], [], None, False)
    assert found["reviewers"][0]["answers"] == {"good": 16, "bad": 8}


def test_nothing_judged_yet(client: TestClient, three: list[Json]) -> None:
    for kind in ("rating", "pairwise"):
        found = result(client, make_review(client, *three, kind=kind, name=kind))
        assert [(one["value"], one["n"], one["reason"]) for one in found["scores"]] == [(None, 0, "no_items")] * 3
        assert (found["verdicts"], found["reviewers"], found["slices"]) == ([], [], [])
        assert {one["reason"] for one in found["strengths"]} <= {"no_comparisons"}


def test_two_models_rated_in_one_review_are_compared_item_by_item(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2])
    rated = {"base": lambda n: n < 8, "lora": lambda n: 2 <= n < 20}
    work(client, review, lambda task: "good" if rated[task["outputs"][0]["text"].split()[0]](number(task)) else "bad")
    (card,) = result(client, review)["verdicts"]
    assert (card["verdict"], card["gained"], card["lost"], card["n"]) == ("better", 12, 2, 24)
    assert card["p_value"] == pytest.approx(binomtest(2, 14).pvalue, rel=1e-9)
    assert card["sentence"].startswith("lora is better than base on facts (tone) by 41.7 points [")
    # Closed, it leaves evaluations that say the same through the API of any evaluation.
    outcome = post(client, f"reviews/{review['id']}/close", 200)["outcome"]
    ids = [outcome["evaluations"][one["id"]] for one in three[:2]]
    again = get(client, "comparisons", baseline=ids[0], candidate=ids[1])
    for name in ("verdict", "difference", "interval", "p_value", "gained", "lost", "metric"):
        assert again[name] == card[name]
    assert again["sentence"].startswith("lora is better than base on tone (human) by 41.7 points [")
    lost = all_items(client, "comparisons/items", baseline=ids[0], candidate=ids[1], kind="lost")
    assert [(one["id"], one["candidate_output"]) for one in lost] == [("i0", "lora 0"), ("i1", "lora 1")]
    tuned = get(client, f"evaluations/{ids[1]}")
    (score,) = tuned["scores"]
    assert (score["name"], score["value"]) == ("human_good", 18 / 24)
    assert score["interval"] == pytest.approx(result(client, review)["scores"][1]["interval"])
    assert tuned["settings"] == {"review_id": review["id"]}
    wrong = all_items(client, f"evaluations/{ids[1]}/items", correct=False, limit=10)
    assert [(one["id"], one["parsed"]) for one in wrong] == [(f"i{n}", "bad") for n in (0, 1, 20, 21, 22, 23)]
    slices = get(client, f"evaluations/{ids[1]}/slices", by="group")["items"]
    assert {one["slice"]: one["value"] for one in slices} == {"tone": 0.75, "fact": 0.75}
    assert get(client, f"suites/{outcome['suite_id']}")["task_type"] == "human_review"
    assert result(client, review)["final"] is True


def test_an_audit_judges_what_people_said(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2])
    work(client, review, lambda task: "bad" if task["outputs"][0]["text"].startswith("lora") else "good")
    outcome = post(client, f"reviews/{review['id']}/close", 200)["outcome"]
    policy = post(
        client, "policies", name="ship", protected=[{"suite": "tone (human)", "margin": 0.05, "minimum_n": 20}]
    )
    before, after = (outcome["evaluations"][one["id"]] for one in three[:2])
    audit = post(client, "audits", policy_id=policy["id"], before=[before], after=[after])
    assert (audit["verdict"], audit["tasks"][0]["lost"]) == ("FAIL", 24)


def test_items_not_rated_for_every_model_are_left_out(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2])
    work(client, review, lambda task: "skip" if task["outputs"][0]["text"] == "base 3" else "good")
    found = result(client, review)
    assert [one["n"] for one in found["scores"]] == [23, 23]
    assert found["n_left_out"] == 1
    assert found["reviewers"][0]["skipped"] == 1
    assert found["reasons"] == [
        {"reason": "cannot tell", "answer": "skip", "evaluation_id": three[0]["id"], "n": 1}
    ]  # fmt: skip
    assert found["verdicts"][0]["verdict"] == "inconclusive"
    outcome = post(client, f"reviews/{review['id']}/close", 200)["outcome"]
    assert get(client, f"suites/{outcome['suite_id']}")["n_items"] == 23


def test_several_judgements_of_an_item_are_one_unit(client: TestClient, three: list[Json]) -> None:
    """Two who always agree add no information: the interval stays that of 24 items, not of 48 judgements."""
    review = make_review(client, *three[:2], kind="pairwise", overlap=2)
    prefer = by_quality({"base": lambda n: 0.5, "lora": lambda n: float(n % 3 > 0)})
    for name in ("ann", "bob"):
        work(client, review, prefer, name)
    single = make_review(client, *three[:2], kind="pairwise", name="single")
    work(client, single, prefer)
    twice, once = result(client, review), result(client, single)
    score, alone = twice["scores"][1], once["scores"][1]
    assert (score["value"], score["n"], score["judgements"]) == (16 / 24, 24, 48)
    assert (alone["judgements"], alone["method"], score["method"]) == (24, "tango", "tango by item")
    assert score["interval"] == pytest.approx(alone["interval"], abs=0.02)
    assert (twice["verdicts"][0]["metric"], once["verdicts"][0]["metric"]) == ("human_wins_mean", "human_wins")
    assert (twice["agreement"]["method"], twice["agreement"]["value"]) == ("cohen_kappa", 1.0)
    assert (twice["agreement"]["n_overlap"], twice["agreement"]["observed"]) == (24, 1.0)


def test_ratings_by_several_are_means(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, three[0], overlap=2)
    work(client, review, lambda task: "good" if number(task) < 12 else "bad", "ann")
    work(client, review, lambda task: "good" if number(task) < 18 else "bad", "bob")
    (score,) = result(client, review)["scores"]
    assert (score["name"], score["value"], score["n"], score["judgements"]) == ("human_good_mean", 0.625, 24, 48)
    assert score["method"] == "bca-bootstrap-4000"
    outcome = post(client, f"reviews/{review['id']}/close", 200)["outcome"]
    found = all_items(client, f"evaluations/{outcome['evaluations'][three[0]['id']]}/items", limit=100)
    assert [one["scores"]["human_good_mean"] for one in found] == [1.0] * 12 + [0.5] * 6 + [0.0] * 6
    assert [one["parsed"] for one in found] == ["good"] * 12 + ["split"] * 6 + ["bad"] * 6
    assert {one["correct"] for one in found[12:18]} == {None}


def test_agreement_of_two_is_cohens_kappa(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, three[0], overlap=2)
    said: dict[str, dict[int, str]] = {"ann": {}, "bob": {}}
    for name, limit in (("ann", 9), ("bob", 15)):
        for task in work(client, review, lambda task, limit=limit: "good" if number(task) < limit else "bad", name):  # type: ignore[misc]
            said[name][number(task)] = "good" if number(task) < limit else "bad"
    found = result(client, review)
    ours, theirs = ([said[name][n] for n in range(N)] for name in ("ann", "bob"))
    assert found["agreement"]["value"] == pytest.approx(cohen_kappa_score(ours, theirs))
    assert found["agreement"]["observed"] == pytest.approx(18 / 24)
    assert [one["agrees"] for one in found["reviewers"]] == [18 / 24] * 2
    disputed = all_items(client, f"reviews/{review['id']}/items", only="disagreed", limit=4)
    assert sorted(int(one["id"][1:]) for one in disputed) == list(range(9, 15))
    assert {(one["reviewer"], one["answer"]) for one in disputed[0]["judgements"]} == {("ann", "bad"), ("bob", "good")}
    assert disputed[0]["outputs"] == {three[0]["id"]: f"base {disputed[0]['id'][1:]}"}


def test_of_three_it_is_krippendorffs_alpha_and_of_one_answer_none(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, three[0], overlap=3)
    for name in ("ann", "bob", "cid"):
        work(client, review, lambda task: "good", name)
    found = result(client, review)["agreement"]
    assert (found["method"], found["value"], found["reason"]) == ("krippendorff_alpha", None, "one_category")
    assert (found["n_reviewers"], found["observed"]) == (3, 1.0)


def test_pairs_are_unblinded_by_the_service(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2], kind="pairwise")
    shown = work(client, review, by_quality({"base": lambda n: 0.0, "lora": lambda n: float(n < 20)}))
    left = sum(task["outputs"][0]["text"].startswith("lora") for task in shown)
    assert 3 < left < 21
    found = result(client, review)
    base, lora = found["scores"]
    assert (lora["name"], base["name"]) == ("human_win_rate", "human_win_rate")
    assert (lora["value"], base["value"]) == pytest.approx((22 / 24, 2 / 24))
    (card,) = found["verdicts"]
    assert (card["verdict"], card["gained"], card["lost"]) == ("better", 20, 0)
    assert card["test"] == "exact sign test"
    assert card["p_value"] == pytest.approx(binomtest(0, 20).pvalue, rel=1e-9)
    assert card["sentence"].startswith("lora is better than base on facts (tone) by 83.3 points [")
    picks = found["position"]
    assert picks["a"] + picks["b"] == 20
    assert picks["p_value"] == pytest.approx(binomtest(picks["a"], 20).pvalue)
    assert found["reviewers"][0]["answers"] == {"A": picks["a"], "tie": 4, "B": picks["b"]}
    assert [one["strength"] for one in found["strengths"]] == pytest.approx([-1.199, 1.199], abs=1e-3)
    judged = all_items(client, f"reviews/{review['id']}/items", limit=100)
    assert [one["judgements"][0]["answer"] for one in judged] == ["preferred"] * 20 + ["tie"] * 4
    first = judged[0]["judgements"][0]
    assert (first["evaluation_id"], first["against_id"]) == (three[1]["id"], three[0]["id"])
    assert post(client, f"reviews/{review['id']}/close", 200)["outcome"] is None


def test_three_models_are_ranked(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three, kind="pairwise", sample={"n": 16})
    assert review["n_tasks"] == 3 * 16
    quality = {"base": lambda n: float(n % 3), "lora": lambda n: float(n % 4), "full": lambda n: float(n % 5)}
    work(client, review, by_quality(quality))
    found = result(client, review)
    strengths = {one["evaluation"]: one for one in found["strengths"]}
    assert strengths["full"]["strength"] > strengths["lora"]["strength"] > strengths["base"]["strength"]
    assert sum(one["strength"] for one in strengths.values()) == pytest.approx(0)
    assert all(one["interval"][0] < one["strength"] < one["interval"][1] for one in strengths.values())
    assert [(one["baseline"]["name"], one["candidate"]["name"]) for one in found["verdicts"]] == [
        ("base", "lora"), ("base", "full"), ("lora", "full"),
    ]  # fmt: skip
    p_values = [one["p_value"] for one in found["verdicts"]]
    assert [one["p_adjusted"] for one in found["verdicts"]] == pytest.approx(multipletests(p_values, method="holm")[1])
    assert all(one["p_adjusted"] < 0.05 for one in found["verdicts"] if one["verdict"] in ("better", "worse"))
    against = make_review(client, *three, kind="pairwise", baseline=three[0]["id"], name="base only")
    assert against["n_tasks"] == 2 * N


def test_same_texts_are_ties_that_count(client: TestClient) -> None:
    suite = make_suite(client, items())
    base = evaluate(client, suite, [f"text {n}" for n in range(N)], name="base")
    lora = evaluate(client, suite, [f"text {n}" if n < 12 else f"better {n}" for n in range(N)], name="lora")
    review = make_review(client, base, lora, kind="pairwise")
    work(client, review, lambda task: "A" if task["outputs"][0]["text"].startswith("better") else "B")
    found = result(client, review)
    assert (found["n_identical"], found["scores"][1]["value"], found["scores"][1]["n"]) == (12, 0.75, 24)
    assert (found["verdicts"][0]["n"], found["agreement"]["n_overlap"]) == (24, 0)


def test_a_margin_makes_equivalence_possible(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2], kind="pairwise")
    work(client, review, lambda task: "tie")
    assert result(client, review)["verdicts"][0]["verdict"] == "inconclusive"
    assert result(client, review, margin=0.3)["verdicts"][0]["verdict"] == "equivalent"


def test_one_judgement_is_too_little_to_tell(client: TestClient, three: list[Json]) -> None:
    review = make_review(client, *three[:2], kind="pairwise")
    say(client, review, 0, "A")
    (card,) = result(client, review)["verdicts"]
    assert (card["verdict"], card["reason"], card["test"]) == ("inconclusive", "too_few_items", None)
