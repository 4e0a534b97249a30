"""The noise floor: what the base loses against itself, and what of a loss lies beyond that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar

from service.measure.floor import adjust_floors, noise_floor
from service.measure.paired import tango_interval
from service.measure.validation import EmptySetError, LengthMismatchError

Floats = NDArray[np.float64]
Answers = list[tuple[bool, bool, bool]]


def three(*counts: tuple[str, int]) -> tuple[Floats, Floats, Floats]:
    """Base, its second run, the tuned model: "101" is right, wrong, right."""
    rows = np.array([[float(mark) for mark in marks] for marks, n in counts for _ in range(n)])
    return rows[:, 0], rows[:, 1], rows[:, 2]


def test_the_numbers_of_a_small_table() -> None:
    found = noise_floor(*three(("111", 60), ("101", 4), ("110", 16), ("100", 6), ("010", 5), ("001", 3), ("000", 6)))
    assert (found.n, found.n10, found.n01) == (100, 10, 5)
    assert (found.share, found.F) == (0.10, 0.22)
    assert found.above == pytest.approx(0.12)
    assert found.p_value == pytest.approx(mcnemar([[0, 16], [4, 0]], exact=True).pvalue)
    assert found.interval == tango_interval(4, 16, 100)
    assert found.p_base == pytest.approx(mcnemar([[0, 10], [5, 0]], exact=True).pvalue)
    assert found.called
    assert found.reproducible


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_what_always_holds(rows: Answers) -> None:
    before, again, after = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    found = noise_floor(before, again, after)
    assert found.above == pytest.approx(found.F - found.share)
    assert found.share == found.n10 / found.n
    assert found.interval is not None
    assert found.interval[0] - 1e-9 <= found.above <= found.interval[1] + 1e-9
    # The two runs against `before`, changed over: what one has above the other turns its sign.
    turned = noise_floor(before, after, again)
    assert turned.above == pytest.approx(-found.above)
    assert turned.p_value == found.p_value


def test_a_deterministic_base_has_no_floor() -> None:
    before, _, after = three(("111", 90), ("110", 10))
    found = noise_floor(before, before, after)
    assert (found.n10, found.n01, found.share, found.p_base) == (0, 0, 0.0, 1.0)
    assert found.above == found.F == 0.1
    assert found.called


def test_losses_like_the_bases_own_are_not_called_forgetting() -> None:
    found = noise_floor(*three(("111", 160), ("101", 12), ("110", 14), ("100", 4), ("000", 10)))
    assert found.F == 0.09
    assert found.above == pytest.approx(0.01)
    assert not found.called


def test_a_base_that_scores_otherwise_the_second_time_is_not_reproducible() -> None:
    assert not noise_floor(*three(("111", 100), ("101", 25))).reproducible
    assert noise_floor(*three(("111", 100), ("101", 9))).reproducible


def test_items_in_groups_widen_the_interval() -> None:
    before, again, after = three(("111", 200), ("110", 60), ("101", 40))
    groups = [f"g{place // 10}" for place in range(300)]
    plain, clustered = noise_floor(before, again, after), noise_floor(before, again, after, groups=groups)
    assert plain.interval is not None
    assert clustered.interval is not None
    assert clustered.interval[1] - clustered.interval[0] > 1.5 * (plain.interval[1] - plain.interval[0])
    assert clustered.test == "sign-flip by group, tango"
    single = noise_floor(before, again, after, groups=["g"] * 300)
    assert (single.interval, single.reason, single.called) == (None, "one_group", False)


def test_real_scores_have_a_floor_too() -> None:
    before = np.array([0.5, 0.5, 0.8, 0.1])
    found = noise_floor(before, np.array([0.5, 0.4, 0.9, 0.1]), np.array([0.4, 0.5, 0.7, 0.0]))
    assert (found.n10, found.n01, found.F) == (1, 1, 0.75)


def test_holm_over_the_tasks() -> None:
    strong = noise_floor(*three(("111", 80), ("110", 20)))
    weak = noise_floor(*three(("111", 90), ("110", 9), ("101", 2)))
    assert weak.p_value is not None
    assert 3 * weak.p_value > 0.05
    adjusted = adjust_floors([weak, strong, weak])
    assert adjusted[0].p_adjusted == pytest.approx(2 * weak.p_value)
    assert adjusted[1].p_adjusted == pytest.approx(3 * (strong.p_value or 0))
    assert [one.called for one in adjusted] == [False, True, False]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(LengthMismatchError):
        noise_floor(np.ones(3), np.ones(2), np.ones(3))
    with pytest.raises(EmptySetError):
        noise_floor(np.array([]), np.array([]), np.array([]))
