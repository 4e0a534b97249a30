"""Deleting runs, and the bin they go to: what is there, until when, and the way back."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, formats
from tunescope import ApiError

Json = dict[str, Any]
VIEW, CURSOR, DELETED = "view", "bin_cursor", "_deleted"
PAGE = 100


def shown() -> bool:
    """Is it the bin that is looked at? The URL says so."""
    return st.query_params.get(VIEW) == "bin"


def table_key() -> str:
    """Another one after each deletion: what was ticked by its place in the table would be another run now."""
    return f"runs-{count}" if (count := st.session_state.get(DELETED)) else "runs"


def entrance() -> None:
    """The way from the table of runs to the bin."""
    if st.button("Bin", icon=":material/delete:", type="tertiary", help="Deleted runs, and the way back"):
        st.query_params[VIEW] = "bin"
        st.rerun()


@st.dialog("Delete runs?")
def confirm_delete(ids: list[str]) -> None:
    st.write(
        f"{formats.plural(len(ids), 'run')} will go to the bin. Anything that still logs to them is refused. "
        "They can be restored from there until the bin is purged."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel"):
            st.rerun()
        if st.button(f"Delete {formats.plural(len(ids), 'run')}", type="primary", icon=":material/delete:"):
            try:
                data.delete_runs(ids)
            except ApiError as refused:
                st.error(refused.message, icon=":material/error:")
                return
            st.session_state[DELETED] = st.session_state.get(DELETED, 0) + 1
            st.rerun()


@st.dialog("Delete for good?")
def confirm_purge(ids: list[str] | None, n: int) -> None:
    st.write(
        f"{formats.plural(n, 'run')} will be deleted with all points and files. There is no way back. "
        "Evaluations go with their run. What a model version or an audit rests on is kept."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel"):
            st.rerun()
        if st.button("Delete for good", type="primary", icon=":material/delete_forever:"):
            try:
                data.purge_bin(ids)
            except ApiError as refused:
                st.error(refused.message, icon=":material/error:")
                return
            st.rerun()


def view(project: str | None) -> None:
    """What is in the bin, in place of the table of runs."""
    page = data.bin_page(project, st.query_params.get(CURSOR))
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Runs", icon=":material/arrow_back:", type="tertiary"):
            for name in (VIEW, CURSOR):
                st.query_params.pop(name, None)
            st.rerun()
        st.markdown(f"**Bin** · {_sentence(page)}", width="content")
    for one in page["projects"]:
        _project(one)
    if not page["items"]:
        components.empty("The bin is empty", "Deleted runs come here first, and can be restored.", icon="delete")
        return
    bar = st.container(horizontal=True, vertical_alignment="center")
    chosen = _table(page["items"])
    with bar:
        _actions([page["items"][row]["id"] for row in chosen if row < len(page["items"])], page)
    if page["next_cursor"] and st.button("Next", icon=":material/chevron_right:"):
        st.query_params[CURSOR] = page["next_cursor"]
        st.rerun()


def _sentence(page: Json) -> str:
    days = f"kept for {page['keep_days']:g} days, then purged"
    going = f" · {formats.plural(page['n_purging'], 'run')} being purged" if page["n_purging"] else ""
    return f"{formats.plural(page['n_runs'], 'run')}, about {formats.size(page['bytes'])}, {days}{going}"


def _project(one: Json) -> None:
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(
            f":material/folder_delete: Project **{one['name']}**, {formats.plural(one['n_runs'], 'run')}, "
            f"deleted {formats.ago(one['deleted_at'])}",
            width="stretch",
        )
        st.button(
            "Restore", icon=":material/restore_from_trash:", key=f"restore-{one['name']}",
            on_click=data.restore_project, args=(one["name"],),
        )  # fmt: skip


def _table(runs: list[Json]) -> list[int]:
    rows = pd.DataFrame({"Run": [run["name"] for run in runs], "Project": [run["project"] for run in runs]})
    for name, field in (("Deleted", "deleted_at"), ("Purged", "purged_after")):
        rows[name] = pd.to_datetime([run[field] for run in runs], unit="s", utc=True)
    rows["Points"] = [run["points"] for run in runs]
    rows["Size"] = [formats.size(run["bytes"]) for run in runs]
    rows["Kept because"] = [run["kept"] for run in runs]
    if rows["Kept because"].isna().all():
        rows = rows.drop(columns="Kept because")
    event = st.dataframe(
        rows,
        key=f"bin-{hash(tuple(run['id'] for run in runs))}",
        on_select="rerun",
        selection_mode="multi-row",
        hide_index=True,
        row_height=34,
        placeholder="–",
        column_config={
            "Deleted": st.column_config.DatetimeColumn("Deleted", format="distance"),
            "Purged": st.column_config.DatetimeColumn("Purged", format="distance", help="When nobody restores it"),
            "Points": st.column_config.NumberColumn("Points", format="localized"),
        },
    )
    return list(event["selection"]["rows"])


def _actions(chosen: list[str], page: Json) -> None:
    if not chosen:
        st.caption("Tick runs to restore them.", width="content")
        if st.button("Empty the bin", icon=":material/delete_forever:"):
            confirm_purge(None, page["n_runs"])
        return
    st.caption(f"{formats.plural(len(chosen), 'run')} selected", width="content")
    st.button(
        "Restore", icon=":material/restore_from_trash:", type="primary", on_click=data.restore_runs, args=(chosen,)
    )
    if st.button("Delete for good", icon=":material/delete_forever:"):
        confirm_purge(chosen, len(chosen))
