"""Tables of items: what was asked, what was expected, what was answered, with the difference marked."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import components, formats
from dashboard.components import Cell, text_cell

Json = dict[str, Any]
LONGEST = 1200
FEW_WORDS = 8


def expected(item: Json) -> str | None:
    """The label, or the references joined."""
    if item.get("label") is not None:
        return str(item["label"])
    references = item.get("references") or []
    return " ⏐ ".join(references) or None


def marked(reference: str | None, output: str | None, longest: int = LONGEST) -> str:
    """An output as HTML, up to its `longest` characters, with the words the reference does not have marked.

    A long output that shares no word with its reference is left as it is: all of it would be marked.
    """
    if output is None:
        return '<span class="ts-dim">no output</span>'
    text = output[:longest]
    if reference is None or reference == output:
        return html.escape(text)
    wanted, got = re.split(r"(\s+)", reference), re.split(r"(\s+)", text)
    if len(got) > FEW_WORDS and not set(reference.split()) & set(text.split()):
        return html.escape(text)
    parts: list[str] = []
    for operation, _, _, start, end in difflib.SequenceMatcher(None, wanted, got, autojunk=False).get_opcodes():
        piece = html.escape("".join(got[start:end]))
        if piece:
            parts.append(piece if operation == "equal" else f'<del class="ts-diff">{piece}</del>')
    return "".join(parts) + ("…" if len(output) > longest else "")


def answers(items: Sequence[Json]) -> None:
    """Items of one evaluation: input, reference, output, right or wrong."""
    rows: list[list[str | Cell]] = [
        [
            text_cell(item["id"], "ts-mono"),
            text_cell(item["input"][:LONGEST], "text"),
            text_cell(expected(item) or formats.NONE, "text"),
            Cell(marked(expected(item), item["output"]), "text"),
            Cell(_right(item)),
            text_cell(item["group"] or formats.NONE),
        ]
        for item in items
    ]
    components.table(["Item", "Input", "Reference", "Output", "", "Group"], rows)


def _right(item: Json) -> str:
    if item.get("correct") is None:
        scores = item.get("scores") or {}
        return "<br>".join(
            f'<span class="ts-dim">{html.escape(name)}</span> {value:.2f}' for name, value in scores.items()
        )
    judged = any(name.startswith("human_") for name in item.get("scores") or {})
    if item["correct"]:
        word = "good" if judged else "right"
        return f'<span class="ts-chip ts-green"><span class="ts-icon">check</span>{word}</span>'
    word = (
        "bad"
        if judged
        else "no answer"
        if item["output"] is None
        else "unparsed"
        if item.get("parsed") is None
        else "wrong"
    )
    return f'<span class="ts-chip ts-red"><span class="ts-icon">close</span>{word}</span>'


def flips(items: Sequence[Json], *, before: str, after: str, names: tuple[str, str]) -> None:
    """Items that changed sides between two models: both outputs under the input, the wrong one marked."""
    st.html(f'<div class="ts-items">{"".join(_flip(item, before, after, names) for item in items)}</div>')


def _flip(item: Json, before: str, after: str, names: tuple[str, str]) -> str:
    reference = expected(item)
    rows = [("expected", html.escape(reference or formats.NONE))]
    rows += [(name, marked(reference, item[key])) for name, key in zip(names, (before, after), strict=True)]
    group = f' <span class="ts-tag">{html.escape(item["group"])}</span>' if item.get("group") else ""
    cells = "".join(f"<span>{html.escape(name)}</span><span>{markup}</span>" for name, markup in rows)
    return f'<div class="ts-item"><p>{html.escape(item["input"][:LONGEST])}{group}</p><div>{cells}</div></div>'
