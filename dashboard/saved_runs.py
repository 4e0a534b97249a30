"""How the table of runs is looked at: its columns, order and groups, and the saved ways of looking at it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import streamlit as st

from dashboard import components, data, readings
from tunescope import ApiError

Json = dict[str, Any]
_SAVE_AS = "_filter_name"


def field_name(field: str) -> str:
    """`params.train.lr` → train.lr; tags say that they are."""
    kind, _, key = field.partition(".")
    return key if kind == "params" else f"tag {key}" if kind == "tags" else field


def split_order(query: str) -> tuple[str, str]:
    """A query's condition and what it is ordered by."""
    parts = re.split(r"(?i)\border\s+by\b", query, maxsplit=1)
    return parts[0].strip(), parts[1].strip() if len(parts) > 1 else ""


def narrowed(query: str | None, condition: str) -> str:
    """The query with one more condition; its own `order by` stays at the end."""
    held, order = split_order(query or "")
    both = f"({held}) and {condition}" if held else condition
    return f"{both} order by {order}" if order else both


class Columns(NamedTuple):
    """What the table of runs shows beside the name: metrics, settings and tags, what a run is, and whose curve."""

    metrics: list[str]
    settings: list[str]
    about: list[str]
    curve: str | None


# In the order in which they stand. Of what no run on the page has, there is no column.
ABOUT = ("Status", "Alerts", "Started", "Took", "Project", "Group", "Tags", "Notes", "Id")


def columns_and_order(runs: list[Json], *, every_project: bool) -> Columns:
    """The columns as chosen; the order is chosen here too, and stands in the URL."""
    keys = readings.metric_keys(runs)
    fields = [f"params.{key}" for key in readings.varying(runs)]
    fields += [f"tags.{key}" for key in dict.fromkeys(key for run in runs for key in run["tags"])]
    usual = [name for name in ABOUT if name != "Id"]
    with st.popover("Columns", icon=":material/view_column:"):
        shown = st.multiselect(
            "Metrics",
            with_chosen(keys, "metrics"),
            default=readings.default_metrics(keys),
            key="metrics",
            bind="query-params",
            max_selections=8,
        )
        settings = st.multiselect(
            "Settings and tags",
            with_chosen(fields, "settings"),
            key="settings",
            bind="query-params",
            max_selections=8,
            placeholder="What differs between these runs",
        )
        about = st.multiselect("About the run", ABOUT, default=usual, key="about", bind="query-params")
        curves = ["first metric", "none", *keys]
        curve = components.pick("Curve", curves, {one: one for one in curves}, "curve", width=280)
        orders = ["", *(f"metrics.`{key}` {direction}" for key in shown for direction in ("asc", "desc")), *ORDERS]
        asked = order()
        if asked is not None and asked not in orders:
            orders.append(asked)
        picked = components.pick("Order by", orders, {one: order_name(one) for one in orders}, ORDER, width=280)
    if picked != (asked or ""):
        st.rerun()
    drawn = {"first metric": shown[0] if shown else None, "none": None}.get(curve, curve)
    # Of one project there is nothing to tell.
    chosen = [name for name in ABOUT if name in about and (name != "Project" or every_project)]
    return Columns(list(shown), list(settings), chosen, drawn)


ORDERS = {"created asc": "oldest first", "name asc": "name, A to Z", "name desc": "name, Z to A"}
ORDER = "order"


def order() -> str | None:
    """What the table is ordered by, in the search language; None: the newest first."""
    return st.query_params.get(ORDER) or None


def order_name(order: str) -> str:
    return ORDERS.get(order, order.removeprefix("metrics.").replace("`", "")) if order else "newest first"


def with_chosen(options: list[str], key: str) -> list[str]:
    """What is chosen stays an option when no run on this page has it."""
    return list(dict.fromkeys([*options, *(st.session_state.get(key) or [])]))


def group_choice(runs: list[Json], chosen: str) -> None:
    """Which field the runs are grouped by. It stands in the URL."""
    fields = {"": "no groups", **{field: name for field, name in readings.groupings(runs).items() if field != "seed"}}
    if chosen and chosen not in fields:
        fields[chosen] = field_name(chosen)
    with st.popover("Group" if not chosen else f"By {fields[chosen]}", icon=":material/stacks:"):
        picked = components.pick("Group by", list(fields), fields, "group", width=240)
    if picked != chosen:
        st.rerun()


# --- saved filters ---


def menu(project: str | None, query: str | None) -> None:
    """Named filters of the project: apply one, keep the present one, forget one."""
    with st.popover("Saved", icon=":material/bookmark:"):
        if project is None:
            st.caption("Filters are saved with a project. Choose one first.")
            return
        for held in data.filters(project):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.button(
                    held["name"], type="tertiary", key=f"filter-{held['name']}", on_click=apply, args=(held,),
                    icon=":material/bookmark:", help=held["query"] or "every run",
                )  # fmt: skip
                st.button(
                    "", type="tertiary", key=f"forget-{held['name']}", on_click=data.delete_filter,
                    args=(project, held["name"]), icon=":material/delete:", help=f"Delete {held['name']}",
                )  # fmt: skip
        with st.form("save-filter", clear_on_submit=True, border=False):
            name = st.text_input("Save what is shown as", key=_SAVE_AS, max_chars=100, placeholder="Best adapters")
            if st.form_submit_button("Save", icon=":material/bookmark_add:") and name.strip():
                keep(project, name.strip(), query or "")


def keep(project: str, name: str, query: str) -> None:
    condition, written = split_order(query)
    columns = [f"metrics.{key}" for key in st.session_state.get("metrics", [])]
    try:
        data.save_filter(
            project, name, query=condition, order_by=written or order() or "",
            columns=columns + list(st.session_state.get("settings", [])), group_by=st.query_params.get("group", ""),
        )  # fmt: skip
    except ApiError as refused:
        st.error(refused.message, icon=":material/error:")
        return
    st.rerun()


def apply(held: Json) -> None:
    """Set the page to what was kept. Runs before the page's widgets are made, so that they follow."""
    metrics = [column.removeprefix("metrics.") for column in held["columns"] if column.startswith("metrics.")]
    settings = [column for column in held["columns"] if not column.startswith("metrics.")]
    ordered = held["order_by"] in ORDERS or re.fullmatch(r"metrics\.`([^`]+)` (asc|desc)", held["order_by"])
    query = held["query"]
    if held["order_by"] and not ordered:
        query = f"{query} order by {held['order_by']}".strip()
    st.session_state.update(q=query, status=None, metrics=metrics, settings=settings)
    for name, value in ((ORDER, held["order_by"] if ordered else ""), ("group", held["group_by"])):
        st.query_params.pop(name, None)
        if value:
            st.query_params[name] = value
