"""Figures hold the numbers of their frames."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from dashboard import charts


def series(
    values: list[float], *, run: str = "r1", key: str = "loss", segment: int = 0, first: int = 0
) -> pd.DataFrame:
    n = len(values)
    return pd.DataFrame(
        {
            "run_id": [run] * n,
            "key": [key] * n,
            "segment": [segment] * n,
            "step": range(first, first + n),
            "time": [1000.0 + 60 * i for i in range(n)],
            "value": values,
        }
    )


def test_a_run_keeps_its_colour_whatever_it_is_drawn_with() -> None:
    ids = [f"run-{i}" for i in range(40)]
    alone = {one: charts.styles([one])[one].color for one in ids}
    together = charts.styles(ids)
    assert {one: style.color for one, style in together.items()} == alone
    assert set(alone.values()) <= set(charts.PALETTE)


def test_two_runs_of_one_colour_have_different_dashes() -> None:
    ids = [f"run-{i}" for i in range(200)]
    first = ids[0]
    twin = next(one for one in ids[1:] if charts.color_of(one) == charts.color_of(first))
    styles = charts.styles([first, twin])
    assert styles[first].color == styles[twin].color
    assert styles[first].dash != styles[twin].dash


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [1.0, 2.0, 6.0]),
        # Weights 1, 1/2, 1/4 from the newest back, normalised: (2 + 0.5) / 1.5 and (6 + 1 + 0.25) / 1.75.
        (0.5, [1.0, 5 / 3, 29 / 7]),
    ],
)
def test_smoothing_is_an_unbiased_moving_average(weight: float, expected: list[float]) -> None:
    assert charts.smooth(pd.Series([1.0, 2.0, 6.0]), weight).tolist() == pytest.approx(expected)


def test_smoothing_skips_what_is_not_a_number() -> None:
    smoothed = charts.smooth(pd.Series([1.0, math.nan, math.inf, 2.0]), 0.5)
    assert smoothed.isna().tolist() == [False, True, True, False]
    assert smoothed.iloc[3] == pytest.approx(5 / 3)


def test_points_that_cannot_be_drawn_are_counted() -> None:
    assert charts.not_finite(series([1.0, math.nan, -math.inf])) == 2
    assert charts.not_finite(series([])) == 0


def test_a_newer_segment_wins_from_the_step_it_starts_at() -> None:
    frame = pd.concat([series([1, 2, 3, 4, 5]), series([30, 40], segment=1, first=2)], ignore_index=True)
    kept = charts.newest(frame)
    assert list(zip(kept["step"], kept["value"], strict=True)) == [(0, 1), (1, 2), (2, 30), (3, 40)]


def test_newest_takes_segments_by_number_not_by_text() -> None:
    parts = [series([float(n)], segment=n, first=0) for n in (2, 10, 9)]
    assert charts.newest(pd.concat(parts, ignore_index=True))["value"].tolist() == [10.0]


@pytest.mark.parametrize(
    ("key", "family"),
    [("train/loss", "loss"), ("eval_loss", "loss"), ("eval/accuracy", "accuracy"), ("reward", "reward")],
)
def test_train_and_eval_of_one_thing_share_a_chart(key: str, family: str) -> None:
    assert charts.family(key) == family


def test_curves_draw_each_key_of_a_run_in_its_own_colour() -> None:
    frame = pd.concat([series([1, 2, 3], key="eval/loss"), series([4, 5, 6], key="train/loss")], ignore_index=True)
    figure = charts.curves(frame, names={})
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines["train/loss"].y) == [4, 5, 6]
    assert list(lines["eval/loss"].x) == [0, 1, 2]
    # Training first, what is held out second, in every chart.
    assert lines["train/loss"].line.color == charts.PALETTE[0]
    assert lines["eval/loss"].line.color == charts.PALETTE[1]


def test_curves_over_time_begin_at_zero_for_every_run() -> None:
    late = series([1, 2, 3], run="r2")
    late["time"] += 10_000
    figure = charts.curves(pd.concat([series([1] * 30), late], ignore_index=True), names={"r1": "one"}, x="time")
    assert [trace.x[0] for trace in figure.data] == [0, 0]
    assert figure.layout.xaxis.title.text == "minutes"
    assert figure.data[0].x[-1] == pytest.approx(29.0)
    assert figure.data[0].name == "one"


def test_smoothed_curves_keep_the_measured_values_behind() -> None:
    figure = charts.curves(series([float(i % 2) for i in range(40)]), names={}, smoothing=0.9)
    raw, smoothed = figure.data
    assert set(raw.y) == {0.0, 1.0}
    assert raw.opacity < 1
    assert max(smoothed.y[5:]) - min(smoothed.y[5:]) < 0.2


def test_long_curves_are_drawn_by_the_graphics_card() -> None:
    assert charts.curves(series([0.0] * (charts.WEBGL_FROM + 1)), names={}).data[0].type == "scattergl"
    assert charts.curves(series([0.0] * 100), names={}).data[0].type == "scatter"


def test_most_confused_labels_are_those_with_errors_in_row_or_column() -> None:
    counts = [[9, 0, 0, 0], [0, 9, 3, 0], [0, 1, 9, 0], [0, 0, 0, 9]]
    assert charts.most_confused("abcd", counts, 2) == [1, 2]
    assert charts.most_confused("abcd", counts, 9) == [0, 1, 2, 3]


def test_confusion_cells_carry_what_a_click_needs() -> None:
    figure = charts.confusion(["a", "b"], [[3, 1], [0, 4]])
    cells = figure.data[1]
    assert [tuple(cell) for cell in cells.customdata] == [("a", "a", 3, 0.75), ("a", "b", 1, 0.25), ("b", "b", 4, 1.0)]
    assert list(cells.text) == ["3", "1", "4"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(charts.confusion(["a", "b"], [[3, 1], [0, 4]], share=True).data[1].text) == ["75%", "25%", "100%"]


def test_confusion_of_a_label_nobody_has_does_not_divide_by_zero() -> None:
    figure = charts.confusion(["a", "b"], [[0, 0], [0, 2]])
    assert figure.data[0].z.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_intervals_are_drawn_in_percent_with_both_arms() -> None:
    frame = pd.DataFrame({"label": ["x", "y"], "value": [0.9, None], "low": [0.85, None], "high": [0.92, None]})
    figure = charts.intervals(frame, share=True, reference=0.88)
    (dot,) = figure.data
    assert list(dot.x) == [90.0]
    assert dot.error_x.arrayminus[0] == pytest.approx(5.0)
    assert dot.error_x.array[0] == pytest.approx(2.0)
    assert figure.layout.shapes[0].x0 == pytest.approx(88.0)


def test_the_front_of_learning_against_forgetting() -> None:
    frame = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "learned": [80.0, 90.0, 85.0, 90.0],
            "lost": [1.0, 3.0, 4.0, 2.0],
            "verdict": ["PASS", "FAIL", "FAIL", "INCONCLUSIVE"],
            "run_id": ["1", "2", "3", "4"],
        }
    )
    assert charts.pareto(frame)["name"].tolist() == ["a", "d"]
    figure = charts.plane(frame, x_title="lost", y_title="learned")
    front, *groups = figure.data
    assert list(front.x) == [1.0, 2.0]
    assert {group.name for group in groups} == {"PASS", "FAIL", "INCONCLUSIVE"}
    assert len({group.marker.symbol for group in groups}) == 3


def test_losses_go_left_and_gains_right() -> None:
    figure = charts.by_category(pd.DataFrame({"group": ["x", "y"], "lost": [4, 1], "gained": [0, 2]}))
    lost, gained = figure.data
    assert list(lost.x) == [-4, -1]
    assert list(gained.x) == [0, 2]
    assert list(gained.text) == ["", "2"]


def test_the_band_of_a_timeline_goes_there_and_back() -> None:
    frame = pd.DataFrame(
        {"at": [0.0, 60.0], "variant": ["b", "b"], "absolute": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}
    )
    band, line = charts.timeline(frame, share=True).data
    assert list(band.y) == pytest.approx([20.0, 30.0, 10.0, 0.0])
    assert list(line.y) == pytest.approx([10.0, 20.0])
    assert band.fillcolor == charts.translucent(charts.PALETTE[0], 0.16) == "rgba(31,127,196,0.16)"
