"""Reviews: the queue, what is said, the result. A queue moves with every answer, so nothing of it is cached."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from dashboard.data.connection import FIXED, LIST, Json, client, items
from tunescope import ApiError


@st.cache_data(ttl=LIST, max_entries=8, show_spinner=False)
def reviews(limit: int = 100) -> list[Json]:
    """The newest first."""
    return items(client().list_reviews(limit=limit))


def review(review_id: str) -> Json:
    return client().get_review(review_id)


def create_review(**body: Any) -> Json:
    made = client().create_review(**body)
    reviews.clear()
    return made


def next_review_task(review_id: str, reviewer: str) -> Json:
    return client().next_review_task(review_id, reviewer)


def judge(review_id: str, task: int, answer: Any, *, judgement_id: str, reviewer: str, **said: Any) -> None:
    client().judge(review_id, task, answer, id=judgement_id, reviewer=reviewer, **said)


def undo_judgement(review_id: str, reviewer: str) -> bool:
    """False: there is nothing to withdraw."""
    try:
        client().undo_judgement(review_id, reviewer)
    except ApiError as refused:
        if refused.code != "nothing_to_undo":
            raise
        return False
    return True


def close_review(review_id: str) -> Json:
    closed = client().close_review(review_id)
    st.cache_data.clear()
    return closed


@st.cache_data(ttl=FIXED, max_entries=64, show_spinner=False)
def review_result(review_id: str, said: int, closed_at: float | None, margin: float) -> Json:
    """Worked out anew when more was said: `said` and `closed_at` are the review's own."""
    return client().review_result(review_id, margin=margin)


def review_items(review_id: str, only: Literal["all", "disagreed", "skipped"], limit: int = 50) -> Json:
    return client().review_items(review_id, only=only, limit=limit)
