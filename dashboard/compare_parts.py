"""The parts of a comparison that are tables: metrics side by side, what was set differently, what of it matters."""

from __future__ import annotations

import html
import json
import shlex
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, comparison_charts, components, data, formats, readings, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
Direction = Literal["min", "max"]
WHOLE_PROJECT, THESE_RUNS = "whole project", "these runs"
# Fewer runs than this tell nothing of importance: the whole project is looked at first.
ENOUGH = 10
MOST_LINES = 500
# Runs that stand beside each other in a table before they stand below each other.
ABREAST = 6
MOST_AXES = 8


# --- metrics ---


def metrics_part(runs: list[Json]) -> None:
    found = data.compared([run["id"] for run in runs])
    rows = [
        metric
        for metric in found["metrics"]
        if not charts.is_system(metric["key"]) and not charts.is_epoch(metric["key"])
    ]
    if not rows:
        components.empty("No metric", "These runs logged nothing.", icon="show_chart")
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        by = st.segmented_control(
            "Value", ["last", "best"], default="last", required=True, key="value", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
        st.caption("The best run of each metric is in bold, where its name says which way is better.", width="content")
    order = readings.metric_keys(runs)
    rows.sort(key=lambda metric: order.index(metric["key"]))
    cells: list[list[Cell]] = []
    export: list[Json] = []
    for metric in rows:
        values = [value_of(summary, by, metric["direction"]) for summary in metric["values"]]
        leaders = set(metric["leaders"][by])
        cells.append(
            [
                numeric(readings.value_text(metric["key"], value), "best" if run["id"] in leaders else "")
                for run, value in zip(found["runs"], values, strict=True)
            ]
        )
        export.append({"metric": metric["key"], **named_columns(found["runs"], values)})
    arrows = {"min": " ↓", "max": " ↑", None: ""}
    names = [number_head(metric["key"] + arrows[metric["direction"]]) for metric in rows]
    side_by_side("Metrics side by side", "Metric", found["runs"], names, cells, export, key="compare-metrics")


def side_by_side(
    title: str,
    corner: str,
    runs: list[Json],
    names: list[Cell],
    cells: list[list[Cell]],
    export: list[Json],
    *,
    key: str,
    sentence: str | None = None,
) -> None:
    """A table of runs by something, `cells` a row a thing. Many runs stand below each other, few beside."""
    head: list[str | Cell]
    body: list[list[str | Cell]]
    if len(runs) > ABREAST and len(runs) > len(names):
        head = ["Run", *names]
        body = [[text_cell(run["name"], "key"), *row] for run, row in zip(runs, zip(*cells, strict=True), strict=True)]
    else:
        head = [corner, *(Cell(html.escape(run["name"]), names[0].kind) for run in runs)]
        body = [[Cell(name.markup, "key"), *row] for name, row in zip(names, cells, strict=True)]
    components.data_table(title, head, body, pd.DataFrame(export), key=key, sentence=sentence)


def value_of(summary: Json | None, by: str, direction: str | None) -> float | str | None:
    """A summary's last value, or its best if it is known which that is."""
    if summary is None:
        return None
    value: float | str | None = summary["last"] if by == "last" or direction is None else summary[direction]
    return value


def named_columns(runs: list[Json], values: list[Any]) -> Json:
    """Values under their runs' names; of namesakes, the later ones under name and id."""
    named: Json = {}
    for run, value in zip(runs, values, strict=True):
        named[f"{run['name']} {run['id']}" if run["name"] in named else run["name"]] = value
    return named


# --- settings ---


def settings_part(runs: list[Json]) -> None:
    found = data.compared([run["id"] for run in runs])
    parts = [
        ("Config", "config", "setting"),
        ("Tags", "tags", "tag"),
        ("Training data", "data_hash", "hash"),
        ("Environment", "environment", "value"),
    ]
    for title, name, noun in parts:
        rows, equal = found[name]["differing"], found[name]["equal"]
        if not rows:
            if equal:
                components.section(title, "The same in all runs.")
            continue
        same = f"{formats.plural(equal, noun)} the same in all runs" if equal else "nothing is the same in all runs"
        side_by_side(
            title,
            "Key",
            found["runs"],
            [Cell(html.escape(row["key"])) for row in rows],
            [[setting_cell(text) for text in row["values"]] for row in rows],
            [{"key": row["key"], **named_columns(found["runs"], row["values"])} for row in rows],
            key=f"differing-{name}",
            sentence=f"What differs; {same}.",
        )


def setting_cell(text: str | None) -> Cell:
    """A setting as it was written; a list of words, such as a command line, as one would type it."""
    if text is None:
        return text_cell("not set", "ts-dim")
    return text_cell(typed(text), "ts-mono")


def typed(text: str) -> str:
    if not text.startswith('["'):
        return text
    try:
        words = json.loads(text)
    except ValueError:
        return text
    return shlex.join(words) if all(isinstance(word, str) for word in words) else text


# --- what matters ---


def importance_part(runs: list[Json], baseline: Json) -> None:
    keys = [key for key in readings.metric_keys(runs) if not charts.is_system(key) and not charts.is_epoch(key)]
    if not keys:
        components.empty("No metric", "These runs logged nothing that could depend on a setting.", icon="tune")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        metric = st.selectbox("Metric", keys, key="target", bind="query-params", width=260)
        by = st.segmented_control("Value", ["last", "min", "max"], default="last", required=True, key="of",
                                  bind="query-params")  # fmt: skip
        usual = THESE_RUNS if len(runs) >= ENOUGH else WHOLE_PROJECT
        scope = st.segmented_control(
            "Over", [THESE_RUNS, WHOLE_PROJECT], default=usual, required=True, key="over", bind="query-params",
            help=f"The whole project is {baseline['project']}.",
        )  # fmt: skip
    everyone = scope == WHOLE_PROJECT
    project = baseline["project"] if everyone else None
    found = data.importance(metric, by, project=project, run_ids=None if everyone else [run["id"] for run in runs])
    if isinstance(found, str):
        st.error(found, icon=":material/error:")
        return
    importance_table(found)
    parallel_part(runs if not everyone else with_metric(baseline["project"], metric), metric, by, found)


def with_metric(project: str, metric: str) -> list[Json]:
    query = f"metrics.`{metric}` is not null"
    runs: list[Json] = data.runs(project=project, query=query, limit=MOST_LINES, metrics=[metric])["items"]
    return runs


def importance_table(found: Json) -> None:
    told = [setting for setting in found["settings"] if setting["importance"] > 0 or setting["interval"][1] > 0.02]
    if found["reason"] or not told:
        message = found["message"] or f"None of the settings explains anything of it, over {found['n']} runs."
        components.section("What it depends on")
        components.empty("Cannot tell" if found["reason"] else "No setting stands out",
                         message.removeprefix("Cannot tell: ").capitalize(), icon="query_stats")  # fmt: skip
        return
    head: list[str | Cell] = [
        "Setting", number_head("Explains"), "95 % interval", "", number_head("Correlation"), number_head("Values"),
    ]  # fmt: skip
    body = [importance_row(setting) for setting in told]
    frame = pd.DataFrame(
        [
            {
                "setting": setting["key"], "importance": setting["importance"],
                "low": setting["interval"][0], "high": setting["interval"][1],
                "correlation": setting["correlation"], "kind": setting["kind"], "levels": setting["levels"],
                "missing": setting["missing"], "moved_with": "; ".join(setting["twins"]),
            }
            for setting in found["settings"]
        ]
    )  # fmt: skip
    components.data_table(
        "What it depends on", head, body, frame, key="importance",
        sentence=f"How much of the differences in {found['metric']} between {found['n']} runs each setting explains by "
        "itself, judged on runs left out.",
    )  # fmt: skip
    st.caption(importance_note(found))


def importance_row(setting: Json) -> list[str | Cell]:
    low, high = setting["interval"]
    sure = low > 0
    name = html.escape(setting["key"])
    if setting["twins"]:
        others = html.escape(", ".join(setting["twins"][:3]))
        more = f" and {len(setting['twins']) - 3} more" if len(setting["twins"]) > 3 else ""
        name += f'<br><span class="ts-dim">moved together with {others}{more}</span>'
    correlation = setting["correlation"]
    return [
        Cell(name, "key"),
        numeric(formats.percent(setting["importance"], 0), "" if sure else "ts-dim"),
        verdicts.mini_interval(setting["importance"], (low, high), (0.0, 1.0), tone="blue" if sure else "gray"),
        text_cell(f"{formats.percent(low, 0)} to {formats.percent(high, 0)}" + ("" if sure else ", may be noise"),
                  "nowrap" if sure else "nowrap ts-dim"),
        numeric(formats.NONE if correlation is None else formats.signed(round(correlation, 2))),
        numeric(f"{setting['levels']:,}" + (" + not set" if setting["missing"] else "")),
    ]  # fmt: skip


def importance_note(found: Json) -> str:
    parts = [
        "Shares are of the runs' ranks, one setting at a time: they do not add up, and say nothing of interactions."
    ]
    if found["without"]:
        parts.append(f"{formats.plural(found['without'], 'run')} without a finite value left out.")
    if found["truncated"]:
        parts.append("Only the newest 1,000 runs count.")
    if found["unclear"]:
        names = ", ".join(found["unclear"][:3]) + (" …" if len(found["unclear"]) > 3 else "")
        parts.append(f"Different in nearly every run, so not told: {names}.")
    if found["left_out"]:
        parts.append(f"{formats.plural(found['left_out'], 'lesser setting')} not shown.")
    return " ".join(parts)


def parallel_part(runs: list[Json], metric: str, by: str, found: Json, direction: Direction | None = None) -> None:
    """One line a run. Which way the metric is better is told from its name unless it is given."""
    values = {run["id"]: run["metrics"].get(metric, {}).get(by) for run in runs}
    drawn = [run for run in runs if isinstance(values[run["id"]], int | float)]
    differing = readings.varying(drawn)
    if len(drawn) < 2 or not differing:
        return
    ranked = [setting["key"] for setting in found["settings"] if setting["key"] in differing]
    options = [*ranked, *(key for key in differing if key not in ranked)]
    usual = (ranked or options)[: MOST_AXES - 2]
    components.section(
        "Parallel coordinates",
        "One line a run. Drag along an axis to keep the runs that pass there; drag an axis by its name to move it.",
    )
    chosen = st.multiselect(
        "Settings", options, default=usual, key="axes", bind="query-params",
        max_selections=MOST_AXES,
    )  # fmt: skip
    heights = [float(values[run["id"]]) for run in drawn]
    columns = readings.setting_columns(drawn, chosen)
    axes = comparison_charts.parallel_axes(columns, metric, heights)
    if direction is None:
        told = data.compared([run["id"] for run in runs[:1]], [metric])["metrics"]
        direction = told[0]["direction"] if told else None
    figure = comparison_charts.parallel(axes, heights, better=direction)
    frame = pd.DataFrame(
        {"run": [run["name"] for run in drawn], "run_id": [run["id"] for run in drawn], **columns, metric: heights}
    )
    toned = "Orange is better, blue is worse." if direction else "Orange is higher, blue is lower."
    components.chart(figure, frame, title=f"{formats.plural(len(drawn), 'run')}", key="parallel", note=toned)
