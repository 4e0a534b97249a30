"""Adjusted arms and quantiles against tea-tasting, plain arithmetic on units, and resampled units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tea_tasting as tt

from service.measure.ab import welch
from service.measure.arms import Arm, RatioArm
from service.measure.bandit import Counts, counts_of, thompson, weighted
from service.measure.cuped import Past, adjust, reduction
from service.measure.quantiles import bin_of, cluster_factor, quantile, quantile_arm
from service.measure.validation import OutOfRangeError

Floats = npt.NDArray[np.float64]


def units(n: int, seed: int, lift: float = 0.0) -> dict[str, Floats]:
    """Units with a taste of their own, before and after their exposure; some have no past, some no ratings since."""
    rng = np.random.default_rng(seed)
    taste = rng.beta(3, 2, n)
    u, x = rng.poisson(4, n).astype(float), rng.poisson(3, n).astype(float)
    v = rng.binomial(u.astype(int), taste).astype(float)
    y = rng.binomial(x.astype(int), np.clip(taste + lift, 0, 1)).astype(float)
    return {"x": x, "y": y, "u": u, "v": v}


def past_of(found: dict[str, Floats]) -> Past:
    x, y, u, v = (found[name] for name in "xyuv")
    return Past(u.sum(), v.sum(), u @ u, v @ v, u @ v, x @ u, x @ v, y @ u, y @ v)


def test_an_adjusted_ratio_is_tea_tastings() -> None:
    control, treatment = units(3000, 1), units(3000, 2, 0.05)
    frames = [pd.DataFrame(found | {"variant": place}) for place, found in enumerate((control, treatment))]
    metric = tt.RatioOfMeans("y", "x", "v", "u")
    theirs: Any = tt.Experiment({"rated": metric}).analyze(pd.concat(frames))["rated"]
    arms = [RatioArm.from_values(found["y"], found["x"]) for found in (control, treatment)]
    adjusted = adjust(arms, [3000, 3000], [past_of(control), past_of(treatment)])
    assert adjusted is not None
    ours = welch(adjusted[0], adjusted[1])
    assert ours.interval is not None
    # Their coefficient is of all units as one sample, ours of the units within each arm.
    assert ours.estimate == pytest.approx(theirs.treatment - theirs.control, abs=2e-4)
    assert ours.interval == pytest.approx((theirs.effect_size_ci_lower, theirs.effect_size_ci_upper), abs=3e-4)
    explained = reduction(arms, adjusted)
    assert explained is not None
    assert 0.1 < explained < 0.5


def test_an_adjusted_mean_is_tea_tastings_and_the_regressions() -> None:
    control, treatment = units(2000, 3), units(1000, 4, 0.1)
    frames = [pd.DataFrame(found | {"variant": place}) for place, found in enumerate((control, treatment))]
    theirs: Any = tt.Experiment({"ups": tt.Mean("y", "v", use_t=True, equal_var=False)}).analyze(pd.concat(frames))[
        "ups"
    ]
    arms, pasts = [], []
    for found in (control, treatment):
        one = {**found, "x": np.ones(len(found["x"])), "u": np.ones(len(found["u"]))}
        arms.append(RatioArm.from_values(one["y"], one["x"]))
        pasts.append(past_of(one))
    adjusted = adjust(arms, [2000, 1000], pasts)
    assert adjusted is not None
    ours = welch(adjusted[0], adjusted[1])
    assert ours.interval is not None
    assert ours.estimate == pytest.approx(theirs.effect_size, abs=1e-3)
    assert ours.interval == pytest.approx((theirs.effect_size_ci_lower, theirs.effect_size_ci_upper), abs=2e-3)


def test_units_without_a_value_count_in_the_adjustment() -> None:
    """Half of the units never rate: over exposed units the result is the same as with their zeros written out."""
    found = units(1000, 5)
    silent = np.arange(1000) % 2 == 0
    found["x"][silent] = found["y"][silent] = 0.0
    other = units(1000, 6)
    whole = [RatioArm.from_values(one["y"], one["x"]) for one in (found, other)]
    valued = [RatioArm.from_values(one["y"][one["x"] > 0], one["x"][one["x"] > 0]) for one in (found, other)]
    pasts = [past_of(found), past_of(other)]
    full, part = adjust(whole, [1000, 1000], pasts), adjust(valued, [1000, 1000], pasts)
    assert full is not None
    assert part is not None
    for a, b in zip(full, part, strict=True):
        assert a.mean == pytest.approx(b.mean)
        assert a.variance / a.n == pytest.approx(b.variance / b.n)


def test_a_past_that_explains_nothing_adjusts_nothing() -> None:
    found = units(100, 7)
    nothing = Past(*[0.0] * 9)
    arm = RatioArm.from_values(found["y"], found["x"])
    assert adjust([arm, arm], [100, 100], [nothing, nothing]) is None
    same = past_of({**found, "u": np.ones(100), "v": np.ones(100)})
    assert adjust([arm, arm], [100, 100], [same, same]) is None


def test_a_random_past_leaves_the_level_alone() -> None:
    """A/A with a past that says nothing: adjusted and plain intervals are about as wide."""
    rng = np.random.default_rng(8)
    arms, pasts = [], []
    for seed in (9, 10):
        found = units(2000, seed)
        found["v"] = rng.binomial(found["u"].astype(int), 0.5).astype(float)
        arms.append(RatioArm.from_values(found["y"], found["x"]))
        pasts.append(past_of(found))
    adjusted = adjust(arms, [2000, 2000], pasts)
    assert adjusted is not None
    assert reduction(arms, adjusted) == pytest.approx(0.0, abs=0.01)


# --- quantiles ---


def requests(n_units: int, seed: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """(unit, seconds): a unit's requests are alike."""
    rng = np.random.default_rng(seed)
    many = 1 + rng.poisson(6, n_units)
    ids = np.repeat(np.arange(n_units), many)
    return ids, np.exp(np.repeat(rng.normal(0, 0.5, n_units), many) + rng.normal(0, 0.4, len(ids)))


