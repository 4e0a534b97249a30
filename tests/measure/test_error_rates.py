"""Simulated error rates: what the verdicts promise, counted."""

from __future__ import annotations

import numpy as np
import pytest

from service.measure.ab import confidence_sequence, welch
from service.measure.arms import Arm, RatioArm
from service.measure.comparison import compare
from service.measure.forgetting import judge_task
from service.measure.metrics import METRICS
from service.measure.paired import tango_lower_bound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("n", "discordant", "margin"), [(200, 0.15, 0.05), (500, 0.10, 0.02), (1000, 0.3, 0.05)])
def test_the_gate_passes_a_model_exactly_at_the_margin_no_more_than_promised(
    n: int, discordant: float, margin: float
) -> None:
    """The true drop equals the margin; PASS is then an error, and at most 5.5 % of audits may make it."""
    generator = np.random.default_rng(20)
    lost_share, gained_share = (discordant + margin) / 2, (discordant - margin) / 2
    trials = 20_000
    counts = generator.multinomial(n, [lost_share, gained_share, 1 - discordant], size=trials)
    bounds: dict[tuple[int, int], float] = {}
    passed = 0
    for lost, gained in zip(counts[:, 0].tolist(), counts[:, 1].tolist(), strict=True):
        if (lost, gained) not in bounds:
            bounds[lost, gained] = tango_lower_bound(lost, gained, n)
        passed += bounds[lost, gained] > -margin
    assert 0.03 < passed / trials <= 0.055


def test_the_gate_holds_with_items_in_groups() -> None:
    """Twenty items a group, lost together: taken as independent, a model at the margin passes far too often."""
    generator = np.random.default_rng(21)
    margin, trials, n_groups, size = 0.05, 3_000, 40, 20
    groups = np.repeat(np.arange(n_groups), size).tolist()
    false_passes = {"grouped": 0, "independent": 0}
    for _ in range(trials):
        # A group loses a share of its items drawn around 10 % and gains 5 %: the true drop is the margin.
        lost = generator.beta(1, 9, size=(n_groups, 1))
        draw = generator.random((n_groups, size))
        change = np.where(draw < lost, -1.0, np.where(draw > 0.95, 1.0, 0.0)).ravel()
        before = (change <= 0).astype(np.float64)
        for name, given in (("grouped", groups), ("independent", None)):
            false_passes[name] += judge_task(before, before + change, margin=margin, groups=given).verdict == "PASS"
    assert false_passes["grouped"] / trials <= 0.07
    assert false_passes["independent"] / trials > 0.12


def test_forty_looks_at_no_effect_stay_below_alpha_only_for_the_sequence() -> None:
    generator = np.random.default_rng(22)
    trials, looks, step = 2_000, 40, 50
    rejected = {"sequence": 0, "fixed": 0}
    for _ in range(trials):
        successes = np.cumsum(generator.binomial(step, 0.6, size=(2, looks)), axis=1)
        found = {"sequence": False, "fixed": False}
        for look in range(looks):
            control, treatment = (Arm.from_successes(step * (look + 1), int(arm[look])) for arm in successes)
            sequence = confidence_sequence(control, treatment, n_tuned=2 * step * looks)
            fixed = welch(control, treatment)
            found["sequence"] |= sequence.p_value is not None and sequence.p_value < 0.05
            found["fixed"] |= fixed.p_value is not None and fixed.p_value < 0.05
        for name, hit in found.items():
            rejected[name] += hit
    assert rejected["sequence"] / trials <= 0.05
    assert rejected["fixed"] / trials > 0.2


def test_a_ratio_by_unit_holds_its_level_where_requests_do_not() -> None:
    """Users differ in taste and make about 11 requests each: an A/A test by request cries wolf."""
    generator = np.random.default_rng(23)
    trials, units = 4_000, 300
    rejected = {"unit": 0, "request": 0}
    for _ in range(trials):
        arms, naive = [], []
        for _arm in range(2):
            requests = generator.geometric(1 / 11, size=units)
            liked = generator.binomial(requests, generator.beta(3, 2, size=units))
            arms.append(RatioArm.from_values(liked, requests))
            naive.append(Arm.from_successes(int(requests.sum()), int(liked.sum())))
        for name, pair in (("unit", arms), ("request", naive)):
            rejected[name] += (welch(*pair).p_value or 0.0) < 0.05
    assert rejected["unit"] / trials == pytest.approx(0.05, abs=0.01)
    assert rejected["request"] / trials > 0.15


@pytest.mark.parametrize("name", ["accuracy", "token_f1", "f1_macro"])
def test_two_equal_models_are_rarely_told_apart(name: str) -> None:
    generator = np.random.default_rng(24)
    metric, trials, n = METRICS[name], 600, 150
    wrong = 0
    for seed in range(trials):
        if name == "f1_macro":
            true = generator.integers(0, 3, n)
            before, after = (
                np.column_stack([true, np.where(generator.random(n) < 0.7, true, generator.integers(0, 3, n))]).astype(
                    np.float64
                )
                for _ in range(2)
            )
        elif name == "accuracy":
            before, after = ((generator.random((n, 1)) < 0.7).astype(np.float64) for _ in range(2))
        else:
            before, after = (generator.beta(0.5, 0.5, (n, 1)) for _ in range(2))
        wrong += compare(metric, before, after, seed=seed).verdict in ("better", "worse")
    assert wrong / trials <= 0.075
