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
        with st.container(horizontal=True, width="content"):
            valid = [one for one in audit["waivers"] if one["state"] == "valid"]
            if valid:
                with st.popover("Take one back", icon=":material/undo:", type="tertiary", key="revoke-open"):
                    _take_back(audit, valid)
            if audit["verdict"] != "PASS":
                with st.popover("Waive", icon=":material/edit_document:", key="waive-open"):
                    _ask(audit)
    if not audit["waivers"]:
        st.caption("None.")
        return
    rows: list[list[str | Cell]] = [_row(one) for one in audit["waivers"]]
    components.table(["", "Who", "Why", "Task", "Until", "Written"], rows)


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


def _ask(audit: Json) -> None:
    failing = [task["suite"] for task in audit["tasks"] if task["verdict"] != "PASS"]
    today = datetime.now(UTC).date()
    with st.form("waive", border=False, enter_to_submit=False):
        st.caption(
            f"The verdict stays {components.mark(audit['verdict']).word}. A pipeline lets the model through only if it "
            "was told to accept waivers."
        )
        who = st.text_input("Who answers for it", max_chars=250)
        why = st.text_area("Why", max_chars=2000, height=90)
        until = st.date_input("Until, that day included (UTC)", value=today + timedelta(days=30), min_value=today)
        task = st.selectbox("What", [ALL, *failing])
        if st.form_submit_button("Waive", type="primary", key="waive-do"):
            assert isinstance(until, date)
            end = datetime.combine(until + timedelta(days=1), datetime.min.time(), UTC).timestamp()
            suite = None if task == ALL else task
            _write(who, why, lambda: data.waive(audit["id"], who.strip(), why.strip(), end, suite))


def _take_back(audit: Json, valid: list[Json]) -> None:
    names = {one["id"]: f"{one['who']}: {one['why'][:60]} ({one['suite'] or ALL})" for one in valid}
    with st.form("revoke", border=False, enter_to_submit=False):
        chosen = st.selectbox("Which", list(names), format_func=lambda one: names[one])
        who = st.text_input("Who takes it back", max_chars=250)
        why = st.text_area("Why", max_chars=2000, height=90)
        if st.form_submit_button("Take back", type="primary", key="revoke-do"):
            _write(who, why, lambda: data.revoke_waiver(audit["id"], chosen, who.strip(), why.strip()))


def _write(who: str, why: str, act: Callable[[], None]) -> None:
    if not who.strip() or not why.strip():
        st.error("Say who and why.", icon=":material/error:")
        return
    try:
        act()
    except ApiError as refused:
        st.error(refused.message, icon=":material/error:")
        return
    st.rerun()