def histogram(seconds: Floats) -> dict[int, int]:
    bins: dict[int, int] = {}
    for value in seconds.tolist():
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    return bins


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_error_of_a_quantile_is_that_of_resampled_units(share: float) -> None:
    ids, seconds = requests(800, 1)
    bins = histogram(seconds)
    value = quantile(bins, share)
    assert value == pytest.approx(np.quantile(seconds, share), rel=0.01)
    factor = cluster_factor(ids, seconds, value or 0.0)
    assert factor is not None
    assert factor > 1.5
    arm = quantile_arm(bins, 800, share, factor)
    assert arm is not None
    rng = np.random.default_rng(2)
    of_unit = np.split(seconds, np.flatnonzero(np.diff(ids)) + 1)
    resampled = [
        np.quantile(np.concatenate([of_unit[unit] for unit in rng.integers(0, 800, 800)]), share) for _ in range(300)
    ]
    assert math.sqrt(arm.variance / arm.n) == pytest.approx(np.std(resampled), rel=0.2)


def test_what_has_no_spread_has_no_error() -> None:
    assert quantile_arm({}, 0, 0.5, 1.0) is None
    assert cluster_factor([], [], 1.0) is None
    assert cluster_factor([1, 2], [1.0, 1.0], 2.0) is None
    assert cluster_factor([1, 1], [1.0, 3.0], 2.0) is None


# --- bandits ---


def test_the_better_arm_gets_more_and_none_less_than_the_floor() -> None:
    shares = thompson([Counts(50, 50), Counts(70, 30), Counts(10, 90)], floor=0.05, seed=1)
    assert sum(shares) == pytest.approx(1)
    assert shares[1] > 0.85
    assert min(shares) >= 0.05
    assert thompson([Counts(0, 0)] * 4, seed=2) == pytest.approx([0.25] * 4, abs=0.02)
    # Beta(1 + 1, 1) against Beta(1, 1 + 1): P(X > Y) = 5/6, by hand.
    assert thompson([Counts(1, 0), Counts(0, 1)], floor=0.0, seed=3)[0] == pytest.approx(5 / 6, abs=0.01)
    with pytest.raises(OutOfRangeError):
        thompson([Counts(0, 0)] * 3, floor=0.4)


def test_alike_values_of_one_unit_count_for_less() -> None:
    independent = counts_of(RatioArm.from_values([1, 0] * 200, [1] * 400))
    assert (independent.successes, independent.failures) == pytest.approx((200, 200), rel=0.01)
    alike = counts_of(RatioArm.from_values([10, 0] * 20, [10] * 40))
    assert alike.successes == pytest.approx(20, rel=0.05)


def test_one_stretch_is_read_as_it_is_and_several_by_their_propensities() -> None:
    found = units(500, 11)
    arm = RatioArm.from_values(found["y"], found["x"])
    alone = weighted([(arm, 0.3)])
    assert (alone.n, alone.mean) == (arm.n, pytest.approx(arm.mean))
    assert alone.variance == pytest.approx(arm.variance, rel=1e-6)
    # 90 % of the good day's units and 10 % of the bad day's were in this arm: unweighted, it would look too good.
    good, bad = Arm.from_successes(900, 720), Arm.from_successes(100, 20)
    parts = [(RatioArm(a.n, a.sum, a.n, a.sum_squares, a.n, a.sum), p) for a, p in ((good, 0.9), (bad, 0.1))]
    assert weighted(parts).mean == pytest.approx((0.8 + 0.2) / 2)
