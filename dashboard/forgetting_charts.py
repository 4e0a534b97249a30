"""Figures of the Forgetting page. Pure: frame in, figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import charts

Json = dict[str, Any]
ENDS = ["learned_low", "learned_high", "lost_low", "lost_high"]


def plane(frame: pd.DataFrame, *, x_title: str, y_title: str) -> go.Figure:
    """Learning against forgetting, a point a run: columns name, learned, lost (points), verdict, run_id; the ends of
    their intervals as learned_low, learned_high, lost_low, lost_high.

    Up is learned more, left is forgot less; the dotted line joins the runs no other run beats at both.
    """
    figure = go.Figure()
    front = pareto(frame)
    if len(front) > 1:
        figure.add_trace(
            go.Scatter(x=front["lost"], y=front["learned"], mode="lines", showlegend=False, hoverinfo="skip",
                       line={"dash": "dot", "width": 1.5, "color": charts.NEUTRAL})
        )  # fmt: skip
    symbols = {"PASS": "circle", "FAIL": "x", "INCONCLUSIVE": "diamond", "INVALID": "square-open"}
    for verdict, group in frame.groupby("verdict", sort=False):
        figure.add_trace(
            go.Scatter(
                x=group["lost"],
                y=group["learned"],
                mode="markers+text",
                name=str(verdict),
                text=[name if len(name) <= 22 else name[:21] + "…" for name in group["name"]],
                textposition="top right",
                textfont={"size": 11},
                marker={"size": 12, "color": charts.VERDICT_COLORS[str(verdict)], "symbol": symbols[str(verdict)]},
                error_x=_whiskers(group, "lost", charts.VERDICT_COLORS[str(verdict)]),
                error_y=_whiskers(group, "learned", charts.VERDICT_COLORS[str(verdict)]),
                customdata=group[["run_id", "name", *ENDS]].to_numpy(),
                hovertemplate="%{customdata[1]}<br>learned %{y:.1f} [%{customdata[2]:.1f}, %{customdata[3]:.1f}]"
                "<br>lost %{x:.1f} [%{customdata[4]:.1f}, %{customdata[5]:.1f}]<extra></extra>",
            )
        )
    charts.frame_layout(figure, 340, legend=True)
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title=charts.titled(x_title), zeroline=False)
    figure.update_yaxes(title=charts.titled(y_title), zeroline=False)
    if len(frame):
        left, right = float(frame["lost_low"].min()), float(frame["lost_high"].max())
        reach = max(1.0, right - left)
        figure.update_xaxes(range=[left - 0.12 * reach, right + 0.12 * reach])
        bottom, top = float(frame["learned_low"].min()), float(frame["learned_high"].max())
        reach = max(1.0, top - bottom)
        figure.update_yaxes(range=[bottom - 0.1 * reach, top + 0.2 * reach])
    return figure


def _whiskers(group: pd.DataFrame, column: str, color: str) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "array": group[f"{column}_high"] - group[column],
        "arrayminus": group[column] - group[f"{column}_low"], "thickness": 1, "width": 3,
        "color": charts.translucent(color, 0.55),
    }  # fmt: skip


def pareto(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows no other row beats in both: more learned and less lost. By what they lost."""
    ordered = frame.sort_values(["lost", "learned"], ascending=[True, False])
    best = ordered["learned"].cummax()
    earlier = best.shift(fill_value=-np.inf)
    return ordered[ordered["learned"] > earlier]


def by_category(frame: pd.DataFrame) -> go.Figure:
    """Lost to the left, gained to the right, a bar a category: columns group, lost, gained."""
    figure = go.Figure()
    for column, color, sign in (("lost", charts.BAD, -1), ("gained", charts.GOOD, 1)):
        figure.add_trace(
            go.Bar(
                y=frame["group"],
                x=sign * frame[column],
                name=column,
                orientation="h",
                marker={"color": color},
                customdata=frame[column],
                text=[f"{n:,}" if n else "" for n in frame[column]],
                textposition="auto",
                hovertemplate="%{customdata:,} " + column + "<extra>%{y}</extra>",
            )
        )
    charts.frame_layout(figure, 90 + 28 * max(1, len(frame)), legend=True)
    figure.update_layout(barmode="relative", hovermode="closest", bargap=0.35)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(showticklabels=False, showgrid=False)
    return figure


# --- sequences of fine-tunes ---


class HeatCell(NamedTuple):
    """A place of the matrix: what to colour by (0 to 1), what to write, what to say; or, without a value, why."""

    value: float | None
    text: str
    hover: str


def matrix(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[HeatCell]], trained: Sequence[tuple[int, int]]
) -> go.Figure:
    """R[i][j]: a row a stage, the base on top; `trained` are the places (row, column) where a stage was trained for
    that suite, framed."""
    values = np.array([[np.nan if cell.value is None else cell.value for cell in row] for row in cells], dtype=float)
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(range(len(columns))),
            y=list(range(len(rows))),
            customdata=[[cell.hover for cell in row] for row in cells],
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=True,
            colorscale=[[0, "#F2C4C4"], [0.5, "#F7E6C0"], [1, "#A6DCC5"]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    # Cells are light in both themes, so their text is dark in both; where there is no cell it must show on either.
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            font = {"size": 11, "color": charts.NEUTRAL} if cell.value is None else {"size": 13, "color": "#1A2130"}
            figure.add_annotation(x=column, y=row, text=cell.text, showarrow=False, font=font)
    for row, column in trained:
        figure.add_shape(
            type="rect", x0=column - 0.48, x1=column + 0.48, y0=row - 0.46, y1=row + 0.46,
            line={"width": 2, "color": charts.PALETTE[0]}, fillcolor="rgba(0,0,0,0)",
        )  # fmt: skip
    charts.frame_layout(figure, 96 + 44 * len(rows), legend=False)
    figure.update_layout(hovermode="closest", dragmode=False)
    figure.update_xaxes(
        side="top", tickvals=list(range(len(columns))), ticktext=[_short(name) for name in columns], showgrid=False,
        ticks="", zeroline=False,
    )  # fmt: skip
    figure.update_yaxes(
        autorange="reversed", tickvals=list(range(len(rows))), ticktext=[_short(name) for name in rows], showgrid=False,
        ticks="", zeroline=False,
    )  # fmt: skip
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 36 else name[:35] + "…"


def events(frame: pd.DataFrame) -> go.Figure:
    """Items forgotten (below) and learned (above) from one checkpoint to the next: columns step, forgotten, learned,
    share_right."""
    figure = go.Figure()
    steps = [f"{step:,}" for step in frame["step"]]
    for column, color, sign in (("learned", charts.GOOD, 1), ("forgotten", charts.BAD, -1)):
        figure.add_trace(
            go.Bar(
                x=steps, y=sign * frame[column], name=column, marker={"color": color}, customdata=frame[column],
                hovertemplate="%{customdata:,} " + column,
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=steps, y=100 * frame["share_right"], name="right, %", yaxis="y2", mode="lines+markers",
            line={"color": charts.PALETTE[0], "width": 2}, hovertemplate="%{y:.1f} % right",
        )
    )  # fmt: skip
    charts.frame_layout(figure, 280, legend=True)
    figure.update_layout(
        barmode="relative", bargap=0.4,
        yaxis2={"overlaying": "y", "side": "right", "range": [0, 100], "showgrid": False,
                "tickvals": [0, 25, 50, 75, 100], "ticksuffix": " %"},
    )  # fmt: skip
    figure.update_xaxes(title=charts.titled("step"), type="category")
    figure.update_yaxes(title=charts.titled("items"), selector={"overlaying": None}, zeroline=True)
    return figure
