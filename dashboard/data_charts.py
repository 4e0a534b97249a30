"""Figures about sets of items. Pure: no reads, no widgets."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import PALETTE, frame_layout, titled

LONGEST_NAME = 26


def balance(frame: pd.DataFrame, *, gap: int = 0) -> go.Figure:
    """A bar a label, first row on top: columns label, n. `gap`: labels left out in the middle."""
    figure = go.Figure(
        go.Bar(
            y=frame["label"],
            x=frame["n"],
            orientation="h",
            marker={"color": PALETTE[0]},
            text=[f"{n:,}" for n in frame["n"]],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x:,} items<extra>%{y}</extra>",
        )
    )
    frame_layout(figure, 60 + 22 * max(2, len(frame)), legend=False)
    figure.update_layout(hovermode="closest", bargap=0.25)
    name_rows(figure, frame["label"])
    figure.update_xaxes(title=titled("items"), rangemode="tozero")
    if gap:
        figure.add_hline(y=len(frame) / 2 - 0.5, line={"width": 1, "dash": "dot"})
    return figure


def name_rows(figure: go.Figure, labels: pd.Series) -> None:
    """Rows from the top down; a long name is cut, so that bars keep their room on a phone."""
    names = list(labels)
    shown = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    figure.update_yaxes(autorange="reversed", type="category", tickmode="array", tickvals=names, ticktext=shown)


def lengths(frame: pd.DataFrame) -> go.Figure:
    """Histograms of characters a text, as shares of each set: columns set, low, high (without it), n."""
    figure = go.Figure()
    sets = list(dict.fromkeys(frame["set"]))
    for number, name in enumerate(sets):
        own = frame[frame["set"] == name]
        width = own["high"] - own["low"]
        figure.add_trace(
            go.Bar(
                x=own["low"] + width / 2,
                y=100 * own["n"] / own["n"].sum(),
                width=width,
                name=str(name),
                marker={"color": PALETTE[number], "line": {"width": 0}},
                opacity=0.85 if len(sets) == 1 else 0.55,
                customdata=pd.DataFrame({"low": own["low"], "high": own["high"] - 1, "n": own["n"]}).to_numpy(),
                hovertemplate="%{customdata[0]:,}–%{customdata[1]:,} characters: %{customdata[2]:,} items",
            )
        )
    frame_layout(figure, 280, legend=len(sets) > 1)
    figure.update_layout(barmode="overlay", hovermode="closest", bargap=0.02)
    figure.update_xaxes(title=titled("characters"), rangemode="tozero")
    figure.update_yaxes(title=titled("share of the set"), ticksuffix=" %")
    return figure


def label_shares(frame: pd.DataFrame, *, train: str, test: str) -> go.Figure:
    """The share of each label in two sets, side by side: columns label, train, test (shares in percent)."""
    figure = go.Figure()
    for number, (column, name) in enumerate((("train", train), ("test", test))):
        figure.add_trace(
            go.Bar(
                y=frame["label"],
                x=frame[column],
                name=name,
                orientation="h",
                marker={"color": PALETTE[number]},
                hovertemplate="%{x:.2f} %<extra>%{y}</extra>",
            )
        )
    frame_layout(figure, 90 + 30 * max(2, len(frame)), legend=True)
    figure.update_layout(barmode="group", hovermode="closest", bargap=0.3)
    name_rows(figure, frame["label"])
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    return figure
