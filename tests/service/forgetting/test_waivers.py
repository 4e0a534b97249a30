"""Waivers: who answers for a finding, why and until when. Verdict and record stay what they are."""

from __future__ import annotations

import hashlib
import time

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import create_key
from service.settings import Settings
from service.store import audits, records
from service.store.database import Database

from .wire import Json, audit, flips, get, make_policy, make_suite, post, protect

POSTGRESQL_IS_SLOW = True

DAY = 86_400


@pytest.fixture
def failed(client: TestClient) -> Json:
    """An audit of three tasks, of which two failed."""
    pairs = [
        flips(client, make_suite(client, name, 200), 180 - lost, lost, 0)
        for name, lost in (("sums", 60), ("capitals", 40), ("kept", 0))
    ]
    return audit(client, make_policy(client, *(protect(name) for name in ("sums", "capitals", "kept"))), *pairs)


def waive(client: TestClient, of: Json, status: int = 201, **changes: object) -> Json:
    body = {"who": "Ada", "why": "ships to testers only", "until": time.time() + DAY, **changes}
    return post(client, f"audits/{of['id']}/waivers", body, status)


def exit_code(client: TestClient, of: Json, **params: object) -> int:
    code: int = get(client, f"audits/{of['id']}/gate", **params)["exit_code"]
    return code


def test_a_waiver_stands_beside_the_verdict(client: TestClient, failed: Json) -> None:
    made = waive(client, failed)
    assert (made["who"], made["why"], made["state"], made["suite"]) == ("Ada", "ships to testers only", "valid", None)
    assert (made["by"], made["revoked"]) == ("local", None)
    now = get(client, f"audits/{failed['id']}")
    assert now == {**failed, "waivers": [made], "waived": True}
    assert (now["verdict"], now["exit_code"], now["intact"]) == ("FAIL", 1, True)
    assert get(client, f"audits/{failed['id']}/waivers") == {"items": [made], "next_cursor": None}
    assert get(client, "audits")["items"] == [now]


def test_a_waiver_counts_for_a_pipeline_only_where_it_is_asked_for(client: TestClient, failed: Json) -> None:
    assert exit_code(client, failed, accept_waivers=True) == 1
    waive(client, failed)
    assert exit_code(client, failed) == 1
    gate = get(client, f"audits/{failed['id']}/gate", accept_waivers=True)
    assert gate == {
        "audit_id": failed["id"],
        "verdict": "FAIL",
        "sentence": failed["sentence"],
        "waived": True,
        "exit_code": 0,
        "hash": failed["hash"],
    }


def test_a_waiver_of_one_task_leaves_the_others(client: TestClient, failed: Json) -> None:
    waive(client, failed, suite="sums")
    assert get(client, f"audits/{failed['id']}")["waived"] is False
    assert exit_code(client, failed, accept_waivers=True) == 1
    waive(client, failed, suite="capitals", who="Grace")
    assert get(client, f"audits/{failed['id']}")["waived"] is True
    assert [one["who"] for one in get(client, f"audits/{failed['id']}/waivers")["items"]] == ["Grace", "Ada"]


