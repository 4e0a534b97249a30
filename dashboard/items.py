"""Tables of items: what was asked, what was expected, what was answered, with the difference marked."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence
from typing import Any

from dashboard import components, formats
from dashboard.components import Cell, text_cell

Json = dict[str, Any]
LONGEST = 1200


def expected(item: Json) -> str | None:
    """The label, or the references joined."""
    if item.get("label") is not None:
        return str(item["label"])
    references = item.get("references") or []
    return " ⏐ ".join(references) or None


def marked(reference: str | None, output: str | None) -> str:
    """An output as HTML, with the words the reference does not have marked. Nothing produced says so."""
    if output is None:
        return '<span class="ts-dim">no output</span>'
    text = output[:LONGEST]
    if reference is None or reference == output:
        return html.escape(text)
    wanted, got = re.split(r"(\s+)", reference), re.split(r"(\s+)", text)
    parts: list[str] = []
    for operation, _, _, start, end in difflib.SequenceMatcher(None, wanted, got, autojunk=False).get_opcodes():
        piece = html.escape("".join(got[start:end]))
        if piece:
            parts.append(piece if operation == "equal" else f'<del class="ts-diff">{piece}</del>')
    return "".join(parts) + ("…" if len(output) > LONGEST else "")


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
    if item["correct"]:
        return '<span class="ts-chip ts-green"><span class="ts-icon">check</span>right</span>'
    word = "no answer" if item["output"] is None else "unparsed" if item.get("parsed") is None else "wrong"
    return f'<span class="ts-chip ts-red"><span class="ts-icon">close</span>{word}</span>'


def flips(items: Sequence[Json], *, before: str, after: str, names: tuple[str, str]) -> None:
    """Items that changed sides between two models: both outputs beside the reference."""
    rows: list[list[str | Cell]] = [
        [
            text_cell(item["input"][:LONGEST], "text"),
            text_cell(expected(item) or formats.NONE, "text"),
            Cell(marked(expected(item), item[before]), "text"),
            Cell(marked(expected(item), item[after]), "text"),
        ]
        for item in items
    ]
    components.table(["Input", "Reference", *names], rows)
