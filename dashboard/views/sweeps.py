"""Tune: which settings were tried, how the search went, what of them matters, and what is best so far."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import (
    charts,
    compare_parts,
    components,
    data,
    formats,
    live_parts,
    navigate,
    readings,
    sweep_charts,
)
from dashboard import sweep_readings as sweeping
from dashboard.sweep_readings import Direction, Sweep

Json = dict[str, Any]
SENTENCE = "Tune: what was tried together, how the search went, which settings matter, and what is best so far."
# The newest trials that a page shows, and the most that are compared at once.
MOST_TRIALS, MOST_COMPARED = 500, 50
# Runs whose metrics tell what a sweep may be judged by.
ASKED = 20
BETTER: dict[str, Direction] = {"higher": "max", "lower": "min"}


def render() -> None:
    chosen = sweeping.parse(st.query_params.get("of", ""))
    if chosen is None:
        overview()
        return
    kind, key = chosen
    project = st.query_params.get("within") if kind != "parent" else None
    on = data.any_run(f"({sweeping.condition(kind, key)}) and status = running", project)
    st.fragment(show, run_every=live_parts.every(5.0, on=on))(kind, key, project)


# --- all of them ---


def overview() -> None:
    components.header("Sweeps", SENTENCE)
    found, whole = data.sweeps()
    if not found:
        components.empty(
            "No sweep yet",
            "Runs that share a parent run, a group or the tag sweep are the trials of one sweep:",
            'tunescope.init(project="demo", group="ranks", config={"lr": lr, "r": r})',
            icon="tune",
            code="python",
        )
        return
    sweep_table(found)
    if not whole:
        st.caption(f"Of the newest {data.SWEPT:,} runs that belong to a sweep.")


def sweep_table(found: list[Sweep]) -> None:
    names = sweep_names(found)
    newest = [max(run["created_at"] for run in sweep.runs) for sweep in found]
    rows = pd.DataFrame(
        {
            "Sweep": names,
            "Held together by": [sweeping.KINDS[sweep.kind] for sweep in found],
            "Project": [sweep.project for sweep in found],
            "Trials": [len(sweep.runs) for sweep in found],
            "Settings tried": [", ".join(key.rpartition(".")[2] for key in sweeping.tried(sweep.runs)[:6])
                               for sweep in found],
            "State": [list(dict.fromkeys(run["status"] for run in sweep.runs)) for sweep in found],
            "Newest": pd.to_datetime(newest, unit="s", utc=True),
        }
    )  # fmt: skip
    components.link_table(
        rows,
        key="sweeps",
        column="Sweep",
        page="sweeps",
        targets=[{"of": sweep.param} | ({} if sweep.kind == "parent" else {"within": sweep.project})
                 for sweep in found],
        columns={
            "State": components.state_column("State", [run["status"] for sweep in found for run in sweep.runs]),
            "Settings tried": st.column_config.TextColumn("Settings tried", width="large"),
            "Newest": st.column_config.DatetimeColumn("Newest", format="distance"),
        },
        height="content" if len(found) < 15 else 520,
    )  # fmt: skip


def sweep_names(found: list[Sweep]) -> list[str]:
    """Of a parent its name, which is read together with the others'; else the group or tag itself."""
    parents = data.run_names([sweep.key for sweep in found if sweep.kind == "parent"])
    return [parents.get(sweep.key, formats.short(sweep.key)) if sweep.kind == "parent" else sweep.key
            for sweep in found]  # fmt: skip


# --- one of them ---


def show(kind: sweeping.Kind, key: str, project: str | None) -> None:
    with components.guard():
        navigate.link("sweeps", "All sweeps", "arrow_back")
        query = sweeping.condition(kind, key)
        asked = data.runs(project=project, query=query, limit=ASKED)["items"]
        # The parent may be in the bin while its trials are not.
        name = data.run_names([key]).get(key, formats.short(key)) if kind == "parent" else key
        components.header(name, SENTENCE)
        if not asked:
            components.empty("No trial", "No run belongs to this sweep any more.", icon="search_off")
            return
        origin(kind, key, asked[0]["project"])
        metric, by, direction = objective(asked)
        if metric is None:
            components.empty("No metric", "These runs logged nothing to judge them by.", icon="show_chart")
            return
        page = data.runs(project=project, query=query, limit=MOST_TRIALS, metrics=[metric])
        runs = page["items"]
        frame = sweeping.trials(runs, metric, by, direction)
        facts(runs, frame, metric, direction)
        if page["next_cursor"] is not None:
            st.caption(f"The newest {MOST_TRIALS:,} trials.")
        search_part(frame, metric, direction)
        found = data.importance(metric, by, run_ids=[run["id"] for run in runs])
        if isinstance(found, str):
            st.error(found, icon=":material/error:")
        else:
            compare_parts.importance_table(found)
            compare_parts.parallel_part(runs, metric, by, found, direction=direction)
        trial_table(runs, frame, metric, direction)


