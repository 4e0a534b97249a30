"""Alerts and diagnoses of runs: cards with their evidence, marks in curves, a table of what every rule says."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import charts, components, data, formats
from dashboard.components import Cell, Mark, text_cell

Json = dict[str, Any]
WORST_FIRST = ("error", "warning", "info")
LINES = {"error": charts.BAD, "warning": charts.UNSURE, "info": charts.NEUTRAL}
# A silent run says so by its status.
SAID_BY_STATUS = {"silent"}
STATES = {
    "clear": Mark("green", "check_circle", "clear"),
    "too_little_data": Mark("gray", "hourglass_top", "too little data"),
    "not_measured": Mark("gray", "block", "not measured"),
}


def of_runs(run_ids: Sequence[str]) -> dict[str, list[Json]]:
    """The open alerts of some runs, the worst first."""
    found: dict[str, list[Json]] = {run_id: [] for run_id in run_ids}
    for alert in worst_first(data.alerts(run_ids=run_ids)):
        found[alert["run_id"]].append(alert)
    return found


def worst_first(alerts: Iterable[Json]) -> list[Json]:
    shown = [alert for alert in alerts if alert["rule"] not in SAID_BY_STATUS]
    return sorted(shown, key=lambda alert: WORST_FIRST.index(alert["severity"]))


def cards(alerts: Sequence[Json]) -> None:
    """Each alert with its sentence and what usually helps; the evidence is a click away."""
    for alert in alerts:
        with st.container(border=True, key=f"alert-{alert['id']}", gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                components.badge(alert["rule"])
                st.caption(formats.ago(alert["opened_at"]), width="content")
            st.markdown(escaped(alert["message"]))
            st.caption(f"What usually helps: {escaped(alert['advice'])}")
            with st.expander("Evidence"):
                components.table(["Evidence", components.number_head("Value")], evidence(alert))


def evidence(alert: Json) -> list[list[str | Cell]]:
    return [
        [text_cell(name.replace("_", " "), "key"), components.numeric(evidence_text(value))]
        for name, value in alert["evidence"].items()
    ]


def evidence_text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(evidence_text(part) for part in value)
    if isinstance(value, bool | str):
        return str(value)
    return formats.number(value)


def escaped(text: str) -> str:
    """A sentence as it is: names of metrics may hold what Markdown takes for its own."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#$~|" else letter for letter in text)


def mark_steps(figure: go.Figure, alerts: Sequence[Json], keys: Sequence[str]) -> None:
    """A dotted line at the step where an alert about one of these metrics begins. The x axis must count steps."""
    for alert in alerts:
        if alert["key"] in keys and alert["step"] is not None:
            word = components.mark(alert["rule"]).word
            figure.add_vline(
                x=alert["step"],
                line={"width": 1.5, "dash": "dot", "color": LINES[alert["severity"]]},
                annotation={"text": word, "font": {"size": 11, "color": LINES[alert["severity"]]}, "yanchor": "top"},
            )


def diagnoses(run: Json) -> None:
    """What every rule says of the run now."""
    rows: list[list[str | Cell]] = []
    for one in data.diagnoses(run["id"]):
        mark = components.mark(one["rule"]) if one["state"] == "found" else STATES[one["state"]]
        chip = f'<span class="ts-chip ts-{mark.color}"><span class="ts-icon">{mark.icon}</span>{mark.word}</span>'
        said = f"{html.escape(one['message'])}<br><small>{html.escape(one['criterion'])}</small>"
        about = f'<br><small class="ts-mono">{html.escape(one["key"])}</small>' if one["key"] else ""
        rows.append([Cell(f"{html.escape(one['title'])}{about}", "key"), Cell(chip), Cell(said, "text")])
    components.table(["Rule", "State", "What it says"], rows)
    st.caption("Rules are late rather than wrong: an alert is a reason to look, and what is clear is not proven well.")
