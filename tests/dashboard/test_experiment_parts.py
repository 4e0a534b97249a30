"""The planner and the rollout of a winner, on a real service."""

from __future__ import annotations

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