def test_an_expired_waiver_is_shown_as_expired_and_counts_no_more(
    client: TestClient, failed: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = waive(client, failed, until=time.time() + 60)
    later = time.time() + 61
    monkeypatch.setattr("service.forgetting.showing.time.time", lambda: later)
    (shown,) = get(client, f"audits/{failed['id']}/waivers")["items"]
    assert shown == {**made, "state": "expired"}
    assert exit_code(client, failed, accept_waivers=True) == 1
    assert "expired" in client.get(f"/api/v1/audits/{failed['id']}/report").text


def test_a_revocation_is_another_record(client: TestClient, failed: Json) -> None:
    made = waive(client, failed)
    path = f"audits/{failed['id']}/waivers/{made['id']}/revoke"
    revoked = post(client, path, {"who": "Grace", "why": "the testers found it"})
    assert revoked["state"] == "revoked"
    assert (revoked["revoked"]["who"], revoked["revoked"]["why"]) == ("Grace", "the testers found it")
    assert get(client, f"audits/{failed['id']}/waivers")["items"] == [revoked]
    assert exit_code(client, failed, accept_waivers=True) == 1
    assert post(client, path, {"who": "Grace", "why": "again"}, 409)["error"]["code"] == "waiver_revoked"
    report = client.get(f"/api/v1/audits/{failed['id']}/report", params={"format": "markdown"}).text
    assert "revoked by Grace" in report
    assert "ships to testers only" in report


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        ({"until": 1.0}, 400, "waiver_invalid", "lies in the past"),
        ({"suite": "other"}, 400, "waiver_invalid", "protects no suite 'other'"),
        ({"suite": "kept"}, 409, "nothing_to_waive", "'kept' passed"),
        ({"until": 1e15}, 400, "invalid_request", "until"),
        ({"who": ""}, 400, "invalid_request", "who"),
        ({"why": "  "}, 400, "invalid_request", "why"),
    ],
)
def test_refusals(client: TestClient, failed: Json, changes: Json, status: int, code: str, words: str) -> None:
    error = waive(client, failed, status, **changes)["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert get(client, f"audits/{failed['id']}/waivers")["items"] == []


def test_what_passed_needs_no_waiver(client: TestClient) -> None:
    passed = audit(
        client, make_policy(client, protect("general")), flips(client, make_suite(client, "general", 200), 180, 0, 0)
    )
    assert waive(client, passed, 409)["error"]["code"] == "nothing_to_waive"
    assert (passed["exit_code"], passed["waived"], exit_code(client, passed)) == (0, False, 0)


def test_of_an_audit_that_is_not_there(client: TestClient, failed: Json) -> None:
    body = {"who": "Ada", "why": "?", "until": time.time() + DAY}
    assert post(client, "audits/x/waivers", body, 404)["error"]["code"] == "audit_not_found"
    path = f"audits/{failed['id']}/waivers/x/revoke"
    assert post(client, path, {"who": "Ada", "why": "?"}, 404)["error"]["code"] == "waiver_not_found"


def test_a_waiver_is_never_changed(client: TestClient, database: Database, failed: Json) -> None:
    made = waive(client, failed)

    def change() -> None:
        with database.write() as session:
            stored = audits.get_waiver(session, made["id"])
            assert stored is not None
            stored.until = 1e11

    with pytest.raises(records.RecordFrozen):
        change()


def test_a_key_that_may_evaluate_may_not_waive(database: Database, settings: Settings) -> None:
    """A pipeline that audits its own model cannot excuse it."""
    with database.write() as session:
        key, owner = create_key(session, "pipeline", ["evaluate", "read"]), create_key(session, "owner", ["write"])
    guarded = settings.model_copy(update={"auth": True})
    with TestClient(create_app(guarded, database), headers={"X-API-Key": owner}) as client:
        suite = make_suite(client, "general", 200)
        found = audit(client, make_policy(client, protect("general")), flips(client, suite, 100, 80, 0))
        body = {"who": "Ada", "why": "?", "until": time.time() + DAY}
        refused = client.post(f"/api/v1/audits/{found['id']}/waivers", json=body, headers={"X-API-Key": key})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
        assert waive(client, found)["by"] == "owner"


def test_no_waiver_covers_a_record_that_was_tampered_with(client: TestClient, database: Database, failed: Json) -> None:
    waive(client, failed)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE audit SET verdict = 'PASS'"))
    assert exit_code(client, failed) == exit_code(client, failed, accept_waivers=True) == 3


def test_the_records_hash_is_that_of_its_text(client: TestClient, failed: Json) -> None:
    record = client.get(f"/api/v1/audits/{failed['id']}/record")
    assert record.headers["content-type"] == "application/json"
    assert hashlib.sha256(record.content).hexdigest() == failed["hash"]
    assert record.json()["result"]["sentence"] == failed["sentence"]
    waive(client, failed)
    assert client.get(f"/api/v1/audits/{failed['id']}/record").content == record.content
    assert client.get("/api/v1/audits/x/record").status_code == 404
