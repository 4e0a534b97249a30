"""Figures from frames. Pure: no reads, no widgets.

Curve frames have the columns run_id, key, rank, x, value, min, max, as the service sends them. Colours belong to runs,
not to places in a legend: a run looks the same on every page. Axis and text colours come from the theme.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import formats

# Okabe and Ito's colours, evened out to stand on white and on near-black; the same as in .streamlit/config.toml.
PALETTE = ("#1F7FC4", "#E08E0B", "#0E9F74", "#D55E00", "#C568A0", "#3FA7DB", "#8F9130")
DASHES = ("solid", "dash", "dot", "dashdot")
GOOD, BAD, UNSURE, NEUTRAL = "#0E9F74", "#D14343", "#E08E0B", "#7C8797"
VERDICT_COLORS = {
    "PASS": GOOD, "FAIL": BAD, "INCONCLUSIVE": UNSURE, "INVALID": NEUTRAL,
    "better": GOOD, "worse": BAD, "not_worse": GOOD, "inconclusive": UNSURE,
}  # fmt: skip
TRAIN = ("train/", "train_", "train.")
EVAL = ("eval/", "eval_", "eval.", "validation/", "val/", "val_", "test/", "test_")
WEBGL_FROM = 20_000
# With more curves in a chart, the ranges behind them would only be fog.
RANGES_UP_TO = 12


class Style(NamedTuple):
    color: str
    dash: str


def color_of(run_id: str) -> str:
    """The colour of a run, the same on every page and for ever."""
    return PALETTE[zlib.crc32(run_id.encode()) % len(PALETTE)]


def styles(run_ids: Iterable[str]) -> dict[str, Style]:
    """Colour and dash of each run: where two runs share a colour, the dash tells them apart."""
    taken: dict[str, int] = {}
    found: dict[str, Style] = {}
    for run_id in run_ids:
        color = color_of(run_id)
        found[run_id] = Style(color, DASHES[taken.get(color, 0) % len(DASHES)])
        taken[color] = taken.get(color, 0) + 1
    return found


# --- series ---------------------------------------------------------------------------------------------


def family(key: str) -> str:
    """What a metric is about, whoever measured it: `train/loss` and `eval_loss` are both `loss`."""
    for prefix in (*TRAIN, *EVAL):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key


def is_system(key: str) -> bool:
    return key.startswith(("system/", "system.", "system_"))


def is_epoch(key: str) -> bool:
    return key in {"epoch", "train/epoch", "trainer/epoch", "train_epoch"}


def is_probe(key: str) -> bool:
    return key.startswith(("probe/", "probe.", "probe_", "forgetting_probe/"))


def is_evaluation(key: str) -> bool:
    return key.startswith(EVAL)


def across(x: str, longest: float) -> tuple[str, float]:
    """What an x axis is called, and by what its values are divided."""
    if x != "time":
        return x, 1.0
    if longest > 2 * 86_400:
        return "days", 86_400.0
    if longest > 2 * 3600:
        return "hours", 3600.0
    return ("minutes", 60.0) if longest > 180 else ("seconds", 1.0)


def as_measured(frame: pd.DataFrame, x: str) -> pd.DataFrame:
    """A curve frame as its CSV: the x column under the name of what it is, ranks where there are several."""
    one_rank = "rank" in frame and not frame["rank"].any()
    shown = frame.drop(columns="rank") if one_rank else frame
    return shown.rename(columns={"x": "seconds" if x == "time" else x})


def curves(
    frame: pd.DataFrame,
    *,
    names: Mapping[str, str],
    x: str = "step",
    log_y: bool = False,
    from_zero: bool = False,
    height: int = 260,
) -> go.Figure:
    """One line a (run, key, rank). What is measured stays behind it: the range of the points an entry stands for, or of
    a smoothed curve, its points.

    Of one run, keys have colours of their own, or the ranks of a key; of several, what is measured on held-out data is
    dashed.
    """
    run_ids = [str(run_id) for run_id in frame["run_id"].unique()]
    look = styles(run_ids)
    keys = sorted(frame["key"].unique(), key=is_evaluation)
    several_keys = len(keys) > 1
    ranks = sorted(frame["rank"].unique())
    groups = list(frame.groupby(["run_id", "key", "rank"], sort=False))
    figure = go.Figure()
    kind = go.Scattergl if len(frame) > WEBGL_FROM else go.Scatter
    unit, divisor = across(x, float(frame["x"].max()) if len(frame) else 0.0)
    for (run_id, key, rank), series in groups:
        run_id, key = str(run_id), str(key)
        color, dash = look[run_id]
        if len(run_ids) == 1:
            color = PALETTE[(keys.index(key) if several_keys else ranks.index(rank)) % len(PALETTE)]
            dash = DASHES[ranks.index(rank) % len(DASHES)] if several_keys else dash
        elif several_keys and is_evaluation(key):
            dash = "dash"
        label = key if len(run_ids) == 1 else names.get(run_id, run_id)
        if several_keys and len(run_ids) > 1:
            label = f"{label} · {key}"
        if len(ranks) > 1:
            label = f"{label} · rank {rank}" if several_keys or len(run_ids) > 1 else f"rank {rank}"
        # Plain arrays: Plotly takes three times as long over a series.
        place = series["x"].to_numpy() / divisor
        if len(groups) <= RANGES_UP_TO:
            figure.add_traces(_behind(place, series, color, kind, opacity=0.2 if len(groups) <= 3 else 0.1))
        few = len(series) <= 25
        figure.add_trace(
            kind(
                x=place,
                y=series["value"].to_numpy(),
                name=label,
                mode="lines+markers" if few else "lines",
                marker={"size": 5},
                line={"color": color, "width": 1.8, "dash": dash},
                hovertemplate="%{y:.5g}",
            )
        )
    frame_layout(figure, height, legend=len(groups) > 1)
    if len(groups) > RANGES_UP_TO:
        # One box with the values of dozens of curves would cover the chart.
        figure.update_layout(hovermode="closest")
    curve_axes(figure, unit, log_y=log_y)
    if from_zero:
        figure.update_yaxes(rangemode="tozero")
    return figure


def curve_axes(figure: go.Figure, unit: str, *, log_y: bool) -> None:
    figure.update_xaxes(title=titled(unit), tickformat="~s" if unit == "step" else None)
    figure.update_yaxes(type="log" if log_y else "linear", tickformat=None if log_y else "~g")


def _behind(place: np.ndarray, series: pd.DataFrame, color: str, kind: Any, opacity: float) -> list[Any]:
    """The range of the points as a band; where each entry is one point, that point, if the line is not it."""
    if not (series["max"] > series["min"]).any():
        if series["value"].equals(series["max"]):
            return []
        return [kind(x=place, y=series["max"].to_numpy(), mode="lines", line={"color": color, "width": 1}, opacity=0.22,
                     showlegend=False, hoverinfo="skip")]  # fmt: skip
    edge: dict[str, Any] = {"x": place, "mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    return [
        go.Scatter(y=series["min"].to_numpy(), **edge),
        go.Scatter(y=series["max"].to_numpy(), fill="tonexty", fillcolor=translucent(color, opacity), **edge),
    ]


# --- evaluation -----------------------------------------------------------------------------------------


def most_confused(labels: Sequence[str], counts: Sequence[Sequence[int]], keep: int) -> list[int]:
    """The places of the `keep` labels with the most errors in row and column, in the matrix' own order."""
    matrix = np.asarray(counts, dtype=float)
    errors = matrix - np.diag(np.diag(matrix))
    weight = errors.sum(axis=0) + errors.sum(axis=1)
    if len(labels) <= keep:
        return list(range(len(labels)))
    return sorted(np.argsort(-weight, kind="stable")[:keep].tolist())


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]], *, share: bool = False) -> go.Figure:
    """Rows are the truth. A heat map, with a marker on each cell so that a cell can be clicked: the marker's
    customdata is [true, predicted]."""
    matrix = np.asarray(counts, dtype=float)
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros_like(matrix), where=rows > 0)
    small = len(labels) <= 15
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(shares),
            x=list(labels),
            y=list(labels),
            colorscale=[[0, "rgba(53,80,208,0.03)"], [1, "rgba(53,80,208,0.75)"]],
            zmin=0,
            zmax=1,
            showscale=False,
            hoverinfo="skip",
            xgap=1,
            ygap=1,
        )
    )
    cells = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if matrix[i, j] > 0]
    figure.add_trace(
        go.Scatter(
            x=[labels[j] for _, j in cells],
            y=[labels[i] for i, _ in cells],
            mode="markers+text" if small else "markers",
            text=[f"{shares[i, j]:.0%}" if share else f"{matrix[i, j]:,.0f}" for i, j in cells] if small else None,
            textfont={"color": ["#FFFFFF" if shares[i, j] > 0.4 else "#7C8797" for i, j in cells]},
            marker={"symbol": "square", "size": 18 if small else 8, "color": "rgba(0,0,0,0)"},
            selected={"marker": {"color": "rgba(224,142,11,0.55)"}},
            unselected={"marker": {"color": "rgba(0,0,0,0)"}},
            customdata=[[labels[i], labels[j], int(matrix[i, j]), shares[i, j]] for i, j in cells],
            hovertemplate="true %{customdata[0]}<br>predicted %{customdata[1]}<br>"
            "%{customdata[2]:,} items, %{customdata[3]:.1%} of the row<extra></extra>",
            showlegend=False,
        )
    )
    frame_layout(figure, max(320, min(900, 120 + 26 * len(labels))), legend=False)
    figure.update_layout(hovermode="closest", clickmode="event+select", dragmode=False)
    figure.update_yaxes(autorange="reversed", title=titled("true"), showgrid=False, ticks="")
    figure.update_xaxes(title=titled("predicted"), showgrid=False, ticks="", tickangle=-40)
    return figure


