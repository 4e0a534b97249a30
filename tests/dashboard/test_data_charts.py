"""Figures about sets of items: what is drawn is what is in the frame."""

from __future__ import annotations

import pandas as pd

from dashboard import data_charts, data_parts


def test_balance_draws_every_row_from_the_top_and_cuts_long_names() -> None:
    frame = pd.DataFrame({"label": ["a", "x" * 40], "n": [3, 1]})
    figure = data_charts.balance(frame)
    assert list(figure.data[0].x) == [3, 1]
    assert list(figure.data[0].y) == ["a", "x" * 40]
    assert figure.layout.yaxis.autorange == "reversed"
    assert list(figure.layout.yaxis.ticktext) == ["a", "x" * 25 + "…"]


def test_lengths_are_shares_of_each_set() -> None:
    one = {"edges": [0, 10, 20], "counts": [1, 3]}
    other = {"edges": [0, 5], "counts": [2]}
    frame = data_parts.lengths_frame([("train", one), ("test", other), ("none", None)])
    assert frame.to_dict("list") == {
        "set": ["train", "train", "test"], "low": [0, 10, 0], "high": [10, 20, 5], "n": [1, 3, 2],
    }  # fmt: skip
    figure = data_charts.lengths(frame)
    assert [list(trace.y) for trace in figure.data] == [[25.0, 75.0], [100.0]]
    assert list(figure.data[0].x) == [5, 15]
    assert list(figure.data[0].width) == [10, 10]


def test_label_shares_side_by_side() -> None:
    frame = pd.DataFrame({"label": ["a", "b"], "train": [60.0, 40.0], "test": [50.0, 50.0]})
    figure = data_charts.label_shares(frame, train="training", test="test")
    assert [(trace.name, list(trace.x)) for trace in figure.data] == [("training", [60, 40]), ("test", [50, 50])]
