"""From sums to a verdict: every decision, by tables of values; no database, no clock."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.experiments.effects import Design, Evidence, Metric, effects_of
from service.experiments.evidence import arms_of, exposed_of
from service.experiments.readout import timeline
from service.experiments.report import EffectReport, OverallVerdict
from service.experiments.verdict import conclude, split_of
from service.store.events import Sums

DESIGN = Design(alpha=0.05, analysis="fixed", minimum_units=100, expected_units=None, n_arms=2)
SHARES = {"base": 0.5, "tuned": 0.5}
SATISFACTION = Metric("satisfaction", "primary", "higher", "binary")


def sums_of(y: Any, x: Any = None) -> Sums:
    y = np.asarray(y, dtype=float)
    x = np.ones_like(y) if x is None else np.asarray(x, dtype=float)
    return Sums(len(y), float(x.sum()), float(y.sum()), float(x @ x), float(y @ y), float(x @ y))


def share(rate: float, n: int) -> Sums:
    """n units with one rating each, this share of them up."""
    ups = round(rate * n)
    return Sums(n, n, ups, n, ups, ups)


def units(**arms: int) -> dict[tuple[str, str], Sums]:
    return {("units", arm): share(1, n) for arm, n in arms.items()}


def judge(
    metrics: list[Metric], totals: dict[tuple[str, str], Sums], design: Design = DESIGN
) -> tuple[OverallVerdict, dict[tuple[str, str], EffectReport]]:
    variants = list(SHARES) if ("units", "third") not in totals else [*SHARES, "third"]
    shares = SHARES if len(variants) == 2 else dict.fromkeys(variants, 1 / 3)
    arms = arms_of(metrics, variants, totals)
    effects = effects_of(Evidence(metrics, variants, arms, arms, exposed_of(variants, totals)), design)
    verdict = conclude(split_of(shares, totals), effects, design)
    return verdict, {(effect.metric, effect.variant): effect for effect in effects}


@pytest.mark.parametrize(
    ("base", "tuned", "n", "margin", "expected", "decision"),
    [
        (0.5, 0.6, 1000, None, None, "better"),
        (0.6, 0.5, 1000, None, None, "worse"),
        (0.5, 0.51, 1000, None, None, "inconclusive"),
        (0.5, 0.51, 1000, None, 2000, "no_difference"),
        (0.5, 0.51, 1000, None, 4000, "too_little_data"),
        (0.5, 0.505, 4000, 0.03, None, "no_difference"),
        (0.5, 0.525, 2000, 0.05, None, "not_worse"),
        (0.5, 0.48, 10000, 0.04, None, "not_worse"),  # surely worse, surely by less than the margin
        (0.5, 0.45, 10000, 0.04, None, "worse"),
        (0.5, 0.49, 1000, 0.02, None, "inconclusive"),
        (0.5, 0.6, 90, None, None, "too_little_data"),
    ],
)
def test_decisions(
    base: float, tuned: float, n: int, margin: float | None, expected: int | None, decision: str
) -> None:
    totals = units(base=n, tuned=n) | {
        ("satisfaction", "base"): share(base, n),
        ("satisfaction", "tuned"): share(tuned, n),
    }
    design = replace(DESIGN, expected_units=expected)
    verdict, effects = judge([replace(SATISFACTION, margin=margin)], totals, design)
    assert verdict.decision == decision
    assert effects["satisfaction", "tuned"].absolute == pytest.approx(tuned - base, abs=1e-3)


def test_lower_may_be_better() -> None:
    latency = Metric("latency", "primary", "lower")
    rng = np.random.default_rng(1)
    totals = units(base=500, tuned=500)
    totals |= {
        ("latency", "base"): sums_of(rng.normal(2, 0.3, 500)),
        ("latency", "tuned"): sums_of(rng.normal(1, 0.3, 500)),
    }
    verdict, _ = judge([latency], totals)
    assert verdict.decision == "better"
    assert verdict.sentence.startswith("Answers of 'tuned' arrive sooner than those of 'base': −")
    assert " s [−" in verdict.sentence


def test_cost_is_told_for_a_thousand_requests() -> None:
    rng = np.random.default_rng(2)
    totals = units(base=500, tuned=500)
    totals |= {("cost", "base"): sums_of(rng.normal(2.4e-6, 3e-7, 500))}
    totals |= {("cost", "tuned"): sums_of(rng.normal(1.2e-6, 3e-7, 500))}
    verdict, effects = judge([Metric("cost", "primary", "lower")], totals)
    assert effects["cost", "tuned"].absolute == pytest.approx(-1.2e-6, rel=0.05)
    assert re.search(r"cost less than those of 'base': −0\.001\d+ USD per 1,000 requests \[−0\.001", verdict.sentence)


def test_the_sentence_says_the_difference_in_points() -> None:
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.4, 1000), ("satisfaction", "tuned"): share(0.613, 1000)}
    verdict, _ = judge([SATISFACTION], totals)
    assert verdict.sentence == (
        "Answers of 'tuned' satisfy users more than those of 'base': +21.3 points [17.0, 25.6]."
    )


def test_a_harmed_guardrail_outweighs_a_better_primary() -> None:
    errors = Metric("error_rate", "guardrail", "lower")
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.4, 1000), ("satisfaction", "tuned"): share(0.6, 1000)}
    totals |= {("error_rate", "base"): share(0.01, 1000), ("error_rate", "tuned"): share(0.1, 1000)}
    verdict, effects = judge([SATISFACTION, errors], totals)
    assert effects["satisfaction", "tuned"].verdict == "better"
    assert (verdict.decision, verdict.reasons[0].code) == ("worse", "guardrail_worse")
    assert "fail more often" in verdict.sentence


@pytest.mark.parametrize(
    ("errors", "verdict"), [(0.1, "worse"), (0.052, "no_difference"), (0.03, "not_worse"), (0.059, "inconclusive")]
)
def test_a_guardrail_is_watched_at_every_look_too(errors: float, verdict: str) -> None:
    design = replace(DESIGN, analysis="always_valid", expected_units=10_000)
    guardrail = Metric("error_rate", "guardrail", "lower", margin=0.02)
    totals = units(base=5000, tuned=5000)
    totals |= {("error_rate", "base"): share(0.05, 5000), ("error_rate", "tuned"): share(errors, 5000)}
    _, effects = judge([SATISFACTION, guardrail], totals, design)
    found = effects["error_rate", "tuned"]
    assert found.verdict == verdict
    assert found.absolute_interval is not None
    low, high = found.absolute_interval
    assert high is None
    assert low is not None
    assert low < errors - 0.05


def test_a_guardrail_without_a_single_error_is_no_obstacle() -> None:
    errors = Metric("error_rate", "guardrail", "lower")
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.4, 1000), ("satisfaction", "tuned"): share(0.6, 1000)}
    totals |= {("error_rate", "base"): share(0, 1000), ("error_rate", "tuned"): share(0, 1000)}
    verdict, effects = judge([SATISFACTION, errors], totals)
    found = effects["error_rate", "tuned"]
    assert (verdict.decision, found.verdict, found.reason, found.absolute) == (
        "better",
        "no_difference",
        "no_variation",
        None,
    )


def test_different_rating_rates_are_said() -> None:
    rating = Metric("rating_rate", "secondary", "higher")
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.4, 500), ("satisfaction", "tuned"): share(0.7, 200)}
    totals |= {("rating_rate", "base"): share(0.5, 1000), ("rating_rate", "tuned"): share(0.2, 1000)}
    verdict, _ = judge([SATISFACTION, rating], totals)
    assert verdict.decision == "better"
    assert "rating_rate_differs" in [reason.code for reason in verdict.reasons]


def test_answers_of_the_fallback_are_said() -> None:
    fallback = Metric("fallback_rate", "guardrail", "lower")
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.4, 1000), ("satisfaction", "tuned"): share(0.4, 1000)}
    totals |= {("fallback_rate", "base"): share(0.2, 1000), ("fallback_rate", "tuned"): share(0.2, 1000)}
    verdict, _ = judge([SATISFACTION, fallback], totals)
    assert [reason.code for reason in verdict.reasons] == ["many_fallbacks"]


def test_few_raters_are_too_little_data_however_many_units() -> None:
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.2, 20), ("satisfaction", "tuned"): share(0.9, 20)}
    verdict, effects = judge([SATISFACTION], totals)
    assert verdict.decision == "too_little_data"
    # 10 raters are lacking in each arm, and one unit in 50 rates.
    assert verdict.n_more_units == effects["satisfaction", "tuned"].n_more_units == 1000


def test_how_many_more_units_is_the_plan_for_what_is_seen() -> None:
    totals = units(base=1000, tuned=1000)
    totals |= {("satisfaction", "base"): share(0.5, 1000), ("satisfaction", "tuned"): share(0.52, 1000)}
    verdict, _ = judge([SATISFACTION], totals)
    # The textbook's n = (1.960 + 0.842)^2 (p0 q0 + p1 q1) / d^2 an arm.
    textbook = 2 * (1.959964 + 0.841621) ** 2 * (0.25 + 0.2496) / 0.02**2
    assert verdict.n_more_units == pytest.approx(textbook - 2000, rel=0.01)


def test_of_several_variants_the_best_is_spoken_of() -> None:
    totals = units(base=1000, tuned=1000, third=1000)
    rates = {"base": 0.4, "tuned": 0.3, "third": 0.6}
    totals |= {("satisfaction", arm): share(rate, 1000) for arm, rate in rates.items()}
    verdict, effects = judge([SATISFACTION], totals)
    assert (verdict.decision, verdict.variant) == ("better", "third")
    assert effects["satisfaction", "tuned"].verdict == "worse"
    # Two tests, so Holm: the smaller p counts twice.
    p_values = sorted(effect.p_value for effect in effects.values() if effect.p_value is not None)
    adjusted = sorted(effect.p_adjusted for effect in effects.values() if effect.p_adjusted is not None)
    assert adjusted[0] == pytest.approx(2 * p_values[0])


def test_looking_at_every_step_rejects_seldom_under_no_difference() -> None:
    """200 A/A experiments, each looked at 40 times: the always-valid verdict hardly ever errs."""
    rng = np.random.default_rng(11)
    design = replace(DESIGN, analysis="always_valid", minimum_units=25, expected_units=2000)
    wrong = 0
    for _ in range(200):
        outcomes = rng.random((2, 1000)) < 0.6
        for n in range(25, 1001, 25):
            totals = units(base=n, tuned=n)
            totals |= {("satisfaction", arm): sums_of(outcomes[i, :n]) for i, arm in enumerate(SHARES)}
            verdict, _ = judge([SATISFACTION], totals, design)
            if verdict.decision in {"better", "worse"}:
                wrong += 1
                break
    assert wrong <= 200 * 0.05


def test_the_timeline_is_the_readout_as_it_stood() -> None:
    rng = np.random.default_rng(5)
    values = {arm: rng.random(400) < rate for arm, rate in (("base", 0.4), ("tuned", 0.6))}
    series = []
    for step in range(100):
        for arm, ups in values.items():
            part = sums_of(ups[4 * step : 4 * step + 4])
            series += [(1000 + 10 * step, "satisfaction", arm, part), (1000 + 10 * step, "units", arm, share(1, 4))]
    points = timeline(SATISFACTION, ["base", "tuned"], series, DESIGN, now=1985.0)
    assert len(points) == 40
    assert [point.at for point in points] == sorted(point.at for point in points)
    for point in points:
        n = 4 * (int(min(point.at + 5, 1990) - 1000) // 10 + 1)
        assert point.absolute == pytest.approx(values["tuned"][:n].mean() - values["base"][:n].mean())
    last = points[-1]
    assert last.at == 1985.0  # a stretch that has not ended is read now
    totals = {("satisfaction", arm): sums_of(ups) for arm, ups in values.items()} | units(base=400, tuned=400)
    _, effects = judge([SATISFACTION], totals)
    assert last.interval == pytest.approx(effects["satisfaction", "tuned"].absolute_interval)
