"""A sequence of fine-tunes: what each stage scores on each suite, and what that is called by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, forgetting_charts, formats, verdicts
from dashboard.components import Cell, number_head, numeric
from dashboard.forgetting_charts import HeatCell

Json = dict[str, Any]
NONE = "none"
REASONS = {
    "not_evaluated": "not evaluated",
    "other_version": "other version",
    "no_such_metric": "no such metric",
    "undefined": "undefined",
    "one_stage": "needs two stages",
    "no_baseline": "needs the base",
    "no_reference": "needs a model trained on all tasks at once",
    "tasks_not_stated": "say which suite each stage was trained for",
    "missing_cells": "a cell of a trained suite is missing",
}


def view() -> None:
    """Everything that is chosen stands in the URL: `base`, `stages`, `suites`, `tasks`."""
    names, suites = _evaluated()
    if not names:
        components.empty(
            "No evaluations yet",
            "The matrix is made of the evaluations of several models on the same suites.",
            "client.create_evaluation(suite_id=…, run_id=run.id, predictions=[…])",
            icon="grid_on",
            code="python",
        )
        return
    base, stages, columns, tasks = _choose(names, suites)
    if not stages or not columns:
        st.caption("Choose the fine-tunes in the order they were made, and the suites to look at.")
        return
    found = data.stages(_stage(base), [_named(key, names) for key in stages], columns, tasks or None)
    if isinstance(found, str):
        st.info(found, icon=":material/info:")
        return
    _matrix(found)
    _scores(found)


def _evaluated() -> tuple[dict[str, str], list[str]]:
    """What was evaluated, newest first, under the names people know it by; and the suites, the most used first."""
    names: dict[str, str] = {}
    counted: dict[str, int] = {}
    versions = {one["id"]: one for model in data.models() for one in data.model_versions(model["name"])}
    for one in data.evaluations(limit=500):
        suite = one["suite"]["name"]
        counted[suite] = counted.get(suite, 0) + 1
        version = versions.get(one["model_version_id"] or "")
        if version is not None:
            run = verdicts.run_name(version["run_id"])
            names.setdefault(
                f"version:{version['id']}", f"{version['name']} v{version['version']}" + (f" ({run})" if run else "")
            )
        elif one["run_id"] is not None:
            names.setdefault(f"run:{one['run_id']}", str(verdicts.run_name(one["run_id"])))
    return names, sorted(counted, key=lambda name: (-counted[name], name))


def _choose(names: dict[str, str], suites: list[str]) -> tuple[str, list[str], list[str], list[str]]:
    order = list(reversed(names))
    left, right = st.columns([1, 2], gap="small")
    with left:
        base = _one("Base", [NONE, *order], names, "base", _first_base(order))
    with right:
        stages = _several(
            "Fine-tunes, in the order they were made", [one for one in order if one != base], names, "stages"
        )
    left, right = st.columns(2, gap="small")
    with left:
        columns = _several("Suites", suites, {name: name for name in suites}, "suites", default=suites[:6])
    with right:
        tasks = _several(
            "Trained for, a suite for each fine-tune", columns, {name: name for name in columns}, "tasks",
            help="The scores below are about these. Left empty, it is the suites, where there are as many.",
        )  # fmt: skip
    return base, stages, columns, tasks


def _first_base(order: Sequence[str]) -> str:
    """The version others descend from, if there is one."""
    bases = {version["base_version_id"] for model in data.models() for version in data.model_versions(model["name"])}
    return next((key for key in order if key.removeprefix("version:") in bases), NONE)


def _one(label: str, options: list[str], names: dict[str, str], param: str, default: str) -> str:
    asked = st.query_params.get(param, default)
    index = options.index(asked) if asked in options else 0
    chosen = st.selectbox(label, options, index=index, format_func=lambda one: names.get(one, "none"))
    if chosen != asked:
        st.query_params[param] = chosen
    return chosen


def _several(
    label: str,
    options: list[str],
    names: dict[str, str],
    param: str,
    *,
    default: Sequence[str] = (),
    help: str | None = None,
) -> list[str]:
    """Several, in the order they are picked; the URL holds them, separated by commas as JSON would."""
    asked = st.query_params.get_all(param) or list(default)
    chosen = st.multiselect(
        label, options, default=[one for one in asked if one in options], format_func=lambda one: names[one], help=help,
        key=f"stages-{param}",
    )  # fmt: skip
    if chosen != asked:
        st.query_params[param] = chosen
    return chosen


def _stage(key: str) -> Json | None:
    kind, _, own = key.partition(":")
    return {"run_id" if kind == "run" else "model_version_id": own} if own else None


def _named(key: str, names: dict[str, str]) -> Json:
    return {**(_stage(key) or {}), "name": names[key][:250]}


# --- what is shown ---


def _matrix(found: Json) -> None:
    columns, rows = found["columns"], found["rows"]
    cells = [[_cell(row, column, one) for column, one in zip(columns, row["cells"], strict=True)] for row in rows]
    first = rows[0]["stage"]
    trained = [
        (stage - first, next(place for place, column in enumerate(columns) if column["suite"] == suite))
        for stage, suite in enumerate(found["tasks"] or [], start=1)
    ]
    frame = pd.DataFrame(
        [
            {
                "stage": row["stage"], "model": row["name"], "suite": column["suite"], "metric": column["metric"],
                "value": one["value"], "low": (one["interval"] or [None, None])[0],
                "high": (one["interval"] or [None, None])[1], "n": one["n"], "reason": one["reason"],
            }
            for row in rows
            for column, one in zip(columns, row["cells"], strict=True)
        ]
    )  # fmt: skip
    note = "Framed: the suite that stage was trained for." if trained else None
    kept = [
        f"{column['suite']} {formats.percent(column['retention'], 0)}"
        for column in columns
        if column["retention"] is not None
    ]
    if kept:
        note = f"{note or ''} Last stage over base: {', '.join(kept)}.".strip()
    components.chart(
        forgetting_charts.matrix(
            [f"{row['stage']} · {row['name']}" for row in rows], [column["suite"] for column in columns], cells, trained
        ),
        frame,
        title="Score on each suite after each stage",
        key="stage-matrix",
        note=note,
    )


def _cell(row: Json, column: Json, one: Json) -> HeatCell:
    metric = column["metric"] or ""
    if one["value"] is None:
        why = REASONS.get(one["reason"], str(one["reason"]))
        return HeatCell(None, why, f"{row['name']}, {column['suite']}: {why}")
    shown = formats.measured(metric, one["value"])
    bounds = formats.interval(metric, one["interval"])
    # BLEU and its kin count to 100.
    return HeatCell(
        one["value"] if one["value"] <= 1 else one["value"] / 100,
        shown,
        f"{row['name']}<br>{column['suite']}, {metric}<br>{shown} {bounds}, n {one['n']:,}",
    )


def _scores(found: Json) -> None:
    reasons = {score["reason"] for score in found["scores"]}
    if len(reasons) == 1 and None not in reasons:
        (reason,) = reasons
        st.info(f"No score of the sequence yet: {REASONS.get(reason, reason)}.", icon=":material/info:")
        return
    rows: list[list[str | Cell]] = []
    for score in found["scores"]:
        value = REASONS.get(score["reason"], score["reason"]) if score["value"] is None else f"{score['value']:.3f}"
        bounds = "" if score["interval"] is None else "[{:.3f}, {:.3f}]".format(*score["interval"])
        rows.append(
            [
                Cell(f"<b>{score['name']}</b> {'↑' if score['higher_is_better'] else '↓'}", "nowrap"),
                numeric(value.replace("-", "−")) if score["value"] is not None else Cell(value, "num ts-dim"),
                numeric(bounds.replace("-", "−")),
                Cell(score["formula"], "ts-mono"),
                score["source"],
            ]
        )
    frame = pd.DataFrame(found["scores"])
    components.data_table(
        "What it is called",
        ["Score", number_head("Value"), number_head("95 %"), "Formula", "Convention"],
        rows,
        frame,
        key="stage-scores",
        sentence="Conventions disagree on one and the same matrix, so no number stands here without its own.",
    )
