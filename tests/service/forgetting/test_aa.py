"""The base run twice: the noise floor, what it says and what it never does to a verdict."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from .wire import Json, audit, evaluate, get, make_policy, make_suite, post, protect

POSTGRESQL_IS_SLOW = True


def runs(client: TestClient, suite: Json, before: range, again: list[int], after: list[int]) -> tuple[str, str, str]:
    made = [evaluate(client, suite, right)["id"] for right in (before, again, after)]
    return made[0], made[1], made[2]


def aa_audit(client: TestClient, policy: Json, ids: tuple[str, str, str]) -> Json:
    return audit(client, policy, (ids[0], ids[2]), aa=[ids[1]])


def test_the_floor_of_a_task(client: TestClient) -> None:
    """Of 200 items the base has 160 right; its second run loses 10 of them and gains 8; the tuned model loses 40."""
    suite = make_suite(client, "general", 200)
    ids = runs(client, suite, range(160), [*range(10, 160), *range(160, 168)], list(range(40, 160)))
    found = aa_audit(client, make_policy(client, protect("general"), require_aa=True), ids)
    (task,) = found["tasks"]
    floor = task["floor"]
    assert (floor["n10"], floor["n01"], floor["share"]) == (10, 8, 0.05)
    assert task["F"] == 0.2
    assert floor["above"] == pytest.approx(0.15)
    assert floor["interval"][0] < 0.15 < floor["interval"][1]
    assert floor["called"] is True
    assert floor["evaluation_id"] == ids[1]
    assert found["verdict"] == "FAIL"
    assert found["inputs"]["evaluations"]["aa"][0]["id"] == ids[1]
    assert any("15.0 points above that floor" in note for note in found["notes"])
    assert found["intact"] is True
    report = client.get(f"/api/v1/audits/{found['id']}/report").text
    assert "Noise floor: the base run twice" in report
    assert "10 / 8" in report
    assert ids[1] in report


def test_a_loss_within_the_floor_is_not_called_forgetting(client: TestClient) -> None:
    suite = make_suite(client, "general", 400)
    again = [n for n in range(320) if n >= 12] + list(range(320, 332))
    after = [n for n in range(320) if not 12 <= n < 26] + list(range(332, 346))
    found = aa_audit(client, make_policy(client, protect("general")), runs(client, suite, range(320), again, after))
    (task,) = found["tasks"]
    assert (task["lost"], task["gained"], task["floor"]["n10"]) == (14, 14, 12)
    assert task["floor"]["called"] is False
    assert found["verdict"] == "PASS"
    assert any("not called forgetting" in note for note in found["notes"])


def test_the_floor_never_softens_a_failure(client: TestClient) -> None:
    """Lost no more than the base loses against itself, but nothing gained: the score fell, and that is judged."""
    suite = make_suite(client, "general", 400)
    again = [n for n in range(320) if n >= 30] + list(range(320, 350))
    after = [n for n in range(320) if not 30 <= n < 62]
    ids = runs(client, suite, range(320), again, after)
    policy = make_policy(client, protect("general", 0.02))
    plain, with_floor = audit(client, policy, (ids[0], ids[2])), aa_audit(client, policy, ids)
    assert plain["verdict"] == with_floor["verdict"] == "FAIL"
    one, other = plain["tasks"][0], with_floor["tasks"][0]
    assert other["floor"]["called"] is False
    for name in ("difference", "interval", "lower_bound", "p_value", "p_adjusted", "F", "F_true", "verdict"):
        assert one[name] == other[name]
    assert any("The score fell all the same" in note for note in with_floor["notes"])


def test_a_policy_that_requires_a_second_run_is_not_satisfied_without(client: TestClient) -> None:
    suite = make_suite(client, "general", 200)
    ids = runs(client, suite, range(160), list(range(160)), list(range(160)))
    policy = make_policy(client, protect("general"), require_aa=True)
    found = audit(client, policy, (ids[0], ids[2]))
    assert found["verdict"] == "INVALID"
    assert "'general' has no second run of the base among `aa`, which the policy requires" in found["problems"][0]
    assert aa_audit(client, policy, ids)["verdict"] == "PASS"
    assert make_policy(client, protect("general"))["hash"] != policy["hash"]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("itself", "`aa` is the `before` evaluation itself"),
        ("after", "`aa` is the `after` evaluation"),
        ("settings", "the setting 'temperature' was 0.0 before and 0.7 in the second run of the base"),
        ("version", "was answered in version 1 before and version 2 in the second run of the base"),
        ("model", "the `aa` evaluation is of model version"),
        ("two", "'general' has 2 evaluations among `aa`"),
    ],
)
def test_a_second_run_that_does_not_fit(client: TestClient, kind: str, words: str, required: bool) -> None:
    suite = make_suite(client, "general", 200)
    base, other = (post(client, "models/tiny/versions", {})["id"] for _ in range(2))
    settings = {"temperature": 0.0}
    before = evaluate(client, suite, range(160), settings=settings, model_version_id=base)["id"]
    after = evaluate(client, suite, range(160), settings=settings)["id"]
    again = {
        "itself": lambda: [before],
        "after": lambda: [after],
        "settings": lambda: [evaluate(client, suite, range(160), settings={"temperature": 0.7})["id"]],
        "version": lambda: [evaluate(client, make_suite(client, "general", 200, groups=["g"]), range(160))["id"]],
        "model": lambda: [evaluate(client, suite, range(160), settings=settings, model_version_id=other)["id"]],
        "two": lambda: [evaluate(client, suite, range(160), settings=settings)["id"] for _ in range(2)],
    }[kind]()
    policy = make_policy(client, protect("general"), require_aa=required)
    found = audit(client, policy, (before, after), aa=again)
    if required:
        assert found["verdict"] == "INVALID"
        assert words in found["problems"][0]
    else:
        assert found["verdict"] == "PASS"
        assert found["tasks"][0]["floor"] is None
        assert any(words in note and "there is no noise floor" in note for note in found["notes"])


def test_a_base_that_is_not_reproducible_takes_a_pass_away_but_no_failure(client: TestClient) -> None:
    suite = make_suite(client, "general", 200)
    policy = make_policy(client, protect("general"))
    passing = aa_audit(client, policy, runs(client, suite, range(180), list(range(150)), list(range(180))))
    assert (passing["verdict"], passing["tasks"][0]["reason"]) == ("INVALID", "base_not_reproducible")
    assert "the base scores otherwise in its second run" in passing["problems"][0]
    assert passing["tasks"][0]["lost"] == 0
    failing = aa_audit(client, policy, runs(client, suite, range(180), list(range(150)), list(range(100))))
    assert failing["verdict"] == "FAIL"
    assert any("the base scores otherwise in its second run" in note for note in failing["notes"])


def test_a_policy_by_its_name(client: TestClient) -> None:
    suite = make_suite(client, "general", 200)
    ids = runs(client, suite, range(160), list(range(160)), list(range(160)))
    first, second = make_policy(client, protect("general", 0.1)), make_policy(client, protect("general", 0.2))
    body = {"before": [ids[0]], "after": [ids[2]]}
    for named, wanted in (("ship", second), ("ship@1", first), ("ship@2", second)):
        assert post(client, "audits", {**body, "policy": named})["policy"]["id"] == wanted["id"]
    for wrong in ({"policy": "ship@3"}, {"policy": "other"}):
        assert post(client, "audits", {**body, **wrong}, 404)["error"]["code"] == "policy_not_found"
    for both in ({}, {"policy": "ship", "policy_id": first["id"]}):
        assert "one of the two" in post(client, "audits", {**body, **both}, 400)["error"]["message"]
    assert len(get(client, "audits")["items"]) == 3
