"""Arms, effects, the split check and sizes: published cases, scipy.stats and identities between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from service.measure.ab import (
    confidence_sequence,
    design_effect,
    duration,
    minimum_detectable_effect,
    proportion_variance,
    sample_ratio,
    sequence_margin,
    tuned_rho,
    units_needed,
    welch,
)
from service.measure.adjust import benjamini_hochberg
from service.measure.arms import Arm, RatioArm
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError

from .cases import Case, parametrised

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


@parametrised("abtest", lambda case: case["category"] == "stats.welch.absolute" and "control" in case["inputs"])
def test_published_welch(case: Case) -> None:
    control, treatment = Arm(**case["inputs"]["control"]), Arm(**case["inputs"]["treatment"])
    got = welch(control, treatment, case["inputs"].get("alpha", 0.05))
    expected, tolerance = case["expected"], case["tolerance"]
    assert got.p_value == pytest.approx(expected["p"], abs=tolerance)
    if "effect" in expected:
        assert (got.estimate, got.se) == pytest.approx((expected["effect"], expected["se"]), abs=tolerance)
        assert got.interval == pytest.approx(expected["ci"], abs=tolerance)
        assert got.dof == pytest.approx(expected["dof"], abs=tolerance)


@parametrised("abtest", lambda case: case["id"] == "r_sleep")
def test_rs_sleep_data(case: Case) -> None:
    got = welch(Arm.from_values(case["inputs"]["b"]), Arm.from_values(case["inputs"]["a"]))
    expected = case["expected"]
    assert got.estimate is not None
    assert got.se is not None
    assert (got.estimate / got.se, got.dof, got.p_value) == pytest.approx(
        (expected["t"], expected["df"], expected["p"]), abs=case["tolerance"]
    )
    assert got.interval == pytest.approx(expected["ci"], abs=case["tolerance"])


@parametrised("abtest", lambda case: case["category"] == "stats.welch.one_sided.relative")
def test_published_one_sided_relative_welch(case: Case) -> None:
    control, treatment = Arm(**case["inputs"]["control"]), Arm(**case["inputs"]["treatment"])
    got = welch(control, treatment, case["inputs"]["alpha"], relative=True, alternative="greater")
    expected = case["expected"]
    assert (got.estimate, got.se, got.p_value) == pytest.approx(
        (expected["effect"], expected["se"], expected["p"]), abs=case["tolerance"]
    )
    assert got.interval is not None
    assert got.interval[0] == pytest.approx(expected["ci_lower"], abs=case["tolerance"])
    assert got.interval[1] == math.inf


@parametrised("abtest", lambda case: case["category"] == "stats.non_inferiority.one_sided_z")
def test_published_non_inferiority(case: Case) -> None:
    control, treatment = Arm(**case["inputs"]["control"]), Arm(**case["inputs"]["treatment"])
    margin = case["inputs"]["margin"] * control.mean
    got = welch(control, treatment, 1 - case["inputs"]["interval"], alternative="greater", null=-margin)
    assert got.estimate == pytest.approx(case["expected"]["diff"], abs=case["tolerance"])
    assert got.interval is not None
    assert got.p_value is not None
    assert got.interval[0] == pytest.approx(case["expected"]["ci_lower"], abs=case["tolerance"])
    assert got.p_value > case["expected"]["p_gt"]
    assert (got.interval[0] > -margin) == (got.p_value < 0.01)


@given(a=VALUES, b=VALUES)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    if max(a) - min(a) < 1e-3 or max(b) - min(b) < 1e-3:
        return  # scipy.stats warns of cancellation; `no_variation` has its own test
    expected = stats.ttest_ind(b, a, equal_var=False)
    got = welch(Arm.from_values(a), Arm.from_values(b))
    assert got.p_value == pytest.approx(expected.pvalue, rel=1e-5, abs=1e-9)
    assert got.dof == pytest.approx(expected.df, rel=1e-6)
    low = expected.confidence_interval(0.95)
    assert got.interval == pytest.approx((low.low, low.high), rel=1e-5, abs=1e-6)
    less = welch(Arm.from_values(a), Arm.from_values(b), alternative="less")
    assert less.p_value == pytest.approx(
        stats.ttest_ind(b, a, equal_var=False, alternative="less").pvalue, rel=1e-5, abs=1e-9
    )


@given(a=VALUES, b=VALUES)
def test_arms_add_up(a: list[float], b: list[float]) -> None:
    together = Arm.from_values(a) + Arm.from_values(b)
    assert together.n == len(a) + len(b)
    assert together.mean == pytest.approx(np.mean(a + b), abs=1e-9)
    assert together.variance == pytest.approx(np.var(a + b, ddof=1), rel=1e-6, abs=1e-7)
    ratio = RatioArm.from_values(a, np.ones(len(a))) + RatioArm.from_values(b, np.ones(len(b)))
    assert (ratio.mean, ratio.variance) == pytest.approx((together.mean, together.variance), rel=1e-9, abs=1e-9)


def test_a_ratio_has_the_variance_of_its_linearised_units() -> None:
    generator = np.random.default_rng(0)
    rated = generator.poisson(4, size=800) + 1.0
    liked = generator.binomial(rated.astype(int), generator.beta(6, 4, size=800)).astype(float)
    arm = RatioArm.from_values(liked, rated)
    assert arm.mean == pytest.approx(liked.sum() / rated.sum())
    linearised = (liked - arm.mean * rated) / rated.mean()
    assert arm.variance == pytest.approx(np.var(linearised, ddof=1))
    naive = arm.mean * (1 - arm.mean) / rated.sum()
    assert arm.variance / arm.n > 1.2 * naive  # the units differ in taste


def test_a_binary_arm_is_its_zeros_and_ones() -> None:
    assert Arm.from_successes(5, 2) == Arm.from_values([1, 0, 1, 0, 0])


def test_a_relative_effect_is_the_ratio_with_a_delta_method_error() -> None:
    control, treatment = Arm.from_successes(4000, 1200), Arm.from_successes(4000, 1320)
    got = welch(control, treatment, relative=True)
    assert got.estimate == pytest.approx(0.1)
    log_se = math.sqrt(0.7 / 0.3 / 4000 + 0.67 / 0.33 / 4000)  # the textbook error of a log risk ratio
    assert got.se == pytest.approx(1.1 * log_se, rel=1e-3)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("control", "treatment", "relative", "reason"),
    [
        (Arm(1, 1, 1), Arm(9, 4, 4), False, "too_few_units"),
        (Arm(0, 0, 0), Arm(0, 0, 0), False, "too_few_units"),
        (Arm(9, 9, 9), Arm(9, 9, 9), False, "no_variation"),
        (Arm(9, 0, 0), Arm(9, 4, 4), True, "zero_control_mean"),
        (RatioArm(9, 0, 0, 0, 0, 0), RatioArm(9, 4, 9, 4, 9, 4), False, "no_denominator"),
    ],
)
def test_what_cannot_be_tested_comes_back_with_a_reason(
    control: Arm, treatment: Arm, relative: bool, reason: str, sequential: bool
) -> None:
    if sequential:
        got = confidence_sequence(control, treatment, relative=relative)
    else:
        got = welch(control, treatment, relative=relative)
    assert (got.reason, got.estimate, got.interval, got.se, got.p_value, got.dof) == (reason, *[None] * 5)


@parametrised("abtest", lambda case: case["category"].startswith("stats.sequential.asymptotic_cs"))
def test_published_confidence_sequence_margin(case: Case) -> None:
    inputs = case["inputs"]
    got = sequence_margin(inputs["variance"], inputs["n"], inputs["alpha"], inputs["rho"])
    assert got == pytest.approx(case["expected"]["margin"], abs=case["tolerance"])


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_rho_is_tuned_to_the_tightest_margin(alpha: float) -> None:
    found = optimize.minimize_scalar(
        lambda log_rho: sequence_margin(1.0, 700, alpha, math.exp(log_rho)), bounds=(-8, 1), method="bounded"
    )
    rho = tuned_rho(700, alpha)
    assert sequence_margin(1.0, 700, alpha, rho) == pytest.approx(found.fun, rel=1e-9)
    assert rho == pytest.approx(math.exp(found.x), rel=1e-3)


def test_the_always_valid_p_is_alpha_where_the_sequence_just_touches_zero() -> None:
    control, treatment = Arm.from_successes(1500, 700), Arm.from_successes(1500, 780)
    got = confidence_sequence(control, treatment, alpha=0.05, n_tuned=3000)
    assert got.p_value is not None
    assert got.interval is not None
    n = 3000
    variance = (control.variance / 1500 + treatment.variance / 1500) * n
    rho = tuned_rho(n, 0.05) / math.sqrt(variance)
    assert sequence_margin(variance, n, got.p_value, rho) == pytest.approx(got.estimate)
    half = got.interval[1] - (got.estimate or 0)
    assert half == pytest.approx(sequence_margin(variance, n, 0.05, rho))
    assert (got.p_value < 0.05) == (got.interval[0] > 0)
    fixed = welch(control, treatment)
    assert fixed.p_value is not None
    assert fixed.p_value < got.p_value


def test_a_sequence_scales_with_its_unit_and_is_tightest_where_tuned() -> None:
    control, treatment = Arm.from_values(np.arange(50.0)), Arm.from_values(np.arange(50.0) * 1.2)
    scaled = confidence_sequence(
        Arm(control.n, control.sum * 1000, control.sum_squares * 1e6),
        Arm(treatment.n, treatment.sum * 1000, treatment.sum_squares * 1e6),
        n_tuned=100,
    )
    plain = confidence_sequence(control, treatment, n_tuned=100)
    assert plain.interval is not None
    assert scaled.interval == pytest.approx([1000 * end for end in plain.interval])
    assert scaled.p_value == pytest.approx(plain.p_value)
    late = confidence_sequence(control, treatment, n_tuned=10_000)
    assert late.interval is not None
    assert late.interval[1] - late.interval[0] > plain.interval[1] - plain.interval[0]
    nothing = confidence_sequence(control, control)
    assert nothing.p_value == 1.0


@parametrised("abtest", lambda case: case["category"] == "stats.srm.chi2")
def test_published_sample_ratios(case: Case) -> None:
    expected = case["expected"]["p"] if isinstance(case["expected"], dict) else case["expected"]
    assert sample_ratio(**case["inputs"]) == pytest.approx(expected, rel=1e-6)


def test_sample_ratio_edges() -> None:
    assert sample_ratio([0, 0], [1, 1]) == 1.0
    assert sample_ratio([10, 10, 0], [1, 1, 0]) == 1.0
    assert sample_ratio([10, 10, 1], [1, 1, 0]) == 0.0
    assert sample_ratio([30, 70], [3, 7]) == sample_ratio([30, 70], [0.3, 0.7])
    with pytest.raises(LengthMismatchError):
        sample_ratio([1, 2], [1])
    with pytest.raises(OutOfRangeError):
        sample_ratio([1, -2], [1, 1])


@parametrised("abtest", lambda case: case["category"] == "stats.multiple.bh")
def test_published_benjamini_hochberg(case: Case) -> None:
    got = [round(p, 4) for p in benjamini_hochberg(case["inputs"]["p"])]
    assert got == pytest.approx(case["expected"], abs=5e-5)


@pytest.mark.parametrize(("rating_rate", "points"), [(1.0, 8.7), (0.2, 19.4), (0.05, 38.8)])
def test_a_thousand_requests_show_only_large_differences(rating_rate: float, points: float) -> None:
    got = minimum_detectable_effect(proportion_variance(0.6), 500, 500, rating_rate=rating_rate)
    assert round(100 * got, 1) == points


@given(
    effect=st.floats(0.005, 0.3),
    share=st.floats(0.1, 0.9),
    rating=st.floats(0.05, 1),
    requests=st.floats(1, 30),
    icc=st.floats(0, 1),
    always_valid=st.booleans(),
)
def test_units_needed_and_the_detectable_effect_are_inverse(
    effect: float, share: float, rating: float, requests: float, icc: float, always_valid: bool
) -> None:
    options = {"rating_rate": rating, "requests_per_unit": requests, "intra_unit_correlation": icc}
    analysis = "always_valid" if always_valid else "fixed"
    units = units_needed(0.24, effect, treatment_share=share, analysis=analysis, **options)  # type: ignore[arg-type]
    exact = units_needed(0.24, effect, treatment_share=share, **options)  # type: ignore[arg-type]
    assert units >= exact
    shown = minimum_detectable_effect(
        0.24,
        units * requests * (1 - share),
        units * requests * share,
        analysis=analysis,  # type: ignore[arg-type]
        **options,
    )
    assert shown <= effect * (1 + 1e-9)
    if units > 200:
        assert shown == pytest.approx(effect, rel=0.01)


def test_an_always_valid_plan_is_as_wide_as_its_sequence() -> None:
    n = 4000
    half = sequence_margin(4 * 0.24, n, 0.05, tuned_rho(n, 0.05) / math.sqrt(4 * 0.24))
    standard_error = math.sqrt(0.24 * 2 / (n / 2))
    planned = minimum_detectable_effect(0.24, n / 2, n / 2, analysis="always_valid")
    assert planned == pytest.approx(half + stats.norm.ppf(0.8) * standard_error)


def test_design_effect_and_duration() -> None:
    assert design_effect(11, 0.3) == pytest.approx(4.0)
    assert design_effect(0.4, 0.9) == 1.0
    assert duration(12_000, 2_000) == 6.0
    assert duration(12_000, 2_000, coverage=0.5) == 12.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="unit 1"):
        Arm.from_values([1.0, math.inf])
    with pytest.raises(OutOfRangeError):
        Arm.from_successes(3, 4)
    with pytest.raises(LengthMismatchError):
        RatioArm.from_values([1.0], [1.0, 2.0])
    with pytest.raises(EmptySetError):
        _ = Arm(0, 0, 0).mean
    with pytest.raises(OutOfRangeError, match="alpha"):
        welch(Arm(9, 4, 4), Arm(9, 5, 5), alpha=5)
    with pytest.raises(OutOfRangeError, match="n_tuned"):
        confidence_sequence(Arm(9, 4, 4), Arm(9, 5, 5), n_tuned=0)
    with pytest.raises(OutOfRangeError, match="rating rate"):
        minimum_detectable_effect(0.24, 500, 500, rating_rate=0)
    with pytest.raises(EmptySetError):
        minimum_detectable_effect(0.24, 0, 500)
    with pytest.raises(OutOfRangeError):
        units_needed(0.24, 0.0)
    with pytest.raises(OutOfRangeError):
        duration(10, 0)
    with pytest.raises(OutOfRangeError):
        design_effect(3, 1.5)


@pytest.mark.parametrize("test", [welch, confidence_sequence])
def test_a_treatment_without_any_event_has_an_effect_but_no_relative_one(test: Any) -> None:
    control, treatment = Arm.from_successes(900, 9), Arm.from_successes(40, 0)
    assert test(control, treatment).estimate == pytest.approx(-0.01)
    assert test(control, treatment, relative=True).reason == "no_variation"
