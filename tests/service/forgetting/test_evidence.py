"""What before and after are compared by: items, targets, and how the answers were made."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.forgetting.conditions import compared

from .wire import Json, answers, audit, evaluate, flips, make_policy, make_suite, post, protect


def suite_of(client: TestClient, items: list[Json], **changes: object) -> Json:
    body = {"name": "general", "task_type": "generation", "items": items, "metrics": ["exact_match"], **changes}
    return post(client, "suites", body)


def test_what_changed_between_versions_is_counted_by_kind(client: TestClient) -> None:
    items = [{"id": f"i{n}", "input": f"question {n}", "references": ["yes"]} for n in range(40)]
    old = suite_of(client, items)
    other = [dict(item) for item in items[3:]] + [
        {"id": f"new{n}", "input": "?", "references": ["yes"]} for n in range(2)
    ]
    other[0]["input"] = "another question"
    other[1]["references"] = ["no"]
    other[2]["references"] = ["no"]
    new = suite_of(client, other, parser="first_line")
    before = evaluate(client, old, range(40))
    predictions = [{"id": item["id"], "output": "yes"} for item in other]
    after = post(client, "evaluations", {"suite_id": new["id"], "predictions": predictions})
    found = audit(client, make_policy(client, protect("general")), (before["id"], after["id"]))
    assert found["verdict"] == "INVALID"
    assert found["problems"] == [
        "'general' was answered in version 1 before and version 2 after: 3 items only before, 2 only after, 3 changed; "
        "1 in their input, 2 in their target; the suite's parser changed. Evaluate both on one version."
    ]
    (task,) = found["tasks"]
    assert (task["unmatched_before"], task["unmatched_after"]) == (6, 5)
    assert (task["n"], task["before"], task["F"]) == (0, None, None)


def test_the_same_items_under_another_prompt_do_not_match(client: TestClient) -> None:
    items = [{"id": f"i{n}", "input": f"question {n}", "references": ["yes"]} for n in range(40)]
    old, new = suite_of(client, items, template="{input}"), suite_of(client, items, template="Q: {input}")
    pair = (evaluate(client, old, range(40))["id"], evaluate(client, new, range(40))["id"])
    found = audit(client, make_policy(client, protect("general")), pair)
    assert "0 items only before, 0 only after, 0 changed; the suite's template changed" in found["problems"][0]


def test_items_meet_by_id_in_any_order(client: TestClient) -> None:
    suite = make_suite(client, "general", 60)
    before = evaluate(client, suite, range(60))
    turned = post(client, "evaluations", {"suite_id": suite["id"], "predictions": answers(60, range(30))[::-1]})
    (task,) = audit(client, make_policy(client, protect("general")), (before["id"], turned["id"]))["tasks"]
    assert (task["lost"], task["gained"]) == (30, 0)


def test_answers_that_are_missing_and_answers_nobody_can_read_are_counted_apart(client: TestClient) -> None:
    suite = make_suite(client, "general", 40)
    before = evaluate(client, suite, range(40))
    given = [{"id": f"i{n}", "output": "?", "parsed": None} for n in range(5)]
    given += [{"id": f"i{n}", "output": "yes"} for n in range(5, 37)]
    after = post(client, "evaluations", {"suite_id": suite["id"], "predictions": given})
    (task,) = audit(client, make_policy(client, protect("general")), (before["id"], after["id"]))["tasks"]
    assert (task["unparsed_before"], task["unparsed_after"]) == (0, 5)
    assert (task["missing_before"], task["missing_after"]) == (0, 3)
    assert task["lost"] == 8


def test_how_the_answers_were_made_is_reported_also_where_it_agrees(client: TestClient) -> None:
    suite = make_suite(client, "general", 60)
    settings = {
        "prompt_hash": "ab", "generation": {"temperature": 0, "max_new_tokens": 8}, "num_fewshot": 0, "batch_size": 8,
        "precision": "float32",
    }  # fmt: skip
    pair = [
        evaluate(client, suite, range(60), settings={**settings, **changes})["id"]
        for changes in ({}, {"batch_size": 64, "device": "cuda"})
    ]
    found = audit(client, make_policy(client, protect("general", 0.1)), (pair[0], pair[1]))
    rows = {row["aspect"]: (row["before"], row["after"], row["state"]) for row in found["tasks"][0]["compared"]}
    assert rows == {
        "prompt": ("prompt_hash 'ab'", "prompt_hash 'ab'", "equal"),
        "generation": (
            "generation.max_new_tokens 8, generation.temperature 0",
            "generation.max_new_tokens 8, generation.temperature 0",
            "equal",
        ),
        "few-shot": ("num_fewshot 0", "num_fewshot 0", "equal"),
        "batch size": ("batch_size 8", "batch_size 64", "differs"),
        "precision": ("precision 'float32'", "precision 'float32'", "equal"),
        "device": (None, "'cuda'", "not recorded"),
    }
    assert found["verdict"] == "PASS"
    report = client.get(f"/api/v1/audits/{found['id']}/report", params={"format": "markdown"}).text
    assert "How the answers were made" in report
    assert "batch\\_size 64" in report


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ({}, {}, "not recorded"),
        ({"temperature": 0}, {}, "not recorded"),
        ({"temperature": 0}, {"temperature": None}, "not recorded"),
        ({"temperature": 0}, {"temperature": 0, "top_p": 1.0}, "not recorded"),
        ({"temperature": 0}, {"temperature": 0.0}, "equal"),
        ({"temperature": 0, "top_p": 0.9}, {"temperature": 1}, "differs"),
    ],
)
def test_an_aspect_is_equal_only_where_all_of_it_is_recorded(before: Json, after: Json, state: str) -> None:
    row = next(row for row in compared(before, after) if row.aspect == "generation")
    assert row.state == state
    assert row.invalidates


def test_a_mismatch_is_reported_with_all_settings(client: TestClient) -> None:
    suite = make_suite(client, "general", 40)
    pair = [evaluate(client, suite, range(40), settings={"num_fewshot": shots})["id"] for shots in (0, 5)]
    found = audit(client, make_policy(client, protect("general")), (pair[0], pair[1]))
    assert found["verdict"] == "INVALID"
    row = next(row for row in found["tasks"][0]["compared"] if row["aspect"] == "few-shot")
    assert (row["state"], row["invalidates"]) == ("differs", True)


def test_drift_is_kept_and_is_a_warning_only(client: TestClient) -> None:
    suite = make_suite(client, "general", 200)
    drift = {
        "delta_nll": {"value": 0.25, "interval": [0.2, 0.3]},
        "perplexity_ratio": {"value": 1.2840254, "interval": [1.2214, 1.3499]},
        "kl": {"value": 0.31, "interval": None},
        "n_tokens": 5000, "n_texts": 40, "text_hash": "a" * 64, "resamples": 2000, "seed": 0,
    }  # fmt: skip
    pair, policy = flips(client, suite, 180, 0, 0), make_policy(client, protect("general"))
    found = audit(client, policy, pair, drift=drift)
    assert found["verdict"] == "PASS"
    assert found["drift"]["delta_nll"]["value"] == 0.25
    assert any("loses 0.250 nats a token [0.200, 0.300]: perplexity × 1.284" in note for note in found["notes"])
    assert found["intact"] is True
    assert "Drift on general text" in client.get(f"/api/v1/audits/{found['id']}/report").text
    calm = {**drift, "delta_nll": {"value": 0.0, "interval": [-0.1, 0.1]}, "perplexity_ratio": {"value": 1.0}}
    assert not any("general text" in note for note in audit(client, policy, pair, drift=calm)["notes"])
    for wrong, words in (
        ({"delta_nll": {"value": 0.25, "interval": [0.3, 0.2]}}, "upside down"),
        ({"perplexity_ratio": {"value": 2.0}}, "is not exp(delta_nll)"),
        ({"kl": {"value": -0.1}}, "no divergence is below 0"),
        ({"text_hash": "x"}, "text_hash"),
    ):
        body = {"policy_id": policy["id"], "before": [pair[0]], "after": [pair[1]], "drift": {**drift, **wrong}}
        assert words in post(client, "audits", body, 400)["error"]["message"]
