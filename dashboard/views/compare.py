"""Decide between fine-tunes: verdicts and cost, curves, metrics, what was set differently, and what of it matters."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import (
    charts,
    compare_parts,
    comparison_charts,
    comparison_parts,
    components,
    curve_data,
    data,
    formats,
    navigate,
    readings,
)
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
MOST_RUNS = 50
MOST_CHARTS = 12
# A longer legend would push everything else down: it opens on demand.
LEGEND_UP_TO = 8
# The newest runs of a project that can be added on the page, and the most that are judged pair by pair.
OFFERED, PAIRED = 200, 8
VIEWS = ["Verdicts", "Curves", "Metrics", "Settings", "What matters"]


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
    runs = data.runs_of(list(dict.fromkeys(ids)))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        baseline = choose_baseline(runs)
        choice = st.popover("Change the selection", icon=":material/edit:", type="tertiary", key="choice",
                            on_change="rerun")  # fmt: skip
        if choice.open:
            with choice:
                selection(runs)
        if len(runs) > LEGEND_UP_TO:
            with st.popover(formats.plural(len(runs), "run"), icon=":material/legend_toggle:"):
                legend(runs, baseline)
    if len(runs) <= LEGEND_UP_TO:
        with st.container(horizontal=True, gap="small", key="compare-legend"):
            legend(runs, baseline)
    tabs = st.tabs(VIEWS, key="view", on_change="rerun", bind="query-params")
    shown = next((name for name, tab in zip(VIEWS, tabs, strict=True) if tab.open), VIEWS[0])
    with tabs[VIEWS.index(shown)]:
        if shown == "Verdicts":
            newest = newest_by_suite(runs)
            verdicts_part(runs, baseline, newest)
            cost_part(runs, baseline, newest)
        elif shown == "Curves":
            curves_part(runs)
        elif shown == "Metrics":
            compare_parts.metrics_part(runs)
        elif shown == "Settings":
            compare_parts.settings_part(runs)
        else:
            compare_parts.importance_part(runs, baseline)


def choose_baseline(runs: list[Json]) -> Json:
    names = {run["id"]: run["name"] for run in runs}
    help = "Every other run is judged against this one."
    chosen = components.pick("Baseline", list(names), names, "baseline", help=help)
    return next(run for run in runs if run["id"] == chosen)


def selection(runs: list[Json]) -> None:
    """Take runs out of the comparison, or add some of the newest of their projects."""
    known = {run["id"]: run for run in runs}
    for project in dict.fromkeys(run["project"] for run in runs):
        newest = data.newest_runs(project, OFFERED)
        known = {**{run["id"]: run for run in newest}, **known}
    names = formats.told_apart([run["name"] for run in known.values()])
    labels = dict(zip(known, names, strict=True))
    ids = [run["id"] for run in runs]
    with st.form("selection", border=False):
        # Another selection, another widget: this one begins with what is shown.
        chosen = st.multiselect(
            "Runs", sorted(labels, key=lambda one: one not in ids), default=ids, format_func=labels.__getitem__,
            max_selections=MOST_RUNS, key=f"chosen-{hash(tuple(ids))}", width=420,
        )  # fmt: skip
        if st.form_submit_button("Compare these", type="primary", icon=":material/compare_arrows:"):
            if len(chosen) < 2:
                st.error("Choose two or more.", icon=":material/error:")
            else:
                st.query_params["ids"] = ",".join(chosen)
                st.rerun()
    navigate.link("runs", "Look for others", "search")


def legend(runs: list[Json], baseline: Json) -> None:
    """Which line is whose."""
    look = charts.styles([run["id"] for run in runs])
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


def newest_by_suite(runs: list[Json]) -> dict[str, dict[str, Json]]:
    """The newest evaluation of each run (its id) on each suite."""
    found: dict[str, dict[str, Json]] = {run["id"]: {} for run in runs}
    for evaluation in data.evaluations_of_runs([run["id"] for run in runs]):
        found[evaluation["run_id"]].setdefault(evaluation["suite"]["name"], evaluation)
    return found


def verdicts_part(runs: list[Json], baseline: Json, newest: dict[str, dict[str, Json]]) -> None:
    components.section(
        "Verdicts", "The newest evaluation of each run against the baseline's, on the suites both answered."
    )
    shared = [suite for suite in newest[baseline["id"]] if sum(suite in own for own in newest.values()) > 1]
    if not shared:
        components.empty(
            "No suite in common", "A verdict needs an evaluation of the baseline and of another run on the same suite.",
            f'client.create_evaluation(suite_id=…, run_id="{baseline["id"]}", predictions=[…])', icon="fact_check",
            code="python",
        )  # fmt: skip
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        by = comparison_parts.judge_by(runs) if readings.groupings(runs) else comparison_parts.EACH
        pairs = (
            2 < len(runs) <= PAIRED
            and by == comparison_parts.EACH
            and st.toggle(
                "Every pair",
                key="pairs",
                bind="query-params",
                help="Each run against each other, not only the baseline.",
            )
        )
    for suite in shared:
        if len(shared) > 1 and not pairs:
            st.markdown(f"**{suite}**")
        evaluations = {run: own[suite] for run, own in newest.items() if suite in own}
        suite_part(suite, runs, baseline, evaluations, by, pairs=pairs)
    if (
        by == comparison_parts.EACH
        and not pairs
        and max(sum(suite in own for own in newest.values()) for suite in shared) > 2
    ):
        st.caption("Verdicts on a suite allow for the number of runs judged on it (Holm); suites are judged apart.")


def suite_part(
    suite: str, runs: list[Json], baseline: Json, evaluations: dict[str, Json], by: str, *, pairs: bool
) -> None:
    """The verdicts on one suite: `evaluations` are the newest by run."""
    before = evaluations[baseline["id"]]
    others = []
    for run in runs:
        evaluation = evaluations.get(run["id"])
        if evaluation is None or run is baseline:
            continue
        if evaluation["suite"]["hash"] == before["suite"]["hash"]:
            others.append(evaluation)
        else:
            version = evaluation["suite"]["version"]
            st.warning(
                f"{run['name']} answered version {version} of {suite}, the baseline version "
                f"{before['suite']['version']}: only answers to the same items can be compared.",
                icon=":material/block:",
            )
    if not others:
        return
    names = {run["id"]: run["name"] for run in runs}
    if pairs and len(others) > 1:
        judged = [before, *others]
        titles = formats.told_apart([names[one["run_id"]] for one in judged])
        comparison_parts.pairs_part(suite, judged, titles, key=f"pairs-{suite}")
        return
    if by == comparison_parts.EACH:
        comparison_parts.several_part(before, others, key=f"suite-{suite}")
        return
    sides = comparison_parts.sides([before, *others], runs, by)
    own = next(side for side in sides if before in side.evaluations)
    rest = [side for side in sides if side is not own]
    if rest:
        comparison_parts.configurations_part(own, rest, key=f"sides-{suite}")
    else:
        st.caption("All runs that answered this suite are of the baseline's configuration.")


# --- cost ---


def cost_part(runs: list[Json], baseline: Json, newest: dict[str, dict[str, Json]]) -> None:
    suites = list(dict.fromkeys(suite for own in newest.values() for suite in own))
    readers: list[tuple[str, str, Callable[[Json], float | None], Callable[[float | None], str]]] = [
        ("Time", "seconds", lambda run: run["duration"], formats.duration),
        ("GPU hours", "gpu_hours", readings.gpu_hours, partial(formats.number, digits=3)),
        ("Peak memory", "peak_memory_bytes", readings.peak_memory, formats.size),
        ("Trainable parameters", "trainable_parameters", readings.trainable_parameters, formats.count),
    ]
    columns = [(title, name, [read(run) for run in runs], said) for title, name, read, said in readers]
    # What no run recorded is no column.
    columns = [column for column in columns if any(value is not None for value in column[2])]
    rows: list[list[str | Cell]] = []
    export: list[Json] = []
    for place, run in enumerate(runs):
        own = [newest[run["id"]].get(suite) for suite in suites]
        rows.append(
            [
                text_cell(run["name"] + (" (baseline)" if run is baseline else ""), "key"),
                *(numeric(said(values[place])) for _, _, values, said in columns),
                *(comparison_parts.score_cell(evaluation) for evaluation in own),
            ]
        )
        export.append(
            {"run": run["name"]}
            | {name: values[place] for _, name, values, _ in columns}
            | {suite: primary(evaluation) for suite, evaluation in zip(suites, own, strict=True)}
        )
    heads = [number_head(title) for title in (*(title for title, *_ in columns), *suites)]
    sentence = "What each run took, beside what it reached."
    if any(title == "GPU hours" for title, *_ in columns):
        sentence += " GPU hours: the time, by the GPUs of the run's first machine."
    components.data_table("Cost", ["Run", *heads], rows, pd.DataFrame(export), key="cost", sentence=sentence)
    if suites and columns and len(runs) > 2:
        cost_chart(runs, suites, {title: (values, said) for title, _, values, said in columns}, newest)


def cost_chart(
    runs: list[Json],
    suites: list[str],
    costs: dict[str, tuple[list[float | None], Callable[[float | None], str]]],
    newest: dict[str, dict[str, Json]],
) -> None:
    """Quality against one kind of cost: what is worth its price lies up and left."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        suite = components.pick("Quality on", suites, {name: name for name in suites}, "quality", width=260)
        cost = components.pick("Against", list(costs), {name: name for name in costs}, "cost", width=220)
    values, said = costs[cost]
    scores = [newest[run["id"]].get(suite) for run in runs]
    first = [one["scores"][0] if one and one["scores"] else None for one in scores]
    told = [
        (run, spent, score)
        for run, spent, score in zip(runs, values, first, strict=True)
        if spent is not None and score is not None and score["value"] is not None
    ]
    if len(told) < 2:
        st.caption(f"Fewer than two of these runs have both a score on {suite} and a recorded {cost.lower()}.")
        return
    metric = told[0][2]["name"]
    frame = pd.DataFrame(
        {
            "run_id": [run["id"] for run, _, _ in told],
            "run": [run["name"] for run, _, _ in told],
            "cost": [spent for _, spent, _ in told],
            "cost_text": [said(spent) for _, spent, _ in told],
            "score": [score["value"] for _, _, score in told],
            "low": [(score["interval"] or [score["value"]])[0] for _, _, score in told],
            "high": [(score["interval"] or [score["value"]])[-1] for _, _, score in told],
        }
    )
    figure = comparison_charts.cost(frame, metric=metric, title=cost)
    components.chart(
        figure, frame.drop(columns="cost_text"), title=f"{metric} on {suite} against {cost.lower()}", key="cost-plane",
        note="With 95 % intervals. Up is better where the metric is; left is cheaper.",
        leads=("run", lambda point: {"id": str(point["customdata"][0])}),
    )  # fmt: skip


