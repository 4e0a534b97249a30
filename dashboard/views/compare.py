"""Decide between fine-tunes: verdicts first, then cost, curves and what was set differently."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, formats, navigate, readings, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
MOST_RUNS = 50
MOST_CHARTS = 12


def render() -> None:
    components.header(
        "Compare", "Decide between fine-tunes: what is better, what it cost, and what was set differently."
    )
    ids = [run_id for run_id in st.query_params.get("ids", "").split(",") if run_id][:MOST_RUNS]
    if len(ids) < 2:
        components.empty(
            "Choose runs to compare", "Tick two or more on the Runs page and press Compare.", icon="compare_arrows"
        )
        navigate.link("runs", "Choose runs", "table_rows")
        return
    runs = [data.run(run_id) for run_id in ids]
    baseline = choose_baseline(runs)
    legend(runs, baseline)
    verdicts_part(runs, baseline)
    cost_part(runs, baseline)
    curves_part(runs)
    config_part(runs)


def choose_baseline(runs: list[Json]) -> Json:
    names = {run["id"]: run["name"] for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = components.pick(
            "Baseline", list(names), names, "baseline", help="Every other run is judged against this one."
        )
        navigate.link("runs", "Change the selection", "edit")
    return next(run for run in runs if run["id"] == chosen)


def legend(runs: list[Json], baseline: Json) -> None:
    look = charts.styles([run["id"] for run in runs])
    with st.container(horizontal=True, gap="small", key="compare-legend"):
        for run in runs:
            with st.container(horizontal=True, gap=None, vertical_alignment="center", width="content"):
                style = look[run["id"]]
                border = "dashed" if style.dash != "solid" else "solid"
                st.html(
                    f'<span class="ts-swatch" style="border-top-color:{style.color};border-top-style:{border}"></span>',
                    width="content",
                )
                navigate.link("run", run["name"] + (" (baseline)" if run is baseline else ""), id=run["id"])


# --- verdicts ---


def newest_by_suite(run_id: str) -> dict[str, Json]:
    """The newest evaluation of a run on each suite."""
    found: dict[str, Json] = {}
    for evaluation in data.evaluations(run_id=run_id):
        found.setdefault(evaluation["suite"]["name"], evaluation)
    return found


def verdicts_part(runs: list[Json], baseline: Json) -> None:
    components.section(
        "Verdicts", "The newest evaluation of each run against the baseline's, on the suites both answered."
    )
    of_baseline = newest_by_suite(baseline["id"])
    cards: list[tuple[str, Json | str, Json]] = []
    for run in runs:
        if run is baseline:
            continue
        for suite, evaluation in newest_by_suite(run["id"]).items():
            if suite in of_baseline:
                card = data.comparison(of_baseline[suite]["id"], evaluation["id"])
                cards.append((suite, card, run))
    if not cards:
        components.empty(
            "No suite in common", "A verdict needs an evaluation of the baseline and of another run on the same suite.",
            f'client.create_evaluation(suite_id=…, run_id="{baseline["id"]}", predictions=[…])', icon="fact_check",
            code="python",
        )  # fmt: skip
        return
    grid = st.grid(2, min_column_width=340)
    for suite, card, run in cards:
        with grid:
            if isinstance(card, str):
                st.warning(f"{run['name']} on {suite}: {card}", icon=":material/block:")
            else:
                verdicts.comparison_card(card, key=f"{suite}-{run['id']}")
    judged = sum(not isinstance(card, str) for _, card, _ in cards)
    if judged > 1:
        st.caption(f"{judged} comparisons, each at 95 % on its own; about one in twenty such verdicts errs by chance.")


# --- cost ---


def cost_part(runs: list[Json], baseline: Json) -> None:
    suites = list(dict.fromkeys(suite for run in runs for suite in newest_by_suite(run["id"])))
    rows: list[list[str | Cell]] = []
    export: list[Json] = []
    for run in runs:
        evaluations = newest_by_suite(run["id"])
        scores = [primary(evaluations.get(suite)) for suite in suites]
        seconds, memory, trainable = run["duration"], readings.peak_memory(run), readings.trainable_parameters(run)
        rows.append(
            [
                text_cell(run["name"] + (" (baseline)" if run is baseline else ""), "key"),
                numeric(formats.duration(seconds)),
                numeric(formats.size(memory)),
                numeric(formats.count(trainable)),
                *(numeric(text) for _, text in scores),
            ]
        )
        export.append(
            {"run": run["name"], "seconds": seconds, "peak_memory_bytes": memory, "trainable_parameters": trainable}
            | {suite: value for suite, (value, _) in zip(suites, scores, strict=True)}
        )
    heads = ("Run", number_head("Time"), number_head("Peak memory"), number_head("Trainable parameters"))
    components.data_table(
        "Cost", [*heads, *(number_head(suite) for suite in suites)], rows, pd.DataFrame(export), key="cost",
        sentence="What each run took, beside what it reached.",
    )  # fmt: skip


def primary(evaluation: Json | None) -> tuple[float | None, str]:
    """The headline score of an evaluation, as a number and as text."""
    if evaluation is None or not evaluation["scores"]:
        return None, formats.NONE
    score = evaluation["scores"][0]
    return score["value"], formats.measured(score["name"], score["value"])


# --- curves ---


def curves_part(runs: list[Json]) -> None:
    components.section("Curves")
    keys = [key for key in readings.metric_keys(runs) if not charts.is_system(key)]
    long = [key for key in keys if any(key in run["metrics"] and run["metrics"][key]["count"] > 1 for run in runs)]
    if not long:
        st.caption("These runs logged no series.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = st.multiselect(
            "Metrics", long, default=long[:4], key="metrics", bind="query-params", max_selections=MOST_CHARTS, width=400
        )
        x = st.segmented_control(
            "Across", ["step", "time"], default="step", required=True, key="x", bind="query-params"
        )
        smoothing = st.slider("Smoothing", 0.0, 0.99, 0.0, 0.01, key="smooth", bind="query-params", width=180)
        log_y = st.toggle("Log axis", key="log", bind="query-params")
    counts = [run["metrics"].get(key, {}).get("count", 0) for run in runs for key in chosen]
    frame = data.history([run["id"] for run in runs], chosen, counts)
    names = {run["id"]: run["name"] for run in runs}
    frame = in_order(frame, [run["id"] for run in runs])
    grid = st.grid(2, min_column_width=340)
    for key in chosen:
        part = frame[frame["key"] == key]
        with grid:
            figure = charts.curves(part, names=names, x=x, smoothing=float(smoothing), log_y=log_y, height=290)
            figure.update_layout(showlegend=False, margin_t=10)
            components.chart(figure, part, title=key, key=f"compare-{key}")


def in_order(frame: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    """By run in the order asked for, so that dashes are given out the same way in every chart."""
    place = {run_id: index for index, run_id in enumerate(ids)}
    return frame.sort_values("run_id", key=lambda column: column.map(place), kind="stable")


# --- config ---


def config_part(runs: list[Json]) -> None:
    components.section("What was set differently")
    rows = readings.differences(runs)
    if not rows:
        st.caption("Nothing: these runs have the same config.")
        return
    head: list[str | Cell] = ["Setting", *(Cell(html.escape(run["name"]), "") for run in runs)]
    body: list[list[str | Cell]] = [
        [text_cell(key, "key ts-mono"), *(text_cell(value or formats.NONE, "ts-mono") for value in values)]
        for key, values in rows
    ]
    components.table(head, body)


render()
