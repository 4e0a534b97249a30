"""Find runs, and pick some to compare."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, formats, navigate, readings
from tunescope import ApiError

Json = dict[str, Any]
PAGE = 50
STATES = ["running", "finished", "failed", "crashed", "silent"]
SPARK_POINTS = 30
CURSORS, QUESTION = "_runs_cursors", "_runs_question"


def render() -> None:
    components.header("Runs", "Find runs by what they are and what they reached, and pick some to compare.")
    projects = [project["name"] for project in data.projects()]
    if not projects:
        components.empty(
            "No runs yet",
            "A run appears here as soon as its first call reaches the service:",
            'run = tunescope.init(project="demo", config={"lr": 2e-4})\nrun.log({"loss": 0.42}, step=1)\nrun.finish()',
            icon="timeline",
            code="python",
        )
        return
    project, state, query = filters(projects)
    table(project, combine(query, state))


def filters(projects: list[str]) -> tuple[str | None, str | None, str]:
    left, middle, right = st.columns([2, 4, 5], vertical_alignment="bottom")
    with left:
        project = st.selectbox(
            "Project", projects, index=None, key="project", bind="query-params", placeholder="All projects"
        )
    with middle:
        query = st.text_input(
            "Search",
            key="q",
            bind="query-params",
            icon=":material/search:",
            placeholder="metrics.eval/loss < 0.4 and params.method = lora",
            help="Fields: `metrics.KEY` (also `.min`, `.max`, `.mean`), `params.KEY`, `tags.KEY`, `status`, `name`, "
            "`group`, `created`. Operators: = != < <= > >= like ilike in is null, and, or, not, order by.",
        )
    with right:
        state = st.segmented_control("Status", STATES, key="status", bind="query-params")
    return project, state, query or ""


def combine(query: str, state: str | None) -> str | None:
    """The typed query narrowed to a state; its own `order by` stays at the end."""
    if state is None:
        return query.strip() or None
    parts = re.split(r"(?i)\border\s+by\b", query, maxsplit=1)
    condition = parts[0].strip()
    narrowed = f"status = {state}" + (f" and ({condition})" if condition else "")
    return narrowed + (f" order by {parts[1].strip()}" if len(parts) > 1 else "")


def table(project: str | None, query: str | None) -> None:
    order = st.session_state.get("order")
    cursor = cursor_of((project, query, order))
    try:
        page = data.runs(project=project, query=query, order_by=order, limit=PAGE, cursor=cursor)
    except ApiError as refused:
        if refused.status not in {400, 422}:
            raise
        st.error(refused.message, icon=":material/manage_search:")
        return
    runs = page["items"]
    if not runs:
        components.empty(
            "No run matches", "Nothing in this project is like that. Take a filter away.", icon="search_off"
        )
        return
    # On the left: a table shows its own tools over its right upper corner.
    bar = st.container(horizontal=True, vertical_alignment="center")
    keys = readings.metric_keys(runs)
    with bar:
        shown = columns_and_order(keys)
    chosen = run_table(runs, shown, every_project=project is None)
    with bar:
        actions([runs[row]["id"] for row in chosen if row < len(runs)])
    pager(cursor, page["next_cursor"], len(runs))


def cursor_of(question: tuple[str | None, ...]) -> str | None:
    """The page in the URL, unless the question has changed since: then it is the first page again."""
    if st.session_state.setdefault(QUESTION, question) != question:
        st.session_state[QUESTION] = question
        st.session_state[CURSORS] = []
        st.query_params.pop("cursor", None)
    return st.query_params.get("cursor")


def columns_and_order(keys: list[str]) -> list[str]:
    with st.popover("Columns", icon=":material/view_column:"):
        shown = st.multiselect(
            "Metrics",
            keys,
            default=readings.default_metrics(keys),
            key="metrics",
            bind="query-params",
            max_selections=8,
        )
        orders = [f"metrics.`{key}` {direction}" for key in shown for direction in ("asc", "desc")]
        st.selectbox(
            "Order by",
            orders,
            index=None,
            key="order",
            bind="query-params",
            placeholder="Newest first",
            format_func=lambda order: order.removeprefix("metrics.").replace("`", ""),
        )
    return list(shown)


def run_table(runs: list[Json], shown: list[str], *, every_project: bool) -> list[int]:
    rows = pd.DataFrame({"Run": [run["name"] for run in runs]})
    rows["Status"] = [[run["status"]] for run in runs]
    config: dict[str, Any] = {"Status": components.state_column("Status", [run["status"] for run in runs])}
    if shown:
        lines = sparklines(runs, shown[0])
        if any(lines):
            rows["Curve"] = lines
            config["Curve"] = st.column_config.LineChartColumn(
                "Curve", help=f"{shown[0]} over steps", width=90, color="gray"
            )
    for key in shown:
        rows[key] = [last_value(run, key) for run in runs]
        config[key] = st.column_config.NumberColumn(key, format="%.4g", help=f"Last value of {key}")
    rows["Started"] = pd.to_datetime([run["created_at"] for run in runs], unit="s", utc=True)
    config["Started"] = st.column_config.DatetimeColumn("Started", format="distance")
    rows["Took"] = [formats.duration(run["duration"]) for run in runs]
    if every_project:
        rows["Project"] = [run["project"] for run in runs]
    rows["Group"] = [run["group"] for run in runs]
    rows["Tags"] = [[f"{key}: {value}" for key, value in run["tags"].items()] for run in runs]
    config["Tags"] = st.column_config.ListColumn("Tags", width="medium")
    if rows["Group"].isna().all():
        rows = rows.drop(columns="Group")
    if not any(run["tags"] for run in runs):
        rows = rows.drop(columns="Tags")
    return components.link_table(
        rows,
        key="runs",
        column="Run",
        page="run",
        targets=[{"id": run["id"]} for run in runs],
        columns=config,
        select=True,
        height="content" if len(runs) < 15 else 600,
    )


def last_value(run: Json, key: str) -> float | None:
    value = run["metrics"].get(key, {}).get("last")
    return float(value) if isinstance(value, int | float) else None


def sparklines(runs: list[Json], key: str) -> list[list[float]]:
    having = [run for run in runs if key in run["metrics"]]
    counts = [run["metrics"][key]["count"] for run in having]
    frame = data.history([run["id"] for run in having], [key], counts, SPARK_POINTS)
    values = {str(run_id): series["value"].dropna().tolist() for run_id, series in frame.groupby("run_id")}
    return [values.get(run["id"], []) for run in runs]


def actions(chosen: list[str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        if not chosen:
            st.caption("Tick runs to compare them; click a name to open one.", width="content")
            return
        st.caption(f"{formats.plural(len(chosen), 'run')} selected", width="content")
        if st.button("Compare", icon=":material/compare_arrows:", type="primary", disabled=len(chosen) < 2):
            navigate.go_to("compare", ids=",".join(chosen), baseline=chosen[-1])
        if len(chosen) == 1 and st.button("Open", icon=":material/open_in_full:"):
            navigate.go_to("run", id=chosen[0])


def pager(cursor: str | None, following: str | None, n: int) -> None:
    """Pages forward by the service's cursor, and back along the cursors this session came by."""
    trail: list[str | None] = st.session_state.setdefault(CURSORS, [])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        st.caption(f"{formats.plural(n, 'run')} on this page", width="content")
        if cursor is not None and st.button("Back", icon=":material/chevron_left:"):
            before = trail.pop() if trail else None
            if before is None:
                st.query_params.pop("cursor", None)
            else:
                st.query_params["cursor"] = before
            st.rerun()
        if following is not None and st.button("Next", icon=":material/chevron_right:", icon_position="right"):
            trail.append(cursor)
            st.query_params["cursor"] = following
            st.rerun()


render()
