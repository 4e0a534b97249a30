"""The snapshot: what traffic is decided by, fresh, small, and there while the database is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import tunescope
from service.experiments.assignment import assign
from service.experiments.snapshot import Snapshots, compile_upstream
from service.experiments.traffic import Traffic
from service.store.database import Database
from service.store.tables import Upstream
from tests.conftest import wait_until

PLAN: dict[str, Any] = {
    "key": "chat",
    "variants": [{"key": "base", "weight": 2, "value": "m0"}, {"key": "tuned", "weight": 1, "value": {"model": "m1"}}],
    "coverage": 0.8,
    "targeting": {"plan": ["pro", "team"], "age": {"min": 18}},
    "forced": {"tester": "tuned"},
    "namespace": {"name": "chat", "start": 0.0, "end": 0.9},
    "salt": "pepper",
}


def test_it_has_what_a_client_needs_and_no_more(client: TestClient) -> None:
    client.post("/api/v1/experiments", json=PLAN)
    body = client.get("/api/v1/experiments/snapshot").json()
    assert body["experiments"] == [
        {
            "key": "chat",
            "salt": "pepper",
            "hash_version": 2,
            "phase": 1,
            "status": "draft",
            "variants": [
                {"key": "base", "weight": 2 / 3, "value": "m0"},
                {"key": "tuned", "weight": 1 / 3, "value": {"model": "m1"}},
            ],
            "coverage": 0.8,
            "targeting": {"plan": ["pro", "team"], "age": {"min": 18, "max": None}},
            "forced": {"tester": "tuned"},
            "namespace": {"name": "chat", "start": 0.0, "end": 0.9},
            "winner": None,
            "holdout": 0.0,
            "sticky": False,
        }
    ]


def test_nothing_changed_is_304_and_a_change_is_seen_at_once(client: TestClient) -> None:
    client.post("/api/v1/experiments", json=PLAN)
    first = client.get("/api/v1/experiments/snapshot")
    etag = first.headers["etag"]
    assert etag == f'"{first.json()["etag"]}"'
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = client.get("/api/v1/experiments/snapshot", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    client.post("/api/v1/experiments/chat/start")
    changed = client.get("/api/v1/experiments/snapshot", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["experiments"][0]["status"]) == (200, "running")
    # What the wire does not show does not change the tag.
    client.post("/api/v1/upstreams", json={"name": "u", "base_url": "http://localhost:1/v1", "model": "m"})
    assert client.get("/api/v1/experiments/snapshot").headers["etag"] == changed.headers["etag"]


def test_a_change_that_is_rolled_back_is_never_seen(client: TestClient) -> None:
    client.post("/api/v1/experiments", json=PLAN)
    before = client.get("/api/v1/experiments/snapshot").headers["etag"]
    assert client.post("/api/v1/experiments/chat/pause").status_code == 409
    assert client.get("/api/v1/experiments/snapshot").headers["etag"] == before


def test_another_replica_sees_a_change_within_its_refresh(client: TestClient, database: Database) -> None:
    other = Snapshots(database, every_seconds=0.1)
    other.start()
    try:
        client.post("/api/v1/experiments", json=PLAN)
        wait_until(lambda: "chat" in other.current.experiments, seconds=5)
    finally:
        other.stop()


def test_the_last_good_snapshot_serves_while_the_database_is_away(client: TestClient, database: Database) -> None:
    client.post("/api/v1/experiments", json=PLAN)
    traffic: Traffic = client.app.state.traffic  # type: ignore[attr-defined]
    with database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE experiment RENAME TO experiment_away")
    try:
        assert "chat" in traffic.snapshots.refresh().experiments
        assert client.get("/api/v1/experiments/snapshot").json()["experiments"][0]["key"] == "chat"
    finally:
        with database.write() as session:
            session.connection().exec_driver_sql("ALTER TABLE experiment_away RENAME TO experiment")


def test_the_client_decides_like_the_service(client: TestClient) -> None:
    client.post("/api/v1/experiments", json=PLAN)
    client.post("/api/v1/experiments/chat/start")
    served = client.get("/api/v1/experiments/snapshot").json()["experiments"][0]
    traffic: Traffic = client.app.state.traffic  # type: ignore[attr-defined]
    live = traffic.snapshots.current.experiments["chat"]
    seen = set()
    for unit in [None, "", "tester", "žluťoučký", *(f"user-{n}" for n in range(2000))]:
        for attributes in ({"plan": "pro", "age": 30}, {"plan": "pro", "age": 3}, {"plan": "free", "age": 30}, {}):
            here, there = assign(live, unit, attributes), tunescope.assign(served, unit, attributes)
            assert (here.variant.key, here.counted, here.reason) == (there.variant, there.counted, there.reason)
            seen.add(here.reason)
    assert seen == {"assigned", "forced", "no_unit", "not_covered", "not_targeted"}


def upstream(**changes: Any) -> Upstream:
    return Upstream(**{"name": "u", "base_url": "http://m/v1/", "model": "m", "created_at": 0.0, **changes})


def test_a_key_is_read_from_where_the_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.setenv("TEST_KEY", "from-env")
    assert compile_upstream(upstream(api_key_ref=f"file:{tmp_path / 'key'}")).api_key == "from-file"
    assert compile_upstream(upstream(api_key_ref="env:TEST_KEY")).api_key == "from-env"
    assert compile_upstream(upstream()).api_key is None
    missing = compile_upstream(upstream(api_key_ref=f"file:{tmp_path / 'none'}"))
    assert missing.api_key is None
    assert "does not exist" in str(missing.problem)
    assert "from-env" not in repr(compile_upstream(upstream(api_key_ref="env:TEST_KEY")))


@pytest.mark.parametrize(
    ("prices", "tokens", "expected"),
    [
        ((1.0, 10.0), (100, 20), 0.0003),
        ((0.0, 0.0), (100, 20), 0.0),
        ((None, 10.0), (100, 20), None),
        ((1.0, None), (100, 20), None),
        ((1.0, 10.0), (None, 20), None),
        ((1.0, 10.0), (100, None), None),
    ],
)
def test_a_cost_is_known_only_when_everything_in_it_is(prices: Any, tokens: Any, expected: float | None) -> None:
    live = compile_upstream(upstream(input_price=prices[0], output_price=prices[1]))
    assert live.cost(*tokens) == (pytest.approx(expected) if expected is not None else None)
