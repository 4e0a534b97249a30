"""The figure of a sweep. Pure: frame in, figure out."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import charts
from dashboard.charts import PALETTE
from dashboard.sweep_readings import FAILED, Direction, best_of

Json = dict[str, Any]


def history(frame: pd.DataFrame, *, metric: str, direction: Direction, log_y: bool = False) -> go.Figure:
    """What each trial reached, in the order they began, and the best so far: rows as `sweep_readings.trials` has them.

    A trial that ended without a value stands as a cross at the lower edge. Customdata begins with the run's id.
    """
    told = frame[frame["value"].notna()]
    figure = go.Figure(
        go.Scatter(x=told["trial"], y=told["best"], mode="lines", name="best so far",
                   line={"color": PALETTE[1], "width": 2.2, "shape": "hv"}, hoverinfo="skip")
    )  # fmt: skip
    figure.add_trace(_points(told, "trials", PALETTE[0], "circle", 8, f"{metric} %{{y:.5g}}"))
    best = best_of(frame, direction)
    if best is not None:
        figure.add_trace(_points(frame.loc[[best]], "best", PALETTE[1], "star", 15, f"best: {metric} %{{y:.5g}}"))
    lost = frame[frame["value"].isna() & frame["status"].isin(FAILED)]
    if len(lost) and len(told):
        figure.add_trace(
            _points(lost.assign(value=told["value"].min()), "no value", charts.BAD, "x-thin", 9, "no value")
        )
    charts.frame_layout(figure, 340, legend=True)
    figure.update_layout(hovermode="closest", clickmode="event+select")
    figure.update_xaxes(title=charts.titled("trial"), range=[0.5 - 0.02 * len(frame), len(frame) * 1.02 + 0.5])
    figure.update_yaxes(
        title=charts.titled(metric), type="log" if log_y else "linear", tickformat=None if log_y else "~g"
    )
    return figure


def _points(frame: pd.DataFrame, name: str, color: str, symbol: str, size: int, said: str) -> go.Scatter:
    return go.Scatter(
        x=frame["trial"],
        y=frame["value"],
        mode="markers",
        name=name,
        marker={"color": color, "size": size, "symbol": symbol, "line": {"width": 2 if symbol == "x-thin" else 0,
                "color": color}},
        customdata=frame[["run_id", "name", "status"]].to_numpy(),
        hovertemplate=f"%{{customdata[1]}}, %{{customdata[2]}}<br>{said}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )  # fmt: skip
