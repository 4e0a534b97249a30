"""Packed points keep every bit; thinning keeps spikes; a later segment replaces an older one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.points import Points, current, decode, encode, split_segments, thin

int64s = st.integers(-(2**63), 2**63 - 1)
any_bits = st.integers(0, 2**64 - 1)


def floats(bits: list[int]) -> np.ndarray:
    """Float64s of these bit patterns: every NaN payload, infinity and subnormal among them."""
    return np.array(bits, dtype=np.uint64).view(np.float64)


@pytest.mark.parametrize("packed", [False, True])
@given(rows=st.lists(st.tuples(int64s, any_bits, any_bits), min_size=1, max_size=50))
def test_every_bit_comes_back(rows: list[tuple[int, int, int]], packed: bool) -> None:
    steps, times, values = zip(*rows, strict=True)
    points = Points(np.array(steps, dtype=np.int64), floats(list(times)), floats(list(values)))
    back = decode(encode(points, packed=packed), len(points))
    assert back.steps.tobytes() == points.steps.tobytes()
    assert back.times.tobytes() == points.times.tobytes()
    assert back.values.tobytes() == points.values.tobytes()


def test_packing_is_small() -> None:
    rng = np.random.default_rng(0)
    n = 4096
    points = Points(np.arange(n), 1.8e9 + np.arange(n) * 0.25, np.exp(-np.arange(n) / 999) + rng.normal(0, 0.01, n))
    assert len(encode(points, packed=True)) < 10 * n


def test_a_spike_survives_thinning() -> None:
    values = np.zeros(100_000)
    values[77_777], values[12_345] = 9.0, -9.0
    points = Points(np.arange(100_000), np.arange(100_000.0), values)
    shown = thin(points, 500)
    assert len(shown) <= 1002
    assert {9.0, -9.0} <= set(shown.values.tolist())
    assert shown.steps[0] == 0
    assert shown.steps[-1] == 99_999
    assert (np.diff(shown.steps) > 0).all()


def test_split_where_the_step_goes_back() -> None:
    assert split_segments(np.array([1, 2, 2, 1, 5, 0])) == [slice(0, 3), slice(3, 5), slice(5, 6)]


def test_a_later_segment_replaces_from_its_first_step_on() -> None:
    steps = np.array([0, 1, 2, 3, 4, 2, 3, 1])
    segments = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    points = Points(steps, np.zeros(8), np.zeros(8))
    assert steps[current(points, segments)].tolist() == [0, 1]
    assert np.flatnonzero(current(points, segments)).tolist() == [0, 7]
