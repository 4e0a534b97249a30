"""Item forgetting, forgetting events and the gate's verdicts."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from service.measure.forgetting import (
    TaskVerdict,
    flips_by_group,
    forgetting_events,
    item_forgetting,
    judge,
    judge_task,
)
from service.measure.paired import items_to_pass, items_to_settle, mcnemar_exact, tango_interval, tango_lower_bound
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError

from .cases import Case, parametrised

Floats = NDArray[np.float64]


def table(n11: int, n10: int, n01: int, n00: int) -> tuple[Floats, Floats]:
    before = np.repeat([1.0, 1, 0, 0], [n11, n10, n01, n00])
    after = np.repeat([1.0, 0, 1, 0], [n11, n10, n01, n00])
    return before, after


def task(n11: int, n10: int, n01: int, n00: int, margin: float = 0.02, minimum_n: int = 30) -> TaskVerdict:
    return judge_task(*table(n11, n10, n01, n00), margin=margin, minimum_n=minimum_n)


@parametrised("forgetting", lambda case: case["metric"] == "sample_wise_forgetting")
def test_published_item_forgetting(case: Case) -> None:
    got = asdict(item_forgetting(**case["input"]))
    names = {"acc_before": "before", "acc_after": "after", "rel_forget": "relative"}
    for key, expected in case["expected"].items():
        assert got[names.get(key, key)] == pytest.approx(expected, abs=case["tolerance"]), key


@parametrised("forgetting", lambda case: case["metric"] == "non_inferiority")
def test_the_gate_passes_by_the_bound_alone(case: Case) -> None:
    given, expected = case["input"], case["expected"]
    kept = given["n"] - given["n10"] - given["n01"]
    got = judge_task(*table(kept, given["n10"], given["n01"], 0), margin=given["margin"], alpha=given["alpha"])
    assert got.lower_bound == pytest.approx(expected["tango_lower95"], abs=case["tolerance"])
    assert (got.verdict == "PASS") == expected["pass_tango"]
    assert got.p_value == pytest.approx(expected["mcnemar_exact_p"])


@pytest.mark.parametrize(
    ("cells", "margin", "verdict", "reason"),
    [
        ((700, 10, 12, 278), 0.02, "PASS", None),
        ((500, 60, 15, 425), 0.02, "FAIL", None),
        ((80, 4, 1, 15), 0.02, "INCONCLUSIVE", "margin_within_interval"),
        # A drop of one point in 100: far from significant, and far from a pass.
        ((60, 10, 9, 21), 0.02, "INCONCLUSIVE", "margin_within_interval"),
        # A significant drop of 0.6 points, inside a margin of 2: it may ship.
        ((9000, 90, 30, 880), 0.02, "PASS", None),
        ((20, 9, 0, 0), 0.02, "INCONCLUSIVE", "too_few_items"),
    ],
)
def test_verdicts(cells: tuple[int, int, int, int], margin: float, verdict: str, reason: str | None) -> None:
    got = task(*cells, margin=margin)
    assert (got.verdict, got.reason) == (verdict, reason)
    assert (got.n_needed is None) == (verdict != "INCONCLUSIVE")
    assert got.items is not None
    assert got.items == item_forgetting(*cells)
    assert (got.lost, got.gained) == (cells[1], cells[2])


def test_the_items_still_needed_follow_the_spec_for_no_difference() -> None:
    got = task(180, 10, 10, 50)  # psi = 20 / 250
    # (1.6449 + 0.8416)^2 * 0.08 / 0.02^2 is 1,237; Tango's variance at the margin asks for a few more.
    assert got.n_needed == 1277
    assert items_to_settle(0.08, 0.02) == 1237
    assert items_to_pass(0.3, 0.001) == pytest.approx(items_to_settle(0.3, 0.001), rel=1e-4)
    assert items_to_pass(0.3, 0.02, -0.02) is None
    assert task(20, 1, 1, 0).n_needed is not None


@pytest.mark.parametrize(
    ("cells", "margin", "expected"),
    [
        # A drop of 0.8 points leaves 4.2 of the 5: 2.4865^2 * 0.152 / 0.042^2 is 533, and the margin's variance more.
        ((80, 10, 9, 26), 0.05, 553),
        # A drop of 6.7 points is beyond the margin and has to be shown: 2.8016^2 * 0.1667 / 0.0667^2.
        ((80, 14, 6, 20), 0.05, 295),
    ],
)
def test_the_items_still_needed_start_from_the_drop_seen(
    cells: tuple[int, int, int, int], margin: float, expected: int
) -> None:
    got = task(*cells, margin=margin)
    assert got.verdict == "INCONCLUSIVE"
    assert got.n_needed == expected


def test_more_items_of_the_same_kind_settle_it_at_about_the_number_promised() -> None:
    small = task(160, 10, 10, 20)
    assert small.verdict == "INCONCLUSIVE"
    assert small.n_needed is not None
    grow = small.n_needed / small.n
    settled = task(*(round(cell * grow) for cell in (160, 10, 10, 20)))
    assert settled.verdict == "PASS"
    # As certain as promised: 80 % power leaves the bound 0.84 standard errors inside.
    assert settled.lower_bound == pytest.approx(-0.02 * 1.6449 / (1.6449 + 0.8416), rel=0.03)


def test_holm_over_the_tasks_can_turn_a_failure_inconclusive_but_never_a_pass() -> None:
    weak = task(80, 13, 3, 104, margin=0.01)
    assert weak.verdict == "FAIL"
    assert weak.p_value is not None
    assert 0.01 < weak.p_value < 0.05
    passes = [task(700, 10, 12, 278) for _ in range(5)]
    gate, judged = judge([weak, *passes])
    assert gate == "INCONCLUSIVE"
    assert judged[0].p_adjusted == pytest.approx(6 * weak.p_value)
    assert (judged[0].verdict, judged[0].reason) == ("INCONCLUSIVE", "margin_within_interval")
    assert [one.verdict for one in judged[1:]] == ["PASS"] * 5


def test_one_failure_fails_the_policy_whatever_the_average() -> None:
    collapsed, risen = task(300, 200, 5, 495), task(500, 1, 300, 199)
    gate, judged = judge([risen, collapsed])
    assert gate == "FAIL"
    assert [one.verdict for one in judged] == ["PASS", "FAIL"]
    assert judge([risen])[0] == "PASS"


def test_a_task_without_a_test_leaves_the_policy_inconclusive() -> None:
    same = np.full(200, 3.7)
    untested = judge_task(same, same, margin=0.1)
    assert (untested.verdict, untested.reason, untested.p_value) == ("INCONCLUSIVE", "no_variation", None)
    gate, judged = judge([task(700, 10, 12, 278), untested])
    assert gate == "INCONCLUSIVE"
    assert judged[1].p_adjusted is None


def test_identical_right_and_wrong_answers_pass_by_what_their_number_rules_out() -> None:
    got = task(150, 0, 0, 50)
    assert got.verdict == "PASS"
    assert got.lower_bound == tango_lower_bound(0, 0, 200)
    assert task(30, 0, 0, 10).verdict == "INCONCLUSIVE"


def test_real_scores_use_t_and_sign_flips_and_groups_widen() -> None:
    generator = np.random.default_rng(3)
    shift = np.repeat(generator.normal(-0.01, 0.03, size=30), 20)
    before = generator.random(600)
    after = before + shift
    plain = judge_task(before, after, margin=0.02)
    clustered = judge_task(before, after, margin=0.02, groups=list(np.repeat(np.arange(30), 20)))
    assert plain.items is None
    assert (plain.test, clustered.test) == ("sign-flip, t", "sign-flip by group, t")
    assert plain.lower_bound is not None
    assert clustered.lower_bound is not None
    assert clustered.lower_bound < plain.lower_bound
    assert plain.difference - clustered.lower_bound == pytest.approx(
        np.sqrt(20) * (plain.difference - plain.lower_bound), rel=0.08
    )


def test_right_and_wrong_in_groups_widen_too() -> None:
    before, after = table(160, 20, 20, 100)
    order = np.random.default_rng(0).permutation(300)
    groups = np.empty(300, dtype=int)
    groups[order] = np.arange(300) % 30
    mixed = judge_task(before, after, margin=0.05, groups=list(groups))
    blocks = judge_task(before, after, margin=0.05, groups=list(np.arange(300) // 10))
    assert blocks.lower_bound is not None
    assert mixed.lower_bound is not None
    assert blocks.lower_bound < mixed.lower_bound - 0.01
    assert blocks.test == "sign-flip by group, tango"
    one = judge_task(before, after, margin=0.05, groups=["all"] * 300)
    assert (one.verdict, one.reason) == ("INCONCLUSIVE", "one_group")


def test_where_lower_is_better_a_rise_is_a_loss() -> None:
    generator = np.random.default_rng(0)
    loss = generator.random(400) + 1
    worse = judge_task(loss, loss + generator.normal(0.1, 0.05, 400), margin=0.02, direction="lower")
    assert worse.verdict == "FAIL"
    assert worse.difference == pytest.approx(-0.1, abs=0.01)
    assert worse.after > worse.before
    assert worse.lost > worse.gained


def test_every_task_brings_its_evidence() -> None:
    got = judge_task(*table(500, 60, 15, 425), margin=0.02, options=4)
    assert got.p_value == mcnemar_exact(60, 15)
    assert got.interval is not None
    assert got.interval[0] < got.difference < got.interval[1]
    assert got.items is not None
    assert got.items.F_chance == pytest.approx((1 - 0.56) * (1 - 0.515) / 3)


def test_flips_by_group_puts_the_largest_loss_first() -> None:
    before, after = np.array([1.0, 1, 1, 0, 0]), np.array([0.0, 1, 0, 1, 0])
    rows = flips_by_group(before, after, ["law", "law", "law", "art", "art"])
    assert [(row.group, row.n, row.lost, row.gained) for row in rows] == [("law", 3, 2, 0), ("art", 2, 0, 1)]
    assert rows[0].after == pytest.approx(1 / 3)
    assert [row.interval for row in rows] == [tango_interval(2, 0, 3), tango_interval(0, 1, 2)]
    before, after = np.array([0.2, 0.4, 0.9, 0.5]), np.array([0.1, 0.1, 0.4, 0.5])
    first, alone = flips_by_group(before, after, ["law", "law", "law", "art"], confidence=0.9)
    expected = stats.ttest_rel(after[:3], before[:3]).confidence_interval(0.9)
    assert first.interval == pytest.approx((expected.low, expected.high))
    assert alone.interval is None


def test_forgetting_events_over_checkpoints() -> None:
    found = forgetting_events(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1]], dtype=np.float64))
    assert found.events.tolist() == [2, 0, 0, 0]
    assert (found.learned, found.never_forgotten) == (3, 2)
    with pytest.raises(EmptySetError):
        forgetting_events(np.empty((0, 4)))


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(OutOfRangeError, match="margin"):
        task(1, 1, 1, 1, margin=0.0)
    with pytest.raises(LengthMismatchError):
        judge_task(np.ones(3), np.ones(4), margin=0.1)
    with pytest.raises(EmptySetError):
        judge_task(np.array([]), np.array([]), margin=0.1)
    with pytest.raises(EmptySetError, match="policy"):
        judge([])
    with pytest.raises(OutOfRangeError, match="item 1"):
        judge_task(np.array([0.5, np.nan]), np.array([0.5, 0.5]), margin=0.1)
    with pytest.raises(OutOfRangeError, match="2 options"):
        item_forgetting(1, 1, 1, 1, 1)
