"""What each metric shows of each arm against the control: the Effects table of an experiment."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, formats, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
ARM_METRICS = (
    ("satisfaction", "Satisfaction"), ("rating_rate", "Rated"), ("task_success", "Task success"),
    ("latency", "Latency, mean"), ("latency_p50", "Latency, p50"), ("latency_p95", "Latency, p95"),
    ("first_token", "First token, mean"), ("first_token_p50", "First token, p50"),
    ("first_token_p95", "First token, p95"), ("cost", "Cost of 1,000 requests"),
    ("cost_per_success", "Cost of 1,000 successes"),
    ("error_rate", "Errors"), ("fallback_rate", "Fallbacks"),
)  # fmt: skip
ROLES = ("primary", "secondary", "guardrail")


def effects_part(readout: Json) -> None:
    shown = [effect for effect in readout["effects"] if not never_happened(effect)]
    absent = list(dict.fromkeys(named(one["metric"]) for one in readout["effects"] if never_happened(one)))
    effects = sorted(shown, key=lambda effect: ROLES.index(effect["role"]))
    several = len({effect["variant"] for effect in effects}) > 1
    rows: list[list[str | Cell]] = [effect_row(effect, several) for effect in effects]
    head: list[str | Cell] = [
        "Verdict", "Metric", "Role", number_head("Control"), number_head("Arm"), number_head("Difference, interval"),
         Cell("Relative to zero"), number_head("Relative"), number_head("p"),
    ]  # fmt: skip
    if any(effect["variance_reduction"] is not None for effect in effects):
        head.append(number_head("Noise explained"))
        for row, effect in zip(rows, effects, strict=True):
            row.append(numeric(formats.percent(effect["variance_reduction"], 0)))
    frame = pd.DataFrame(effects)
    components.data_table("Effects", head, rows, frame, key="effects", sentence=method_of(effects))
    # The verdict has said some of it already.
    above = " ".join([readout["verdict"]["sentence"], *(one["message"] for one in readout["verdict"]["reasons"])])
    telling = [effect for effect in effects if effect["role"] == "primary" or effect["verdict"] == "worse"]
    sentences = [effect["sentence"] for effect in telling if effect["sentence"] not in above]
    sentences += [f"{', '.join(absent)}: none in either arm."] if absent else []
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    st.html(f'<ul class="ts-plain ts-dim">{said}</ul>')


def never_happened(effect: Json) -> bool:
    """An event that is only looked out for, and that no arm has seen."""
    watched = effect["role"] != "primary" and effect["metric"] in {"error_rate", "fallback_rate"}
    return bool(watched and effect["control_value"] == 0 and effect["variant_value"] == 0)


def named(metric: str) -> str:
    return dict(ARM_METRICS).get(metric, metric.replace("_", " "))


def method_of(effects: list[Json]) -> str:
    methods = list(dict.fromkeys(effect["method"].split(", adjusted")[0] for effect in effects if effect["method"]))
    said = "By unit of assignment. " + (f"Intervals: {', '.join(methods).replace('_', ' ')}." if methods else "")
    if any(effect["variance_reduction"] is not None for effect in effects):
        said += " Where noise is explained, what the units did before their exposure is taken out (CUPED)."
    return said


def effect_row(effect: Json, several: bool) -> list[str | Cell]:
    metric, bounds = effect["metric"], effect["absolute_interval"]
    ends = [abs(end) for end in (*(bounds or ()), effect["absolute"] or 0.0) if end is not None]
    reach = (max(ends) or 1.0) * 1.1
    tone = components.mark(effect["verdict"]).color
    return [
        Cell(components.chip(effect["verdict"])),
        text_cell(named(metric) + (f" · {effect['variant']}" if several else "")),
        text_cell(f"{effect['role']} {'↑' if effect['direction'] == 'higher' else '↓'}", "ts-dim nowrap"),
        numeric(formats.measured(metric, effect["control_value"])),
        numeric(formats.measured(metric, effect["variant_value"])),
        Cell(
            f"<b>{formats.change(metric, effect['absolute'])}</b> "
            f"{formats.interval(metric, bounds, difference=True) if bounds else ''}",
            "num",
        ),
        verdicts.mini_interval(effect["absolute"], bounds, (-reach, reach), tone=tone),
        numeric(formats.relative(effect["relative"])),
        numeric(formats.p_value(effect["p_adjusted"])),
    ]
