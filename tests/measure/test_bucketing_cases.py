"""Assignment against the published vectors, and the properties a split must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.measure.ab import sample_ratio
from service.measure.bucketing import bucket, bucket_ranges, choose, fnv1a32, in_namespace

from .cases import Case, parametrised

PREFIX = "assignment.growthbook."


@parametrised("assignment", lambda case: case["category"] == PREFIX + "hash")
def test_published_hashes(case: Case) -> None:
    assert bucket(**case["inputs"]) == case["expected"]


@parametrised("assignment", lambda case: case["category"] == PREFIX + "getBucketRanges")
def test_published_ranges(case: Case) -> None:
    inputs = case["inputs"]
    got = bucket_ranges(inputs["numVariations"], inputs["coverage"], inputs["weights"])
    np.testing.assert_allclose(got, case["expected"], atol=case["tolerance"])


@parametrised("assignment", lambda case: case["category"] == PREFIX + "chooseVariation")
def test_published_choices(case: Case) -> None:
    assert choose(case["inputs"]["n"], case["inputs"]["ranges"]) == case["expected"]


@parametrised("assignment", lambda case: case["category"] == PREFIX + "inNamespace")
def test_published_namespaces(case: Case) -> None:
    name, low, high = case["inputs"]["namespace"]
    assert in_namespace(case["inputs"]["userId"], (name, low, high)) is case["expected"]


@pytest.mark.parametrize(("text", "expected"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_published_fnv_vectors(text: str, expected: int) -> None:
    """From the FNV authors' own test vectors (Noll, draft-eastlake-fnv)."""
    assert fnv1a32(text) == expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_hashing_in_two_parts_is_hashing_the_whole(first: str, second: str) -> None:
    assert fnv1a32(second, fnv1a32(first)) == fnv1a32(first + second)


@given(st.text(max_size=20))
def test_a_hash_runs_over_utf16_units_as_in_javascript(text: str) -> None:
    state = 0x811C9DC5
    encoded = text.encode("utf-16-be")
    for high, low in zip(encoded[::2], encoded[1::2], strict=True):
        state = ((state ^ (high << 8 | low)) * 0x01000193) % 2**32
    assert fnv1a32(text) == state


@given(
    weights=st.lists(st.integers(1, 50), min_size=2, max_size=5),
    coverages=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    unit=st.text(min_size=1, max_size=12),
)
def test_more_coverage_never_moves_a_unit(weights: list[int], coverages: list[float], unit: str) -> None:
    shares = [weight / sum(weights) for weight in weights]
    place = bucket("salt", unit)
    assert place is not None
    small, large = (choose(place, bucket_ranges(len(shares), coverage, shares)) for coverage in coverages)
    assert small in (-1, large)


def test_units_split_as_planned_and_independently_of_another_experiment() -> None:
    ranges = bucket_ranges(3, 1.0, [0.5, 0.3, 0.2])
    arms = np.array(
        [[choose(bucket(salt, f"user-{i}") or 0.0, ranges) for i in range(20_000)] for salt in ("one", "two")]
    )
    for row in arms:
        assert sample_ratio(np.bincount(row, minlength=3).tolist(), [0.5, 0.3, 0.2]) > 0.001
    joint = np.bincount(arms[0] * 3 + arms[1], minlength=9)
    shares = np.outer([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]).ravel()
    assert sample_ratio(joint.tolist(), shares.tolist()) > 0.001
