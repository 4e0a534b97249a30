"""Figures of many runs hold the numbers of their frames."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from dashboard import comparison_charts as charts
from dashboard.comparison_charts import Axis


def bands(**columns: list[float]) -> pd.DataFrame:
    n = len(columns["mean"])
    frame = {"group": [0] * n, "key": ["loss"] * n, "x": [float(i) for i in range(n)], "n": [3] * n, **columns}
    return pd.DataFrame(frame)


def test_a_band_is_mean_and_sd() -> None:
    lower, upper, mean = charts.bands(bands(mean=[1.0, 2.0], sd=[0.5, 0.25], min=[0.4, 1.8]), labels=["lr 1"]).data
    assert list(lower.y) == [0.5, 1.75]
    assert list(upper.y) == [1.5, 2.25]
    assert upper.fill == "tonexty"
    assert list(mean.y) == [1.0, 2.0]
    assert mean.name == "lr 1"
    assert list(mean.customdata) == [" ± 0.5 (n = 3)", " ± 0.25 (n = 3)"]


def test_a_group_of_one_has_no_band() -> None:
    frame = bands(mean=[1.0, 2.0], sd=[math.nan, math.nan], min=[1.0, 2.0])
    frame["n"] = 1
    (mean,) = charts.bands(frame, labels=["alone"]).data
    assert mean.customdata[0] == " (n = 1)"


def test_a_band_closes_where_one_run_is_left() -> None:
    lower, upper, _ = charts.bands(bands(mean=[1.0, 2.0], sd=[0.5, math.nan], min=[0.5, 2.0]), labels=["x"]).data
    assert (lower.y[1], upper.y[1]) == (2.0, 2.0)


def test_on_a_logarithmic_axis_a_band_stays_above_zero() -> None:
    frame = bands(mean=[1.0], sd=[1.5], min=[0.2])
    assert list(charts.bands(frame, labels=["x"], log_y=True).data[0].y) == [0.2]
    assert list(charts.bands(frame, labels=["x"]).data[0].y) == [-0.5]


def test_groups_have_styles_of_their_own() -> None:
    assert len({charts.group_style(place) for place in range(28)}) == 28


def dimensions(axes: list[Axis], **options: Any) -> list[Any]:
    options.setdefault("better", None)
    return list(charts.parallel(axes, [1.0] * len(axes[0].values), **options).data[0].dimensions)


def test_numbers_over_decades_stand_on_a_logarithmic_axis() -> None:
    (axis,) = dimensions([Axis("lr", [1e-5, 1e-4, 1e-2])])
    assert list(axis.values) == pytest.approx([-5, -4, -2])
    assert list(axis.ticktext) == ["1e-05", "0.0001", "0.01"]
    assert axis.range[0] < -5 < -2 < axis.range[1]


def test_texts_have_evenly_spaced_ticks_and_what_is_missing_one_of_its_own() -> None:
    (axis,) = dimensions([Axis("optimizer", ["lion", None, "adamw"])])
    assert list(axis.ticktext) == ["adamw", "lion", "not set"]
    assert list(axis.values) == [1, 2, 0]


def test_a_missing_number_stands_below_the_least() -> None:
    (axis,) = dimensions([Axis("r", [8.0, None, 64.0])])
    assert axis.ticktext[0] == "not set"
    assert axis.values[1] == axis.tickvals[0] < 8.0
    (axis,) = dimensions([Axis("r", [float(i) if i else None for i in range(20)])])
    assert len(axis.ticktext) == 6


def test_many_numbers_leave_the_ticks_to_the_figure() -> None:
    (axis,) = dimensions([Axis("dropout", [i / 50 for i in range(20)])])
    assert axis.ticktext is None


def test_colours_turn_round_when_less_is_better() -> None:
    axes = [Axis("lr", [1.0, 2.0]), Axis("loss", [3.0, 4.0])]
    line = charts.parallel(axes, [3.0, 4.0], better="min").data[0].line
    assert (list(line.color), line.reversescale) == ([3.0, 4.0], True)
    assert charts.parallel(axes, [3.0, 4.0], better="max").data[0].line.reversescale is False


def test_texts_of_too_many_kinds_get_no_axis() -> None:
    settings: dict[str, list[float | str | None]] = {
        "train.dir": [f"runs/{i}" for i in range(20)],
        "train.lr": [float(i) for i in range(20)],
    }
    axes = charts.parallel_axes(settings, "loss", [0.0] * 20)
    assert [axis.label for axis in axes] == ["lr", "loss"]


def test_quality_stands_against_cost_with_its_interval() -> None:
    frame = pd.DataFrame(
        {
            "run_id": ["a", "b"], "run": ["lora", "full"], "cost": [2e6, 5e8], "cost_text": ["2 M", "500 M"],
            "score": [0.8, 0.9], "low": [0.7, 0.85], "high": [0.85, 0.95],
        }
    )  # fmt: skip
    figure = charts.cost(frame, metric="accuracy", title="Trainable parameters")
    first = figure.data[0]
    assert (first.x, first.y) == ((2e6,), (80.0,))
    assert [round(end[0], 6) for end in (first.error_y.arrayminus, first.error_y.array)] == [10.0, 5.0]
    assert first.customdata[0][0] == "a"
    assert figure.layout.xaxis.type == "log"
    hours = charts.cost(frame.assign(cost=[7200.0, 10_800.0]), metric="bleu", title="Time")
    assert [trace.x[0] for trace in hours.data] == [2.0, 3.0]
    assert hours.layout.xaxis.title.text == "hours"
