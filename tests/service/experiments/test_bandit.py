"""Shares that follow the results: floors, propensities, units that stay, and a readout that allows for all of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.experiments import bandit, ledger
from service.experiments.events import Event, OutcomeGiven, Requested
from service.experiments.schemas import NewExperiment
from service.store.database import Database

VARIANTS = [{"key": key, "weight": 1, "value": key} for key in ("base", "tuned", "third")]
RATES = {"base": 0.4, "tuned": 0.7, "third": 0.4}


def start(client: TestClient) -> None:
    body = {"key": "chat", "variants": VARIANTS, "bandit": {"every_seconds": 60}, "minimum_units": 20, "salt": "s"}
    response = client.post("/api/v1/experiments", json=body)
    assert response.status_code == 201, response.text
    client.post("/api/v1/experiments/chat/start")


def database_of(client: TestClient) -> Database:
    found: Database = client.app.state.database  # type: ignore[attr-defined]
    return found


def follow(client: TestClient, later: float = 100.0) -> bool:
    with database_of(client).write() as session:
        moved = bandit.follow(session, "chat", time.time() + later)
    client.app.state.traffic.snapshots.refresh()  # type: ignore[attr-defined]
    return moved


def state(client: TestClient) -> dict[str, Any]:
    body: dict[str, Any] = client.get("/api/v1/experiments/chat").json()
    return body


def crowd(client: TestClient, name: str, n: int, lift: float = 0.0) -> dict[str, str]:
    """Units that come in now, are assigned by the service, and rate by their arm's rate."""
    experiment, rng, events, arms = state(client), np.random.default_rng(len(name)), list[Event](), {}
    for number in range(n):
        unit = f"{name}-{number}"
        flag = client.post("/ofrep/v1/evaluate/flags/chat", json={"context": {"targetingKey": unit}}).json()
        arm = arms[unit] = flag["variant"]
        where = {"experiment_id": experiment["id"], "phase": flag["metadata"]["phase"], "variant": arm}
        events.append(Requested(unit, time.time(), 200, unit_id=unit, counted=True, **where))
        events.append(OutcomeGiven(unit, "satisfaction", float(rng.random() < RATES[arm] + lift), time.time()))
    assert client.app.state.traffic.recorder.flush()  # type: ignore[attr-defined]
    with database_of(client).write() as session:
        ledger.apply(session, events)
    return arms


def test_a_better_arm_gets_more_and_units_stay(client: TestClient) -> None:
    start(client)
    assert follow(client, 1.0) is False  # not due
    assert follow(client) is False  # nothing seen: equal shares stay
    first = crowd(client, "early", 150)
    assert follow(client) is True
    shares = state(client)["shares"]
    assert shares["tuned"] > 0.6
    assert min(shares.values()) >= 0.05
    assert sum(shares.values()) == pytest.approx(1)
    assert state(client)["phase"] == 2
    # Who was met keeps the arm, and whoever comes now is split by the new shares.
    ask = "/ofrep/v1/evaluate/flags/chat"
    again = {u: client.post(ask, json={"context": {"targetingKey": u}}).json()["variant"] for u in first}
    assert again == first
    late = crowd(client, "late", 100)
    assert sum(arm == "tuned" for arm in late.values()) > 50

    read = client.get("/api/v1/experiments/chat/readout").json()
    assert sum(read["split"]["observed"].values()) == 250
    assert read["split"]["ok"] is True
    assert read["split"]["crossed_units"] == 0
    found = next(e for e in read["effects"] if e["metric"] == "satisfaction" and e["variant"] == "tuned")
    assert found["absolute"] == pytest.approx(0.3, abs=0.2)
    assert [point["shares"] for point in read["shares_over_time"]][1] == pytest.approx(shares)
    change = client.get("/api/v1/experiments/chat/changes").json()["items"][-1]
    assert (change["action"], change["actor"]) == ("bandit_step", "tunescope")
    assert change["details"]["counts"]["tuned"][0] > change["details"]["counts"]["tuned"][1]
    # A phase alone can still be read.
    one = client.get("/api/v1/experiments/chat/readout", params={"phase": 2}).json()
    assert sum(one["split"]["observed"].values()) == 100
    client.post("/api/v1/experiments/chat/pause")
    assert follow(client, 1e6) is False


def test_of_several_replicas_one_begins_the_phase(client: TestClient) -> None:
    start(client)
    crowd(client, "early", 60)
    moved: list[bool] = []

    def replica() -> None:
        moved.append(follow(client))

    threads = [threading.Thread(target=replica) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(moved)[-1] is True
    assert state(client)["phase"] == 1 + sum(moved)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"bandit": {"floor": 0.4}}, "more than there is"),
        ({"bandit": {"metric": "latency"}}, "follows a binary metric"),
        ({"analysis": "fixed"}, "always-valid"),
        ({"metrics": [{"name": "visits", "kind": "count", "role": "primary"}]}, "follows a binary metric"),
    ],
)
def test_what_cannot_be_followed_is_refused(plan: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NewExperiment.model_validate({"key": "chat", "variants": VARIANTS, "bandit": {}} | plan)
