"""The planner and the rollout of a winner, on a real service."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.conftest import running_service
from tests.dashboard.test_pages import clear, open_page, text
from tunescope import Client

VARIANTS = [{"key": "base", "weight": 1}, {"key": "tuned", "weight": 1}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of these tests alone: others find theirs at the top of the list."""
    with running_service(tmp_path_factory.mktemp("experiments") / "data") as running:
        yield running.url


@pytest.fixture(autouse=True)
def api(service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("TUNESCOPE_URL", service)
    clear()
    with Client(service) as client:
        yield client
    clear()


def stopped(api: Client, key: str) -> str:
    api.create_experiment(key=key, name=f"Rollout of {key}", variants=VARIANTS, minimum_units=20)
    api.start_experiment(key)
    api.stop_experiment(key)
    return key


def press(app: object, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()  # type: ignore[attr-defined]


def test_the_planner_answers_what_it_is_asked(api: Client) -> None:
    app = open_page("experiments")
    first = api.plan_experiment(
        units_per_day=500, base_rate=0.6, effect=0.05, rating_rate=0.2, requests_per_unit=3, intra_unit_correlation=0.2
    )
    assert first["sentence"] in text(app)
    app.number_input(key="plan_effect").set_value(10.0).run()
    assert "A difference of 10.0 points is shown 80 % of the time" in text(app)
    app.number_input(key="plan_users").set_value(1.0).run()
    assert "no difference shows" in text(app)


def test_a_rollout_says_how_far_it_is_and_asks_before_it_goes_on(api: Client) -> None:
    key = stopped(api, "page-rollout")
    api.decide_experiment(key, "tuned", "users prefer it", {})
    app = open_page("experiments", key=key)
    assert "5 % of users get tuned, the others base" in text(app)
    press(app, "Next step")
    assert "20 % of users get the winner" in text(app)
    assert api.get_experiment(key)["rollout"]["share"] == 0.05
    assert api.advance_rollout(key)["rollout"]["share"] == 0.2
    api.halt_rollout(key, "<b>complaints</b>")
    clear()
    said = text(open_page("experiments", key=key))
    assert "halted at 20 %: everybody gets base again" in said
    assert "&lt;b&gt;complaints&lt;/b&gt;" in said


def aged(key: str, n: int) -> list[dict[str, object]]:
    """Calls of n units, now and three days after their exposure; the effect is gone by then."""
    found: list[dict[str, object]] = []
    for unit in range(n):
        arm = ("base", "tuned")[unit % 2]
        for day in (0, 3):
            number = f"{key}-{unit}-{day}"
            at = time.time() + (day - 4) * 86_400
            liked = unit % 10 < (9 if arm == "tuned" and day == 0 else 5)
            found += [
                {"type": "request", "request_id": number, "experiment": key, "unit_id": f"u{unit}", "variant": arm,
                 "at": at, "latency": 0.5 + unit % 7 / 10},
                {"type": "outcome", "request_id": number, "metric": "satisfaction", "value": int(liked), "at": at},
            ]  # fmt: skip
    return found


def test_what_fades_what_is_held_out_and_what_a_wait_is(api: Client) -> None:
    key = "page-ages"
    api.create_experiment(key=key, variants=VARIANTS, minimum_units=20, sticky=True, covariate_days=7)
    api.start_experiment(key)
    held = {"type": "exposure", "experiment": key, "unit_id": "out", "variant": "(holdout)"}
    api.send_events([*aged(key, 200), held])
    said = text(open_page("experiments", key=key))
    assert "Does the effect last?" in said
    assert "first day" in said
    assert "day 3" in said
    assert "Held out" in said
    assert "held out" in said
    assert "Latency, p95" in said
    assert "7 days before the exposure" in said
    assert "fades with time" in said


def test_a_bandit_shows_its_shares(api: Client) -> None:
    key = "page-bandit"
    api.create_experiment(key=key, variants=VARIANTS, minimum_units=20, bandit={"every_seconds": 600})
    api.start_experiment(key)
    api.send_events(aged(key, 100))
    said = text(open_page("experiments", key=key))
    assert "satisfaction, every 10" in said
    assert "at least 5 %" in said
