"""Figures hold the numbers of their frames."""

from __future__ import annotations

import pandas as pd
import pytest

from dashboard import charts, forgetting_charts


def series(values: list[float], *, run: str = "r1", key: str = "loss", first: int = 0, rank: int = 0) -> pd.DataFrame:
    n = len(values)
    return pd.DataFrame(
        {
            "run_id": [run] * n,
            "key": [key] * n,
            "rank": [rank] * n,
            "x": [float(x) for x in range(first, first + n)],
            "value": values,
            "min": values,
            "max": values,
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


def test_a_line_for_each_rank() -> None:
    frame = pd.concat([series([1, 2]), series([3, 4], rank=1)], ignore_index=True)
    alone = charts.curves(frame, names={}).data
    assert [(line.name, list(line.y), line.line.color) for line in alone] == [
        ("rank 0", [1, 2], charts.PALETTE[0]), ("rank 1", [3, 4], charts.PALETTE[1]),
    ]  # fmt: skip
    both = pd.concat([frame, frame.assign(key="eval/loss")], ignore_index=True)
    lines = charts.curves(both, names={}).data
    assert {line.name for line in lines} >= {"eval/loss · rank 0", "eval/loss · rank 1"}
    assert len({(line.line.color, line.line.dash) for line in lines}) == 4


def test_a_time_axis_has_a_unit_that_fits() -> None:
    late = series([1, 2, 3], run="r2")
    frame = pd.concat([series([1] * 30), late], ignore_index=True)
    frame["x"] *= 60
    figure = charts.curves(frame, names={"r1": "one"}, x="time")
    assert figure.layout.xaxis.title.text == "minutes"
    assert figure.data[0].x[-1] == pytest.approx(29.0)
    assert figure.data[0].name == "one"
    assert charts.across("time", 100) == ("seconds", 1.0)
    assert charts.across("time", 5e4) == ("hours", 3600.0)
    assert charts.across("time", 1e6) == ("days", 86_400.0)
    assert charts.across("epoch", 1e6) == ("epoch", 1.0)


def test_smoothed_curves_keep_the_measured_values_behind() -> None:
    frame = series([float(i % 2) for i in range(40)])
    frame["value"] = 0.5
    raw, smoothed = charts.curves(frame, names={}).data
    assert set(raw.y) == {0.0, 1.0}
    assert raw.opacity < 1
    assert set(smoothed.y) == {0.5}


def test_thinned_curves_keep_their_range_behind_unless_there_are_too_many() -> None:
    frame = series([1.0, 2.0, 3.0])
    frame["max"] += 5.0
    lower, upper, line = charts.curves(frame, names={}).data
    assert list(upper.y) == [6, 7, 8]
    assert upper.fill == "tonexty"
    assert list(lower.y) == list(line.y) == [1, 2, 3]
    many = pd.concat([frame.assign(run_id=f"r{i}") for i in range(charts.RANGES_UP_TO + 1)], ignore_index=True)
    figure = charts.curves(many, names={})
    assert len(figure.data) == charts.RANGES_UP_TO + 1
    assert figure.layout.hovermode == "closest"


def test_the_csv_of_curves_names_its_x() -> None:
    frame = series([1])
    assert list(charts.as_measured(frame, "epoch").columns) == ["run_id", "key", "epoch", "value", "min", "max"]
    assert "rank" in charts.as_measured(frame.assign(rank=1), "epoch").columns
    assert "seconds" in charts.as_measured(series([1]), "time").columns


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
    for column, half in (("learned", 2.0), ("lost", 0.5)):
        frame[f"{column}_low"], frame[f"{column}_high"] = frame[column] - half, frame[column] + half
    assert forgetting_charts.pareto(frame)["name"].tolist() == ["a", "d"]
    figure = forgetting_charts.plane(frame, x_title="lost", y_title="learned")
    front, *groups = figure.data
    assert list(front.x) == [1.0, 2.0]
    assert {group.name for group in groups} == {"PASS", "FAIL", "INCONCLUSIVE"}
    assert len({group.marker.symbol for group in groups}) == 3
    assert {tuple(group.error_y.array) + tuple(group.error_y.arrayminus) for group in groups} <= {
        (2.0,) * 2,
        (2.0,) * 4,
    }
    assert figure.layout.xaxis.range[0] < 0.5 < 4.5 < figure.layout.xaxis.range[1]


def test_a_calibration_curve_has_its_intervals_and_the_items_of_each_bin() -> None:
    frame = pd.DataFrame(
        {
            "low": [0.6, 0.8, 1.0],
            "high": [0.8, 1.0, 1.0],
            "n": [3, 40, 2],
            "confidence": [0.7, 0.9, 1.0],
            "accuracy": [0.5, 0.75, 1.0],
            "accuracy_low": [0.2, 0.6, 0.4],
            "accuracy_high": [0.8, 0.86, 1.0],
        }
    )
    diagonal, curve, bars = charts.calibration(frame).data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert list(curve.x) == pytest.approx([70, 90, 100])
    assert list(curve.y) == pytest.approx([50, 75, 100])
    assert list(curve.error_y.array) == pytest.approx([30, 11, 0])
    assert list(curve.error_y.arrayminus) == pytest.approx([30, 15, 60])
    assert list(bars.y) == [3, 40, 2]
    assert min(bars.width) > 0  # what is exactly 1 can be seen too


def test_losses_go_left_and_gains_right() -> None:
    figure = forgetting_charts.by_category(pd.DataFrame({"group": ["x", "y"], "lost": [4, 1], "gained": [0, 2]}))
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
