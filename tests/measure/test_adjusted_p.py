"""Holm and Benjamini-Hochberg against R's numbers and statsmodels."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from service.measure.adjust import benjamini_hochberg, holm
from service.measure.validation import OutOfRangeError

from .cases import Case, parametrised


@parametrised("forgetting", lambda case: case["metric"] == "multiple_comparisons")
def test_published_adjustments(case: Case) -> None:
    assert holm(case["input"]["p"]) == pytest.approx(case["expected"]["holm"], rel=case["tolerance"])
    assert benjamini_hochberg(case["input"]["p"]) == pytest.approx(case["expected"]["bh"], rel=case["tolerance"])


@pytest.fixture(scope="module")
def frozen_heap() -> Iterator[None]:
    """statsmodels collects garbage at every call: seconds each in a process that has loaded a lot."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_heap")
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjustments_are_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)
    assert benjamini_hochberg(p_values) == pytest.approx(list(multipletests(p_values, method="fdr_bh")[1]), abs=1e-12)


def test_edges() -> None:
    assert holm([]) == []
    with pytest.raises(OutOfRangeError, match="p-value 1"):
        holm([0.5, float("nan")])
