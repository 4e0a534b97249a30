"""Points as MLflow shows them: distinct, in order, and evenly thinned."""

from __future__ import annotations

import numpy as np
import pytest

from service.store.points import Points
from service.tracking.mlflow.history import by_time, evenly


def points(*rows: tuple[int, float, float]) -> Points:
    steps, times, values = zip(*rows, strict=True)
    return Points(np.array(steps, np.int64), np.array(times, np.float64), np.array(values, np.float64))


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [
        (0, 5, []),
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (6, 5, [0, 2, 3, 4, 5]),
        (11, 5, [0, 3, 5, 7, 10]),
        (1000, 5, [0, 200, 400, 600, 999]),
        (7, 1, [6]),
        (10, 3, [0, 4, 9]),
    ],
)
def test_points_are_chosen_evenly_and_end_with_the_last(count: int, most: int, chosen: list[int]) -> None:
    assert evenly(count, most).tolist() == chosen


def test_the_same_point_is_shown_once() -> None:
    nan = float("nan")
    given = points((1, 2.0, 0.5), (0, 1.0, nan), (1, 2.0, 0.5), (0, 1.0, nan), (1, 2.0, 0.25), (2, 2.0, 0.5))
    shown = by_time(given)
    assert shown.steps.tolist() == [0, 1, 1, 2]
    assert shown.values.tolist()[1:] == [0.25, 0.5, 0.5]
    assert np.isnan(shown.values[0])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_pass(count: int) -> None:
    given = Points(np.arange(count), np.arange(count, dtype=np.float64), np.ones(count))
    assert len(by_time(given)) == count
