"""Curves: reduced without losing spikes, smoothed by the published formula, averaged without inventing anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.measure.curves import Line, band, grid, ordered, reduce, smooth


def line(x: list[float], y: list[float], pixels: int = 1000) -> Line:
    across = np.array(x, dtype=float)
    return reduce(across, np.array(y, dtype=float), pixels, across.min(), across.max())


def by_the_book(x: np.ndarray, y: np.ndarray, smoothing: float, width: float) -> np.ndarray:
    """The published definition, a point at a time."""
    weight = min(math.sqrt(smoothing), 0.999)
    above = below = 0.0
    out = []
    for i in range(len(x)):
        kept = weight ** ((x[i] - x[max(i - 1, 0)]) / width * 1000)
        above, below = above * kept + y[i], below * kept + 1
        out.append(above / below)
    return np.array(out)


def test_few_points_stay_as_they_are() -> None:
    kept = line([0, 5, 7], [3.0, math.nan, math.inf])
    assert kept.x.tolist() == [0, 5, 7]
    assert kept.value.tolist()[0] == 3.0
    assert np.isnan(kept.value[1:]).all()
    assert kept.n.tolist() == [1, 0, 0]
    assert (kept.first, kept.last) == (0.0, 0.0)


def test_points_are_reduced_to_the_mean_and_extremes_of_each_pixel() -> None:
    x, y = np.arange(12.0), np.array([1, 2, 3, 9, 0, 0, 5, 5, 5, 1, 1, 4.0])
    kept = reduce(x, y, 4, 0, 12)
    assert kept.x.tolist() == [1, 4, 7, 10]
    assert kept.value.tolist() == [2, 3, 5, 2]
    assert kept.low.tolist() == [1, 0, 5, 1]
    assert kept.high.tolist() == [3, 9, 5, 4]
    assert kept.n.tolist() == [3, 3, 3, 3]


def test_a_spike_survives_and_so_does_a_gap() -> None:
    x, y = np.arange(10_000.0), np.zeros(10_000)
    y[4321] = 99.0
    y[7000:7200] = np.nan
    kept = reduce(x, y, 100, 0, 9999)
    assert len(kept) == 100
    assert np.nanmax(kept.high) == 99.0
    assert kept.n.sum() == 9800
    assert np.isnan(kept.value[70:72]).all()
    assert not np.isnan(kept.value[[69, 72]]).any()


def test_pixels_without_points_have_no_entry() -> None:
    x = np.concatenate([np.linspace(0, 1, 50), np.linspace(99, 100, 50)])
    kept = reduce(x, x, 10, 0, 100)
    assert len(kept) == 2
    assert kept.n.tolist() == [50, 50]


def test_values_near_the_largest_float_do_not_overflow() -> None:
    kept = reduce(np.arange(100.0), np.full(100, 1.5e308), 4, 0, 99)
    assert kept.value.tolist() == pytest.approx([1.5e308] * 4)


def test_one_pixel_of_the_mean_equals_numpy() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    kept = reduce(np.arange(5000.0), values, 50, 0, 5000)
    assert kept.value == pytest.approx(values.reshape(50, 100).mean(axis=1))
    assert kept.low == pytest.approx(values.reshape(50, 100).min(axis=1))


def test_points_are_put_in_order_and_those_without_a_place_left_out() -> None:
    x, y = ordered(np.array([3.0, 1.0, math.nan, 1.0]), np.array([30.0, 10.0, 99.0, 11.0]))
    assert x.tolist() == [1, 1, 3]
    assert y.tolist() == [10, 11, 30]


@pytest.mark.parametrize("smoothing", [0.01, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_smoothing_is_the_published_formula(smoothing: float) -> None:
    draw = np.random.default_rng(1)
    x, y = np.sort(draw.uniform(0, 500, 800)), draw.normal(size=800)
    smoothed = smooth(reduce(x, y, 1000, 0, 500), smoothing, 500.0)
    assert smoothed.value == pytest.approx(by_the_book(x, y, smoothing, 500.0), abs=1e-11)
    assert smoothed.low.tolist() == y.tolist()  # the measured values stay


def test_smoothing_a_reduced_line_is_smoothing_its_points() -> None:
    """An entry weighs as many as its points; what is lost is less than a pixel's decay."""
    draw = np.random.default_rng(2)
    x = np.arange(100_000.0)
    y = np.sin(x / 9000) + draw.normal(0, 0.5, len(x))
    smoothed = smooth(reduce(x, y, 1000, 0, 99_999), 0.95, 99_999.0)
    exact = np.interp(smoothed.x, x, by_the_book(x, y, 0.95, 99_999.0))
    assert np.abs(smoothed.value - exact)[20:].max() < 0.02


