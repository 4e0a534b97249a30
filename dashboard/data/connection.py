"""The one connection of all sessions, and how long an answer is good for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from tunescope import Client

Json = dict[str, Any]

# Seconds a cached answer is good for: what moves, what changes now and then, what is never written again.
LIVE, LIST, FIXED = 1.5, 5.0, 600.0
# Buckets a series is thinned to by the service: about the pixels of a chart.
CHART_POINTS = 800


@st.cache_resource(show_spinner=False, on_release=Client.close)
def client() -> Client:
    """One connection for all sessions: `TUNESCOPE_URL` and `TUNESCOPE_API_KEY` say where to and who."""
    return Client(timeout=15.0)


def forget() -> None:
    """Drop every cached answer: after something was changed from here."""
    st.cache_data.clear()


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def health() -> Json:
    return client().health()


def items(answer: Json | list[Json]) -> list[Json]:
    """The rows of a list answer."""
    return answer if isinstance(answer, list) else list(answer["items"])
