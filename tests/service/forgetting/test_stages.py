"""A sequence of fine-tunes: the matrix from evaluations, its scores, and forgetting events over checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from .wire import Json, evaluate, get, make_suite, post

POSTGRESQL_IS_SLOW = True

CASES = json.loads((Path(__file__).parents[2] / "cases" / "forgetting.json").read_text())["cases"]
(DISAGREE,) = [case for case in CASES if case["metric"] == "conventions_disagree"]
NAMES = {
    "BWT_gem_paper": "BWT_gem_paper_T-1",
    "BWT_gem_code": "BWT_gem_code_divisor_T",
    "forgetting_first_last": "forgetting_first_minus_last(Avalanche)",
    "forgetting_max_learned": "forgetting_max_l>=j(Chaudhry eq.3 as in continuum)",
    "forgetting_max_clipped": "forgetting_max_incl_last_row(Mammoth)",
    "FWT_gem_paper": "FWT_T-1",
    "FWT_gem_code": "FWT_gem_code_divisor_T",
    "DR_A": "DR_A",
    "DR_BWT": "DR_BWT",
    "DR_FWT": "DR_FWT",
    "DR_REM": "DR_REM",
    "DR_BWT+": "DR_BWT+",
}


def suites_of(client: TestClient, n: int, items: int = 100) -> list[Json]:
    return [make_suite(client, f"task {place}", items) for place in range(1, n + 1)]


def stage(client: TestClient, suites: list[Json], shares: list[float], **fields: object) -> list[str]:
    """Ids of evaluations that are right on the first items of each suite, up to a share."""
    return [
        evaluate(client, suite, range(round(share * suite["n_items"])), **fields)["id"]
        for suite, share in zip(suites, shares, strict=True)
    ]


def read(client: TestClient, **body: object) -> Json:
    return post(client, "stages", dict(body), 200)


def test_the_published_matrix_from_runs(client: TestClient) -> None:
    """Row 0 is the base, by model version; each stage is a run, of which the last step counts."""
    R, b = DISAGREE["input"]["R"], DISAGREE["input"]["b"]
    suites = suites_of(client, 3)
    base = post(client, "models/tiny/versions", {})
    stage(client, suites, b, model_version_id=base["id"])
    runs = [post(client, "runs", {"project": "p", "name": f"stage-{place}"}) for place in range(3)]
    for run, shares in zip(runs, R, strict=True):
        stage(client, suites, [0.0, 0.0, 0.0], run_id=run["id"], step=10)
        stage(client, suites, shares, run_id=run["id"], step=20)
        stage(client, suites, b, run_id=run["id"], step=0)
    found = read(
        client,
        base={"model_version_id": base["id"]},
        stages=[{"run_id": run["id"]} for run in runs],
        suites=[suite["name"] for suite in suites],
    )
    assert [row["name"] for row in found["rows"]] == ["tiny v1", "stage-0", "stage-1", "stage-2"]
    assert [row["stage"] for row in found["rows"]] == [0, 1, 2, 3]
    assert [[cell["value"] for cell in row["cells"]] for row in found["rows"]] == [b, *R]
    assert (
        found["rows"][1]["cells"][0]["interval"]
        == get(client, f"evaluations/{found['rows'][1]['cells'][0]['evaluation_id']}")["scores"][0]["interval"]
    )
    scores = {score["name"]: score for score in found["scores"]}
    for name, published in NAMES.items():
        assert scores[name]["value"] == pytest.approx(DISAGREE["expected"][published], abs=1e-9), name
        low, high = scores[name]["interval"]
        assert low <= scores[name]["value"] <= high
        assert scores[name]["formula"]
        assert scores[name]["source"]
    assert (scores["intransigence"]["value"], scores["intransigence"]["reason"]) == (None, "no_reference")
    assert [column["retention"] for column in found["columns"]] == pytest.approx([6.0, 6.5, 9.0])
    joint = stage(client, suites, [0.9, 0.8, 0.9])
    again = read(
        client,
        stages=[{"run_id": run["id"]} for run in runs],
        suites=[suite["name"] for suite in suites],
        reference={"evaluation_ids": joint},
    )
    scores = {score["name"]: score for score in again["scores"]}
    assert scores["intransigence"]["value"] == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert scores["FWT_gem_paper"]["reason"] == "no_baseline"
    assert [row["stage"] for row in again["rows"]] == [1, 2, 3]


def test_an_interval_of_backward_transfer_is_that_of_paired_items(client: TestClient) -> None:
    """Both stages answered the same 400 items; 40 were lost and none gained: BWT is -0.1 ± 1.96 sqrt(.09 / 400)."""
    suites = suites_of(client, 2, 400)
    ids = [stage(client, suites, shares) for shares in ([0.8, 0.1], [0.7, 0.9])]
    found = read(client, stages=[{"evaluation_ids": one} for one in ids], suites=[suite["name"] for suite in suites])
    (score,) = [one for one in found["scores"] if one["name"] == "BWT_gem_paper"]
    assert score["interval"] == pytest.approx([-0.1 - 1.96 * 0.015, -0.1 + 1.96 * 0.015], abs=0.004)


def test_one_stage_has_no_transfer_and_no_forgetting(client: TestClient) -> None:
    (suite,) = suites_of(client, 1)
    found = read(client, stages=[{"evaluation_ids": stage(client, [suite], [0.9])}], suites=[suite["name"]])
    for score in found["scores"]:
        if score["name"] in ("ACC", "learning_accuracy", "DR_A"):
            assert score["value"] == 0.9
        else:
            assert score["value"] is None
            assert score["reason"] == ("no_reference" if score["name"] == "intransigence" else "one_stage")


def test_general_suites_are_columns_but_no_tasks(client: TestClient) -> None:
    suites = suites_of(client, 3)
    ids = [stage(client, suites, [0.8, 0.1, 0.9]), stage(client, suites, [0.7, 0.9, 0.4])]
    names = [suite["name"] for suite in suites]
    stages = [{"evaluation_ids": one, "name": f"s{place}"} for place, one in enumerate(ids)]
    untold = read(client, stages=stages, suites=names)
    assert untold["tasks"] is None
    assert {score["reason"] for score in untold["scores"]} == {"tasks_not_stated"}
    told = read(client, stages=stages, suites=names, tasks=names[:2])
    assert {score["name"]: score["value"] for score in told["scores"]}["BWT_gem_paper"] == pytest.approx(-0.1)
    assert [len(row["cells"]) for row in told["rows"]] == [3, 3]


def test_cells_that_are_not_there_say_why(client: TestClient) -> None:
    old = make_suite(client, "task 1", 100)
    new, other = make_suite(client, "task 1", 100, groups=["g"]), make_suite(client, "task 2", 100)
    stages = [
        {"evaluation_ids": stage(client, [new, other], [0.5, 0.5])},
        {"evaluation_ids": stage(client, [old], [0.5])},
        {"evaluation_ids": stage(client, [new], [0.6])},
    ]
    found = read(client, stages=stages, suites=["task 1", "task 2", "task 3"])
    assert [[cell["reason"] for cell in row["cells"]] for row in found["rows"]] == [
        [None, None, "not_evaluated"],
        ["other_version", "not_evaluated", "not_evaluated"],
        [None, "not_evaluated", "not_evaluated"],
    ]
    assert [column["version"] for column in found["columns"]] == [2, 1, None]
    assert {score["reason"] for score in found["scores"]} == {"missing_cells"}
    assert [row["name"] for row in found["rows"]] == ["stage 1", "stage 2", "stage 3"]
    bleu = read(client, stages=stages[:1], suites=["task 1"], metric="bleu")
    assert bleu["rows"][0]["cells"][0]["reason"] == "no_such_metric"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"suites": ["a", "a"]}, 400, "names a suite twice"),
        ({"tasks": ["a", "b"]}, 400, "one of `suites` for each stage"),
        ({"tasks": ["z"]}, 400, "one of `suites` for each stage"),
        ({"metric": "acc"}, 400, "no metric 'acc'"),
        ({"stages": []}, 400, "stages"),
        ({"stages": [{}]}, 400, "give one of run_id"),
        ({"stages": [{"model_version_id": "x", "step": 1}]}, 400, "step goes with run_id"),
        ({"stages": [{"run_id": "x"}]}, 404, "no run 'x'"),
        ({"stages": [{"evaluation_ids": ["x"]}]}, 404, "no evaluation 'x'"),
    ],
)
def test_refusals(client: TestClient, changes: Json, status: int, words: str) -> None:
    (suite,) = suites_of(client, 1)
    body = {"stages": [{"evaluation_ids": stage(client, [suite], [0.5])}], "suites": ["a"], **changes}
    assert words in post(client, "stages", body, status)["error"]["message"]


# --- checkpoints ---


def test_forgetting_events_over_checkpoints(client: TestClient) -> None:
    suite = make_suite(client, "general", 6, groups=["a", "b"])
    run = post(client, "runs", {"project": "p", "name": "r"})
    for step, right in ((200, [0, 2, 3]), (0, [0, 1]), (100, [0, 2]), (300, [0, 1, 3])):
        evaluate(client, suite, right, run_id=run["id"], step=step)
    evaluate(client, suite, [0, 1, 2, 3, 4, 5], run_id=run["id"])  # of no step
    evaluate(client, suite, [0, 1], run_id=run["id"], step=0)  # the newest of a step counts
    found = get(client, "forgetting-events", run_id=run["id"], suite="general")
    assert [(one["step"], one["forgotten"], one["learned"]) for one in found["checkpoints"]] == [
        (0, 0, 0), (100, 1, 1), (200, 0, 1), (300, 1, 1),
    ]  # fmt: skip
    assert (found["events"], found["learned"], found["never_forgotten"], found["never_learned"]) == (2, 4, 2, 2)
    assert found["items_by_events"] == [4, 2]
    assert [(item["id"], item["right"], item["group"]) for item in found["most_forgotten"]] == [
        ("i1", [True, False, False, True], "b"),
        ("i2", [False, True, True, False], "a"),
    ]
    assert found["reason"] is None


@pytest.mark.parametrize(
    ("steps", "metrics", "reason"),
    [([], ["exact_match"], "too_few_checkpoints"), ([5], ["exact_match"], "too_few_checkpoints"),
     ([5, 6], ["token_f1"], "not_right_or_wrong"), ([5, 6], ["bleu"], "not_right_or_wrong")],
)  # fmt: skip
def test_where_events_cannot_be_told(client: TestClient, steps: list[int], metrics: list[str], reason: str) -> None:
    suite = make_suite(client, "general", 4, metrics=metrics)
    run = post(client, "runs", {"project": "p"})
    for step in steps:
        predictions = [{"id": f"i{n}", "output": "yes maybe"} for n in range(4)]
        post(
            client,
            "evaluations",
            {"suite_id": suite["id"], "run_id": run["id"], "step": step, "predictions": predictions},
        )
    found = get(client, "forgetting-events", run_id=run["id"], suite="general")
    assert (found["events"], found["never_forgotten"], found["reason"]) == (None, None, reason)
    assert client.get("/api/v1/forgetting-events", params={"run_id": "x", "suite": "general"}).status_code == 404
