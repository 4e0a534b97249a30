"""Figures of media from their counts. Pure: no reads, no widgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import NEUTRAL, PALETTE, frame_layout, titled

Histogram = Mapping[str, Any]
# Rows of the heat map, and what is left out at each end: a single far value would press all others into one row.
ROWS = 64
OUTERMOST = 0.001
# With more points, neighbours fall on one pixel.
POINTS_DRAWN = 2_000


def histogram_frame(histogram: Histogram) -> pd.DataFrame:
    """A bin a row: low, high, count."""
    edges = histogram["edges"]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": histogram["counts"]})


def histogram(frame: pd.DataFrame) -> go.Figure:
    """The bins of one step, as wide as they are."""
    figure = go.Figure(
        go.Bar(
            x=(frame["low"] / 2 + frame["high"] / 2),
            y=frame["count"],
            width=frame["high"] - frame["low"],
            marker={"color": PALETTE[0], "line": {"width": 0}},
            customdata=frame[["low", "high"]].to_numpy(),
            hovertemplate="%{customdata[0]:.4g} to %{customdata[1]:.4g}: %{y:,}<extra></extra>",
        )
    )
    frame_layout(figure, 260, legend=False)
    figure.update_layout(hovermode="closest", bargap=0)
    figure.update_xaxes(title=titled("value"), zeroline=False)
    figure.update_yaxes(title=titled("values in a bin"))
    return figure


def over_steps(steps: Sequence[int], histograms: Sequence[Histogram]) -> pd.DataFrame:
    """Histograms of several steps on one grid: a row a bin, a column a step, cells the share of the step's values.

    Within a bin of its own a histogram's values are taken to lie evenly.
    """
    cumulative = [np.concatenate([[0.0], np.cumsum(h["counts"], dtype=float)]) for h in histograms]
    tails = [
        np.interp([OUTERMOST * total[-1], (1 - OUTERMOST) * total[-1]], total, h["edges"])
        for h, total in zip(histograms, cumulative, strict=True)
    ]
    low, high = min(tail[0] for tail in tails), max(tail[1] for tail in tails)
    grid = np.linspace(low, high if high > low else low + 1.0, ROWS + 1)
    shares = {
        step: np.diff(np.interp(grid, h["edges"], total)) / total[-1]
        for step, h, total in zip(steps, histograms, cumulative, strict=True)
    }
    return pd.DataFrame(shares, index=pd.Index((grid[:-1] + grid[1:]) / 2, name="value"))


def heat_map(frame: pd.DataFrame, chosen: int) -> go.Figure:
    """How a distribution moves: `over_steps` as a picture, with a line at the step that is looked at."""
    figure = go.Figure(
        go.Heatmap(
            x=list(frame.columns),
            y=frame.index,
            # The square root brings out the tails, as in the confusion matrix.
            z=np.sqrt(frame.to_numpy()),
            customdata=frame.to_numpy(),
            colorscale=[[0, "rgba(31,127,196,0.0)"], [1, "rgba(31,127,196,0.95)"]],
            showscale=False,
            hovertemplate="step %{x:,}<br>around %{y:.4g}<br>%{customdata:.2%} of the values<extra></extra>",
        )
    )
    frame_layout(figure, 260, legend=False)
    figure.add_vline(x=chosen, line={"width": 1.5, "dash": "dot", "color": NEUTRAL})
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title=titled("step"), showgrid=False)
    figure.update_yaxes(title=titled("value"), showgrid=False, zeroline=False)
    return figure


def pr_frame(curve: Mapping[str, Any]) -> pd.DataFrame:
    """A threshold a row: threshold, precision, recall, tp, fp."""
    frame = pd.DataFrame({"threshold": curve["thresholds"], "tp": curve["tp"], "fp": curve["fp"]})
    frame["precision"] = frame["tp"] / (frame["tp"] + frame["fp"])
    frame["recall"] = frame["tp"] / curve["positives"]
    return frame[["threshold", "precision", "recall", "tp", "fp"]]


def pr_curve(frame: pd.DataFrame, share: float) -> go.Figure:
    """Precision against recall as steps: between two thresholds nothing is measured. The dotted line is guessing."""
    kept = frame
    if len(frame) > POINTS_DRAWN:
        kept = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, POINTS_DRAWN).astype(int))]
    figure = go.Figure(
        go.Scatter(
            x=kept["recall"],
            y=kept["precision"],
            mode="lines",
            line={"color": PALETTE[0], "width": 2, "shape": "vh"},
            customdata=kept["threshold"],
            hovertemplate="recall %{x:.3f}<br>precision %{y:.3f}<br>threshold %{customdata:.4g}<extra></extra>",
        )
    )
    figure.add_hline(y=share, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    frame_layout(figure, 300, legend=False)
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title=titled("recall"), range=[0, 1.01])
    figure.update_yaxes(title=titled("precision"), range=[0, 1.02])
    return figure