def intervals(
    frame: pd.DataFrame, *, share: bool, reference: float | None = None, height: int | None = None
) -> go.Figure:
    """A dot with its interval a row: columns label, value, low, high, and optionally color. First row on top."""
    colors = frame["color"] if "color" in frame else pd.Series([PALETTE[0]] * len(frame))
    scale = 100.0 if share else 1.0
    figure = go.Figure()
    for row, color in zip(frame.itertuples(index=False), colors, strict=True):
        value, low, high = (_scaled(part, scale) for part in (row.value, row.low, row.high))
        if value is None:
            continue
        whiskers: dict[str, Any] = {"visible": False}
        if low is not None and high is not None:
            whiskers = {
                "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
                "thickness": 2, "width": 5, "color": color,
            }  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[value],
                y=[row.label],
                mode="markers",
                error_x=whiskers,
                marker={"size": 9, "color": color},
                hovertemplate=f"%{{x:.4g}} [{formats.number(low)}, {formats.number(high)}]<extra>%{{y}}</extra>",
                showlegend=False,
            )
        )
    if reference is not None:
        figure.add_vline(x=reference * scale, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    frame_layout(figure, height or 70 + 30 * max(1, len(frame)), legend=False)
    figure.update_layout(hovermode="closest")
    order = list(frame["label"])
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=order, automargin=True, title_text=""
    )
    figure.update_xaxes(ticksuffix=" %" if share else "")
    return figure


