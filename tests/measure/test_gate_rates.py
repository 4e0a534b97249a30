"""What the gate promises, counted: how often it passes a model at the margin, how often one that lost nothing, and how
often its intervals hold the truth. Where the outcomes can be enumerated the rates are exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from service.measure.floor import noise_floor
from service.measure.forgetting import judge_task
from service.measure.paired import POWER, items_to_pass, paired_mean, tango_interval, tango_lower_bound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DISCORDANCE = [0.05, 0.10, 0.20, 0.30]


def pass_rate(n: int, discordant: float, margin: float, drop: float) -> float:
    """The exact chance of PASS for right/wrong items, given the share of discordant items and the true drop.

    Sums over the number of discordant items; for each the bound falls as more of them are lost, so PASS is a tail.
    """
    lost_share = (discordant + drop) / (2 * discordant)
    low, high = (int(end) for end in binom.interval(1 - 1e-10, n, discordant))
    total = 0.0
    for flips in range(low, high + 1):
        passing, failing = -1, flips + 1
        while failing - passing > 1:
            lost = (passing + failing) // 2
            if tango_lower_bound(lost, flips - lost, n) > -margin:
                passing = lost
            else:
                failing = lost
        total += binom.pmf(flips, n, discordant) * binom.cdf(passing, flips, lost_share)
    return float(total)


@pytest.mark.parametrize("margin", [0.02, 0.05])
@pytest.mark.parametrize("discordant", DISCORDANCE)
@pytest.mark.parametrize("n", [200, 500, 2000])
def test_a_model_exactly_at_the_margin_passes_no_more_often_than_promised(
    n: int, discordant: float, margin: float
) -> None:
    assert pass_rate(n, discordant, margin, drop=margin) <= 0.055


@pytest.mark.parametrize("margin", [0.01, 0.02, 0.03, 0.05])
@pytest.mark.parametrize("discordant", DISCORDANCE)
def test_the_planned_number_of_items_has_the_promised_power(discordant: float, margin: float) -> None:
    n = items_to_pass(discordant, margin)
    assert n is not None
    power = pass_rate(n, discordant, margin, drop=0.0)
    assert power >= POWER - 0.001
    # With a margin as wide as all that differs, the few items there are come in steps of more than a point.
    assert power <= POWER + (0.03 if margin < discordant else 0.045)


@pytest.mark.parametrize(("discordant", "margin", "drop"), [(0.1, 0.04, 0.01), (0.2, 0.05, 0.02), (0.3, 0.05, 0.01)])
def test_the_planned_number_of_items_for_a_small_drop(discordant: float, margin: float, drop: float) -> None:
    n = items_to_pass(discordant, margin, -drop)
    assert n is not None
    assert pass_rate(n, discordant, margin, drop=drop) == pytest.approx(POWER, abs=0.03)


@pytest.mark.parametrize(("n", "discordant", "margin"), [(200, 0.15, 0.05), (500, 0.1, 0.03), (2000, 0.3, 0.05)])
def test_the_enumeration_is_what_the_whole_gate_does(n: int, discordant: float, margin: float) -> None:
    generator = np.random.default_rng(40)
    trials = 4_000
    counts = generator.multinomial(
        n, [(discordant + margin) / 2, (discordant - margin) / 2, 1 - discordant], size=trials
    )
    known: dict[tuple[int, int], bool] = {}
    for lost, gained in set(map(tuple, counts[:, :2].tolist())):
        before = np.repeat([1.0, 0.0, 1.0], [lost, gained, n - lost - gained])
        after = np.repeat([0.0, 1.0, 1.0], [lost, gained, n - lost - gained])
        known[lost, gained] = judge_task(before, after, margin=margin).verdict == "PASS"
    passed = np.mean([known[lost, gained] for lost, gained, _ in counts.tolist()])
    exact = pass_rate(n, discordant, margin, drop=margin)
    assert passed == pytest.approx(exact, abs=4 * np.sqrt(exact / trials))


@pytest.mark.parametrize("drop", [0.0, 0.03])
@pytest.mark.parametrize("discordant", DISCORDANCE)
@pytest.mark.parametrize("n", [200, 500, 2000])
def test_tangos_interval_holds_the_true_difference(n: int, discordant: float, drop: float) -> None:
    generator = np.random.default_rng(41)
    trials = 10_000
    shares = [(discordant + drop) / 2, (discordant - drop) / 2, 1 - discordant]
    found: dict[tuple[int, int], bool] = {}
    covered = 0
    for lost, gained, _ in generator.multinomial(n, shares, size=trials).tolist():
        if (lost, gained) not in found:
            low, high = tango_interval(lost, gained, n)
            found[lost, gained] = low <= -drop <= high
        covered += found[lost, gained]
    assert covered / trials == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("n", [200, 500, 2000])
def test_the_interval_of_real_scores_holds_the_true_difference(n: int) -> None:
    generator = np.random.default_rng(42)
    trials = 4_000
    covered = 0
    for _ in range(trials):
        before = generator.beta(3, 1, size=n)
        after = before - 0.02 + generator.normal(0, 0.1, size=n)
        mean = paired_mean(after - before)
        assert mean is not None
        low, high = mean.interval(0.95)
        covered += low <= -0.02 <= high
    assert covered / trials == pytest.approx(0.95, abs=0.015)


# --- the noise floor ---


def runs_of(chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (generator.random(len(chances)) < chances).astype(np.float64)


@pytest.mark.parametrize("n", [200, 500])
def test_an_unchanged_model_is_seldom_said_to_forget(n: int) -> None:
    """Items from certain to a coin's toss; base and tuned answer alike in distribution. F is far above 0 every time."""
    generator = np.random.default_rng(43)
    trials = 4_000
    called = unreproducible = 0
    lost = 0.0
    for _ in range(trials):
        chances = generator.beta(2, 0.7, size=n)
        floor = noise_floor(*(runs_of(chances, generator) for _ in range(3)))
        called += floor.called
        unreproducible += not floor.reproducible
        lost += floor.F
    assert lost / trials > 0.08
    assert called / trials <= 0.055
    assert unreproducible / trials <= 0.002


