"""The search language to a person: how to write a question, and where one that cannot be read went wrong."""

from __future__ import annotations

from typing import Any

import streamlit as st

from tunescope import ApiError

EXAMPLES = (
    ("metrics.eval/loss < 0.4", "the last value; also `.min`, `.max`, `.mean`, `.best`"),
    ("params.method = lora and params.lr <= 2e-4", "settings by their path; numbers compare as numbers"),
    ('tags.team = "nlp" or group ilike "%rank%"', "tags, the group; `%` stands for anything"),
    ("status in (failed, crashed)", "running, silent, finished, failed, crashed, killed, scheduled"),
    ('not (name like "try-%")', "brackets, and, or, not"),
    ("metrics.f1 is not null order by metrics.f1 desc", "what has a value, the best first"),
    ("metrics.`eval loss` > 1", "a key with other signs goes in back-ticks"),
)


def guide() -> None:
    """The language by examples, and its words."""
    for question, said in EXAMPLES:
        st.markdown(f"`` {question} ``  \n:small[:gray[{said}]]" if "`" in question else
                    f"`{question}`  \n:small[:gray[{said}]]")  # fmt: skip
    st.caption(
        "Fields: metrics.KEY, params.KEY, tags.KEY, status, name, group, id, parent, created, finished. "
        "Signs: = != < <= > >=, like, ilike, in (…), is null, is not null."
    )


def fault(refused: ApiError, query: str) -> None:
    """What cannot be read of a question, and where: the place is pointed at."""
    st.error(refused.message, icon=":material/manage_search:")
    at = place(refused)
    if at is not None:
        st.code(pointed(query, at), language=None)


def place(refused: ApiError) -> int | None:
    """The place the service names, counted from 0."""
    details: Any = refused.details
    at = details.get("position") if isinstance(details, dict) else None
    return at if isinstance(at, int) else None


def pointed(query: str, at: int) -> str:
    """The question with an arrow under the place. Line ends and tabs become blanks, so that it stands there."""
    flat = "".join(" " if letter in "\n\r\t" else letter for letter in query)
    return f"{flat}\n{' ' * min(at, len(flat))}↑"
