"""Units that are held out of everything, and units that keep the arm they came in by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.app import create_app
from service.experiments.assignment import HOLDOUT, NOBODY, assign, held_out
from service.experiments.schemas import NewExperiment
from service.experiments.snapshot import build
from service.experiments.sticky import StickyArms
from service.experiments.traffic import Traffic
from service.settings import Settings
from service.store import experiments as store
from service.store.database import Database

VARIANTS = [{"key": "base", "weight": 1}, {"key": "tuned", "weight": 1}]
UNITS = [f"user-{n}" for n in range(200)]


def traffic(client: TestClient) -> Traffic:
    found: Traffic = client.app.state.traffic  # type: ignore[attr-defined]
    return found


def create(client: TestClient, **plan: Any) -> dict[str, Any]:
    response = client.post("/api/v1/experiments", json={"key": "chat", "variants": VARIANTS, "salt": "s", **plan})
    assert response.status_code == 201, response.text
    client.post("/api/v1/experiments/chat/start")
    body: dict[str, Any] = response.json()
    return body


def ask(client: TestClient, unit: str) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/ofrep/v1/evaluate/flags/chat", json={"context": {"targetingKey": unit}}).json()
    return body


def readout(client: TestClient, **params: Any) -> dict[str, Any]:
    assert traffic(client).recorder.flush()
    body: dict[str, Any] = client.get("/api/v1/experiments/chat/readout", params=params).json()
    return body


# --- holdout ---


def test_the_holdout_gets_the_control_and_counts_in_no_arm(settings: Settings, database: Database) -> None:
    with TestClient(create_app(settings.model_copy(update={"holdout": 0.3}), database)) as client:
        assert create(client)["holdout"] == 0.3
        found = {unit: ask(client, unit) for unit in UNITS}
        out = {unit for unit in UNITS if held_out(unit, 0.3)}
        assert 30 < len(out) < 90
        for unit, flag in found.items():
            assert flag["metadata"]["counted"] is (unit not in out)
            if unit in out:
                assert (flag["variant"], flag["metadata"]["assignment"]) == ("base", "holdout")
        call = {"type": "request", "request_id": "r", "experiment": "chat", "unit_id": min(out), "variant": HOLDOUT}
        assert client.post("/api/v1/events", json={"events": [call]}).status_code == 200
        read = readout(client)
        assert sum(read["split"]["observed"].values()) == 200 - len(out)
        assert [arm["variant"] for arm in read["arms"]] == ["base", "tuned"]
        assert (read["holdout"]["units"], read["holdout"]["requests"]) == (len(out), 1)
        # Of a decided experiment too: it is the only way to see what all decisions together were worth.
        client.post("/api/v1/experiments/chat/stop")
        client.post("/api/v1/experiments/chat/decide", json={"winner": "tuned", "reason": "r"})
        assert {ask(client, unit)["variant"] for unit in out} == {"base"}
        assert {ask(client, unit)["variant"] for unit in set(UNITS) - out} == {"tuned"}


def test_a_larger_holdout_holds_for_new_experiments_a_smaller_one_for_all(settings: Settings, tmp_path: Any) -> None:
    database = Database(f"sqlite:///{tmp_path / 'holdout.db'}")
    with TestClient(create_app(settings.model_copy(update={"holdout": 0.2}), database)) as client:
        create(client)
    with database.read() as session:
        rows = store.everything(session)
        shares = [build(rows, [], share).experiments["chat"].holdout for share in (0.5, 0.2, 0.1, 0.0)]
    database.close()
    assert shares == [0.2, 0.2, 0.1, 0.0]
    assert all(held_out(unit, 0.5) for unit in UNITS if held_out(unit, 0.2))
    assert sum(held_out(f"u{n}", 0.2) for n in range(10_000)) == pytest.approx(2000, abs=150)


def test_a_variant_cannot_be_called_like_the_holdout() -> None:
    with pytest.raises(ValidationError):
        NewExperiment.model_validate({"key": "chat", "variants": [*VARIANTS, {"key": HOLDOUT, "weight": 1}]})


# --- sticky arms ---


def test_a_unit_keeps_its_arm_and_counts_where_it_came_in(client: TestClient) -> None:
    create(client, sticky=True, minimum_units=20)
    first = {unit: ask(client, unit)["variant"] for unit in UNITS}
    assert traffic(client).recorder.flush()
    client.patch("/api/v1/experiments/chat", json={"weights": {"base": 0.9, "tuned": 0.1}})
    newcomers = [f"late-{n}" for n in range(200)]
    assert {unit: ask(client, unit)["variant"] for unit in UNITS} == first
    alone = replace(traffic(client).snapshots.current.experiments["chat"], kept=NOBODY)
    assert sum(assign(alone, unit, {}).variant.key != first[unit] for unit in UNITS) > 40  # the weights would move them
    late = [ask(client, unit)["variant"] for unit in newcomers]
    assert 5 < late.count("tuned") < 40
    call = {"type": "request", "request_id": "r", "experiment": "chat", "unit_id": UNITS[0], "variant": first[UNITS[0]]}
    rating = {"type": "outcome", "request_id": "r", "metric": "satisfaction", "value": 1}
    assert client.post("/api/v1/events", json={"events": [call, rating]}).status_code == 200

    before, now = readout(client, phase=1), readout(client)
    assert sum(before["split"]["observed"].values()) == sum(now["split"]["observed"].values()) == 200
    assert (before["split"]["ok"], now["split"]["ok"]) == (True, True)
    assert before["split"]["crossed_units"] == now["split"]["crossed_units"] == 0
    assert [sum(arm["requests"] for arm in read["arms"]) for read in (before, now)] == [1, 0]
    # An arm that gets nobody any more lets its units go.
    client.patch("/api/v1/experiments/chat", json={"weights": {"base": 1, "tuned": 0}})
    assert {ask(client, unit)["variant"] for unit in UNITS} == {"base"}


def test_arms_are_known_by_unit_and_the_first_stays() -> None:
    known = StickyArms().with_units([("a", 0), ("b", 1)], 1, whole=True)
    known = known.with_units([("b", 0), ("é", 2)], 2, whole=False)
    assert [known.arm_of(unit) for unit in ("a", "b", "é", "c")] == [0, 1, 2, None]
    assert (len(known), known.phases) == (3, frozenset({1}))
    assert StickyArms().arm_of("a") is None
