"""Data sets, and the quality of what is trained and tested on."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, LIVE, Json, client, items

Kind = Literal["dataset", "suite"]


@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def datasets() -> list[Json]:
    """The newest first."""
    return items(client().list_datasets())


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def dataset(dataset_id: str) -> Json:
    return client().get_dataset(dataset_id)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def quality(kind: Kind, set_id: str) -> Json:
    return client().suite_quality(set_id) if kind == "suite" else client().dataset_quality(set_id)


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def label_noise(kind: Kind, set_id: str) -> Json:
    """Of a suite by its evaluations, which may be more the next time; of a data set by a model of its own."""
    return client().suite_label_noise(set_id) if kind == "suite" else client().dataset_label_noise(set_id)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def leakage(train: str, test: str) -> Json:
    return client().leakage(train, test)
