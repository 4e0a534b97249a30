"""Policies: written before the result, hashed, versioned, frozen."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.store import audits, records
from service.store.database import Database
from service.store.tables import Policy

from .wire import Json, get, make_policy, protect

POSTGRESQL_IS_SLOW = True


def test_what_goes_in_comes_out(client: TestClient) -> None:
    policy = make_policy(client, protect("general", 0.02, metric="accuracy", options=4, minimum_n=100), alpha=0.01)
    assert (policy["name"], policy["version"]) == ("ship", 1)
    assert policy["body"] == {
        "alpha": 0.01,
        "require_aa": False,
        "protected": [
            {
                "suite": "general",
                "metric": "accuracy",
                "margin": 0.02,
                "direction": "higher",
                "options": 4,
                "minimum_n": 100,
            }
        ],
    }
    assert get(client, f"policies/{policy['id']}") == policy
    assert get(client, "policies")["items"] == [policy]


def test_defaults_are_part_of_the_policy(client: TestClient) -> None:
    policy = make_policy(client, protect("general"))
    spelled_out = protect("general", metric=None, direction="higher", options=None, minimum_n=30)
    again = client.post("/api/v1/policies", json={"name": "ship", "alpha": 0.05, "protected": [spelled_out]})
    assert (again.status_code, again.json()) == (200, policy)


def test_the_direction_is_the_metrics_own(client: TestClient) -> None:
    policy = make_policy(client, protect("a", metric="log_loss"), protect("b", metric="accuracy"), protect("c"))
    assert [task["direction"] for task in policy["body"]["protected"]] == ["lower", "higher", "higher"]
    said = [protect("a", metric="log_loss", direction="lower"), protect("b", metric="accuracy"), protect("c")]
    assert make_policy(client, *said) == policy


def test_a_change_is_a_version(client: TestClient) -> None:
    first, second = make_policy(client, protect("general", 0.02)), make_policy(client, protect("general", 0.03))
    assert (first["version"], second["version"]) == (1, 2)
    assert first["hash"] != second["hash"]
    assert make_policy(client, protect("general", 0.02)) == first
    assert make_policy(client, protect("general", 0.02), name="other")["version"] == 1
    assert [one["id"] for one in get(client, "policies", name="ship")["items"]] == [second["id"], first["id"]]


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"protected": []}, "invalid_request", "protected"),
        ({"protected": [protect("a"), protect("a")]}, "policy_invalid", "'a' is protected twice"),
        ({"protected": [protect("a", metric="acc")]}, "policy_invalid", "'acc'"),
        ({"protected": [protect("a", metric="bleu")]}, "policy_invalid", "'bleu' scores only a whole set"),
        ({"protected": [protect("a", 0)]}, "invalid_request", "protected[0].margin"),
        ({"protected": [protect("a", 2)]}, "invalid_request", "protected[0].margin"),
        ({"protected": [protect("a", options=1)]}, "invalid_request", "protected[0].options"),
        ({"protected": [protect("a", direction="down")]}, "invalid_request", "protected[0].direction"),
        (
            {"protected": [protect("a", metric="accuracy", direction="lower")]},
            "policy_invalid",
            "'accuracy' is better the higher it is, and the policy says 'lower': name direction 'higher' (suite 'a')",
        ),
        ({"protected": [protect("a", metric="log_loss", direction="higher")]}, "policy_invalid", "direction 'lower'"),
        ({"protected": [protect("a", metric="perplexity")]}, "policy_invalid", "'perplexity' scores only a whole set"),
        ({"alpha": 0}, "invalid_request", "alpha"),
        ({"name": ""}, "invalid_request", "name"),
    ],
)
def test_refusals(client: TestClient, changes: Json, code: str, words: str) -> None:
    answer = client.post("/api/v1/policies", json={"name": "ship", "protected": [protect("a")], **changes})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert words in answer.json()["error"]["message"]
    assert get(client, "policies")["items"] == []


def test_an_unknown_policy(client: TestClient) -> None:
    answer = client.get("/api/v1/policies/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "policy_not_found")


def test_a_stored_policy_cannot_be_changed(client: TestClient, database: Database) -> None:
    policy = make_policy(client, protect("general"))
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.request(method, f"/api/v1/policies/{policy['id']}").status_code == 405

    def change() -> None:
        with database.write() as session:
            stored = audits.get_policy(session, policy["id"])
            assert isinstance(stored, Policy)
            stored.body = {"alpha": 0.5, "protected": []}

    with pytest.raises(records.RecordFrozen):
        change()
    assert get(client, f"policies/{policy['id']}") == policy
