"""Every convention of the stage matrix, on the published matrices."""

from __future__ import annotations

import numpy as np
import pytest

from service.measure.stages import (
    StageScore,
    acc,
    bwt_gem,
    bwt_gem_code,
    dr_accuracy,
    dr_bwt,
    dr_bwt_plus,
    dr_fwt,
    dr_remembering,
    forgetting_first_last,
    forgetting_matrix,
    forgetting_max,
    forgetting_max_clipped,
    forgetting_max_learned,
    fwt_gem,
    fwt_gem_code,
    intransigence,
    learning_accuracy,
    mean_change,
    retention,
    stage_scores,
)
from service.measure.validation import LengthMismatchError, OutOfRangeError

from .cases import Case, parametrised

WITHOUT_BASELINE = {
    "ACC": acc,
    "LA": learning_accuracy,
    "BWT": bwt_gem,
    "BWT_gem_paper": bwt_gem,
    "BWT_gem_paper_T-1": bwt_gem,
    "BWT_gem_code_divisor_T": bwt_gem_code,
    "Forgetting": forgetting_first_last,
    "forgetting": forgetting_max,
    "forgetting_max": forgetting_max,
    "forgetting_first_minus_last(Avalanche)": forgetting_first_last,
    "forgetting_max_l>=j(Chaudhry eq.3 as in continuum)": forgetting_max_learned,
    "forgetting_max_incl_last_row(Mammoth)": forgetting_max_clipped,
    "DR_A": dr_accuracy,
    "accuracy_A": dr_accuracy,
    "DR_BWT": dr_bwt,
    "DR_BWT(continuum.backward_transfer)": dr_bwt,
    "DR_FWT": dr_fwt,
    "DR_REM": dr_remembering,
    "remembering": dr_remembering,
    "DR_BWT+": dr_bwt_plus,
    "positive_backward_transfer": dr_bwt_plus,
}
WITH_BASELINE = {
    "FWT": fwt_gem,
    "FWT_T-1": fwt_gem,
    "forward_transfer_no_baseline": fwt_gem,
    "FWT_gem_code_divisor_T": fwt_gem_code,
}
MATRIX_CASES = {"gem_family", "conventions_disagree", "edge", "forgetting_max", "positive_backward_transfer"}


@parametrised("forgetting", lambda case: case["metric"] in MATRIX_CASES)
def test_published_matrices(case: Case) -> None:
    R = case["input"]["R"]
    baseline = case["input"].get("b", [0.0] * len(R))
    expected = case["expected"] if isinstance(case["expected"], dict) else {case["metric"]: case["expected"]}
    checked = 0
    for name, value in expected.items():
        if name == "continuum_returns":  # what another library says of one stage, and this one must not
            continue
        got = WITH_BASELINE[name](R, baseline) if name in WITH_BASELINE else WITHOUT_BASELINE[name](R)
        assert got == (None if value is None else pytest.approx(value, abs=case["tolerance"])), name
        checked += 1
    assert checked


@parametrised("forgetting", lambda case: case["metric"] == "forgetting_matrix")
def test_published_forgetting_matrix(case: Case) -> None:
    np.testing.assert_allclose(forgetting_matrix(case["input"]["R"]), case["expected"], atol=case["tolerance"])


@parametrised("forgetting", lambda case: case["metric"] == "general_ability_delta")
def test_published_mean_change(case: Case) -> None:
    got = mean_change(case["input"]["before"], case["input"]["after"])
    assert got == pytest.approx(case["expected"], abs=case["tolerance"])


def test_the_three_maxima_differ_where_their_definitions_do() -> None:
    R = [[0.5, 0.9, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.8]]
    assert forgetting_max(R) == pytest.approx(((0.6 - 0.7) + (0.9 - 0.3)) / 2)  # task 2 was best before it was learned
    assert forgetting_max_learned(R) == pytest.approx(((0.6 - 0.7) + (0.4 - 0.3)) / 2)
    assert forgetting_max_clipped(R) == pytest.approx((0.0 + (0.9 - 0.3)) / 2)


def test_intransigence_and_retention() -> None:
    np.testing.assert_allclose(intransigence([[0.8, 0.1], [0.5, 0.6]], [0.9, 0.55]), [0.1, -0.05])
    assert retention([0.8, 0.0], [0.4, 0.2]) == [0.5, None]


def by_name(scores: list[StageScore]) -> dict[str, StageScore]:
    assert len({one.name for one in scores}) == len(scores)
    return {one.name: one for one in scores}


def test_every_score_carries_its_convention() -> None:
    R = [[0.8, 0.1, 0.1], [0.9, 0.7, 0.1], [0.6, 0.65, 0.9]]
    scores = by_name(stage_scores(R, baseline=[0.1, 0.1, 0.1], reference=[0.9, 0.8, 0.9]))
    assert all(one.value is not None and one.reason is None for one in scores.values())
    assert all(one.formula and one.source for one in scores.values())
    assert scores["BWT_gem_paper"].value == pytest.approx(-0.125)
    assert scores["BWT_gem_code"].value == pytest.approx(-0.25 / 3)
    assert scores["DR_BWT"].value == pytest.approx(-0.05)
    assert scores["forgetting_max"].value == pytest.approx(0.175)
    assert scores["intransigence"].value == pytest.approx(0.2 / 3)


def test_what_is_undefined_is_null_with_its_reason() -> None:
    single = by_name(stage_scores([[0.9]], baseline=[0.5]))
    undefined = {name for name, one in single.items() if one.value is None}
    assert undefined == set(single) - {"ACC", "learning_accuracy", "DR_A"}
    assert all(single[name].reason == "one_stage" for name in undefined - {"intransigence"})
    bare = by_name(stage_scores([[0.9, 0.1], [0.8, 0.7]]))
    assert {name: one.reason for name, one in bare.items() if one.value is None} == {
        "FWT_gem_paper": "no_baseline",
        "FWT_gem_code": "no_baseline",
        "intransigence": "no_reference",
    }


def test_a_matrix_that_is_none_is_refused() -> None:
    with pytest.raises(LengthMismatchError, match="row for each stage"):
        acc([[0.1, 0.2]])
    with pytest.raises(OutOfRangeError, match=r"R\[1\]\[0\]"):
        acc([[0.1, 0.2], [float("nan"), 0.2]])
    with pytest.raises(LengthMismatchError, match="baseline"):
        fwt_gem([[0.1, 0.2], [0.1, 0.2]], [0.1])
    with pytest.raises(LengthMismatchError):
        mean_change([0.1, 0.2], [0.1])