def test_smoothing_has_no_bias_at_the_start_and_skips_what_is_not_a_number() -> None:
    smoothed = smooth(line([0, 1, 2, 3], [5.0, 5.0, math.nan, 5.0]), 0.99, 3.0)
    assert smoothed.value[[0, 1, 3]].tolist() == pytest.approx([5.0] * 3)
    assert math.isnan(smoothed.value[2])


def test_smoothing_of_nothing_and_of_a_single_place() -> None:
    assert smooth(line([0, 1], [math.nan, math.nan]), 0.9, 1.0).n.tolist() == [0, 0]
    # A chart without width: what came before keeps all its weight.
    assert smooth(line([4, 4, 4], [1.0, 2.0, 6.0]), 0.9, 0.0).value.tolist() == pytest.approx([1.0, 1.5, 3.0])
    huge = smooth(line([0, 1, 2], [1e300, 1e300, 1e300]), 0.9, 2.0)
    assert huge.value.tolist() == pytest.approx([1e300] * 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.001, 0.999))
def test_a_smoothed_value_lies_between_what_it_averages(values: list[float], smoothing: float) -> None:
    x = np.arange(float(len(values)))
    smoothed = smooth(reduce(x, np.array(values), 100, 0, len(values)), smoothing, float(len(values))).value
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert (smoothed >= np.minimum.accumulate(values) - slack).all()
    assert (smoothed <= np.maximum.accumulate(values) + slack).all()


def test_a_group_is_averaged_only_where_its_runs_are() -> None:
    short, long = line([0, 10], [1.0, 3.0]), line([0, 5, 20], [3.0, 5.0, 8.0])
    at = grid([short, long], 100, 0, 20)
    assert at.tolist() == [0, 5, 10, 20]
    mean = band([short, long], at)
    assert mean.n.tolist() == [2, 2, 2, 1]
    assert mean.mean.tolist() == pytest.approx([2.0, 3.5, 4.5, 8.0])
    assert mean.sd[:3].tolist() == pytest.approx([math.sqrt(2), 1.5 * math.sqrt(2), 1.5 * math.sqrt(2)])
    assert math.isnan(mean.sd[3])  # one run has no spread
    assert (mean.low[2], mean.high[2]) == (3.0, 6.0)


def test_a_group_of_one_has_no_sd() -> None:
    alone = band([line([0, 1], [1.0, 2.0])], np.array([0.0, 1.0]))
    assert alone.mean.tolist() == [1, 2]
    assert np.isnan(alone.sd).all()


def test_nothing_is_drawn_between_runs_that_do_not_meet_nor_beyond_them() -> None:
    early, late = line([0, 1], [1.0, 1.0]), line([8, 9], [2.0, 2.0])
    mean = band([early, late], np.array([-1.0, 0.0, 1.0, 4.0, 8.0, 9.0, 10.0]))
    assert mean.x.tolist() == [0, 1, 4, 8, 9]
    assert mean.n.tolist() == [1, 1, 0, 1, 1]
    assert math.isnan(mean.mean[2])


def test_a_run_that_became_nan_ends_where_it_was_last_finite() -> None:
    diverged = line([0, 1, 2, 3], [1.0, 2.0, math.nan, math.nan])
    assert band([diverged, diverged], np.arange(4.0)).x.tolist() == [0, 1]


def test_several_points_at_one_place_count_as_their_mean() -> None:
    double = line([0, 1, 1, 2], [0.0, 2.0, 4.0, 5.0])
    assert band([double], np.array([0.0, 1.0, 2.0])).mean.tolist() == [0, 3, 5]


def test_a_group_without_a_finite_point_is_empty() -> None:
    assert len(band([line([0, 1], [math.nan, math.nan])], np.array([0.0, 1.0])).x) == 0


def test_many_different_places_make_a_grid_of_pixels() -> None:
    dense = reduce(np.arange(5000.0), np.arange(5000.0), 100, 0, 5000)
    at = grid([dense, line([0.5, 4999], [1.0, 2.0])], 100, 0, 5000)
    assert len(at) == 100
    assert at[0] == 25.0
    whole = band([dense], at)
    assert len(whole.x) == 100
    assert whole.mean[1:-1] == pytest.approx(at[1:-1])
