"""Records of data files: rows of CSV, JSONL, JSON or Parquet as mappings from column to value."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunescope._exceptions import TunescopeError

Record = Mapping[str, Any]


class RecordsError(TunescopeError):
    """A data file is not there, or a row of it cannot be read."""


def read_records(path: Path) -> list[Record]:
    """The records of a file, by its ending.

    Raises `RecordsError` for a path that is not there, an unknown ending, an unreadable row or a file without rows.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RecordsError(f"{path}: cannot tell the format from {path.suffix!r}; one of {', '.join(readers)} is read.")
    try:
        records = reader(path)
    except FileNotFoundError as error:
        raise RecordsError(f"{path}: there is no such file (looked in {path.absolute().parent}).") from error
    except UnicodeDecodeError as error:
        raise RecordsError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8.") from error
    except OSError as error:
        raise RecordsError(f"{path}: {str(error).splitlines()[0]}.") from error
    if not records:
        raise RecordsError(f"{path}: the file has no rows.")
    return records


def _csv(path: Path) -> list[Record]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            rows: list[Record] = list(reader)
        except csv.Error as error:
            raise RecordsError(f"{path}, line {reader.reader.line_num}: {error}.") from error
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise RecordsError(f"{path}, row {number}: has more or fewer cells than the header.")
    return rows


def _jsonl(path: Path) -> list[Record]:
    records: list[Record] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise RecordsError(f"{path}, line {number}: not JSON ({error.msg}).") from error
            if not isinstance(record, dict):
                raise RecordsError(f"{path}, line {number}: a record is a JSON object, in braces.")
            records.append(record)
    return records


def _json(path: Path) -> list[Record]:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise RecordsError(f"{path}: a JSON file of data is a list of objects.")
    return content


def _parquet(path: Path) -> list[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise RecordsError(f"{path}: Parquet files are read with pyarrow: pip install pyarrow.") from error
    try:
        records: list[Record] = pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise RecordsError(f"{path}: {str(error).splitlines()[0]}.") from error
    return records


def write_records(path: Path, records: Sequence[Record], like: Path) -> None:
    """Write records in the format of the file they were read from: values as they were, columns in their order."""
    if like.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(like)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records), schema=schema), path)
    elif like.suffix.lower() == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
    elif like.suffix.lower() == ".json":
        path.write_text(json.dumps(list(records), ensure_ascii=False, indent=1) + "\n", "utf-8")
    else:
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")


def fingerprint(*tables: Iterable[Record]) -> str:
    """SHA-256 of the records in their order: which data a run saw, whatever the file was called."""
    digest = hashlib.sha256()
    for table in tables:
        for record in table:
            digest.update(json.dumps(record, sort_keys=True, ensure_ascii=False, default=str).encode())
            digest.update(b"\n")
        digest.update(b"\0")
    return digest.hexdigest()
