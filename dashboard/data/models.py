"""The registry."""

from __future__ import annotations

import streamlit as st

from dashboard.data.connection import LIST, Json, client, items


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def models() -> list[Json]:
    return items(client().list_models())


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def model_versions(name: str) -> list[Json]:
    return items(client().model_versions(name))


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def model_version(version_id: str) -> Json:
    return client().get_model_version(version_id)


@st.cache_data(ttl=LIST, max_entries=256, show_spinner=False)
def model_version_links(version_id: str) -> Json:
    return client().model_version_links(version_id)
