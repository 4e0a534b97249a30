"""Find runs, and pick some to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import alert_parts, bin_parts, components, data, formats, navigate, readings, run_search, saved_runs
from tunescope import ApiError

Json = dict[str, Any]
PAGE = 50
MOST_GROUPED = 1000
MOST_COMPARED = 50
STATES = ["running", "finished", "failed", "crashed", "killed", "silent"]
SPARK_POINTS = 30
# Columns that are read off a run as they are.
ABOUT: dict[str, Callable[[Json], Any]] = {
    "Started": lambda run: run["created_at"],
    "Took": lambda run: formats.duration(run["duration"]),
    "Project": lambda run: run["project"],
    "Group": lambda run: run["group"],
    "Tags": lambda run: [f"{key}: {value}" for key, value in run["tags"].items()],
    "Notes": lambda run: " ".join((run["notes"] or "").split())[:300] or None,
    "Id": lambda run: run["id"],
}
CURSORS, QUESTION = "_runs_cursors", "_runs_question"


def render() -> None:
    components.header("Runs", "Find runs by what they are and what they reached, and pick some to compare.")
    if bin_parts.shown():
        bin_parts.view(st.query_params.get("project"))
        return
    projects = [project["name"] for project in data.projects()]
    if not projects:
        components.empty(
            "No runs yet",
            "A run appears here as soon as its first call reaches the service:",
            'run = tunescope.init(project="demo", config={"lr": 2e-4})\nrun.log({"loss": 0.42}, step=1)\nrun.finish()',
            icon="timeline",
            code="python",
        )
        bin_parts.entrance()
        return
    project, state, query = filters(projects)
    table(project, combine(query, state))


def filters(projects: list[str]) -> tuple[str | None, str | None, str]:
    left, middle, right = st.columns([2, 6, 1.4], vertical_alignment="bottom")
    with left:
        project = st.selectbox(
            "Project", projects, index=None, key="project", bind="query-params", placeholder="All projects"
        )
    with middle:
        query = st.text_input(
            "Search", key="q", bind="query-params", icon=":material/search:",
            placeholder="metrics.eval/loss < 0.4 and params.method = lora order by metrics.f1 desc",
        )  # fmt: skip
    with right, st.popover("How to search", type="tertiary"):
        run_search.guide()
    state = st.segmented_control("Status", STATES, key="status", bind="query-params", label_visibility="collapsed")
    return project, state, query or ""


def combine(query: str, state: str | None) -> str | None:
    """The typed query narrowed to a state."""
    return (saved_runs.narrowed(query, f"status = {state}") if state else query.strip()) or None


def table(project: str | None, query: str | None) -> None:
    order = saved_runs.order()
    group_by = st.query_params.get("group", "")
    cursor = None if group_by else cursor_of((project, query, order))
    limit = MOST_GROUPED if group_by else PAGE
    try:
        page = data.runs(project=project, query=query, order_by=order, limit=limit, cursor=cursor)
    except ApiError as refused:
        if refused.status not in {400, 422}:
            raise
        run_search.fault(refused, query or "")
        saved_runs.menu(project, query)
        return
    runs = page["items"]
    # On the left: a table shows its own tools over its right upper corner.
    bar = st.container(horizontal=True, vertical_alignment="center")
    with bar:
        columns = saved_runs.columns_and_order(runs, every_project=project is None)
        saved_runs.group_choice(runs, group_by)
        saved_runs.menu(project, query)
    if not runs:
        components.empty(
            "No run matches", "Nothing in this project is like that. Take a filter away.", icon="search_off"
        )
        bin_parts.entrance()
        return
    if group_by:
        group_table(runs, group_by, columns.metrics, bar, project, query, more=page["next_cursor"] is not None)
        return
    chosen = run_table(runs, columns)
    with bar:
        actions([runs[row]["id"] for row in chosen if row < len(runs)])
    pager(cursor, page["next_cursor"], len(runs))


def group_table(
    runs: list[Json],
    field: str,
    metrics: list[str],
    bar: Any,
    project: str | None,
    query: str | None,
    *,
    more: bool,
) -> None:
    """A row a group, with the mean of each metric over its runs; its name leads to its runs."""
    groups = readings.grouped(runs, field)
    rows = pd.DataFrame({"Group": [group.label for group in groups], "Runs": [len(group.runs) for group in groups]})
    config: dict[str, Any] = {}
    for key in metrics:
        spreads = [readings.mean_and_sd(group.runs, key) for group in groups]
        rows[key] = [mean for mean, _ in spreads]
        rows[f"± {key}"] = [sd for _, sd in spreads]
        config[key] = st.column_config.NumberColumn(key, format="%.4g", help=f"Mean of the finite last values of {key}")
        config[f"± {key}"] = st.column_config.NumberColumn("± sd", format="%.2g", help="Standard deviation over runs")
    rows["Newest"] = pd.to_datetime(
        [max(run["created_at"] for run in group.runs) for group in groups], unit="s", utc=True
    )
    config["Newest"] = st.column_config.DatetimeColumn("Newest", format="distance")
    targets = [
        {"q": saved_runs.narrowed(query, group.condition)} | ({"project": project} if project else {})
        for group in groups
    ]
    chosen = components.link_table(
        rows, key="run-groups", column="Group", page="runs", targets=targets, columns=config, select=True
    )
    with bar:
        if chosen:
            ids = [run["id"] for row in chosen if row < len(groups) for run in groups[row].runs]
            actions(ids[:MOST_COMPARED], by=field)
        else:
            st.caption("Tick groups to compare them; click one to see its runs.", width="content")
    if more:
        st.caption(f"Of the newest {MOST_GROUPED:,} runs that match.")


def cursor_of(question: tuple[str | None, ...]) -> str | None:
    """The page in the URL, unless the question has changed since: then it is the first page again."""
    if st.session_state.setdefault(QUESTION, question) != question:
        st.session_state[QUESTION] = question
        st.session_state[CURSORS] = []
        st.query_params.pop("cursor", None)
    return st.query_params.get("cursor")


def run_table(runs: list[Json], columns: saved_runs.Columns) -> list[int]:
    rows = pd.DataFrame({"Run": [run["name"] for run in runs]})
    config: dict[str, Any] = {}
    if "Status" in columns.about:
        rows["Status"] = [[run["status"]] for run in runs]
        config["Status"] = components.state_column("Status", [run["status"] for run in runs])
    alerts = alert_parts.of_runs([run["id"] for run in runs]) if "Alerts" in columns.about else {}
    if any(alerts.values()):
        rules = [list(dict.fromkeys(alert["rule"] for alert in alerts[run["id"]])) for run in runs]
        rows["Alerts"] = rules
        widest = max(len(one) for one in rules)
        config["Alerts"] = components.state_column(
            "Alerts", [rule for one in rules for rule in one], width=118 if widest == 1 else 200
        )
    if columns.curve is not None:
        lines = sparklines(runs, columns.curve)
        if any(lines):
            rows["Curve"] = lines
            config["Curve"] = st.column_config.LineChartColumn(
                "Curve", help=f"{columns.curve} over steps", width=90, color="gray"
            )
    for key in columns.metrics:
        rows[key] = [last_value(run, key) for run in runs]
        config[key] = st.column_config.NumberColumn(key, format="%.4g", help=f"Last value of {key}")
    for field in columns.settings:
        rows[saved_runs.field_name(field)] = readings.as_numbers([readings.field_text(run, field) for run in runs])
    for name in columns.about:
        if name in ABOUT:
            rows[name] = [ABOUT[name](run) for run in runs]
    if "Started" in rows:
        rows["Started"] = pd.to_datetime(rows["Started"], unit="s", utc=True)
    config["Started"] = st.column_config.DatetimeColumn("Started", format="distance")
    config["Tags"] = st.column_config.ListColumn("Tags", width="medium")
    config["Notes"] = st.column_config.TextColumn("Notes", width="medium")
    for name, field in (("Group", "group"), ("Notes", "notes"), ("Tags", "tags")):
        if name in rows and not any(run[field] for run in runs):
            rows = rows.drop(columns=name)
    return components.link_table(
        rows,
        key=bin_parts.table_key(),
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


def actions(chosen: list[str], by: str | None = None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        if not chosen:
            st.caption("Tick runs to compare them; click a name to open one.", width="content")
            return
        st.caption(f"{formats.plural(len(chosen), 'run')} selected", width="content")
        if st.button("Compare", icon=":material/compare_arrows:", type="primary", disabled=len(chosen) < 2):
            averaged = {"by": by, "view": "Curves"} if by else {}
            navigate.go_to("compare", ids=",".join(chosen), baseline=chosen[-1], **averaged)
        if len(chosen) == 1 and st.button("Open", icon=":material/open_in_full:"):
            navigate.go_to("run", id=chosen[0])
        if by is None and st.button("Delete", icon=":material/delete:"):
            bin_parts.confirm_delete(chosen)


def pager(cursor: str | None, following: str | None, n: int) -> None:
    """Pages forward by the service's cursor, and back along the cursors this session came by."""
    trail: list[str | None] = st.session_state.setdefault(CURSORS, [])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        bin_parts.entrance()
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
