"""Suites, evaluations, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, Json, client, items
from tunescope import ApiError

# The most that the service gives at once.
MOST_IN_A_PAGE = 1000


@st.cache_data(ttl=LIST, max_entries=4, show_spinner=False)
def suites() -> list[Json]:
    return items(client().list_suites(limit=MOST_IN_A_PAGE))


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def suite(suite_id: str) -> Json:
    return client().get_suite(suite_id)


@st.cache_data(ttl=LIST, max_entries=32, show_spinner=False)
def evaluation_page(suite: str | None = None, limit: int = 100, cursor: str | None = None) -> Json:
    """A page of evaluations, the newest first."""
    return client().list_evaluations(suite=suite, limit=limit, cursor=cursor)


@st.cache_data(ttl=LIST, max_entries=32, show_spinner=False)
def evaluations_of_runs(run_ids: Sequence[str]) -> list[Json]:
    """All evaluations of some runs, the newest first."""
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page = client().list_evaluations(run_id=list(run_ids), limit=MOST_IN_A_PAGE, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


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
def calibration(evaluation_id: str) -> Json:
    return client().calibration(evaluation_id)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def slices(evaluation_id: str, by: str, metric: str | None = None) -> list[Json]:
    return items(client().slices(evaluation_id, by, metric))


@st.cache_data(ttl=FIXED, max_entries=256, show_spinner=False)
def comparison(baseline: str, candidate: str, metric: str | None = None, margin: float | None = None) -> Json | str:
    """The verdict card of two evaluations, or the sentence that says why they cannot be compared."""
    return _or_why(client().compare, baseline, candidate, metric=metric, margin=margin)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def comparisons(
    baseline: str,
    candidates: Sequence[str],
    metric: str | None = None,
    margin: float | None = None,
    test: str | None = None,
) -> Json | str:
    """Several evaluations against one, with Holm's correction, or the sentence that says why that cannot be."""
    return _or_why(client().compare_several, baseline, list(candidates), metric=metric, margin=margin, test=test)


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def configurations(
    baseline: Sequence[str], candidate: Sequence[str], metric: str | None = None, margin: float | None = None
) -> Json | str:
    """Two configurations by the evaluations of their runs, or the sentence that says why that cannot be."""
    return _or_why(client().compare_configurations, list(baseline), list(candidate), metric=metric, margin=margin)


def _or_why(ask: Callable[..., Json], *ids: Any, **options: Any) -> Json | str:
    try:
        return ask(*ids, **options)
    except ApiError as refused:
        if refused.status not in {400, 409, 422}:
            raise
        return refused.message


@st.cache_data(ttl=FIXED, max_entries=128, show_spinner=False)
def comparison_items(
    baseline: str,
    candidate: str,
    kind: Literal["lost", "gained"],
    metric: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Json:
    return client().comparison_items(baseline, candidate, kind=kind, metric=metric, limit=limit, cursor=cursor)
