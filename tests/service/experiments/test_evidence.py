"""What a readout knows of units: their past, their age, and quantiles of what they waited, from events alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.experiments import evidence, ledger, lifecycle
from service.experiments.events import Event, OutcomeGiven, Requested
from service.measure.arms import RatioArm
from service.measure.cuped import Past, adjust
from service.store.database import Database

DAY = 86_400.0
VARIANTS = [{"key": "base", "weight": 1}, {"key": "tuned", "weight": 1}]


def start(client: TestClient, **plan: Any) -> str:
    response = client.post(
        "/api/v1/experiments", json={"key": "chat", "variants": VARIANTS, "minimum_units": 20, **plan}
    )
    assert response.status_code == 201, response.text
    client.post("/api/v1/experiments/chat/start")
    experiment_id: str = response.json()["id"]
    return experiment_id


def database_of(client: TestClient) -> Database:
    found: Database = client.app.state.database  # type: ignore[attr-defined]
    return found


def store(client: TestClient, events: list[Event]) -> None:
    for first in range(0, len(events), 1000):
        with database_of(client).write() as session:
            ledger.apply(session, events[first : first + 1000])


def readout(client: TestClient) -> dict[str, Any]:
    response = client.get("/api/v1/experiments/chat/readout")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def effect(body: dict[str, Any], metric: str) -> dict[str, Any]:
    return next(dict(found) for found in body["effects"] if found["metric"] == metric)


def call(number: str, unit: str, at: float, variant: str | None, experiment_id: str | None, **more: Any) -> Requested:
    counted = {"experiment_id": experiment_id, "phase": 1, "variant": variant, "counted": True} if variant else {}
    return Requested(number, at, 200, unit_id=unit, **counted, **more)


def test_what_units_did_before_is_taken_out(client: TestClient) -> None:
    """Some units called a model before, outside of the experiment; the adjusted arms are those of plain arithmetic."""
    metrics = [
        {"name": "satisfaction", "kind": "binary", "role": "primary"},
        {"name": "solved", "kind": "count", "by": "unit"},
    ]
    chat = start(client, covariate_days=10, analysis="fixed", metrics=metrics)
    rng, now = np.random.default_rng(4), 1_000 * DAY
    past: list[Event] = []
    since: list[Event] = []
    table: dict[str, list[list[float]]] = {"base": [], "tuned": []}
    for n in range(120):
        unit, variant, taste = f"u{n}", VARIANTS[n % 2]["key"], rng.beta(2, 2)
        row = [0.0, 0.0, 0.0, 0.0]  # x, y, u, v
        for k in range(rng.integers(0, 6)):
            days = 20.0 if k == 5 else float(rng.uniform(0.1, 9))  # the sixth is too old
            up = float(rng.random() < taste)
            past.append(call(f"p{n}-{k}", unit, now - days * DAY, None, None))
            past += [OutcomeGiven(f"p{n}-{k}", name, up, now) for name in ("satisfaction", "solved")]
            if days < 10:
                row[2], row[3] = row[2] + 1, row[3] + up
        for k in range(1 + rng.integers(0, 4)):
            since.append(call(f"r{n}-{k}", unit, now + k, variant, chat))
            if rng.random() < 0.8:
                up = float(rng.random() < taste)
                since += [OutcomeGiven(f"r{n}-{k}", name, up, now) for name in ("satisfaction", "solved")]
                row[0], row[1] = row[0] + 1, row[1] + up
        table[variant].append(row)
    store(client, past)
    store(client, since[: len(since) // 2])
    store(client, since[len(since) // 2 :])

    x, y, u, v = (np.array([table[variant] for variant in ("base", "tuned")])[:, :, column] for column in range(4))
    one = np.ones_like(x)
    body = readout(client)
    for name, bottom, before in (("satisfaction", x, u), ("solved", one, one)):
        expected = adjust(
            [RatioArm.from_values(y[arm], bottom[arm]) for arm in (0, 1)],
            [60, 60],
            [
                Past(
                    *(float(value) for value in (
                        before[a].sum(), v[a].sum(), before[a] @ before[a], v[a] @ v[a], before[a] @ v[a],
                        bottom[a] @ before[a], bottom[a] @ v[a], y[a] @ before[a], y[a] @ v[a],
                    ))
                )
                for a in (0, 1)
            ],
        )  # fmt: skip
        assert expected is not None
        found = effect(body, name)
        assert found["control_value"] == pytest.approx(expected[0].mean)
        assert found["absolute"] == pytest.approx(expected[1].mean - expected[0].mean)
        assert found["variance_reduction"] > 0.005
        assert "CUPED" in found["method"]
    assert effect(body, "rating_rate")["variance_reduction"] is None  # not declared
    assert body["arms"][0]["metrics"]["satisfaction"]["value"] == pytest.approx(y[0].sum() / x[0].sum())


def test_an_effect_that_fades_is_said_to(client: TestClient) -> None:
    chat = start(client)
    rng, events = np.random.default_rng(5), list[Event]()
    for n in range(400):
        unit, variant = f"u{n}", VARIANTS[n % 2]["key"]
        for day in (0, 1, 8):
            rate = 0.5 + (0.45 if day == 0 and variant == "tuned" else 0.0)
            number = f"{n}-{day}"
            events.append(call(number, unit, 1e6 + n + day * DAY, variant, chat))
            events.append(OutcomeGiven(number, "satisfaction", float(rng.random() < rate), 1e6 + 10 * DAY))
    store(client, events)
    body = readout(client)
    ages = [(point["from_day"], point["to_day"], point["units"]) for point in body["by_age"]]
    assert ages == [(0, 1, 400), (1, 2, 400), (7, 14, 400)]
    assert body["by_age"][0]["absolute"] == pytest.approx(0.45, abs=0.1)
    assert body["by_age"][0]["interval"][0] > 0 > body["by_age"][2]["interval"][0]
    (caution,) = [reason for reason in body["verdict"]["reasons"] if reason["code"].startswith("novelty")]
    assert caution["code"] == "novelty_fades"
    assert "from day 7 on" in caution["message"]


def test_quantiles_are_compared(client: TestClient) -> None:
    chat = start(client, analysis="fixed", metrics=[
        {"name": "satisfaction", "role": "primary"}, {"name": "latency_p95", "role": "guardrail", "margin": 0.5},
    ])  # fmt: skip
    rng, events = np.random.default_rng(6), list[Event]()
    seconds: dict[str, list[float]] = {"base": [], "tuned": []}
    for n in range(200):
        variant, slow = VARIANTS[n % 2]["key"], rng.normal(0, 0.5)
        for k in range(5):
            latency = float(np.exp(slow + rng.normal(0, 0.3) + (0.5 if variant == "tuned" else 0.0)))
            seconds[variant].append(latency)
            events.append(call(f"{n}-{k}", f"u{n}", 1e6, variant, chat, latency=latency))
    store(client, events)
    body = readout(client)
    for percent, role, verdict in ((50, "secondary", "worse"), (95, "guardrail", None)):
        found = effect(body, f"latency_p{percent}")
        exact = [float(np.quantile(seconds[arm], percent / 100)) for arm in ("base", "tuned")]
        assert [found["control_value"], found["variant_value"]] == pytest.approx(exact, rel=0.02)
        assert (found["role"], found["direction"]) == (role, "lower")
        assert verdict is None or found["verdict"] == verdict
    assert effect(body, "latency_p95")["absolute_interval"][1] is None  # one-sided
    low, high = body["arms"][0]["metrics"]["latency_p50"]["interval"]
    assert low < np.quantile(seconds["base"], 0.5) < high
    with database_of(client).read() as session:
        watched = evidence.read(session, lifecycle.find(session, "chat"), 1, watched=True).evidence.metrics
    assert {metric.name for metric in watched} >= {"satisfaction", "latency_p95", "error_rate"}
    assert "latency_p50" not in {metric.name for metric in watched}
    # An unknown outcome cannot take its name.
    outcome = {"type": "outcome", "request_id": "r", "metric": "latency_p95", "value": 1}
    assert client.post("/api/v1/events", json={"events": [outcome]}).status_code == 400
