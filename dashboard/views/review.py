"""Judge outputs by hand: blind, one at a time, from the keyboard; and see what people said."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, evaluation_parts, navigate, review_parts, review_results
from tunescope import ApiError

Json = dict[str, Any]
VIEWS = ["Judge", "Result", "Items"]
KINDS = {"rating": "Good or bad", "pairwise": "Which is better"}
SAMPLES = {"all": "any item", "wrong": "wrong items", "flipped": "items that flipped"}
REASONS = "wrong, incomplete, off topic, bad style"


def render() -> None:
    review_id = st.query_params.get("id")
    if review_id is None:
        overview()
    else:
        one(data.review(review_id))


# --- all of them ---


def overview() -> None:
    components.header(
        "Review", "People judge what models answered, blind; what they say becomes a score like any other."
    )
    reviews = data.reviews()
    if reviews:
        review_table(reviews)
    else:
        components.empty(
            "No review yet",
            "A review puts the outputs of evaluations before people: good or bad, or which of two is better.",
            'client.create_review(name="tone", kind="pairwise", evaluations=[base["id"], tuned["id"]])',
            icon="thumbs_up_down",
            code="python",
        )
    if not data.evaluations(limit=1):
        st.caption("It needs an evaluation: send a model's answers to a suite first.")
        return
    with st.expander("New review", icon=":material/add:", expanded=not reviews):
        creation()


def review_table(reviews: list[Json]) -> None:
    progress = [review["progress"] for review in reviews]
    rows = pd.DataFrame(
        {
            "Review": [review_parts.title(review) for review in reviews],
            "State": [[review_parts.state(review)] for review in reviews],
            "Asks": [KINDS[review["kind"]] for review in reviews],
            "Suite": [f"{review['suite']['name']} v{review['suite']['version']}" for review in reviews],
            "Items": [review["n_items"] for review in reviews],
            "Judged": [round(one["done"] / max(one["wanted"], 1), 2) for one in progress],
            "Reviewers": [one["reviewers"] for one in progress],
            "When": pd.to_datetime([review["created_at"] for review in reviews], unit="s", utc=True),
        }
    )
    components.link_table(
        rows,
        key="reviews",
        column="Review",
        page="review",
        targets=[{"id": review["id"]} for review in reviews],
        columns={
            "State": components.state_column("State", [review_parts.state(review) for review in reviews]),
            "Items": st.column_config.NumberColumn("Items", format="localized"),
            "Judged": st.column_config.ProgressColumn("Judged", format="percent", min_value=0, max_value=1),
            "When": st.column_config.DatetimeColumn("When", format="distance"),
        },
        height="content" if len(reviews) < 15 else 520,
    )


def creation() -> None:
    """What to ask of whom; once made, it is frozen."""
    by_suite: dict[str, list[Json]] = {}
    for evaluation in data.evaluations(limit=500):
        if evaluation["suite"]["task_type"] != "human_review":
            by_suite.setdefault(evaluation["suite_id"], []).append(evaluation)
    if not by_suite:
        return
    left, right = st.columns(2, gap="medium")
    with left:
        suite_id = st.selectbox(
            "Suite", list(by_suite), format_func=lambda one: evaluation_parts.suite_title(by_suite[one][0])
        )
        found = {evaluation["id"]: evaluation for evaluation in by_suite[suite_id]}
        kind = st.segmented_control(
            "Ask", list(KINDS), format_func=KINDS.__getitem__, required=True,
            default="pairwise" if len(found) > 1 else "rating",
        )  # fmt: skip
        judged = st.multiselect(
            "Outputs of", list(found), default=list(found)[: 2 if kind == "pairwise" else 1][::-1],
            format_func=lambda one: evaluation_parts.title(found[one]), max_selections=20,
            help="The first is the baseline of verdicts. Reviewers do not see names.", key=f"judged-{suite_id}-{kind}",
        )  # fmt: skip
        name = st.text_input("Name", value=f"{by_suite[suite_id][0]['suite']['name']} {kind}"[:200], max_chars=200)
    with right:
        one, two, three = st.columns(3)
        n = one.number_input("Items", 1, 20_000, 50, help="Drawn in proportion to the suite's groups.")
        overlap = two.number_input("Reviewers each", 1, 20, 1, help="From two on, agreement can be measured.")
        only = three.selectbox("Of", list(SAMPLES), format_func=SAMPLES.__getitem__)
        reasons = st.text_input("Reason tags", value=REASONS, help="Up to nine, by commas; keys 1 to 9 choose them.")
        instructions = st.text_area("Instructions", placeholder="What makes an output good here?", height=110)
    if st.button("Start the review", type="primary", icon=":material/play_arrow:", disabled=not judged or not name):
        body = {
            "name": name, "kind": kind, "evaluations": judged, "overlap": int(overlap),
            "sample": {"n": int(n), "only": only}, "instructions": instructions or None,
            "reasons": [reason.strip() for reason in reasons.split(",") if reason.strip()],
        }  # fmt: skip
        try:
            made = data.create_review(**body)
        except ApiError as refused:
            st.error(refused.message, icon=":material/error:")
            return
        navigate.go_to("review", id=made["id"])


# --- one of them ---


def one(review: Json) -> None:
    navigate.link("review", "All reviews", "arrow_back")
    components.titled(review_parts.title(review), review_parts.state(review), review_parts.question(review))
    if review["definition"]["instructions"]:
        st.info(review["definition"]["instructions"], icon=":material/info:")
    judge_tab, result_tab, items_tab = st.tabs(VIEWS, key="tab", on_change="rerun", bind="query-params")
    if judge_tab.open:
        with judge_tab:
            judge_part(review)
    if result_tab.open:
        with result_tab:
            review_results.result_part(review)
    if items_tab.open:
        with items_tab:
            items_part(review)


def judge_part(review: Json) -> None:
    reviewer = st.text_input(
        "Reviewer", key="reviewer", bind="query-params", max_chars=100, placeholder="Your name", width=260,
        label_visibility="collapsed",
    ).strip()  # fmt: skip
    if not reviewer:
        components.empty(
            "Who are you?",
            "Write your name above and press Enter: nobody gets the same item twice, and agreement needs to tell "
            "people apart.",
            icon="badge",
        )
        return
    review_parts.judging(review, reviewer)


def items_part(review: Json) -> None:
    if review["closed_at"] is None:
        st.caption("This shows which model said what: not for those who still judge.")
    if review["progress"]["reviewers"]:
        review_results.items_part(review)
    else:
        components.empty("Nothing is judged yet", "Items appear with what was said of them.", icon="rate_review")


render()
