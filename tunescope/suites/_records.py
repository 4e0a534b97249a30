"""What a record becomes: an item of a suite, or a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunescope._exceptions import TunescopeError
from tunescope.suites._files import Json, Record, records

ITEM = ("id", "input", "label", "labels", "references", "group", "tags")
COUNTS = ("n_tokens", "n_bytes", "n_samples", "n_correct")
PREDICTION = ("id", "output", "parsed", "probability", "label_scores", "predicted_labels", "nll", *COUNTS)
LABEL_TASKS = frozenset({"classification", "multiple_choice"})


class RowError(TunescopeError):
    """A record that cannot be used. `row` counts from 1; `item` is its id, where it has one."""

    def __init__(self, source: str, row: int, item: object, what: str) -> None:
        named = f" (item '{item}')" if item is not None else ""
        super().__init__(f"{source}row {row:,}{named}: {what}")
        self.row = row
        self.item = item


def are_rows(source: Any, fields: Sequence[str]) -> bool:
    """Are these rows already what the service takes? The first one tells."""
    if not isinstance(source, list | tuple):
        return False
    first = source[0] if source else {"id": ""}
    return isinstance(first, Mapping) and "id" in first and first.keys() <= set(fields)


def items(source: Any, *, task_type: str, columns: Mapping[str, str] | None = None) -> Iterator[Json]:
    """The items of a suite.

    A record has `input`, and `label`, `labels` (multi-label), `references` (or one `reference`), `group`, `tags`, `id`
    where it has them. Or it is a chat: `messages` as OpenAI has them, the last one, of the assistant, being the
    reference. Or it has `input` and `output`, the answer wanted. `columns` says what else the fields are called:
    `{"text": "input"}`; columns that are no field are left out. A record without an id is called by its row.
    """
    return _each(source, columns, lambda record: _item(record, task_type))


def predictions(source: Any, *, columns: Mapping[str, str] | None = None) -> Iterator[Json]:
    """The predictions of an evaluation: records with `id`, `output` and, where they have them, `parsed`, `probability`.

    Beside the output or instead of it, what the suite's metrics read: `label_scores` ({label: number}, or what a text
    classification pipeline of Transformers gives with `top_k=None`), `predicted_labels` (a list), `nll` with `n_tokens`
    and `n_bytes`, `n_samples` with `n_correct`. In CSV the first two are JSON.

    Without ids they are the answers to the items of the same rows, where those have none either.
    """
    return _each(source, columns, _prediction)


class _Fault(ValueError):
    pass


def _each(source: Any, columns: Mapping[str, str] | None, read: Callable[[Json], Json]) -> Iterator[Json]:
    place = f"{source}, " if isinstance(source, str | Path) else ""
    for row, record in enumerate(records(source), start=1):
        item: object = None
        try:
            if not isinstance(record, Mapping):
                raise _Fault(f"a record with named fields is expected, not {type(record).__name__}.")
            named = _renamed(record, columns or {})
            item = named.get("id")
            made = read(named)
            made["id"] = str(row) if item is None else _text(item, "id")
        except _Fault as fault:
            raise RowError(place, row, item, str(fault)) from None
        yield made


def _renamed(record: Record, columns: Mapping[str, str]) -> Json:
    absent = [name for name in columns if name not in record]
    if absent and len(absent) == len(columns):
        raise _Fault(f"there is no column '{absent[0]}'. It has: {', '.join(map(str, record))}.")
    renamed = {columns.get(name, name): value for name, value in record.items() if name not in columns.values()}
    return {name: value for name, value in renamed.items() if value is not None}


def _item(record: Json, task_type: str) -> Json:
    if "messages" in record and "input" not in record:
        record = {**record, **_chat(record["messages"])}
    if "input" not in record:
        raise _Fault(f"there is no `input`. It has: {', '.join(record) or 'nothing'}. Say which column it is.")
    made: Json = {"input": _text(record["input"], "input")}
    if "label" in record:
        made["label"] = _label(record["label"], "label")
    if "labels" in record:
        made["labels"] = [_label(one, "labels") for one in _list(record, "labels")]
    if "references" in record or "reference" in record:
        made["references"] = [_text(one, "references") for one in _list(record, "references", "reference")]
    if "output" in record and not made.keys() & {"label", "references"}:
        if task_type in LABEL_TASKS:
            made["label"] = _label(record["output"], "output")
        else:
            made["references"] = [_text(record["output"], "output")]
    if "group" in record:
        made["group"] = _label(record["group"], "group")
    if "tags" in record:
        made["tags"] = [_text(one, "tags") for one in _list(record, "tags")]
    return made


def _prediction(record: Json) -> Json:
    made: Json = {"output": None if "output" not in record else _label(record["output"], "output")}
    if "parsed" in record:
        made["parsed"] = _label(record["parsed"], "parsed")
    for name in ("probability", "nll"):
        if name in record:
            made[name] = _number(record[name], f"`{name}`")
    for name in COUNTS:
        if name in record:
            made[name] = _count(record[name], name)
    if "label_scores" in record:
        made["label_scores"] = _scores(record["label_scores"])
    if "predicted_labels" in record:
        made["predicted_labels"] = [_label(one, "predicted_labels") for one in _list(record, "predicted_labels")]
    return made


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise _Fault(f"{what} is {value!r:.60}, not a number.") from None


def _count(value: Any, field: str) -> int:
    """A whole number, also as text (CSV) or with a point (a column that has gaps)."""
    number = _number(value, f"`{field}`")
    if not number.is_integer():
        raise _Fault(f"`{field}` is {value!r:.60}, not a whole number.")
    return int(number)


def _scores(value: Any) -> dict[str, float]:
    """Scores by label: a mapping, its JSON, or a list of pairs or of {label, score}."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise _Fault(f"`label_scores` is text and not JSON ({error}).") from None
    pairs = list(value.items() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ())
    pairs = [(one["label"], one["score"]) if _is_labelled(one) else one for one in pairs]
    if not pairs or not all(isinstance(one, tuple) and len(one) == 2 for one in pairs):
        raise _Fault(f"`label_scores` is {value!r:.60}: {{label: number}} is expected.")
    # A column of records has every label of the file in each of them.
    pairs = [(_label(label, "label_scores"), score) for label, score in pairs if score is not None]
    if len({label for label, _ in pairs}) < len(pairs):
        raise _Fault("`label_scores` has a label twice.")
    return {label: _number(score, f"`label_scores` of '{label}'") for label, score in pairs}