def calibration(frame: pd.DataFrame) -> go.Figure:
    """Right against sure, a point a bin: columns low, high, n, confidence, accuracy, accuracy_low, accuracy_high.

    Below, on the same axis, how many items each bin has.
    """
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(x=[0, 100], y=[0, 100], mode="lines", line={"width": 1, "dash": "dot", "color": NEUTRAL},
                   hoverinfo="skip", showlegend=False)
    )  # fmt: skip
    right = 100 * frame["accuracy"]
    figure.add_trace(
        go.Scatter(
            x=100 * frame["confidence"],
            y=right,
            mode="lines+markers",
            line={"color": PALETTE[0], "width": 1.5},
            marker={"size": 8, "color": PALETTE[0]},
            error_y={
                "type": "data", "symmetric": False, "array": 100 * frame["accuracy_high"] - right,
                "arrayminus": right - 100 * frame["accuracy_low"], "thickness": 1.5, "width": 4, "color": PALETTE[0],
            },
            customdata=frame[["n", "accuracy_low", "accuracy_high"]].to_numpy(),
            hovertemplate="sure %{x:.1f} %<br>right %{y:.1f} % [%{customdata[1]:.1%}, %{customdata[2]:.1%}]"
            "<br>%{customdata[0]:,} items<extra></extra>",
            showlegend=False,
        )
    )  # fmt: skip
    # What is exactly 1 has a bin without width: it gets the place beside the last one.
    middle, width = 50 * (frame["low"] + frame["high"]), 100 * (frame["high"] - frame["low"])
    figure.add_trace(
        go.Bar(x=middle, y=frame["n"], width=width.where(width > 0, 1.5) * 0.94, yaxis="y2", showlegend=False,
               marker={"color": translucent(PALETTE[0], 0.45)}, hovertemplate="%{y:,} items<extra></extra>")
    )  # fmt: skip
    frame_layout(figure, 420, legend=False)
    figure.update_layout(
        hovermode="closest", yaxis={"domain": [0.26, 1]}, yaxis2={"domain": [0, 0.17], "anchor": "x"}, bargap=0
    )
    figure.update_xaxes(title=titled("how sure the model was"), range=[0, 102], ticksuffix=" %", zeroline=False)
    figure.update_yaxes(title=titled("right"), range=[-2, 104], ticksuffix=" %", zeroline=False)
    figure.update_layout(
        yaxis2={"title": titled("items"), "range": None, "autorange": True, "ticksuffix": "", "nticks": 3}
    )
    return figure


