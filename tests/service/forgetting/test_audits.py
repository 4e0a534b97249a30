"""Audits: the gate's verdicts, the numbers behind them, what makes them invalid, and the record that stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient
from statsmodels.stats.multitest import multipletests

from service.measure.paired import tango_interval
from service.store import audits, records
from service.store.database import Database
from service.store.tables import Audit

from .wire import Json, audit, evaluate, flips, get, make_policy, make_suite, post, protect

CASES = json.loads((Path(__file__).parents[2] / "cases" / "forgetting.json").read_text())["cases"]
ITEM_CASES = [case for case in CASES if case["metric"] == "sample_wise_forgetting"]
GATE_CASES = [case for case in CASES if case["metric"] == "non_inferiority"]


@pytest.mark.parametrize("case", ITEM_CASES, ids=[case["id"] for case in ITEM_CASES])
def test_item_forgetting_is_that_of_the_paper(client: TestClient, case: Json) -> None:
    given, expected = case["input"], case["expected"]
    suite = make_suite(client, "general", expected["n"])
    policy = make_policy(client, protect("general", options=given["k"]))
    (task,) = audit(client, policy, flips(client, suite, given["n11"], given["n10"], given["n01"]))["tasks"]
    assert (task["before"], task["after"]) == (expected["acc_before"], expected["acc_after"])
    for name in ("F", "BT", "F_chance", "F_true"):
        assert task[name] == pytest.approx(expected[name], abs=case["tolerance"])
    assert (task["lost"], task["gained"]) == (given["n10"], given["n01"])


@pytest.mark.parametrize("case", GATE_CASES, ids=[case["id"] for case in GATE_CASES])
def test_the_gate_is_tangos_bound(client: TestClient, case: Json) -> None:
    given, expected = case["input"], case["expected"]
    suite = make_suite(client, "general", given["n"])
    policy = make_policy(client, protect("general", given["margin"]), alpha=given["alpha"])
    n11 = given["n"] - given["n10"] - given["n01"]
    found = audit(client, policy, flips(client, suite, n11, given["n10"], given["n01"]))
    (task,) = found["tasks"]
    assert task["difference"] == pytest.approx(expected["diff"])
    assert task["lower_bound"] == pytest.approx(expected["tango_lower95"], abs=case["tolerance"])
    assert task["p_value"] == pytest.approx(expected["mcnemar_exact_p"])
    assert (found["verdict"] == "PASS") is expected["pass_tango"]


@pytest.mark.parametrize(
    ("n10", "verdict", "begins"),
    [
        (0, "PASS", "'general' went from 0.900 to 0.900"),
        (5, "INCONCLUSIVE", "It cannot be told whether too much was lost: 'general' went from 0.900 to 0.875"),
        (40, "FAIL", "'general' went from 0.900 to 0.700 (−20.0 points"),
    ],
)
def test_verdicts(client: TestClient, n10: int, verdict: str, begins: str) -> None:
    suite = make_suite(client, "general", 200)
    found = audit(client, make_policy(client, protect("general")), flips(client, suite, 180 - n10, n10, 0))
    assert found["verdict"] == found["tasks"][0]["verdict"] == verdict
    assert found["sentence"].startswith(begins)
    assert bool(found["advice"]) is (verdict == "FAIL")
    assert (found["tasks"][0]["n_needed"] is not None) is (verdict == "INCONCLUSIVE")
    assert found["problems"] == []
    assert found["intact"] is True
    assert get(client, f"audits/{found['id']}") == found


def test_too_few_items_never_pass(client: TestClient) -> None:
    suite = make_suite(client, "general", 50)
    found = audit(client, make_policy(client, protect("general", 0.5, minimum_n=51)), flips(client, suite, 50, 0, 0))
    assert (found["verdict"], found["tasks"][0]["reason"]) == ("INCONCLUSIVE", "too_few_items")
    assert found["tasks"][0]["n_needed"] >= 51


def test_not_significantly_worse_is_never_a_pass(client: TestClient) -> None:
    """20 of 100 lost, 12 gained: p is 0.2, and the loss may be far beyond the margin."""
    suite = make_suite(client, "general", 100)
    found = audit(client, make_policy(client, protect("general", 0.02)), flips(client, suite, 60, 20, 12))
    assert found["tasks"][0]["p_value"] > 0.05
    assert found["verdict"] == "INCONCLUSIVE"


def test_several_tasks_worst_first_under_holm(client: TestClient) -> None:
    lost = {"mild": 4, "none": 0, "heavy": 60, "some": 20}
    pairs = [flips(client, make_suite(client, name, 200), 180 - n, n, 0) for name, n in lost.items()]
    found = audit(client, make_policy(client, *(protect(name) for name in lost)), *pairs)
    tasks = found["tasks"]
    assert [task["suite"] for task in tasks] == ["heavy", "some", "mild", "none"]
    assert [task["verdict"] for task in tasks] == ["FAIL", "FAIL", "PASS", "PASS"]
    expected = multipletests([task["p_value"] for task in tasks], method="holm")[1]
    assert [task["p_adjusted"] for task in tasks] == pytest.approx(list(expected))
    assert found["verdict"] == "FAIL"
    assert found["sentence"].endswith("2 of 4 protected tasks failed.")


def test_a_significant_loss_may_stop_being_so_among_many(client: TestClient) -> None:
    names = [f"t{place}" for place in range(12)]
    pairs = [
        flips(client, make_suite(client, name, 60), 60 - 7 * (name == "t0"), 7 * (name == "t0"), 0) for name in names
    ]
    alone = audit(client, make_policy(client, protect("t0", 0.08)), pairs[0])
    assert alone["verdict"] == "FAIL"
    among = audit(client, make_policy(client, *(protect(name, 0.08) for name in names)), *pairs)
    worst = among["tasks"][0]
    assert (worst["suite"], worst["verdict"]) == ("t0", "INCONCLUSIVE")
    assert worst["p_value"] < 0.05 < worst["p_adjusted"]


def test_real_valued_metrics_are_gated_too(client: TestClient) -> None:
    suite = make_suite(client, "general", 60, metrics=["token_f1"])
    outputs = ["yes", "yes maybe"]
    before, after = (
        post(
            client,
            "evaluations",
            {
                "suite_id": suite["id"],
                "predictions": [{"id": f"i{n}", "output": outputs[n < cut]} for n in range(60)],
            },
        )["id"]
        for cut in (0, 40)
    )
    (task,) = (found := audit(client, make_policy(client, protect("general")), (before, after)))["tasks"]
    assert found["verdict"] == "FAIL"
    assert task["after"] == pytest.approx((20 + 40 * 2 / 3) / 60)
    assert (task["F"], task["lost"]) == (None, 40)


def test_groups_show_where_it_was_lost(client: TestClient) -> None:
    suite = make_suite(client, "general", 90, groups=["capitals", "sums", None])
    before, after = evaluate(client, suite, range(90)), evaluate(client, suite, [n for n in range(90) if n % 3 != 1])
    (task,) = audit(client, make_policy(client, protect("general")), (before["id"], after["id"]))["tasks"]
    kept = list(tango_interval(0, 0, 30))
    assert task["by_group"] == [
        {"group": "sums", "n": 30, "before": 1.0, "after": 0.0, "lost": 30, "gained": 0,
         "interval": list(tango_interval(30, 0, 30))},
        {"group": "(none)", "n": 30, "before": 1.0, "after": 1.0, "lost": 0, "gained": 0, "interval": kept},
        {"group": "capitals", "n": 30, "before": 1.0, "after": 1.0, "lost": 0, "gained": 0, "interval": kept},
    ]  # fmt: skip


def test_unparsed_answers_are_counted_apart(client: TestClient) -> None:
    suite = make_suite(client, "general", 40)
    before = evaluate(client, suite, range(40))
    given = [
        {"id": f"i{n}", "output": "?", "parsed": None} if n < 9 else {"id": f"i{n}", "output": "yes"} for n in range(39)
    ]
    after = post(client, "evaluations", {"suite_id": suite["id"], "predictions": given})
    found = audit(client, make_policy(client, protect("general")), (before["id"], after["id"]))
    (task,) = found["tasks"]
    assert (task["unparsed_before"], task["unparsed_after"], task["lost"]) == (0, 9, 10)
    assert "'general': 1 items have no output after; they count as wrong." in found["notes"]


# --- what cannot be judged ------------------------------------------------------------------------


def _invalid(found: Json, words: str) -> None:
    assert found["verdict"] == "INVALID"
    assert words in found["problems"][0]
    assert found["sentence"] == f"Before and after cannot be compared: {found['problems'][0]}"
    (task,) = found["tasks"]
    assert (task["verdict"], task["reason"], task["p_value"]) == ("INVALID", "not_comparable", None)


def test_other_versions_of_a_suite(client: TestClient) -> None:
    first, second = make_suite(client, "general", 40), make_suite(client, "general", 45, groups=["g"])
    pair = (evaluate(client, first, range(40))["id"], evaluate(client, second, range(40))["id"])
    found = audit(client, make_policy(client, protect("general")), pair)
    _invalid(found, "version 1 before and version 2 after: 0 items only before, 5 only after, 40 changed")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"temperature": 0.0}, {"temperature": 0.7}),
        ({"generation": {"max_new_tokens": 16}}, {"generation": {"max_new_tokens": 64}}),
        ({"prompt_hash": "a"}, {"prompt_hash": "b"}),
        ({"num_fewshot": 0}, {"num_fewshot": 5}),
    ],
)
def test_settings_that_matter(client: TestClient, before: Json, after: Json) -> None:
    suite = make_suite(client, "general", 40)
    pair = [evaluate(client, suite, range(40), settings=settings)["id"] for settings in (before, after)]
    found = audit(client, make_policy(client, protect("general")), (pair[0], pair[1]))
    _invalid(found, "'general': the setting")


def test_settings_that_may_differ_are_told(client: TestClient) -> None:
    suite = make_suite(client, "general", 60)
    settings = ({"precision": "fp32", "temperature": 0}, {"precision": "nf4", "batch_size": 8, "temperature": 0})
    pair = [evaluate(client, suite, range(60), settings=one)["id"] for one in settings]
    found = audit(client, make_policy(client, protect("general", 0.1)), (pair[0], pair[1]))
    assert found["verdict"] == "PASS"
    assert found["notes"] == [
        "'general': the answers before and after are identical to the byte.",
        "'general': the setting 'batch_size' was not recorded before and 8 after.",
        "'general': the setting 'precision' was 'fp32' before and 'nf4' after.",
    ]


def test_a_suite_nobody_answered(client: TestClient) -> None:
    pair = flips(client, make_suite(client, "other", 40), 40, 0, 0)
    found = audit(client, make_policy(client, protect("general")), pair)
    _invalid(
        {**found, "sentence": found["sentence"].removesuffix(" (1 more)")}, "'general' has no evaluation among `before`"
    )
    assert found["notes"] == ["'other' was evaluated but is not protected by the policy."]


def test_two_evaluations_where_one_is_wanted(client: TestClient) -> None:
    suite = make_suite(client, "general", 40)
    ids = [evaluate(client, suite, range(40))["id"] for _ in range(3)]
    body = {"policy_id": make_policy(client, protect("general"))["id"], "before": ids[:1], "after": ids[1:]}
    _invalid(post(client, "audits", body), "'general' has 2 evaluations among `after`")


def test_one_evaluation_as_before_and_after(client: TestClient) -> None:
    same = evaluate(client, make_suite(client, "general", 40), range(40))["id"]
    _invalid(audit(client, make_policy(client, protect("general")), (same, same)), "as both before and after")


def test_a_metric_the_suite_does_not_have(client: TestClient) -> None:
    pair = flips(client, make_suite(client, "general", 40), 40, 0, 0)
    found = audit(client, make_policy(client, protect("general", metric="accuracy")), pair)
    _invalid(found, "is not scored by 'accuracy'")


def test_a_metric_without_item_scores(client: TestClient) -> None:
    pair = flips(client, make_suite(client, "general", 40, metrics=["bleu"]), 40, 0, 0)
    _invalid(audit(client, make_policy(client, protect("general")), pair), "'bleu' scores only a whole set")


def test_answers_of_another_model(client: TestClient) -> None:
    base, tuned, other = (post(client, "models/tiny/versions", {})["id"] for _ in range(3))
    suite = make_suite(client, "general", 40)
    before = evaluate(client, suite, range(40), model_version_id=base)["id"]
    after = evaluate(client, suite, range(40), model_version_id=other)["id"]
    found = audit(client, make_policy(client, protect("general")), (before, after), after_version_id=tuned)
    _invalid(found, f"the `after` evaluation is of model version {other}, the audit of {tuned}")


def test_fail_outranks_invalid_and_invalid_the_rest(client: TestClient) -> None:
    failed = flips(client, make_suite(client, "failed", 200), 100, 80, 0)
    kept = flips(client, make_suite(client, "kept", 200), 180, 0, 0)
    tasks = [protect("kept"), protect("absent"), protect("failed")]
    both = audit(client, make_policy(client, *tasks), kept, failed)
    assert both["verdict"] == "FAIL"
    assert [task["verdict"] for task in both["tasks"]] == ["FAIL", "INVALID", "PASS"]
    one = audit(client, make_policy(client, *tasks[:2]), kept)
    assert one["verdict"] == "INVALID"
    assert one["advice"] == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"policy_id": "none"}, 404, "policy_not_found"),
        ({"before": ["none"]}, 404, "evaluation_not_found"),
        ({"after": []}, 400, "invalid_request"),
        ({"run_id": "none"}, 404, "run_not_found"),
        ({"after_version_id": "none"}, 404, "model_version_not_found"),
        ({"verdict": "PASS"}, 400, "invalid_request"),
    ],
)
def test_refusals_store_nothing(client: TestClient, changes: Json, status: int, code: str) -> None:
    before, after = flips(client, make_suite(client, "general", 40), 40, 0, 0)
    policy = make_policy(client, protect("general"))
    body = {"policy_id": policy["id"], "before": [before], "after": [after], **changes}
    answer = client.post("/api/v1/audits", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert get(client, "audits")["items"] == []


# --- the record ---------------------------------------------------------------------------------------


@pytest.fixture
def failed(client: TestClient) -> Json:
    """A failed audit whose tuned answers name their run and model version."""
    config = {"train": {"learning_rate": 0.001, "epochs": 5}, "method": {"name": "full"}, "replay": {"share": 0.05}}
    run = post(client, "runs", {"project": "p", "name": "swift-fox", "config": config})
    base = post(client, "models/tiny/versions", {})
    tuned = post(client, "models/tiny/versions", {"run_id": run["id"], "base_version_id": base["id"]})
    suite = make_suite(client, "general", 100, groups=["sums", "capitals"])
    before = evaluate(client, suite, range(100), model_version_id=base["id"])
    after = evaluate(client, suite, range(30, 100), model_version_id=tuned["id"])
    found = audit(client, make_policy(client, protect("general")), (before["id"], after["id"]))
    assert (found["run_id"], found["before_version_id"], found["after_version_id"]) == (
        run["id"],
        base["id"],
        tuned["id"],
    )
    return found


def test_advice_bears_the_runs_own_numbers(failed: Json) -> None:
    assert [advice["text"].split(":")[0].split(",")[0][:24] for advice in failed["advice"]] == [
        "Lower the learning rate",
        "Train for fewer epochs",
        "Train a LoRA adapter ins",
        "Mix 10–20 % general data",
        "Freeze the lower layers",
    ]
    assert [advice["evidence"] for advice in failed["advice"]] == [
        "This run used 0.001, and 'general' went from 1.000 to 0.700. Next: 0.0003, then 0.0001.",
        "This run was to make 5 epochs.",
        "This run trained all weights (method 'full').",
        "This run replayed 5%.",
        "This run trained every layer.",
    ]


def test_audits_are_found_by_what_they_are_about(client: TestClient, failed: Json) -> None:
    for filters in (
        {},
        {"run_id": failed["run_id"]},
        {"verdict": "FAIL"},
        {"after_version_id": failed["after_version_id"]},
    ):
        assert get(client, "audits", **filters)["items"] == [failed]
    for filters in ({"run_id": "other"}, {"verdict": "PASS"}, {"after_version_id": "other"}):
        assert get(client, "audits", **filters)["items"] == []


def test_pages_of_audits(client: TestClient, failed: Json) -> None:
    policy = failed["policy"]
    pair = (failed["tasks"][0]["before_evaluation_id"], failed["tasks"][0]["after_evaluation_id"])
    newer = audit(client, policy, pair)
    first = get(client, "audits", limit=1)
    assert [one["id"] for one in first["items"]] == [newer["id"]]
    rest = get(client, "audits", limit=1, cursor=first["next_cursor"])
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == ([failed["id"]], None)


@pytest.mark.parametrize("suite", [None, "general"])
def test_lost_items_by_group_with_both_outputs(client: TestClient, failed: Json, suite: str | None) -> None:
    params: dict[str, Any] = {"kind": "lost"} | ({"suite": suite} if suite else {})
    items = get(client, f"audits/{failed['id']}/items", **params)["items"]
    expected = [f"i{n}" for n in range(30) if n % 2] + [f"i{n}" for n in range(30) if not n % 2]
    assert [item["id"] for item in items] == expected
    assert items[0] == {
        "suite": "general",
        "id": "i1",
        "input": "general 1?",
        "references": ["yes"],
        "label": None,
        "before_output": "yes",
        "after_output": "no",
        "group": "capitals",
        "tags": [],
    }
    assert get(client, f"audits/{failed['id']}/items", kind="gained")["items"] == []


def test_pages_run_on_over_tasks(client: TestClient) -> None:
    pairs = [flips(client, make_suite(client, name, 40), 40 - n, n, 1) for name, n in (("a", 3), ("b", 5))]
    found = audit(client, make_policy(client, protect("a"), protect("b"), protect("absent")), *pairs)
    seen: list[tuple[str, str]] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = get(client, f"audits/{found['id']}/items", kind="lost", limit=3, cursor=cursor)
        seen += [(item["suite"], item["id"]) for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [("b", f"i{n}") for n in range(35, 40)] + [("a", f"i{n}") for n in range(37, 40)]


def test_items_of_what_is_not_there(client: TestClient, failed: Json) -> None:
    for path, code in (
        (f"audits/{failed['id']}/items?kind=lost&suite=x", "task_not_found"),
        ("audits/x", "audit_not_found"),
    ):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


def test_the_record_names_the_hashes_of_all_that_went_in(client: TestClient, failed: Json) -> None:
    inputs = failed["inputs"]
    assert inputs["policy"] == failed["policy"]["hash"]
    for side in ("before", "after"):
        evaluation = get(client, f"evaluations/{failed['tasks'][0][f'{side}_evaluation_id']}")
        assert inputs["evaluations"][side] == [
            {
                "id": evaluation["id"],
                "suite": evaluation["suite"]["hash"],
                "predictions": evaluation["prediction_hash"],
            }
        ]


def test_a_record_is_never_changed(client: TestClient, database: Database, failed: Json) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.request(method, f"/api/v1/audits/{failed['id']}").status_code == 405

    def change() -> None:
        with database.write() as session:
            stored = audits.get(session, failed["id"])
            assert isinstance(stored, Audit)
            stored.verdict = "PASS"

    with pytest.raises(records.RecordFrozen):
        change()
    assert get(client, f"audits/{failed['id']}") == failed


def test_a_record_changed_behind_our_back_is_seen(client: TestClient, database: Database, failed: Json) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE audit SET verdict = 'PASS'"))
    assert get(client, f"audits/{failed['id']}")["intact"] is False
    report = client.get(f"/api/v1/audits/{failed['id']}/report").text
    assert "THE STORED RECORD DOES NOT MATCH IT" in report
