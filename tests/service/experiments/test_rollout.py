"""A winner reaches everybody by steps, and harm gives the control back without anybody's hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import tunescope
from service.app import create_app
from service.experiments import rollout
from service.experiments.watch import Watch
from service.measure.bucketing import bucket
from service.settings import Settings
from service.store.database import Database
from tests.conftest import wait_until

VARIANTS = [{"key": key, "weight": 1} for key in ("base", "other", "tuned")]
STEPS = {"steps": [0.1, 0.5, 1.0], "hold_seconds": 0, "minimum_units": 20}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nobody looks but the test."""
    return settings.model_copy(update={"rollout_check_seconds": 3600.0})


@pytest.fixture
def embedded(settings: Settings, tmp_path: Any) -> Iterator[TestClient]:
    """On SQLite only: for what does not depend on the database."""
    database = Database(f"sqlite:///{tmp_path / 'rollout.db'}")
    with TestClient(create_app(settings, database)) as client:
        yield client
    database.close()


def send(client: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    response = client.post(f"/api/v1/experiments{path}", json=body)
    assert response.status_code == status, response.text
    return response.json()


def decide(client: TestClient, winner: str = "tuned", status: int = 200, **steps: Any) -> Any:
    send(
        client,
        "",
        201,
        key="chat",
        variants=VARIANTS,
        minimum_units=20,
        targeting={"plan": "pro"},
        coverage=0.5,
        salt="s",
    )
    send(client, "/chat/start")
    send(client, "/chat/stop")
    return send(client, "/chat/decide", status, winner=winner, reason="users prefer it", rollout=STEPS | steps)


def state(client: TestClient) -> dict[str, Any]:
    body: dict[str, Any] = client.get("/api/v1/experiments/chat").json()
    return body


def public(client: TestClient) -> dict[str, Any]:
    (one,) = client.get("/api/v1/experiments/snapshot").json()["experiments"]
    return dict(one)


def traffic(client: TestClient, base: int, tuned: int, failing: float = 0.0) -> None:
    """Calls of this many units in each arm, in the phase of now; of the winner's, a share fails."""
    phase = state(client)["phase"]
    events = [
        {
            "type": "request",
            "request_id": f"{phase}-{variant}-{n}",
            "experiment": "chat",
            "unit_id": f"{variant}-{n}",
            "variant": variant,
            "phase": phase,
            "status": 503 if variant == "tuned" and n < failing * tuned else 200,
            "latency": 1.0 + n % 7 / 10,
        }
        for variant, many in (("base", base), ("tuned", tuned))
        for n in range(many)
    ]
    response = client.post("/api/v1/events", json={"events": events})
    assert response.status_code == 200, response.text


def look(client: TestClient) -> dict[str, Any]:
    """What the rollout says after a look, by a replica that looks whenever it is asked."""
    found = client.app.state.traffic  # type: ignore[attr-defined]
    Watch(client.app.state.database, 0.0, found.snapshots.refresh).look()  # type: ignore[attr-defined]
    body: dict[str, Any] = state(client)["rollout"]
    return body


def arms(client: TestClient) -> dict[str, str | None]:
    snapshot = public(client)
    return {unit: tunescope.assign(snapshot, unit).variant for unit in (f"u{n}" for n in range(1000))}


def place(unit: str) -> float:
    return bucket("s", unit) or 0.0


def test_a_winner_reaches_everybody_step_by_step(client: TestClient) -> None:
    decided = decide(client)
    assert (decided["status"], decided["phase"], decided["rollout"]["share"]) == ("decided", 2, 0.1)
    first = arms(client)
    assert sorted(set(first.values())) == ["base", "tuned"]  # the third arm is over, everybody takes part
    assert {unit for unit in first if first[unit] == "tuned"} == {unit for unit in first if place(unit) >= 0.9}

    assert look(client)["waiting_for"] == "20 more units in the smaller arm"
    traffic(client, 180, 20)
    assert (look(client)["share"], state(client)["phase"]) == (0.5, 3)
    second = arms(client)
    assert {unit for unit in second if second[unit] == "tuned"} == {unit for unit in first if place(unit) >= 0.5}

    traffic(client, 40, 40)
    done = look(client)
    assert (done["state"], done["share"], done["waiting_for"]) == ("done", 1.0, None)
    assert set(arms(client).values()) == {"tuned"}
    assert public(client)["status"] == "decided"
    said = [
        (change["action"], change["actor"]) for change in client.get("/api/v1/experiments/chat/changes").json()["items"]
    ]
    assert said[-3:] == [("rollout_step", "local"), ("rollout_step", "tunescope"), ("rollout_done", "tunescope")]

    # The experiment itself is read as it was decided.
    assert client.get("/api/v1/experiments/chat/readout").json()["phase"] == 1
    # Each step is a phase with a readout of its own, of the two arms it was about.
    step = client.get("/api/v1/experiments/chat/readout?phase=2").json()
    assert step["split"]["expected"] == {"base": 0.9, "tuned": 0.1}
    assert [arm["units"] for arm in step["arms"]] == [180, 20]
    assert "confidence sequence" in step["effects"][0]["method"]


def test_harm_gives_the_control_back(client: TestClient) -> None:
    decide(client, steps=[0.5, 1.0])
    traffic(client, 100, 100, failing=0.6)
    halted = look(client)
    assert halted["state"] == "halted"
    assert halted["reason"].startswith("Answers of 'tuned' fail more often than those of 'base': +60.0 points")
    assert set(arms(client).values()) == {"base"}
    assert state(client)["status"] == "decided"
    change = client.get("/api/v1/experiments/chat/changes").json()["items"][-1]
    assert (change["action"], change["actor"], change["details"]["share"]) == ("rollout_halted", "tunescope", 0.5)
    assert look(client) == halted
    assert send(client, "/chat/rollout/advance", 409)["error"]["code"] == "rollout_status"


def test_no_harm_a_little_harm_and_a_broken_split(embedded: TestClient) -> None:
    decide(embedded, steps=[0.5, 0.9, 1.0])
    traffic(embedded, 400, 100)
    assert "did not split as planned" in look(embedded)["waiting_for"]
    traffic(embedded, 100, 400, failing=0.01)  # the same units again, and more of the winner's
    assert (look(embedded)["share"], state(embedded)["rollout"]["state"]) == (0.9, "rolling")


def test_a_step_lasts_as_long_as_it_was_told_to(embedded: TestClient) -> None:
    decide(embedded, steps=[0.5, 1.0], hold_seconds=100)
    traffic(embedded, 50, 50)
    assert look(embedded)["waiting_for"].endswith("more seconds of this step")


def test_a_person_may_go_on_or_end_it(embedded: TestClient) -> None:
    decide(embedded, hold_seconds=1e6)
    assert send(embedded, "/chat/rollout/advance")["rollout"]["share"] == 0.5
    halted = send(embedded, "/chat/rollout/halt", reason="complaints")
    assert (halted["rollout"]["state"], halted["rollout"]["reason"]) == ("halted", "complaints")
    assert set(arms(embedded).values()) == {"base"}
    assert send(embedded, "/chat/rollout/halt", 409, reason="again")["error"]["code"] == "rollout_status"


def test_what_cannot_be_rolled_out_is_refused(embedded: TestClient) -> None:
    refused = decide(embedded, winner="base", status=400)
    assert refused["error"]["code"] == "rollout_plan"
    assert state(embedded)["status"] == "stopped"  # nothing of the decision is kept
    for steps in ([0.5], [0.5, 0.5, 1], [0, 1], [0.5, 1, 0.7]):
        body = {"winner": "tuned", "reason": "r", "rollout": {"steps": steps}}
        assert "steps must rise" in send(embedded, "/chat/decide", 400, **body)["error"]["message"]
    assert send(embedded, "/chat/decide", winner="tuned", reason="r")["rollout"] is None
    assert send(embedded, "/chat/rollout/advance", 409)["error"]["code"] == "rollout_status"
    assert send(embedded, "/none/rollout/advance", 404)["error"]["code"] == "experiment_not_found"


def test_of_several_replicas_one_looks(client: TestClient, database: Database) -> None:
    decide(client)
    claimed: list[int | None] = []
    together = threading.Barrier(6)

    def replica() -> None:
        together.wait()
        with database.write() as session:
            claimed.append(rollout.claim(session, "chat", time.time(), 60.0))

    threads = [threading.Thread(target=replica) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed, key=str) == [0, None, None, None, None, None]


def test_a_clock_that_went_back_does_not_stop_the_looks(embedded: TestClient) -> None:
    decide(embedded)
    database: Database = embedded.app.state.database  # type: ignore[attr-defined]
    now = time.time()
    for moment, step in ((now + 86_400, 0), (now, 0), (now + 5, None)):
        with database.write() as session:
            assert rollout.claim(session, "chat", moment, 10.0) == step


def test_a_look_that_was_overtaken_changes_nothing(embedded: TestClient) -> None:
    decide(embedded)
    send(embedded, "/chat/rollout/advance")
    database: Database = embedded.app.state.database  # type: ignore[attr-defined]
    with database.write() as session:
        assert rollout.act(session, "chat", 0, ("halt", "of the step before")) is False
    assert state(embedded)["rollout"]["state"] == "rolling"


def test_the_service_looks_by_itself(settings: Settings, tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path / 'watched.db'}")
    with TestClient(create_app(settings.model_copy(update={"rollout_check_seconds": 0.05}), database)) as client:
        decide(client, steps=[0.5, 1.0])
        traffic(client, 100, 100, failing=0.6)
        wait_until(lambda: bool(state(client)["rollout"]["state"] == "halted"))
        assert set(arms(client).values()) == {"base"}
    database.close()
