"""Pages that move by themselves, and how to hold them still."""

from __future__ import annotations

import streamlit as st


def every(seconds: float, *, on: bool) -> float | None:
    """How often a page whose subject is `on` draws itself anew; None: not by itself.

    A chart whose data grew is a new chart to Streamlit, which forgets the zoom and what is brushed: a person can hold
    the page still.
    """
    if not on:
        return None
    with st.container(horizontal=True, horizontal_alignment="right", key="live-bar"):
        live = st.toggle(
            "Live", value=True, key="live", bind="query-params", width="content",
            help="Off: the page stands still, so that a zoomed chart stays as it is.",
        )  # fmt: skip
    return seconds if live else None
