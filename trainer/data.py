"""Records read from files, checked row by row, and turned into token ids.

A `Record` is a mapping from column to value. What a model trains on is an `Example`: token ids, and labels of the same
length (causal LM, -100 where no loss falls) or one class number (classification).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from trainer.config import DataConfig
from trainer.errors import DataError
from tunescope import _records
from tunescope._records import Record

NO_LOSS = -100


Tokenizer = Any
"""A Transformers tokenizer (the library ships no types)."""


class Example(TypedDict):
    input_ids: list[int]
    labels: list[int] | int


class Table(NamedTuple):
    """The records of a file, and where they came from, for messages about them."""

    path: Path
    records: Sequence[Record]

    def column(self, name: str, setting: str) -> list[str]:
        """The texts of a column. Raises `DataError` if it is not there, or a row has nothing in it."""
        return [self.cell(row, name, setting) for row in range(len(self.records))]

    def cell(self, row: int, name: str, setting: str) -> str:
        record = self.records[row]
        if name not in record:
            columns = ", ".join(map(repr, sorted(record))) or "none"
            raise DataError(f"{self.path}, row {row + 1}: no column {name!r} ({setting}); there are {columns}.")
        value = record[name]
        if value is None or isinstance(value, dict | list) or not str(value).strip():
            what = "is empty" if value is None or value == "" or isinstance(value, str) else "is not a text"
            raise DataError(f"{self.path}, row {row + 1}: column {name!r} {what}.")
        return str(value)


def read_table(path: Path) -> Table:
    """The records of a CSV, JSONL, JSON or Parquet file, by its ending.

    Raises `DataError` for a path that is not there, an unknown ending, an unreadable row or a file without rows.
    """
    try:
        return Table(path, _records.read_records(path))
    except _records.RecordsError as error:
        raise DataError(str(error)) from error


def locate(data: DataConfig, path: str) -> Path:
    return Path(data.folder).expanduser() / Path(path).expanduser()


def fingerprint(*tables: Table) -> str:
    """SHA-256 of the records in their order: which data a run saw, whatever the file was called."""
    return _records.fingerprint(*(table.records for table in tables))


def draw(table: Table, limit: int | None, seed: int) -> Table:
    """`limit` records at random, in the file's order: the head of a file sorted by label would hold few labels."""
    if limit is None or limit >= len(table.records):
        return table
    kept = sorted(random.Random(seed).sample(range(len(table.records)), limit))
    return Table(table.path, [table.records[row] for row in kept])


def split(table: Table, share: float, seed: int) -> tuple[Table, Table]:
    """The table without `share` of its rows, and those rows. Raises `DataError` if either would be empty."""
    count = round(share * len(table.records))
    if not 0 < count < len(table.records):
        raise DataError(
            f"{table.path}: data.validation = {share} of {len(table.records)} rows leaves nothing on one side."
        )
    held = set(random.Random(seed).sample(range(len(table.records)), count))
    rest = [record for row, record in enumerate(table.records) if row not in held]
    return Table(table.path, rest), Table(table.path, [table.records[row] for row in sorted(held)])


def label_set(table: Table, column: str) -> list[str]:
    """The labels in sorted order: their position is the class number. Raises `DataError` for fewer than two."""
    labels = sorted(set(table.column(column, "data.label")))
    if len(labels) < 2:
        raise DataError(f"{table.path}: column {column!r} holds one label only ({labels[0]!r}); two are needed.")
    return labels


def labels_of(table: Table, column: str, known: Sequence[str]) -> list[str]:
    """The labels of a table. Raises `DataError` naming the first row whose label training does not know."""
    labels = table.column(column, "data.label")
    unseen = set(labels) - set(known)
    if unseen:
        row = next(row for row, label in enumerate(labels) if label in unseen)
        others = f" ({len(unseen)} such labels)" if len(unseen) > 1 else ""
        raise DataError(f"{table.path}, row {row + 1}: label {labels[row]!r} is not in the training data{others}.")
    return labels


def encode_classes(
    texts: Sequence[str], labels: Sequence[str], known: Sequence[str], tokenizer: Tokenizer, max_length: int
) -> list[Example]:
    number = {label: position for position, label in enumerate(known)}
    ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return [Example(input_ids=list(row), labels=number[label]) for row, label in zip(ids, labels, strict=True)]


def prompt_ids(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """A prompt's tokens as generation and training both see them: whatever opens a text, nothing that closes it."""
    ids = list(tokenizer(prompt)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id != tokenizer.bos_token_id:
        ids.pop()
    return ids


def encode_answers(table: Table, data: DataConfig, tokenizer: Tokenizer) -> list[Example]:
    """Causal LM: prompt and answer with the loss on the answer alone; a row with `data.text` is modelled whole.

    Raises `DataError` for a row with neither, or an answer longer than `data.max_length`.
    """
    examples = []
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for row, record in enumerate(table.records):
        if data.prompt in record and data.answer in record and record[data.prompt] is not None:
            prompt = data.template.replace("{input}", table.cell(row, data.prompt, "data.prompt"))
            question = prompt_ids(prompt, tokenizer)
            answer = tokenizer(table.cell(row, data.answer, "data.answer"), add_special_tokens=False)["input_ids"] + end
            if len(answer) >= data.max_length:
                raise DataError(
                    f"{table.path}, row {row + 1}: an answer of {len(answer)} tokens, over data.max_length."
                )
            question = question[-(data.max_length - len(answer)) :]
            examples.append(Example(input_ids=question + answer, labels=[NO_LOSS] * len(question) + answer))
        elif data.text in record:
            ids = (prompt_ids(table.cell(row, data.text, "data.text"), tokenizer) + end)[: data.max_length]
            examples.append(Example(input_ids=ids, labels=list(ids)))
        else:
            columns = ", ".join(map(repr, sorted(record))) or "none"
            wanted = f"{data.prompt!r} and {data.answer!r}, or {data.text!r}"
            raise DataError(f"{table.path}, row {row + 1}: no columns {wanted}; there are {columns}.")
    return examples
