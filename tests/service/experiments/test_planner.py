"""The planner against the published figures, its own inverse, and experiments that are run on the computer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from statsmodels.stats.power import NormalIndPower

from service.experiments.planner import Plan, Question, plan
from service.measure.ab import confidence_sequence, welch
from service.measure.arms import RatioArm


def ask(**given: Any) -> Plan:
    return plan(Question(**({"units_per_day": 1000, "base_rate": 0.6, "days": [1], "analysis": "fixed"} | given)))


@pytest.mark.parametrize(("rating_rate", "points"), [(1.0, 8.7), (0.2, 19.4), (0.05, 38.8)])
def test_a_thousand_requests_show_what_is_published(rating_rate: float, points: float) -> None:
    found = ask(rating_rate=rating_rate).horizons[0].minimum_detectable_effect
    assert found is not None
    assert 100 * found == pytest.approx(points, abs=0.05)


def test_the_days_of_an_effect_are_those_that_show_it() -> None:
    crowd = {"rating_rate": 0.3, "requests_per_unit": 5, "intra_unit_correlation": 0.2, "coverage": 0.5}
    for analysis in ("fixed", "always_valid"):
        for weights in ([1, 1], [8, 1], [2, 1, 1]):
            settings: dict[str, Any] = crowd | {"analysis": analysis, "weights": weights}
            whole = ask(effect=0.05, **settings)
            assert whole.units is not None
            assert whole.days == pytest.approx(whole.units / 500)
            shown = ask(days=[whole.days], **settings).horizons[0].minimum_detectable_effect
            assert shown == pytest.approx(0.05, rel=1e-3)


def test_a_mean_is_planned_like_statsmodels_does() -> None:
    found = ask(base_rate=None, mean=20.0, sd=8.0, effect=1.0)
    reference = NormalIndPower().solve_power(1.0 / 8.0, power=0.8, alpha=0.05)
    assert found.units == pytest.approx(2 * reference, abs=2)
    assert found.horizons[0].relative == pytest.approx((found.horizons[0].minimum_detectable_effect or 0) / 20)


def test_several_variants_share_the_level() -> None:
    assert ask(weights=[1, 1, 1]).level == 0.025


def test_what_cannot_be_shown_has_a_reason() -> None:
    assert ask(units_per_day=3).horizons[0].reason == "too_few_units"
    few = ask(units_per_day=10)
    assert (few.horizons[0].reason, few.horizons[0].minimum_detectable_effect) == ("effect_impossible", None)
    assert few.sentence == "10 units in 1 day are too few to show any difference 80 % of the time."


def test_it_is_said_in_a_sentence() -> None:
    assert ask(effect=0.1).sentence == (
        "A difference of 10.0 points is shown 80 % of the time by 754 units, which take 0.8 days."
    )
    assert ask(days=[7]).sentence == ("7,000 units in 7 days show a difference of 3.3 points or more 80 % of the time.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_rate": None},
        {"sd": 1.0},
        {"base_rate": 1.0},
        {"weights": [1, 0]},
        {"days": [0]},
        {"units_per_day": 0},
        {"effect": 0},
        {"weights": [1]},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ask(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ["fixed", "always_valid"])
def test_the_planned_power_is_the_power_had(analysis: Any) -> None:
    """Units with a taste of their own ask several times and rate some: of 2,000 such experiments at the planned size,
    80 ± 3 % show the effect that was planned for."""
    rng = np.random.default_rng(11)
    n_requests, correlation, rate, base, effect = 5, 0.2, 0.4, 0.5, 0.06
    units = ask(
        base_rate=base,
        effect=effect,
        requests_per_unit=n_requests,
        rating_rate=rate,
        intra_unit_correlation=correlation,
        analysis=analysis,
    ).units
    assert units is not None
    concentration = (1 - correlation) / correlation
    shown = 0
    for _ in range(2000):
        arms = []
        for mean in (base - effect / 2, base + effect / 2):
            taste = rng.beta(mean * concentration, (1 - mean) * concentration, units // 2)
            rated = rng.binomial(n_requests, rate, units // 2)
            arms.append(RatioArm.from_values(rng.binomial(rated, taste), rated))
        found = welch(*arms) if analysis == "fixed" else confidence_sequence(*arms, n_tuned=units)
        assert found.p_value is not None
        shown += found.p_value < 0.05
    assert shown / 2000 == pytest.approx(0.8, abs=0.03)