def _is_labelled(one: Any) -> bool:
    return isinstance(one, Mapping) and one.keys() == {"label", "score"}


def _chat(messages: Any) -> Json:
    """`input` and, where the assistant has the last word, `references` of a conversation."""
    if not isinstance(messages, Iterable) or isinstance(messages, str | Mapping):
        raise _Fault("`messages` is a list of {role, content}.")
    turns = [_turn(number, message) for number, message in enumerate(messages, start=1)]
    if not turns:
        raise _Fault("`messages` is empty.")
    answer = turns.pop() if turns[-1][0] == "assistant" else None
    if not turns:
        raise _Fault("`messages` has an answer but no question.")
    # A single question is its own text; a conversation says who speaks.
    asked = turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role}: {text}" for role, text in turns)
    return {"input": asked, **({} if answer is None else {"references": [answer[1]]})}


def _turn(number: int, message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise _Fault(f"message {number} is not {{role, content}}.")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
            raise _Fault(f"message {number} has a part that is not text.")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise _Fault(f"message {number} has no text.")
    return message["role"], content


def _text(value: Any, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Fault(f"`{field}` is {value!r:.60} ({type(value).__name__}), not text.")
    return str(value)


def _label(value: Any, field: str) -> str:
    if isinstance(value, float):
        raise _Fault(f"`{field}` is {value!r}: a number with a point is not a label or an answer. Write it as text.")
    return _text(value, field)


def _list(record: Json, name: str, single: str | None = None) -> list[Any]:
    """The values of a field that holds several: a list, or (from CSV) text that is a JSON list, or a single value."""
    value = record.get(name, record.get(single) if single else None)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise _Fault(f"`{name}` looks like a JSON list and is none ({error}).") from None
    return list(value) if isinstance(value, list | tuple) else [value]
