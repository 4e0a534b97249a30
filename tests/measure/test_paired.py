"""Paired tests against published numbers, scipy.stats and statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from service.measure.paired import (
    clustered_counts,
    items_to_settle,
    mcnemar_exact,
    paired_mean,
    sign_flip,
    smallest_detectable,
    tango_interval,
    tango_lower_bound,
    tango_statistic,
)
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError

from .cases import Case, parametrised


@parametrised("forgetting", lambda case: case["metric"] == "mcnemar_exact")
def test_published_mcnemar(case: Case) -> None:
    expected = case["expected"]["exact"] if isinstance(case["expected"], dict) else case["expected"]
    got = mcnemar_exact(case["input"]["n10"], case["input"]["n01"])
    assert got == pytest.approx(expected, rel=case["tolerance"])


@given(lost=st.integers(0, 400), gained=st.integers(0, 400))
def test_mcnemar_is_statsmodels(lost: int, gained: int) -> None:
    expected = mcnemar([[0, lost], [gained, 0]], exact=True).pvalue if lost + gained else 1.0
    assert mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-10)


@parametrised("forgetting", lambda case: case["metric"] == "mcnemar_chi2")
def test_tangos_statistic_at_no_difference_is_mcnemars(case: Case) -> None:
    lost, gained = case["input"]["n10"], case["input"]["n01"]
    statistic = tango_statistic(lost, gained, 500, 0.0)
    chi_square, p_value = case["expected"]["uncorrected"]
    assert statistic**2 == pytest.approx(chi_square)
    assert 2 * stats.norm.sf(abs(statistic)) == pytest.approx(p_value)


@parametrised("forgetting", lambda case: case["metric"] == "tango_interval")
def test_published_tango_intervals(case: Case) -> None:
    assert tango_interval(**case["input"]) == pytest.approx(case["expected"], abs=case["tolerance"])


@parametrised("forgetting", lambda case: case["metric"] == "non_inferiority")
def test_published_non_inferiority(case: Case) -> None:
    given_, expected = case["input"], case["expected"]
    lost, gained, n = given_["n10"], given_["n01"], given_["n"]
    bound = tango_lower_bound(lost, gained, n, given_["alpha"])
    assert bound == pytest.approx(expected["tango_lower95"], abs=case["tolerance"])
    statistic = tango_statistic(lost, gained, n, -given_["margin"])
    assert statistic == pytest.approx(expected["tango_z"], abs=case["tolerance"])
    assert stats.norm.sf(statistic) == pytest.approx(expected["tango_p"], abs=case["tolerance"])
    assert (bound > -given_["margin"]) == expected["pass_tango"]
    assert mcnemar_exact(lost, gained) == pytest.approx(expected["mcnemar_exact_p"])


@given(
    cells=st.tuples(*[st.integers(0, 120)] * 3).filter(lambda cells: sum(cells) > 0),
    confidence=st.sampled_from([0.8, 0.9, 0.95, 0.999]),
)
def test_tangos_ends_invert_his_test(cells: tuple[int, int, int], confidence: float) -> None:
    lost, gained, same = cells
    n = sum(cells)
    low, high = tango_interval(lost, gained, n, confidence)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    z = stats.norm.ppf(0.5 + confidence / 2)
    for end, target in ((low, z), (high, -z)):
        if abs(end) < 1 - 1e-9:
            assert tango_statistic(lost, gained, n, end) == pytest.approx(target, abs=1e-5)
    assert tango_interval(gained, lost, n, confidence) == pytest.approx((-high, -low), abs=1e-12)
    assert tango_lower_bound(lost, gained, n, (1 - confidence) / 2) == pytest.approx(low, abs=1e-12)
    assert same >= 0


@parametrised("forgetting", lambda case: case["metric"] == "paired_permutation_exact")
def test_sign_flips_of_right_and_wrong_are_mcnemar(case: Case) -> None:
    assert sign_flip(np.array(case["input"]["differences"])) == pytest.approx(case["expected"], abs=case["tolerance"])


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_few_sign_flips_are_counted_exactly(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.float64) / 3
    patterns = itertools.product((-1, 1), repeat=len(values))
    sums = [abs(sum(s * abs(v) for s, v in zip(signs, values, strict=True))) for signs in patterns]
    expected = np.mean([total >= abs(values.sum()) - 1e-9 for total in sums])
    assert sign_flip(values) == pytest.approx(expected)


def test_many_sign_flips_agree_with_scipy_and_with_their_normal_limit() -> None:
    values = np.random.default_rng(8).normal(0.12, 1.0, size=300)
    expected = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
    assert 0.005 < expected < 0.2
    assert sign_flip(values, seed=4) == pytest.approx(expected, abs=0.012)
    assert sign_flip(values, seed=4) == sign_flip(values, seed=4)
    large = np.random.default_rng(8).normal(0.02, 1.0, size=6_000)
    limit = 2 * stats.norm.sf(abs(large.sum()) / math.sqrt((large**2).sum()))
    assert sign_flip(large) == pytest.approx(limit)
    # 4,999 of the same values are still drawn, and say nearly the same.
    assert sign_flip(large[:4_999]) == pytest.approx(
        2 * stats.norm.sf(abs(large[:4_999].sum()) / math.sqrt((large[:4_999] ** 2).sum())), abs=0.02
    )


def test_groups_flip_together() -> None:
    differences = np.array([1.0, 1, 1, 1, -1, -1])
    assert sign_flip(differences) == pytest.approx(mcnemar_exact(2, 4))
    assert sign_flip(differences, groups=["x", "x", "x", "x", "y", "y"]) == 1.0  # two groups: no p below 1/2
    own_groups = list(range(6))
    assert sign_flip(differences, groups=own_groups) == sign_flip(differences)


def test_paired_mean_is_the_t_test_and_groups_of_one_change_nothing() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, size=40)
    values = np.concatenate([values, 0.6 - values])  # symmetric: the bound is plain t
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    plain = paired_mean(values)
    assert plain is not None
    assert plain.interval(0.95) == pytest.approx((expected.low, expected.high))
    assert plain.lower_bound(0.05) == pytest.approx(
        stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95).low
    )
    single = paired_mean(values, list(range(80)))
    assert single is not None
    assert (single.se, single.dof, single.design_effect) == pytest.approx((plain.se, 79, 1.0))


def test_rare_large_losses_lower_the_bound_and_rare_large_gains_do_not_raise_it() -> None:
    gains = np.random.default_rng(0).exponential(size=30)
    skewness = stats.skew(gains)
    right, left = paired_mean(gains), paired_mean(-gains)
    assert right is not None
    assert left is not None
    t = stats.t.ppf(0.95, 29)
    assert right.lower_bound(0.05) == pytest.approx(right.mean - t * right.se)
    hall = skewness * (2 * t**2 + 1) / (6 * math.sqrt(30))
    assert left.lower_bound(0.05) == pytest.approx(left.mean - (t + hall) * left.se)


def test_copies_of_an_item_add_nothing_when_grouped() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, size=40)
    once = paired_mean(values)
    copied = paired_mean(np.repeat(values, 5), list(np.repeat(np.arange(40), 5)))
    naive = paired_mean(np.repeat(values, 5))
    assert once is not None
    assert copied is not None
    assert naive is not None
    assert copied.se == pytest.approx(once.se)
    assert copied.design_effect == pytest.approx(199 / 39)
    assert naive.se < once.se / 2


def test_rao_scott_counts_divide_by_the_design_effect_and_never_narrow() -> None:
    lost, gained, n = clustered_counts(20, 10, 200, 4.0, 0.05, 1_000_000)
    assert (lost, gained, n) == pytest.approx((5, 2.5, 50), rel=1e-4)
    assert clustered_counts(20, 10, 200, 0.2, 0.05, 1_000_000) == pytest.approx((20, 10, 200), rel=1e-4)
    few_groups = clustered_counts(20, 10, 200, 1.0, 0.05, 4)
    assert few_groups[2] == pytest.approx(200 * (1.6448536 / 2.1318468) ** 2, rel=1e-6)


def test_items_to_settle_and_smallest_detectable_are_inverse() -> None:
    # (1.6449 + 0.8416)^2 * 0.2 / 0.02^2
    assert items_to_settle(0.2, 0.02) == 3092
    n = items_to_settle(0.2, 0.02, two_sided=True)
    assert n == 3925
    assert smallest_detectable(0.2, n) == pytest.approx(0.02, rel=1e-3)
    assert items_to_settle(0.2, 0.0) is None
    assert items_to_settle(0.2, 1e-9) is None


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="negative"):
        mcnemar_exact(-1, 3)
    with pytest.raises(OutOfRangeError, match="among 10"):
        tango_interval(6, 5, 10)
    with pytest.raises(OutOfRangeError, match="item 1"):
        sign_flip(np.array([1.0, math.nan]))
    with pytest.raises(EmptySetError):
        paired_mean(np.array([]))
    with pytest.raises(LengthMismatchError, match="2 items but 1 groups"):
        sign_flip(np.array([1.0, 2.0]), groups=["x"])
    assert paired_mean(np.array([1.0])) is None
    assert paired_mean(np.array([1.0, 2.0]), ["x", "x"]) is None
