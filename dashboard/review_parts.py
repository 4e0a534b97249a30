"""Judging by hand: one task at a time, blind, with a key for every answer; and what came of it."""

from __future__ import annotations

import html
import uuid
from functools import partial
from typing import Any

import streamlit as st

from dashboard import components, data, formats, items
from tunescope import ApiError

Json = dict[str, Any]
SKIP_REASONS = ("cannot tell", "not my field", "item is broken")
# (answer, label, icon, key) from left to right.
ANSWERS: dict[str, tuple[tuple[str, str, str | None, str], ...]] = {
    "rating": (("bad", "Bad", "thumb_down", "B"), ("good", "Good", "thumb_up", "G")),
    "pairwise": (
        ("A", "A is better", None, "Left"),
        ("tie", "Tie", None, "Down"),
        ("B", "B is better", None, "Right"),
    ),
}
# What the reviewer is at, in the session: the task shown with the id its judgement will have, tags chosen for it,
# whether it is being skipped, and what the service refused.
_DRAFT, _FAULT, _DIFF = "review-draft", "review-fault", "review-diff"


@st.fragment
def judging(review: Json, reviewer: str) -> None:
    with components.guard():
        given = data.next_review_task(review["id"], reviewer)
        draft = _draft(given)
        _progress(given["progress"])
        if fault := st.session_state.pop(_FAULT, None):
            st.error(fault, icon=":material/error:")
        if draft is None:
            _nothing_left(review, given)
            return
        _task(review, given["task"])
        with st.container(key="review-bar", gap="small"):
            if draft["skipping"]:
                _skipping(review, reviewer, draft)
            else:
                _reasons(review, draft)
                _answers(review, reviewer, draft, given)


def _draft(given: Json) -> Json | None:
    """The judgement in the making; a new one for every task that is shown."""
    task = given["task"]
    draft: Json | None = st.session_state.get(_DRAFT)
    if task is None:
        st.session_state.pop(_DRAFT, None)
        return None
    if draft is None or draft["task"] != task["task"] or draft["reviewer"] != given["reviewer"]:
        draft = {
            "id": uuid.uuid4().hex, "task": task["task"], "reviewer": given["reviewer"], "reasons": [],
            "skipping": False,
        }  # fmt: skip
        st.session_state[_DRAFT] = draft
    return draft


def _progress(progress: Json) -> None:
    judged, left = progress["judged"], progress["left"]
    reserved = f" ({progress['reserved']:,} in the hands of others)" if progress["reserved"] else ""
    st.progress(judged / max(judged + left, 1), text=f"{judged:,} judged by you · {left:,} left{reserved}")


def _task(review: Json, task: Json) -> None:
    reference = items.expected(task)
    group = f' <span class="ts-tag">{html.escape(task["group"])}</span>' if task["group"] else ""
    body = f"<small>Input{group}</small><p>{html.escape(task['input'])}</p>"
    if reference is not None:
        body += f"<small>Reference</small><p>{html.escape(reference)}</p>"
    st.html(f'<div class="ts-asked">{body}</div>')
    texts = [shown["text"] for shown in task["outputs"]]
    against = [reference] if len(texts) == 1 else texts[::-1]
    panes = ""
    for shown, other in zip(task["outputs"], against, strict=True):
        name = f"Output {shown['label']}" if len(texts) > 1 else "Output"
        # A difference is marked where it is asked for; the whole text is always there to judge.
        markup = items.marked(other if st.session_state.get(_DIFF) else None, shown["text"], longest=10**9)
        panes += f'<div class="ts-output"><small>{name}</small>{markup}</div>'
    st.html(f'<div class="ts-outputs">{panes}</div>')


def _reasons(review: Json, draft: Json) -> None:
    """Tags to give along with the answer, and words."""
    known = review["definition"]["reasons"]
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="bottom"):
        for place, reason in enumerate(known):
            chosen = reason in draft["reasons"]
            st.button(
                reason, key=f"reason-{draft['id']}-{place}", type="primary" if chosen else "secondary",
                icon=":material/check:" if chosen else None, shortcut=str(place + 1), on_click=_toggle,
                args=(draft["id"], reason),
            )  # fmt: skip
        st.text_input(
            "Comment", key=f"comment-{draft['id']}", placeholder="Comment (optional)", label_visibility="collapsed",
            max_chars=5000, width=260,
        )  # fmt: skip


