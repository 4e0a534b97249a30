"""Suites, evaluations, comparisons."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, Json, client, items
from tunescope import ApiError


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def suites() -> list[Json]:
    return items(client().list_suites())


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def suite(suite_id: str) -> Json:
    return client().get_suite(suite_id)


@st.cache_data(ttl=LIST, max_entries=64, show_spinner=False)
def evaluations(
    run_id: str | None = None,
    suite: str | None = None,
    suite_id: str | None = None,
    model_version_id: str | None = None,
    limit: int = 100,
) -> list[Json]:
    """The newest first."""
    return items(
        client().list_evaluations(
            run_id=run_id, suite=suite, suite_id=suite_id, model_version_id=model_version_id, limit=limit
        )
    )


@st.cache_data(ttl=FIXED, max_entries=256, show_spinner=False)
def evaluation(evaluation_id: str) -> Json:
    return client().get_evaluation(evaluation_id)


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def evaluation_items(
    evaluation_id: str,
    correct: bool | None = None,
    true: str | None = None,
    predicted: str | None = None,
    group: str | None = None,
    tag: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Json:
    asked = {"correct": correct, "true": true, "predicted": predicted, "group": group, "tag": tag}
    return client().evaluation_items(evaluation_id, limit=limit, cursor=cursor, **asked)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def confusion(evaluation_id: str) -> Json:
    return client().confusion(evaluation_id)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def slices(evaluation_id: str, by: str) -> list[Json]:
    return items(client().slices(evaluation_id, by))


@st.cache_data(ttl=FIXED, max_entries=256, show_spinner=False)
def comparison(baseline: str, candidate: str, metric: str | None = None, margin: float | None = None) -> Json | str:
    """The verdict card of two evaluations, or the sentence that says why they cannot be compared."""
    try:
        return client().compare(baseline, candidate, metric=metric, margin=margin)
    except ApiError as refused:
        if refused.status not in {400, 409, 422}:
            raise
        return refused.message


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def comparison_items(baseline: str, candidate: str, kind: Literal["lost", "gained"], limit: int = 100) -> Json:
    return client().comparison_items(baseline, candidate, kind=kind, limit=limit)
