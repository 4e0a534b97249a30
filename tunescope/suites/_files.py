"""Records out of files and objects: each with its row, counted from 1."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunescope._exceptions import TunescopeError

Json = dict[str, Any]
Record = Mapping[str, Any]
MOST_FIELD_CHARACTERS = 10_000_000


class UnreadableFile(TunescopeError):
    """A file that is not what its name says, or a row of it that is not a record."""


def records(source: Any) -> Iterator[Record]:
    """The records of a path, an iterable of records, a dictionary of columns, or a dataset."""
    if isinstance(source, str | Path):
        return _of_file(Path(source))
    if isinstance(source, Mapping):
        return _of_columns(source)
    if names := _class_names(source):
        return _with_names(source, names)
    return iter(source)


def _of_file(path: Path) -> Iterator[Record]:
    readers = {
        ".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UnreadableFile(f"{path}: the ending says what a file is: one of {', '.join(readers)}.")
    if not path.is_file():
        raise UnreadableFile(f"{path}: there is no such file.")
    return reader(path)


def _csv(path: Path) -> Iterator[Record]:
    csv.field_size_limit(MOST_FIELD_CHARACTERS)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            if len(set(header)) < len(header):
                raise UnreadableFile(f"{path}: the first line names a column twice.")
            for number, row in enumerate(rows, start=1):
                if not row:
                    continue
                if len(row) != len(header):
                    raise UnreadableFile(
                        f"{path}, row {number:,} (line {rows.line_num:,}): {len(row)} fields, but the first line names "
                        f"{len(header)} columns."
                    )
                # An empty field is one that the row does not have.
                yield {name: field for name, field in zip(header, row, strict=True) if field}
        except (csv.Error, UnicodeDecodeError) as error:
            raise UnreadableFile(f"{path}, line {rows.line_num + 1:,}: {error}.") from None


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                yield msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UnreadableFile(f"{path}, line {number:,}: not JSON ({error}).") from None


def _json(path: Path) -> Iterator[Record]:
    try:
        whole = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: not JSON ({error}). One object a line is a .jsonl file.") from None
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        whole = whole["data"]
    if not isinstance(whole, list | dict):
        raise UnreadableFile(f"{path}: a list of records or a dictionary of columns is expected.")
    yield from records(whole)


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow as pa  # not among the client's requirements
        import pyarrow.parquet as pq
    except ImportError:
        raise UnreadableFile(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from None
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=10_000):
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise UnreadableFile(f"{path}: not readable as Parquet ({error}).") from None


def _of_columns(columns: Mapping[str, Any]) -> Iterator[Record]:
    """A dictionary of columns of one length. (A `DatasetDict` is one of splits.)"""
    if any(hasattr(column, "column_names") for column in columns.values()):
        raise UnreadableFile(f"This dataset has splits: choose one of {', '.join(map(str, columns))}.")
    for name, column in columns.items():
        if isinstance(column, str) or not isinstance(column, Iterable):
            raise UnreadableFile(
                f"The column '{name}' is {type(column).__name__}, not a list with a value for each row."
            )
    values = {name: list(column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        _refuse_lengths(values, lengths)
    names = list(values)
    yield from (dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True))


def _refuse_lengths(values: Mapping[str, Sequence[Any]], lengths: Mapping[str, int]) -> None:
    rows = max(length for name, length in lengths.items() if name != "references")
    references = values.get("references", ())
    if references and len(references) != rows and all(isinstance(one, list) and len(one) == rows for one in references):
        raise UnreadableFile(
            f"`references` is transposed: {len(references):,} lists of {rows:,} texts, one for each set of references. "
            "Give each row the list of its own: list(zip(*references))."
        )
    told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
    raise UnreadableFile(
        f"The columns are of different lengths: {told}. Row {min(lengths.values()) + 1:,} is not whole."
    )


def _class_names(source: Any) -> dict[str, Sequence[str]]:
    """Of a Hugging Face dataset: the names of its label columns, which hold numbers."""
    features = getattr(source, "features", None)
    if not isinstance(features, Mapping):
        return {}
    found = {name: _names(feature) or _names(getattr(feature, "feature", None)) for name, feature in features.items()}
    return {name: names for name, names in found.items() if names}


def _names(feature: Any) -> list[str] | None:
    names = getattr(feature, "names", None)
    return names if isinstance(names, list) else None


def _with_names(source: Iterable[Record], names: Mapping[str, Sequence[str]]) -> Iterator[Record]:
    for record in source:
        yield {**record, **{name: _named(record[name], known) for name, known in names.items()}}


def _named(code: Any, names: Sequence[str]) -> Any:
    """The name of a label's number, or of each in a list. -1 is what data sets write where the label is not told."""
    if isinstance(code, list | tuple):
        return [names[one] for one in code]
    return names[code] if code >= 0 else None