def origin(kind: sweeping.Kind, key: str, project: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        navigate.link("runs", project, "folder", project=project)
        if kind == "parent":
            navigate.link("run", "parent run", "account_tree", id=key)
        else:
            st.caption(f"{sweeping.KINDS[kind]} {key}", width="content")


def objective(runs: list[Json]) -> tuple[str | None, str, Direction]:
    """What trials are judged by: a metric, which value of it counts, and which way is better."""
    keys = [key for key in readings.metric_keys(runs) if not charts.is_system(key) and not charts.is_epoch(key)]
    if not keys:
        return None, "last", "max"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        metric = st.selectbox("Judged by", keys, key="objective", bind="query-params", width=260)
        told = data.compared([runs[0]["id"]], [metric])["metrics"]
        usual = told[0]["direction"] if told else None
        ways = ["lower", "higher"] if usual == "min" else ["higher", "lower"]
        better = components.pick("Better is", ways, {way: way for way in ways}, "better", width=130,
                                 help="By the metric's name, unless you say otherwise.")  # fmt: skip
        which = st.segmented_control(
            "Value", ["last", "best"], default="last", required=True, key="counts", bind="query-params",
            help="The last value of each trial, or the best it ever reached.",
        )  # fmt: skip
    direction = BETTER[better]
    return metric, "last" if which == "last" else direction, direction


def facts(runs: list[Json], frame: pd.DataFrame, metric: str, direction: Direction) -> None:
    best = sweeping.best_of(frame, direction)
    pairs = [("Trials", f"{len(frame):,}"), ("State", sweeping.states(runs)), *sweeping.spent(runs)]
    if best is None:
        st.html(components.facts(pairs))
        return
    row = frame.iloc[best]
    run = next(run for run in runs if run["id"] == row["run_id"])
    settings = readings.leaves(run["config"])
    shown = [(key.rpartition(".")[2], sweeping.setting_text(settings.get(key))) for key in sweeping.tried(runs)][:8]
    since = sweeping.since_best(frame, best)
    with st.container(border=True, key="verdict-blue-best", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**Best so far**", width="content")
            navigate.link("run", run["name"], "timeline", id=run["id"])
            st.caption(f"trial {row['trial']} of {len(frame)}; {formats.plural(since, 'trial')} since", width="content")
        st.html(components.facts([(metric, readings.value_text(metric, float(row["value"]))), *shown]))
    st.html(components.facts(pairs))


def search_part(frame: pd.DataFrame, metric: str, direction: Direction) -> None:
    if not frame["value"].notna().any():
        components.empty("Nothing to draw", f"No trial has a finite {metric}.", icon="show_chart")
        return
    log_y = bool((frame["value"].dropna() > 0).all()) and st.toggle("Log axis", key="log", bind="query-params")
    figure = sweep_charts.history(frame, metric=metric, direction=direction, log_y=log_y)
    lost = int(frame["value"].isna().sum())
    note = f"{formats.plural(lost, 'trial')} without a finite value." if lost else None
    components.chart(figure, frame, title="How the search went", key="sweep-history", note=note,
                     leads=("run", run_target))  # fmt: skip


def run_target(point: Json) -> dict[str, str]:
    return {"id": str(point["customdata"][0])}


def trial_table(runs: list[Json], frame: pd.DataFrame, metric: str, direction: Direction) -> None:
    """Every trial with what was set differently, the best first."""
    components.section("Trials", "The best first; a name opens the run.")
    ordered = frame.sort_values("value", ascending=direction == "min", na_position="last", kind="stable")
    by_id = {run["id"]: run for run in runs}
    ranked = [by_id[run_id] for run_id in ordered["run_id"]]
    rows = pd.DataFrame({"Run": [run["name"] for run in ranked], "Trial": ordered["trial"].tolist()})
    rows["Status"] = [[run["status"]] for run in ranked]
    rows[metric] = ordered["value"].tolist()
    for key, values in readings.setting_columns(ranked, sweeping.tried(ranked)[:12]).items():
        name = key.rpartition(".")[2]
        rows[key if name in rows else name] = values
    config: dict[str, Any] = {
        str(name): st.column_config.NumberColumn(str(name), format="%.4g") for name in rows if rows[name].dtype == float
    }
    config["Status"] = components.state_column("Status", [run["status"] for run in ranked])
    rows["Took"] = [formats.duration(run["duration"]) for run in ranked]
    bar = st.container(horizontal=True, vertical_alignment="center")
    chosen = components.link_table(
        rows,
        key="trials",
        column="Run",
        page="run",
        targets=[{"id": run["id"]} for run in ranked],
        columns=config,
        select=True,
        height="content" if len(rows) < 15 else 520,
    )
    with bar:
        compare_button([ranked[row]["id"] for row in chosen if row < len(ranked)])
        components.csv_popover(rows.drop(columns="Status").assign(status=ordered["status"].tolist(),
                               run_id=ordered["run_id"].tolist()), "trials", "trials")  # fmt: skip


def compare_button(chosen: list[str]) -> None:
    if len(chosen) < 2:
        st.caption("Tick trials to compare them.", width="content")
    elif st.button(f"Compare {len(chosen)} trials", icon=":material/compare_arrows:", type="primary"):
        navigate.go_to("compare", ids=",".join(chosen[:MOST_COMPARED]), baseline=chosen[0])


render()
