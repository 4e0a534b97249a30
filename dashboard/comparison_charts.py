"""Figures that compare many runs: groups with their spread, parallel coordinates. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts, formats
from dashboard.charts import DASHES, PALETTE, Style

# Blue over grey to orange: the ends differ for every kind of colour vision, and in print.
SCALE = [[0.0, "#1F7FC4"], [0.5, "#A9B2BF"], [1.0, "#E08E0B"]]
MOST_LEVELS = 12
MOST_TICKS = 8
NOT_SET = "not set"
_LABEL = 22


class Axis(NamedTuple):
    """One vertical line of parallel coordinates: a number, text or None a run."""

    label: str
    values: Sequence[float | str | None]


def group_style(place: int) -> Style:
    return Style(PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)])


def bands(
    frame: pd.DataFrame, *, labels: Sequence[str], x: str = "step", log_y: bool = False, height: int = 290
) -> go.Figure:
    """One line a group, its mean, with mean ± sd as a band: columns group, x, mean, sd, n. No band around one run."""
    figure = go.Figure()
    unit, divisor = charts.across(x, float(frame["x"].max()) if len(frame) else 0.0)
    for group, series in frame.groupby("group", sort=True):
        color, dash = group_style(int(str(group)))
        place, sd = series["x"] / divisor, series["sd"]
        if sd.notna().any():
            # Where one run is alone the band closes on the line instead of jumping over it.
            spread = sd.fillna(0.0)
            edge: dict[str, Any] = {"x": place, "mode": "lines", "line": {"width": 0}, "showlegend": False,
                                    "hoverinfo": "skip"}  # fmt: skip
            lower = series["mean"] - spread
            if log_y:
                # A logarithm has no place for what lies below zero: there the band ends at the least run.
                lower = lower.where(lower > 0, series["min"])
            figure.add_trace(go.Scatter(y=lower, **edge))
            figure.add_trace(
                go.Scatter(y=series["mean"] + spread, fill="tonexty", fillcolor=charts.translucent(color, 0.18), **edge)
            )
        figure.add_trace(
            go.Scatter(
                x=place,
                y=series["mean"],
                name=labels[int(str(group))],
                mode="lines+markers" if len(series) <= 25 else "lines",
                marker={"size": 5},
                line={"color": color, "width": 2, "dash": dash},
                customdata=[_spread(sd_here, n) for sd_here, n in zip(sd, series["n"], strict=True)],
                hovertemplate="%{y:.5g}%{customdata}",
            )
        )
    charts.frame_layout(figure, height, legend=False)
    charts.curve_axes(figure, unit, log_y=log_y)
    return figure


def _spread(sd: float, n: int) -> str:
    return f" (n = {n})" if pd.isna(sd) else f" ± {formats.number(float(sd), 3)} (n = {n})"


def cost(frame: pd.DataFrame, *, metric: str, title: str) -> go.Figure:
    """A score with its interval against what it cost, a point a run in its own colour: columns run_id, run, cost,
    cost_text, score, low, high. Costs over more than two decades stand on a logarithmic axis."""
    share = formats.is_share(metric)
    scale = 100.0 if share else 1.0
    unit, divisor = charts.across("time", float(frame["cost"].max())) if title == "Time" else (title.lower(), 1.0)
    figure = go.Figure()
    for row in frame.to_dict("records"):
        color = charts.color_of(row["run_id"])
        score, low, high = (scale * row[name] for name in ("score", "low", "high"))
        said = f"{formats.measured(metric, row['score'])} {formats.interval(metric, [row['low'], row['high']])}"
        figure.add_trace(
            go.Scatter(
                x=[row["cost"] / divisor],
                y=[score],
                mode="markers+text",
                text=[_short(row["run"])],
                textposition="middle right",
                textfont={"size": 11},
                marker={"size": 11, "color": color},
                error_y={"type": "data", "symmetric": False, "array": [high - score], "arrayminus": [score - low],
                         "thickness": 1, "width": 3, "color": charts.translucent(color, 0.6)},
                customdata=[[row["run_id"]]],
                hovertemplate=f"{row['run']}<br>{said}<br>{row['cost_text']}<extra></extra>",
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"opacity": 1}},
            )
        )  # fmt: skip
    charts.frame_layout(figure, 340, legend=False)
    figure.update_layout(hovermode="closest", clickmode="event+select")
    least, most = float(frame["cost"].min()), float(frame["cost"].max())
    by_decade = least > 0 and most / least > 100
    figure.update_xaxes(
        title=charts.titled(unit), tickformat="~s", zeroline=False, type="log" if by_decade else "linear"
    )
    figure.update_yaxes(title=charts.titled(f"{metric}{', %' if share else ''}"), zeroline=False)
    return figure


def parallel(axes: Sequence[Axis], color: Sequence[float], *, better: Literal["min", "max"] | None) -> go.Figure:
    """A line a run through its value on each axis; the last axis is the metric, which gives the colour too.

    Numbers over more than two decades stand on a logarithmic axis; texts on evenly spaced ticks. Orange is better when
    `better` is known, else higher.
    """
    figure = go.Figure(
        go.Parcoords(
            dimensions=[_dimension(axis) for axis in axes],
            line={"color": list(color), "colorscale": SCALE, "reversescale": better == "min", "showscale": False},
            labelfont={"size": 12},
            tickfont={"size": 11},
            rangefont={"size": 1, "color": "rgba(0,0,0,0)"},
            unselected={"line": {"opacity": 0.06}},
        )
    )
    figure.update_layout(height=400, margin={"l": 70, "r": 60, "t": 46, "b": 18})
    return figure


def _dimension(axis: Axis) -> dict[str, Any]:
    present = [value for value in axis.values if value is not None]
    if any(isinstance(value, str) for value in present):
        values, ticks = _levels([None if value is None else str(value) for value in axis.values])
    else:
        values, ticks = _numbers([None if value is None else float(value) for value in axis.values])
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.5
    named = {"tickvals": list(ticks.values()), "ticktext": list(ticks)} if ticks else {}
    return {"label": _short(axis.label), "values": values, "range": [low - margin, high + margin], **named}


def _levels(texts: Sequence[str | None]) -> tuple[list[float], dict[str, float]]:
    names = sorted({text for text in texts if text is not None}) + ([NOT_SET] if None in texts else [])
    place = {name: float(index) for index, name in enumerate(names)}
    return [place[NOT_SET if text is None else text] for text in texts], {
        _short(name): at for name, at in place.items()
    }


def _numbers(numbers: Sequence[float | None]) -> tuple[list[float], dict[str, float]]:
    """Places on the axis and its ticks (none: Plotly's own do). What is not set stands below the least number."""
    present = sorted({number for number in numbers if number is not None})
    by_decade = present[0] > 0 and present[-1] / present[0] > 100
    scaled = [None if number is None else math.log10(number) if by_decade else number for number in numbers]
    low, high = (math.log10(end) if by_decade else end for end in (present[0], present[-1]))
    ticks: dict[str, float] = {}
    if len(present) <= MOST_TICKS:
        ticks = {formats.number(number): math.log10(number) if by_decade else number for number in present}
    elif by_decade:
        ticks = {formats.number(10.0**decade): float(decade) for decade in range(math.ceil(low), math.floor(high) + 1)}
    elif None in numbers:
        ticks = {formats.number(float(tick), 3): float(tick) for tick in np.linspace(low, high, 5)}
    beside = low - 0.14 * ((high - low) or 1.0)
    if None in numbers:
        ticks = {NOT_SET: beside, **ticks}
    return [beside if value is None else value for value in scaled], ticks


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"…{text[1 - _LABEL :]}"


def parallel_axes(
    settings: Mapping[str, Sequence[float | str | None]], metric: str, values: Sequence[float]
) -> list[Axis]:
    """The settings that can stand on an axis (numbers, or texts of few kinds), then the metric."""
    axes = []
    for key, column in settings.items():
        kinds = set(column)
        if any(isinstance(value, str) for value in kinds) and len(kinds) > MOST_LEVELS:
            continue
        axes.append(Axis(key.rpartition(".")[2], column))
    return [*axes, Axis(metric, list(values))]
