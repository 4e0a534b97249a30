"""Waivers of an audit: who answers for what was found, until when; to add one, and to take one back."""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import components, data, formats
from dashboard.components import Cell
from tunescope import ApiError

Json = dict[str, Any]
ALL = "all of the audit"


def waivers(audit: Json) -> None:
    """What stands beside the verdict. Nothing where all passed."""
    if audit["verdict"] == "PASS" and not audit["waivers"]:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        said = "Somebody answers for the finding, for a time. The verdict and the record stay as they are."
        components.section("Waivers", said, width="content")
        if audit["verdict"] != "PASS" and st.button("Waive…", icon=":material/edit_document:", key="waive"):
            _ask(audit)
    if not audit["waivers"]:
        st.caption("None.")
        return
    rows: list[list[str | Cell]] = [_row(one) for one in audit["waivers"]]
    components.table(["", "Who", "Why", "Task", "Until", "Written"], rows)
    valid = [one for one in audit["waivers"] if one["state"] == "valid"]
    if valid and st.button("Take one back…", icon=":material/undo:", type="tertiary", key="revoke"):
        _take_back(audit, valid)


def _row(one: Json) -> list[str | Cell]:
    why = html.escape(one["why"])
    if one["revoked"]:
        taken = one["revoked"]
        why += f'<br><span class="ts-dim">revoked by {html.escape(taken["who"])}: {html.escape(taken["why"])}</span>'
    return [
        Cell(components.chip(one["state"])),
        one["who"],
        Cell(why, "text"),
        one["suite"] or ALL,
        Cell(html.escape(_moment(one["until"])), "nowrap"),
        Cell(html.escape(formats.ago(one["created_at"])), "nowrap"),
    ]


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


@st.dialog("Waive this audit?")
def _ask(audit: Json) -> None:
    st.write(
        f"The verdict stays **{components.mark(audit['verdict']).word}**. A pipeline lets it through only if it was "
        "told to accept waivers."
    )
    failing = [task["suite"] for task in audit["tasks"] if task["verdict"] != "PASS"]
    who = st.text_input("Who answers for it", max_chars=250)
    why = st.text_area("Why", max_chars=2000, height=90)
    today = datetime.now(UTC).date()
    until = st.date_input("Until, that day included (UTC)", value=today + timedelta(days=30), min_value=today)
    task = st.selectbox("What", [ALL, *failing])

    def write() -> None:
        assert isinstance(until, date)
        end = datetime.combine(until + timedelta(days=1), datetime.min.time(), UTC)
        data.waive(audit["id"], who.strip(), why.strip(), end.timestamp(), None if task == ALL else task)

    _buttons("Waive", write, ready=bool(who.strip() and why.strip()), key="waive")


@st.dialog("Take a waiver back?")
def _take_back(audit: Json, valid: list[Json]) -> None:
    names = {one["id"]: f"{one['who']}: {one['why'][:60]} ({one['suite'] or ALL})" for one in valid}
    chosen = st.selectbox("Which", list(names), format_func=lambda one: names[one])
    who = st.text_input("Who takes it back", max_chars=250)
    why = st.text_area("Why", max_chars=2000, height=90)
    _buttons(
        "Take back",
        lambda: data.revoke_waiver(audit["id"], chosen, who.strip(), why.strip()),
        ready=bool(who.strip() and why.strip()),
        key="revoke",
    )


def _buttons(label: str, act: Callable[[], None], *, ready: bool, key: str) -> None:
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", key=f"{key}-cancel"):
            st.rerun()
        if st.button(label, type="primary", key=f"{key}-do", disabled=not ready):
            try:
                act()
            except ApiError as refused:
                st.error(refused.message, icon=":material/error:")
                return
            st.rerun()