def test_the_interval_above_the_floor_holds_what_was_forgotten() -> None:
    """A tenth of the items the base knows is gone for good: F less the floor is the mean of p (p - q)."""
    generator = np.random.default_rng(44)
    n, trials, covered, called = 500, 4_000, 0, 0
    chances = generator.beta(2, 0.7, size=n)
    tuned = np.where(np.arange(n) % 10 == 0, 0.05 * chances, chances)
    # The items are fixed here: what varies is the runs alone, so the interval for a population of items is wide.
    truth = float((chances * (chances - tuned)).mean())
    for _ in range(trials):
        floor = noise_floor(runs_of(chances, generator), runs_of(chances, generator), runs_of(tuned, generator))
        assert floor.interval is not None
        covered += floor.interval[0] <= truth <= floor.interval[1]
        called += floor.called
    assert covered / trials >= 0.935
    assert called / trials > 0.8


def test_a_noisy_base_at_the_margin_passes_no_more_often() -> None:
    """The gate's rate with answers that vary from run to run, where the true drop is the margin."""
    generator = np.random.default_rng(45)
    n, margin, trials, passed = 500, 0.05, 4_000, 0
    known: dict[tuple[int, int], bool] = {}
    for _ in range(trials):
        chances = generator.beta(2, 0.7, size=n)
        tuned = chances * (1 - margin / (2 / 2.7))
        before, after = runs_of(chances, generator), runs_of(tuned, generator)
        key = (int((after < before).sum()), int((after > before).sum()))
        if key not in known:
            known[key] = tango_lower_bound(*key, n) > -margin
        passed += known[key]
    assert passed / trials <= 0.055 + 2 * np.sqrt(0.05 * 0.95 / trials)
