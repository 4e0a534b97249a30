"""Records of a data file as items: what a model is given, what it is to answer, what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tunescope._records import Record, RecordsError

TEXTS = ("text", "input", "prompt", "question", "instruction", "sentence", "query")
LABELS = ("label", "category", "intent", "class", "labels")
ANSWERS = ("answer", "output", "completion", "response", "target", "reference")


class Columns(NamedTuple):
    """Which column holds what; None: the first known name that the file has."""

    text: str | None = None
    label: str | None = None
    answer: str | None = None
    group: str | None = None
    tags: str | None = None


def items(path: Path, records: Sequence[Record], asked: Columns) -> list[dict[str, Any]]:
    """An item a record, in their order. Its id is the record's own `id` where every record has one of its own, else the
    number of its row. Chats (a column `messages`) are asked all but their last message, which is the answer.

    Raises `RecordsError` for a column that is not there, or a row without a text.
    """
    columns = _found(path, records, asked)
    named = [str(record.get("id", "")) for record in records]
    own = all(named) and len(set(named)) == len(named)
    return [
        {"id": named[row] if own else f"{row + 1:06d}", **_item(path, row, record, columns)}
        for row, record in enumerate(records)
    ]


def _found(path: Path, records: Sequence[Record], asked: Columns) -> Columns:
    known = records[0]
    for option, name in asked._asdict().items():
        if name is not None and name not in known:
            columns = ", ".join(map(repr, known))
            raise RecordsError(f"{path}: no column {name!r} (--{option}-column); there are {columns}.")
    text = asked.text or next((name for name in (*TEXTS, "messages") if name in known), None)
    if text is None:
        columns = ", ".join(map(repr, known))
        raise RecordsError(f"{path}: which column is the text? Say --text-column; there are {columns}.")
    label = asked.label or (None if asked.answer else next((name for name in LABELS if name in known), None))
    answer = asked.answer or next((name for name in ANSWERS if name in known and name != text), None)
    return Columns(text, label, answer, asked.group, asked.tags)


def _item(path: Path, row: int, record: Record, columns: Columns) -> dict[str, Any]:
    text = record.get(columns.text)  # type: ignore[arg-type]
    if isinstance(text, list):
        return _chat(path, row, text) | _beside(record, columns)
    item: dict[str, Any] = {"input": _text(path, row, columns.text, text)}
    if columns.label is not None and record.get(columns.label) not in (None, ""):
        item |= _labels(path, row, columns.label, record[columns.label])
    if columns.answer is not None and record.get(columns.answer) is not None:
        item["references"] = [_text(path, row, columns.answer, record[columns.answer])]
    return item | _beside(record, columns)


def _labels(path: Path, row: int, column: str, value: Any) -> dict[str, Any]:
    """One label; or several, as a list or, in a column named `labels`, as a JSON list in a text (from CSV)."""
    if column == "labels" and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise RecordsError(f"{path}, row {row + 1}: {column!r} looks like a JSON list: {error}.") from None
    if isinstance(value, list):
        return {"labels": [_text(path, row, column, one) for one in value]}
    return {"label": _text(path, row, column, value)}


def _chat(path: Path, row: int, messages: list[Any]) -> dict[str, Any]:
    contents: list[Any] = [message.get("content") for message in messages if isinstance(message, dict)]
    if len(contents) < 2 or len(contents) < len(messages) or not all(isinstance(one, str) for one in contents):
        raise RecordsError(f"{path}, row {row + 1}: a chat is a list of at least two messages with a text `content`.")
    return {"input": "\n".join(contents[:-1]), "references": [contents[-1]]}


def _beside(record: Record, columns: Columns) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if columns.group is not None and record.get(columns.group) not in (None, ""):
        item["group"] = str(record[columns.group])
    if columns.tags is not None and record.get(columns.tags) not in (None, ""):
        tags = record[columns.tags]
        item["tags"] = [str(tag) for tag in tags] if isinstance(tags, list) else [str(tags)]
    return item


def _text(path: Path, row: int, column: str | None, value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        what = "is empty" if value is None else "is not a text"
        raise RecordsError(f"{path}, row {row + 1}: column {column!r} {what}.")
    return str(value)
