"""What is old goes, by steps, and no number changes by it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event as sql_event
from sqlmodel import SQLModel, func, select
from starlette.testclient import TestClient

from service.app import create_app
from service.experiments import retention
from service.experiments.events import OutcomeGiven, Requested
from service.experiments.retention import DAY, Retention
from service.settings import Settings
from service.store.database import Database
from service.store.tables import Exposure, GatewayContent, GatewayRequest, Outcome, UnitRollup, new_id

NOW = 2_000_000_000.0


@pytest.fixture
def experiment(client: TestClient) -> str:
    variants = [{"key": key, "weight": 1} for key in ("a", "b")]
    made = client.post("/api/v1/experiments", json={"key": "e", "variants": variants, "store_content": True}).json()
    client.post("/api/v1/experiments/e/start")
    return str(made["id"])


def made_at(monkeypatch: pytest.MonkeyPatch, at: float) -> str:
    """An id as the gateway makes it at that time."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: int(at * 1e9))
        return new_id()


@pytest.fixture
def traffic(
    client: TestClient, experiment: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], str]:
    """Makes a rated call of so many days ago, and answers its id."""

    def make(days: int) -> str:
        at = NOW - days * DAY
        request_id = made_at(monkeypatch, at)
        call = Requested(
            request_id, at, 200, experiment_id=experiment, phase=1, unit_id=f"u{days}", variant="ab"[days % 2],
            counted=True, latency=days / 100, input_tokens=1, output_tokens=1, cost=0.1,
            messages=[{"role": "user", "content": "hello"}], answer="hello",
        )  # fmt: skip
        recorder = client.app.state.traffic.recorder  # type: ignore[attr-defined]
        recorder.write_through([call, OutcomeGiven(request_id, "satisfaction", float(days % 3 == 0), at + 60)])
        return request_id

    return make


def rows(database: Database, table: type[SQLModel]) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def readout(client: TestClient) -> dict[str, Any]:
    answer = client.get("/api/v1/experiments/e/readout")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    # What a quantile's error is learned from is single requests.
    found["effects"] = [one for one in found["effects"] if not one["metric"].endswith(("_p50", "_p95"))]
    for arm in found["arms"]:
        for name in [name for name in arm["metrics"] if name.endswith(("_p50", "_p95"))]:
            del arm["metrics"][name]["interval"]
    return {key: value for key, value in found.items() if key not in ("computed_at", "timeline")}


def test_what_is_old_goes_and_the_readout_does_not_change(
    client: TestClient, database: Database, traffic: Callable[[int], str]
) -> None:
    ids = {days: traffic(days) for days in range(0, 300, 6)}
    before = readout(client)
    deleted = Retention(database, content_days=30, request_days=100).sweep(NOW)
    kept = {days for days in ids if days < 100}
    with database.read() as session:
        assert set(session.exec(select(GatewayRequest.request_id)).all()) == {ids[days] for days in kept}
        assert set(session.exec(select(Outcome.request_id)).all()) == {ids[days] for days in kept}
        assert set(session.exec(select(GatewayContent.request_id)).all()) == {ids[days] for days in ids if days <= 30}
    assert deleted == (len(ids) - 6) + (len(ids) - len(kept))
    assert rows(database, Exposure) == len(ids)
    assert rows(database, UnitRollup) > 0
    assert readout(client) == before
    assert Retention(database, 30, 100).sweep(NOW) == 0


def test_an_outcome_that_comes_too_late_counts_for_nothing_and_goes_too(
    client: TestClient, database: Database, traffic: Callable[[int], str]
) -> None:
    late = traffic(200)
    Retention(database, 30, 100).sweep(NOW)
    before = readout(client)
    correction = {"type": "outcome", "request_id": late, "metric": "satisfaction", "value": 0, "at": NOW - 150 * DAY}
    assert client.post("/api/v1/events", json={"events": [correction]}).status_code == 200
    assert rows(database, Outcome) == 1
    assert readout(client) == before
    assert Retention(database, 30, 100).sweep(NOW) == 1
    assert rows(database, Outcome) == 0


def test_an_outcome_that_waits_for_its_request_stays_until_it_is_old(database: Database, client: TestClient) -> None:
    recorder = client.app.state.traffic.recorder  # type: ignore[attr-defined]
    recorder.write_through([OutcomeGiven("early", "satisfaction", 1.0, NOW - 99 * DAY)])
    assert Retention(database, 30, 100).sweep(NOW) == 0
    assert Retention(database, 30, 98).sweep(NOW) == 1


def test_a_request_that_would_have_been_deleted_is_refused(client: TestClient, experiment: str) -> None:
    call = {"type": "request", "request_id": "r", "experiment": "e", "unit_id": "u", "variant": "a"}
    old = client.post("/api/v1/events", json={"events": [call | {"at": time.time() - 366 * DAY}]})
    assert (old.status_code, old.json()["error"]["code"]) == (400, "event_refused")
    assert "TUNESCOPE_REQUEST_DAYS" in old.json()["error"]["message"]
    young = client.post("/api/v1/events", json={"events": [call | {"at": time.time() - 364 * DAY}]})
    assert young.status_code == 200


def test_infinite_days_keep_for_ever(database: Database, traffic: Callable[[int], str], client: TestClient) -> None:
    traffic(20_000)
    assert Retention(database, math.inf, math.inf).sweep(NOW) == 0
    assert Settings(request_days="inf").request_days == math.inf  # type: ignore[arg-type]


def test_steps_are_bounded(
    database: Database, traffic: Callable[[int], str], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in range(200, 240):
        traffic(days)
    monkeypatch.setattr(retention, "LEAST_ROWS", 4)
    monkeypatch.setattr(retention, "MOST_ROWS", 8)
    deleted: list[int] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM gateway_request"):
            deleted.append(cursor.rowcount)

    engine = database._writing if hasattr(database._writing, "pool") else database.engine
    sql_event.listen(engine, "after_cursor_execute", note)
    try:
        Retention(database, math.inf, 100).sweep(NOW)
    finally:
        sql_event.remove(engine, "after_cursor_execute", note)
    assert sum(deleted) == 40
    assert max(deleted) <= 8


def test_the_service_deletes_by_itself(settings: Settings, database: Database, client: TestClient) -> None:
    recorder = client.app.state.traffic.recorder  # type: ignore[attr-defined]
    recorder.write_through([OutcomeGiven("r", "satisfaction", 1.0, time.time() - 10 * DAY)])
    assert rows(database, Outcome) == 1
    with TestClient(create_app(settings.model_copy(update={"request_days": 5.0}), database)):
        deadline = time.monotonic() + 20
        while rows(database, Outcome) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert rows(database, Outcome) == 0
