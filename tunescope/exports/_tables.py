"""The tables of an export and the three formats they are written in."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import msgspec

from tunescope._client import Json

__all__ = [
    "ARTIFACTS",
    "CONSOLE",
    "EVALUATIONS",
    "MEDIA",
    "METRICS",
    "PREDICTIONS",
    "RUNS",
    "SUFFIX",
    "SUITES",
    "SUITE_ITEMS",
    "Columns",
    "Format",
    "Table",
    "open_table",
]

Format = Literal["parquet", "csv", "json"]
Kind = Literal["text", "int", "float", "json"]
Columns = dict[str, Kind]

SUFFIX: dict[Format, str] = {"parquet": "parquet", "csv": "csv", "json": "jsonl"}
ROWS_A_GROUP = 250_000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")

METRICS: Columns = {
    "run_id": "text",
    "key": "text",
    "rank": "int",
    "segment": "int",
    "step": "int",
    "time": "float",
    "value": "float",
}
RUNS: Columns = {
    "id": "text",
    "project": "text",
    "name": "text",
    "status": "text",
    "group": "text",
    "parent_run_id": "text",
    "notes": "text",
    "config": "json",
    "tags": "json",
    "environment": "json",
    "data_hash": "text",
    "created_at": "float",
    "heartbeat_at": "float",
    "finished_at": "float",
    "exit_code": "int",
    "error": "text",
    "points_stored": "int",
    "points_sent": "int",
    "points": "int",
    "metrics": "json",
}
EVALUATIONS: Columns = {
    "evaluation_id": "text",
    "run_id": "text",
    "model_version_id": "text",
    "suite_id": "text",
    "suite": "text",
    "suite_version": "int",
    "suite_hash": "text",
    "task_type": "text",
    "name": "text",
    "step": "int",
    "created_at": "float",
    "prediction_hash": "text",
    "items": "int",
    "items_missing": "int",
    "items_unparsed": "int",
    "settings": "json",
    "metric": "text",
    "value": "float",
    "low": "float",
    "high": "float",
    "confidence": "float",
    "n": "int",
    "n_missing": "int",
    "method": "text",
    "seed": "int",
    "signature": "text",
    "reason": "text",
}
SUITES: Columns = {
    "hash": "text",
    "name": "text",
    "version": "int",
    "task_type": "text",
    "definition": "json",
    "created_at": "float",
}
SUITE_ITEMS: Columns = {
    "suite": "text",
    "suite_hash": "text",
    "id": "text",
    "input": "text",
    "label": "text",
    "references": "json",
    "group": "text",
    "tags": "json",
    "labels": "json",
}
PREDICTIONS: Columns = {
    "evaluation_id": "text",
    "id": "text",
    "output": "text",
    "parsed": "text",
    "probability": "float",
    "label_scores": "json",
    "predicted_labels": "json",
    "nll": "float",
    "n_tokens": "int",
    "n_bytes": "int",
    "n_samples": "int",
    "n_correct": "int",
}
CONSOLE: Columns = {
    "run_id": "text",
    "rank": "int",
    "time": "float",
    "stream": "text",
    "text": "text",
}
ARTIFACTS: Columns = {
    "run_id": "text",
    "path": "text",
    "kind": "text",
    "sha256": "text",
    "size": "int",
    "created_at": "float",
}
MEDIA: Columns = {
    "run_id": "text",
    "key": "text",
    "step": "int",
    "rank": "int",
    "position": "int",
    "time": "float",
    "kind": "text",
    "caption": "text",
    "content_type": "text",
    "sha256": "text",
    "size": "int",
    "details": "json",
    "file": "text",
}


class Table(Protocol):
    """A table being written; a context manager."""

    def write(self, rows: Sequence[Json]) -> None: ...

    def write_arrow(self, table: Any) -> None: ...

    def __enter__(self) -> Table: ...

    def __exit__(self, *_: object) -> None: ...


def open_table(file: Path, columns: Columns, format: Format) -> Table:
    tables: dict[Format, Callable[[Path, Columns], Table]] = {
        "parquet": ParquetTable,
        "csv": CsvTable,
        "json": JsonTable,
    }
    return tables[format](file, columns)


class ParquetTable:
    """Row groups of about a quarter of a million rows. Nested values are JSON text."""

    def __init__(self, file: Path, columns: Columns) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        kinds = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "json": pa.string()}
        self._arrow = pa
        self._columns = columns
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Any] = []
        self._size = 0

    def write(self, rows: Sequence[Json]) -> None:
        plain = [{name: _as_text(row[name], kind) for name, kind in self._columns.items()} for row in rows]
        self.write_arrow(self._arrow.Table.from_pylist(plain, self._schema))

    def write_arrow(self, table: Any) -> None:
        self._waiting.append(table.cast(self._schema))
        self._size += table.num_rows
        if self._size >= ROWS_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._size:
            self._writer.write_table(self._arrow.concat_tables(self._waiting), row_group_size=ROWS_A_GROUP)
        self._waiting, self._size = [], 0

    def __enter__(self) -> ParquetTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()


class CsvTable:
    """Text cells never begin with what a spreadsheet takes for a formula: such a cell, and an empty one, is written
    behind an apostrophe. An empty cell without one is a missing value. Nested values are JSON text."""

    def __init__(self, file: Path, columns: Columns) -> None:
        self._columns = columns
        self._file: IO[str] = file.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Json]) -> None:
        for row in rows:
            values = ((_as_text(row[name], kind), kind) for name, kind in self._columns.items())
            self._writer.writerow([_cell(value) if kind in ("text", "json") else value for value, kind in values])

    def write_arrow(self, table: Any) -> None:
        columns = [table.column(name).to_pylist() for name in self._columns]
        for place, kind in enumerate(self._columns.values()):
            if kind == "text":
                columns[place] = [_cell(value) for value in columns[place]]
        self._writer.writerows(zip(*columns, strict=True))

    def __enter__(self) -> CsvTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class JsonTable:
    """One object a line."""

    def __init__(self, file: Path, columns: Columns) -> None:
        self._columns = columns
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] = file.open("wb")

    def write(self, rows: Sequence[Json]) -> None:
        self._file.writelines(
            self._encoder.encode({name: _named(row[name]) for name in self._columns}) + b"\n" for row in rows
        )

    def write_arrow(self, table: Any) -> None:
        for batch in table.to_batches(max_chunksize=ROWS_A_GROUP // 10):
            self.write(batch.to_pylist())

    def __enter__(self) -> JsonTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _as_text(value: Any, kind: Kind) -> Any:
    return msgspec.json.encode(value).decode() if kind == "json" and value is not None else value


def _cell(text: str | None) -> str | None:
    return f"'{text}" if text is not None and (not text or text.startswith(FORMULA)) else text


def _named(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