def _answers(review: Json, reviewer: str, draft: Json, given: Json) -> None:
    comparing = len(given["task"]["outputs"]) > 1 or items.expected(given["task"]) is not None
    with st.container(horizontal=True, gap="small"):
        for answer, label, icon, key in ANSWERS[review["kind"]]:
            st.button(
                label, key=f"{answer}-{draft['id']}", icon=f":material/{icon}:" if icon else None, shortcut=key,
                type="primary", on_click=_say, args=(review["id"], reviewer, draft["id"], answer),
            )  # fmt: skip
        st.button(
            "Skip", key=f"skip-{draft['id']}", icon=":material/skip_next:", shortcut="S", on_click=_skip,
            args=(draft["id"], True),
        )  # fmt: skip
        st.button(
            "Undo", key=f"undo-{draft['id']}", icon=":material/undo:", shortcut="U", on_click=_undo,
            args=(review["id"], reviewer), disabled=not given["progress"]["judged"],
        )  # fmt: skip
        if comparing:
            st.button(
                "Hide differences" if st.session_state.get(_DIFF) else "Differences", key=f"diff-{draft['id']}",
                icon=":material/difference:", shortcut="D", type="tertiary", on_click=_diff,
            )  # fmt: skip


def _skipping(review: Json, reviewer: str, draft: Json) -> None:
    st.markdown("**Why skip it?**")
    with st.container(horizontal=True, gap="small"):
        for place, reason in enumerate(SKIP_REASONS):
            st.button(
                reason.capitalize(), key=f"skip-{draft['id']}-{place}", shortcut=str(place + 1), type="primary",
                on_click=_say, args=(review["id"], reviewer, draft["id"], "skip", reason),
            )  # fmt: skip
        st.button("Back", key=f"back-{draft['id']}", shortcut="Esc", on_click=_skip, args=(draft["id"], False))


def _nothing_left(review: Json, given: Json) -> None:
    if given["reason"] == "reserved":
        components.empty(
            "Others have the rest in hand",
            "What they leave comes back to the queue within ten minutes.",
            icon="hourglass_top",
        )
        st.button("Look again", icon=":material/refresh:", shortcut="N")
        return
    closed = given["reason"] == "closed"
    components.empty(
        "This review is closed" if closed else "Nothing left for you",
        "What people said is under Result." if closed else "Thank you. What others still judge does not wait for you.",
        icon="task_alt",
    )
    with st.container(horizontal=True, gap="small"):
        if st.button("See the result", type="primary", icon=":material/bar_chart:", shortcut="Enter"):
            st.session_state["tab"] = "Result"
            st.rerun()
        if not closed and given["progress"]["judged"]:
            st.button(
                "Undo", key="undo-last", icon=":material/undo:", shortcut="U", on_click=_undo,
                args=(review["id"], given["reviewer"]),
            )  # fmt: skip


# --- what a key does ---


def _current(draft_id: str) -> Json | None:
    """The draft a key was pressed on; None when the key came late and another task is shown by now."""
    draft: Json | None = st.session_state.get(_DRAFT)
    return draft if draft is not None and draft["id"] == draft_id else None


def _say(review_id: str, reviewer: str, draft_id: str, answer: str, reason: str | None = None) -> None:
    draft = _current(draft_id)
    if draft is None:
        return
    reasons = [reason] if reason else draft["reasons"]
    comment = (st.session_state.get(f"comment-{draft_id}") or "").strip() or None
    said = partial(data.judge, review_id, draft["task"], answer, judgement_id=draft_id, reviewer=reviewer)
    _try(partial(said, reasons=reasons, comment=comment))


def _undo(review_id: str, reviewer: str) -> None:
    _try(partial(data.undo_judgement, review_id, reviewer))


def _try(call: Any) -> None:
    try:
        call()
    except ApiError as refused:
        st.session_state[_FAULT] = refused.message
        return
    st.session_state.pop(_DRAFT, None)


def _toggle(draft_id: str, reason: str) -> None:
    if (draft := _current(draft_id)) is not None:
        (draft["reasons"].remove if reason in draft["reasons"] else draft["reasons"].append)(reason)


def _skip(draft_id: str, skipping: bool) -> None:
    if (draft := _current(draft_id)) is not None:
        draft["skipping"] = skipping


def _diff() -> None:
    st.session_state[_DIFF] = not st.session_state.get(_DIFF)


# --- how reviews are called ---


def title(review: Json) -> str:
    return review["name"] if review["version"] == 1 else f"{review['name']} v{review['version']}"


def state(review: Json) -> str:
    return "open" if review["closed_at"] is None else "closed"


def question(review: Json) -> str:
    """What reviewers are asked, in a sentence."""
    asked = "Is it good or bad?" if review["kind"] == "rating" else "Which of the two is better?"
    n = formats.plural(review["n_items"], "item")
    overlap = review["definition"]["overlap"]
    each = "" if overlap == 1 else f", each judged by {overlap}"
    return f"{asked} {n} of {review['suite']['name']} v{review['suite']['version']}{each}. Models are not named."
