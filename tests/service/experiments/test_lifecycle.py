"""From draft to decided over the API, with every change in the log."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.auth import create_key
from service.settings import Settings
from service.store.database import Database

VARIANTS = [{"key": "base", "weight": 0.5, "value": "m0"}, {"key": "tuned", "weight": 0.5, "value": "m1"}]


def create(client: TestClient, **changes: Any) -> dict[str, Any]:
    response = client.post("/api/v1/experiments", json={"key": "chat", "variants": VARIANTS, **changes})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def do(client: TestClient, action: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/api/v1/experiments/chat/{action}", json=body or None)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_new_experiment_is_a_draft_with_a_whole_plan(client: TestClient) -> None:
    made = create(client, hypothesis="tuned answers please more")
    assert (made["status"], made["phase"], made["hash_version"], made["started_at"]) == ("draft", 1, 2, None)
    assert made["hypothesis"] == "tuned answers please more"
    # Without a declared metric, satisfaction decides.
    assert [(m["name"], m["role"], m["direction"]) for m in made["metrics"]] == [("satisfaction", "primary", "higher")]
    assert (made["alpha"], made["analysis"], made["minimum_units"]) == (0.05, "always_valid", 100)
    assert client.get("/api/v1/experiments/chat").json() == made
    assert client.get("/api/v1/experiments").json()["items"] == [made]
    assert create(client, key="other")["salt"] != made["salt"]


def test_the_way_from_draft_to_decided(client: TestClient) -> None:
    create(client)
    started = do(client, "start")
    assert (started["status"], started["phase"]) == ("running", 1)
    assert started["started_at"] == started["phase_started_at"] is not None
    assert do(client, "pause")["status"] == "paused"
    again = do(client, "start")
    assert (again["status"], again["started_at"]) == ("running", started["started_at"])
    assert do(client, "stop")["stopped_at"] is not None
    decided = do(client, "decide", winner="tuned", reason="users prefer it")
    assert decided["status"] == "decided"
    assert (decided["decision"]["winner"], decided["decision"]["actor"]) == ("tuned", "local")
    assert decided["decision"]["verdict"] == "too_little_data"
    changes = client.get("/api/v1/experiments/chat/changes").json()["items"]
    assert [c["action"] for c in changes] == ["create", "start", "pause", "start", "stop", "decide"]
    assert changes[2]["details"] == {"from": "running", "to": "paused"}
    assert changes[-1]["details"]["reason"] == "users prefer it"
    assert all(change["actor"] == "local" for change in changes)


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ([], "pause"),
        ([], "stop"),
        ([], "decide"),
        (["start"], "start"),
        (["start"], "decide"),
        (["start", "stop"], "start"),
        (["start", "stop"], "pause"),
        (["start", "stop"], "stop"),
    ],
)
def test_no_other_way(client: TestClient, before: list[str], action: str) -> None:
    create(client)
    for step in before:
        do(client, step)
    response = client.post(f"/api/v1/experiments/chat/{action}", json={"winner": "base", "reason": "x"})
    assert error(response) == (409, "experiment_status")
    assert len(client.get("/api/v1/experiments/chat/changes").json()["items"]) == 1 + len(before)


@pytest.mark.parametrize(
    "changes",
    [
        {"variants": VARIANTS[:1]},
        {"variants": [VARIANTS[0], VARIANTS[0]]},
        {"variants": [{"key": "a", "weight": 0}, {"key": "b", "weight": 0}]},
        {"variants": [{"key": "a", "weight": -1}, {"key": "b", "weight": 1}]},
        {"variants": [{"key": "a", "weight": 1, "upstream": "nowhere"}, {"key": "b", "weight": 1}]},
        {"variants": [{"key": "a", "weight": 1, "model_version_id": "none"}, {"key": "b", "weight": 1}]},
        {"fallback_upstream": "nowhere"},
        {"key": "snapshot"},
        {"key": "no spaces"},
        {"coverage": 1.5},
        {"alpha": 0},
        {"forced": {"me": "nobody"}},
        {"metrics": [{"name": "m", "kind": "ratio", "role": "primary"}]},
        {"metrics": [{"name": "units", "role": "primary"}]},
        {"metrics": [{"name": "m", "role": "primary"}, {"name": "m"}]},
        {"metrics": [{"name": "satisfaction", "role": "secondary"}]},
        {"surprise": 1},
    ],
)
def test_an_impossible_plan_is_refused(client: TestClient, changes: dict[str, Any]) -> None:
    response = client.post("/api/v1/experiments", json={"key": "chat", "variants": VARIANTS, **changes})
    assert response.status_code == 400, response.text
    assert client.get("/api/v1/experiments").json()["items"] == []


def test_a_key_is_used_once(client: TestClient) -> None:
    create(client)
    response = client.post("/api/v1/experiments", json={"key": "chat", "variants": VARIANTS})
    assert error(response) == (409, "experiment_exists")


def test_what_is_not_there(client: TestClient) -> None:
    for path in ("", "/changes", "/readout"):
        assert error(client.get(f"/api/v1/experiments/none{path}")) == (404, "experiment_not_found")
    assert error(client.post("/api/v1/experiments/none/start")) == (404, "experiment_not_found")


def edit(client: TestClient, **change: Any) -> Any:
    return client.patch("/api/v1/experiments/chat", json=change)


def test_new_weights_begin_a_new_phase_and_coverage_does_not(client: TestClient) -> None:
    create(client)
    assert edit(client, weights={"base": 0.9, "tuned": 0.1}).json()["phase"] == 1  # a draft has no traffic yet
    started = do(client, "start")
    covered = edit(client, coverage=0.5).json()
    assert (covered["phase"], covered["coverage"]) == (1, 0.5)
    moved = edit(client, weights={"base": 0.5, "tuned": 0.5}).json()
    assert (moved["phase"], [v["weight"] for v in moved["variants"]]) == (2, [0.5, 0.5])
    assert moved["phase_started_at"] > started["phase_started_at"]
    assert moved["salt"] == started["salt"]
    assert edit(client, weights={"base": 0.5, "tuned": 0.5}).json()["phase"] == 2  # nothing moved
    assert edit(client, targeting={"plan": ["pro"]}).json()["phase"] == 3
    assert edit(client, forced={"me": "tuned"}).json()["phase"] == 3
    last = client.get("/api/v1/experiments/chat/changes").json()["items"][-1]
    assert (last["action"], last["details"]) == ("edit", {"forced": {"me": "tuned"}, "phase": 3})


@pytest.mark.parametrize(
    "change", [{"weights": {"base": 1}}, {"weights": {"base": 0, "tuned": 0}}, {"forced": {"me": "x"}}, {"alpha": 0.1}]
)
def test_an_impossible_edit_is_refused(client: TestClient, change: dict[str, Any]) -> None:
    made = create(client)
    assert edit(client, **change).status_code == 400
    assert client.get("/api/v1/experiments/chat").json() == made


def test_the_plan_of_a_stopped_experiment_is_part_of_the_record(client: TestClient) -> None:
    create(client)
    do(client, "start")
    do(client, "stop")
    assert error(edit(client, coverage=0.5)) == (409, "experiment_status")
    assert edit(client, name="Chat, spring").json()["name"] == "Chat, spring"


def test_a_winner_must_be_a_variant(client: TestClient) -> None:
    create(client)
    do(client, "start")
    do(client, "stop")
    response = client.post("/api/v1/experiments/chat/decide", json={"winner": "third", "reason": "x"})
    assert error(response) == (400, "experiment_plan")
    assert client.get("/api/v1/experiments/chat").json()["status"] == "stopped"


def test_lists_come_in_pages(client: TestClient) -> None:
    for n in range(5):
        create(client, key=f"e{n}")
    keys, cursor = [], None
    while True:
        page = client.get("/api/v1/experiments", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        keys += [item["key"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert keys == ["e4", "e3", "e2", "e1", "e0"]


UPSTREAM = {"name": "base", "base_url": "http://localhost:1/v1/", "model": "m"}


def test_upstreams(client: TestClient) -> None:
    made = client.post("/api/v1/upstreams", json=UPSTREAM)
    assert (made.status_code, made.json()["base_url"]) == (201, "http://localhost:1/v1")
    assert error(client.post("/api/v1/upstreams", json=UPSTREAM)) == (409, "upstream_exists")
    priced = client.put("/api/v1/upstreams/base", json={**UPSTREAM, "input_price": 2.5}).json()
    assert priced["input_price"] == 2.5
    assert client.get("/api/v1/upstreams").json()["items"] == [priced]
    assert error(client.put("/api/v1/upstreams/none", json=UPSTREAM)) == (404, "upstream_not_found")


def test_the_model_behind_a_running_experiment_stays(client: TestClient) -> None:
    client.post("/api/v1/upstreams", json=UPSTREAM)
    create(client, variants=[{"key": key, "weight": 1, "upstream": "base"} for key in ("base", "tuned")])
    changed = {**UPSTREAM, "model": "another"}
    assert client.put("/api/v1/upstreams/base", json=changed).status_code == 200
    do(client, "start")
    assert error(client.put("/api/v1/upstreams/base", json=UPSTREAM)) == (409, "upstream_in_use")
    assert client.put("/api/v1/upstreams/base", json={**changed, "output_price": 1.0}).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "ftp://models"},
        {"base_url": "http://user:secret@models/v1"},
        {"base_url": "http://models/v1?key=1"},
        {"base_url": "localhost:8000"},
        {"api_key_ref": "sk-a-key-itself"},
        {"api_key_ref": "env:"},
        {"input_price": -1},
    ],
)
def test_an_impossible_upstream_is_refused(client: TestClient, change: dict[str, Any]) -> None:
    response = client.post("/api/v1/upstreams", json={**UPSTREAM, **change})
    assert response.status_code == 400
    assert client.get("/api/v1/upstreams").json()["items"] == []


def test_who_may_do_what(settings: Settings, database: Database) -> None:
    with database.write() as session:
        keys = {
            scope: create_key(session, scope, [scope]) for scope in ("read", "write", "ingest", "evaluate", "admin")
        }
    with TestClient(create_app(settings.model_copy(update={"auth": True}), database)) as client:
        plan = {"key": "chat", "variants": VARIANTS}

        def status(scope: str, method: str, path: str, body: Any = None) -> int:
            headers = {"Authorization": f"Bearer {keys[scope]}"}
            return int(client.request(method, f"/api/v1{path}", json=body, headers=headers).status_code)

        assert [status(s, "POST", "/upstreams", UPSTREAM) for s in ("write", "admin")] == [403, 201]
        assert [status(s, "POST", "/experiments", plan) for s in ("read", "ingest", "write")] == [403, 403, 201]
        assert [status(s, "GET", "/experiments/chat") for s in ("ingest", "read")] == [403, 200]
        assert [status(s, "GET", "/experiments/snapshot") for s in ("read", "evaluate")] == [403, 200]
        assert [status(s, "POST", "/events", {"events": []}) for s in ("read", "ingest")] == [403, 200]
        headers = {"Authorization": f"Bearer {keys['write']}"}
        assert client.get("/api/v1/experiments/chat/changes", headers=headers).json()["items"][0]["actor"] == "write"