def _scaled(value: Any, scale: float) -> float | None:
    return None if value is None or pd.isna(value) else float(value) * scale


# --- experiments ----------------------------------------------------------------------------------------


def timeline(frame: pd.DataFrame, *, share: bool) -> go.Figure:
    """A difference over time with its interval as a band: columns at, variant, absolute, low, high."""
    figure = go.Figure()
    scale = 100.0 if share else 1.0
    for index, (variant, group) in enumerate(frame.groupby("variant", sort=False)):
        color = PALETTE[index % len(PALETTE)]
        when = pd.to_datetime(group["at"], unit="s")
        known = group["low"].notna() & group["high"].notna()
        band_x = pd.concat([when[known], when[known][::-1]])
        band_y = pd.concat([group["high"][known], group["low"][known][::-1]]) * scale
        figure.add_trace(
            go.Scatter(x=band_x, y=band_y, fill="toself", fillcolor=translucent(color, 0.16), mode="lines",
                       line={"width": 0}, hoverinfo="skip", showlegend=False)
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(x=when, y=group["absolute"] * scale, name=str(variant), mode="lines",
                       line={"color": color, "width": 2}, hovertemplate="%{y:.3g}")
        )  # fmt: skip
    figure.add_hline(y=0, line={"width": 1, "dash": "dot", "color": NEUTRAL})
    frame_layout(figure, 280, legend=frame["variant"].nunique() > 1)
    figure.update_yaxes(title=titled("points" if share else "difference"), zeroline=False)
    return figure


def titled(text: str) -> dict[str, Any]:
    """An axis title close to its axis."""
    return {"text": text, "standoff": 14, "font": {"size": 12}}


def translucent(color: str, opacity: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def frame_layout(figure: go.Figure, height: int, *, legend: bool) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 28 if legend else 10, "b": 4},
        showlegend=legend,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "title": {"text": ""}},
        hovermode="x unified",
        uirevision="keep",
    )
    untitled = {"text": "", "standoff": 0, "font": {"size": 1}}
    figure.update_xaxes(automargin=True, title=untitled)
    figure.update_yaxes(automargin=True, title=untitled)