def primary(evaluation: Json | None) -> float | None:
    """The headline score of an evaluation."""
    return evaluation["scores"][0]["value"] if evaluation and evaluation["scores"] else None


# --- curves ---


def curves_part(runs: list[Json]) -> None:
    keys = [key for key in readings.metric_keys(runs) if not charts.is_system(key) and not charts.is_epoch(key)]
    long = [key for key in keys if any(key in run["metrics"] and run["metrics"][key]["count"] > 1 for run in runs)]
    if not long:
        components.empty("No series", "These runs logged no metric more than once.", icon="show_chart")
        return
    epochs = any(charts.is_epoch(key) for run in runs for key in run["metrics"])
    groupings = {"": "nothing: each run", **readings.groupings(runs)}
    left, right = st.columns([3, 2])
    with left:
        chosen = st.multiselect(
            "Metrics", long, default=long[:4], key="metrics", bind="query-params", max_selections=MOST_CHARTS
        )
    with right:
        by = components.pick(
            "Average over", list(groupings), groupings, "by",
            help="Draws the mean of each group of runs, and its standard deviation as a band. A run counts only where "
            "it has points; a group of one has no band.",
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        axes = ["step", "time", *(["epoch"] if epochs else [])]
        x = st.segmented_control("Across", axes, default="step", required=True, key="x", bind="query-params")
        smoothing = st.slider(
            "Smoothing", 0.0, 0.99, 0.0, 0.01, key="smooth", bind="query-params", width=220, help=components.SMOOTHING
        )
        log_y = st.toggle("Log axis", key="log", bind="query-params")
    counts = [run["metrics"].get(key, {}).get("count", 0) for run in runs for key in chosen]
    found = curve_data.curves(
        [run["id"] for run in runs], chosen, counts, x=x, smoothing=float(smoothing), group_by=[by] if by else []
    )
    if by:
        group_legend(found.groups)
    names = {run["id"]: run["name"] for run in runs}
    grid = st.grid(2, min_column_width=340)
    for key in chosen:
        part = found.of([key])
        with grid:
            if by:
                labels = [group["label"] for group in found.groups]
                figure = comparison_charts.bands(part, labels=labels, x=x, log_y=log_y)
                part = part.assign(label=part["group"].map(dict(enumerate(labels))))
            else:
                figure = charts.curves(part, names=names, x=x, log_y=log_y, height=290)
                figure.update_layout(showlegend=False, margin_t=10)
            components.chart(
                figure, charts.as_measured(part, x), title=key, key=f"compare-{key}", note=left_out(found, key)
            )


def group_legend(groups: list[Json]) -> None:
    entries = []
    for place, group in enumerate(groups):
        color, dash = comparison_charts.group_style(place)
        line = f"border-top-color:{color};border-top-style:{'dashed' if dash != 'solid' else 'solid'}"
        count = formats.plural(len(group["run_ids"]), "run")
        entries.append(
            f'<span class="ts-legend"><span class="ts-swatch" style="{line}"></span>'
            f'{html.escape(group["label"])} <span class="ts-dim">{count}</span></span>'
        )
    st.html(f'<div class="ts-legends">{"".join(entries)}</div>')
    if groups and all(len(group["run_ids"]) == 1 for group in groups):
        st.caption("Every group is a single run: there is no spread to draw.")


def left_out(found: curve_data.Curves, key: str) -> str | None:
    """Who is not in a chart, and why."""
    reasons = [missing["reason"] for missing in found.missing if missing["key"] == key]
    parts = [
        f"{formats.plural(reasons.count(reason), 'run')} {words}"
        for reason, words in (("no_metric", "did not log it"), ("no_epoch", "logged no epoch"))
        if reason in reasons
    ]
    unfit = sum(curve.get("not_finite", 0) for curve in found.about if curve["key"] == key)
    parts += [f"{formats.plural(unfit, 'point')} NaN or infinite"] if unfit else []
    return f"Not drawn: {', '.join(parts)}." if parts else None


render()
