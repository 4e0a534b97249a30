"""Histograms, confusion matrices and PR curves against NumPy and scikit-learn."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

from tunescope import ConfusionMatrix, Histogram, PRCurve
from tunescope.media import Media
from tunescope.media._statistics import count_tensor

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def kept(medium: Media) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is stored of a medium, and its details."""
    encoded = medium.freeze().encode()
    return json.loads(encoded.content), encoded.details


@settings(max_examples=300, deadline=None)
@given(st.lists(FLOATS | st.integers(-5, 5).map(float), min_size=1), st.integers(1, 70))
@example([1.0, 1.0 + 2**-52], 64)
@example([-1.7976931348623157e308, 1.7976931348623157e308], 7)
@example([0.0, 5e-324], 3)
@example([1e17], 8)
@example([549822922753.0], 1)
@example([2.0**52 + 1], 1)
@example([2.0**53], 4)
@example([-0.1, 0.1, 0.3], 3)
def test_a_histogram_is_numpys(values: list[float], bins: int) -> None:
    found, details = kept(Histogram(values, bins))
    for same in (np.array(values), torch.tensor(values, dtype=torch.float64)):
        assert kept(Histogram(same, bins))[0] == found
    # What a tensor on a GPU goes through, here on the processor.
    assert count_tensor(torch.tensor(values, dtype=torch.float64), bins)._asdict() == found
    assert (sum(found["counts"]), details["n"], len(found["edges"])) == (len(values), len(values), bins + 1)
    assert found["edges"] == sorted(found["edges"])
    assert found["edges"][0] <= min(values)
    assert found["edges"][-1] >= max(values)
    try:
        with np.errstate(all="ignore"):
            counts, edges = np.histogram(values, bins)
    except (ValueError, IndexError):  # too narrow a range for NumPy, or too wide
        return
    if np.isfinite(edges).all():
        assert (found["counts"], found["edges"]) == (counts.tolist(), edges.tolist())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=16), min_size=1))
def test_what_is_not_finite_is_counted_apart(values: list[float]) -> None:
    found, _ = kept(Histogram(values))
    assert found["nan"] == sum(math.isnan(value) for value in values)
    assert found["infinite"] == sum(math.isinf(value) for value in values)
    assert sum(found["counts"]) + found["nan"] + found["infinite"] == len(values)
    for same in (np.array(values, np.float16), torch.tensor(values, dtype=torch.float16)):
        assert kept(Histogram(same))[0] == found
    assert count_tensor(torch.tensor(values, dtype=torch.float16), 64)._asdict() == found


def test_histograms_of_any_shape_and_type() -> None:
    grid = np.arange(200_000).reshape(2, 100_000)
    expected = np.histogram(grid, 64)[0].tolist()
    for values in (grid, torch.from_numpy(grid), grid.astype(np.float32), grid.ravel().tolist()):
        assert kept(Histogram(values))[0]["counts"] == expected
    parameter = torch.nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.bfloat16))
    assert kept(Histogram(parameter, 2))[0]["counts"] == [1, 1]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3) | FLOATS), min_size=1).filter(
        lambda pairs: any(hit for hit, _ in pairs)
    )
)
def test_a_pr_curve_is_scikit_learns(pairs: list[tuple[bool, float]]) -> None:
    true, scores = [hit for hit, _ in pairs], [float(score) for _, score in pairs]
    found, details = kept(PRCurve(true, scores, positive=True))
    tp, fp = np.array(found["tp"]), np.array(found["fp"])
    precision, recall, thresholds = precision_recall_curve(true, scores)
    assert found["thresholds"][::-1] == thresholds.tolist()
    assert (tp / (tp + fp))[::-1].tolist() == precision[:-1].tolist()
    assert (tp / found["positives"])[::-1].tolist() == recall[:-1].tolist()
    assert details["average_precision"] == pytest.approx(average_precision_score(true, scores), abs=1e-12)
    assert kept(PRCurve(np.array(true), torch.tensor(scores, dtype=torch.float64), positive=True))[0] == found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_a_confusion_matrix_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = [one for one, _ in pairs], [one for _, one in pairs]
    found, details = kept(ConfusionMatrix(true, predicted))
    occurring = sorted({*true, *predicted})
    whole = confusion_matrix(true, predicted, labels=range(5))
    assert found["counts"] == whole[np.ix_(occurring, occurring)].tolist()
    assert found["labels"] == [str(label) for label in occurring]
    assert details["accuracy"] == np.mean(np.array(true) == np.array(predicted))
    names = ["e", "d", "c", "b", "a"]
    for one, other in (
        (np.array(true), torch.tensor(predicted)),
        ([names[place] for place in true], [names[place] for place in predicted]),
    ):
        found, _ = kept(ConfusionMatrix(one, other, labels=names))
        assert (found["labels"], found["counts"]) == (names, whole.tolist())
