"""Tunescope's own exports (`tunescope export`), Parquet, CSV or JSON: back into this or another service.

Runs keep their ids, unless `--project` moves them. Evaluations are not made again: a service scores predictions, and an
export holds scores.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tunescope.exports import ARTIFACTS, LAYOUT, MANIFEST, MEDIA, METRICS, RUNS, SUFFIX, Columns, Format
from tunescope.importers._record import (
    Column,
    ImportedFile,
    ImportedMedium,
    ImportedRun,
    ImportProblem,
    LeftOut,
    Source,
    need,
    number,
)

__all__ = ["read"]

ROWS = 1 << 16
ABOUT = ("key", "step", "rank", "position", "time", "kind", "caption", "content_type", "details")


def read(place: str | None, left_out: LeftOut) -> Source:
    """The runs of an export's folder."""
    folder = Path(place or ".").expanduser()
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ImportProblem(
            f"{folder} is no complete export of Tunescope: {MANIFEST} is not there or not readable."
        ) from error
    if manifest.get("what") != "tunescope export" or manifest.get("layout", 0) > LAYOUT:
        raise ImportProblem(f"{folder} was written by a newer Tunescope ({manifest.get('tunescope')}).")
    if scores := manifest.get("scores"):
        left_out.add("scores of evaluations", "a service scores predictions itself", scores)
    format: Format = manifest["format"]
    csv.field_size_limit(1 << 31)
    return Source(_runs(folder, format, manifest["artifacts"], left_out), manifest["runs"], keeps_ids=True)


def _runs(folder: Path, format: Format, with_files: bool, left_out: LeftOut) -> Iterator[ImportedRun]:
    points = _PointReader(folder / f"metrics.{SUFFIX[format]}", format)
    files: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(folder / f"artifacts.{SUFFIX[format]}", ARTIFACTS, format):
        files.setdefault(row["run_id"], []).append(row)
    media: dict[str, list[dict[str, Any]]] = {}
    if (table := folder / f"media.{SUFFIX[format]}").is_file():  # exports of before there were any have none
        for row in _rows(table, MEDIA, format):
            media.setdefault(row["run_id"], []).append(row)
    for row in _rows(folder / f"runs.{SUFFIX[format]}", RUNS, format):
        listed = files.get(row["id"], [])
        if listed and not with_files:
            left_out.add(f"files of run '{row['name']}'", "the export was made without --artifacts", len(listed))
        shown = media.get(row["id"], [])
        if shown and not with_files:
            left_out.add(f"media of run '{row['name']}'", "the export was made without --artifacts", len(shown))
        run = _run(row, points, _reader(folder, listed if with_files else [], left_out))
        run.media = _media_reader(folder, shown if with_files else [], left_out)
        yield run


def _run(row: dict[str, Any], points: _PointReader, files: Callable[[], Iterator[ImportedFile]]) -> ImportedRun:
    run_id, expected = row["id"], row["points"]
    if row["status"] == "silent":  # nobody will ever hear from this one
        row = {**row, "status": "crashed", "finished_at": row["heartbeat_at"]}
    kept = ("project", "name", "group", "notes", "config", "tags", "environment", "data_hash")
    end = ("created_at", "finished_at", "exit_code", "error")
    return ImportedRun(
        identity=run_id,
        parent=row["parent_run_id"],
        status=row["status"],
        points=lambda: points.of(run_id) if expected else iter(()),
        files=files,
        **{name: row[name] for name in (*kept, *end)},
    )


def _reader(folder: Path, listed: list[dict[str, Any]], left_out: LeftOut) -> Callable[[], Iterator[ImportedFile]]:
    def files() -> Iterator[ImportedFile]:
        for one in listed:
            file = folder / "artifacts" / one["run_id"] / one["path"]
            if file.is_file():
                yield ImportedFile(one["path"], file, one["kind"])
            else:
                left_out.add(f"file '{one['path']}'", "it is not in the export")

    return files


def _media_reader(
    folder: Path, rows: list[dict[str, Any]], left_out: LeftOut
) -> Callable[[], Iterator[ImportedMedium]]:
    sizes: dict[tuple[Any, ...], int] = {}
    for row in rows:
        gallery = row["key"], row["step"], row["rank"]
        sizes[gallery] = max(sizes.get(gallery, 0), row["position"] + 1)

    def media() -> Iterator[ImportedMedium]:
        for row in rows:
            file = folder / row["file"] if row["file"] else None
            if file is None or not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
                left_out.add(f"{row['kind']} '{row['key']}'", "it is not in the export")
                continue
            about = {name: row[name] for name in ABOUT}
            yield ImportedMedium(file, {**about, "of": sizes[row["key"], row["step"], row["rank"]]})

    return media


class _PointReader:
    """Reads the metrics once, from front to back: they lie in the order of the runs."""

    def __init__(self, file: Path, format: Format) -> None:
        columns = {"parquet": _parquet_columns, "csv": _csv_columns, "json": _json_columns}[format](file)
        self._groups = groupby(columns, key=attrgetter("run_id"))

    def of(self, run_id: str) -> Iterator[list[Column]]:
        """Columns of a run; those of runs before it that nobody asked for are passed over."""
        for found, columns in self._groups:
            if found == run_id:
                yield from ([column.column] for column in columns)
                return
        raise ImportProblem(f"The points of run {run_id} are missing from the export.")


class _Piece(NamedTuple):
    """Points of one metric of one rank of a run."""

    run_id: str
    column: Column


def _parquet_columns(file: Path) -> Iterator[_Piece]:
    parquet = need("pyarrow.parquet")
    numpy = need("numpy")
    for batch in parquet.ParquetFile(file).iter_batches(ROWS):
        names = [batch.column(name).dictionary_encode() for name in ("run_id", "key")]
        codes = [name.indices.to_numpy() for name in names]
        has_ranks = "rank" in batch.schema.names
        ranks = batch.column("rank").to_numpy() if has_ranks else numpy.zeros(batch.num_rows, numpy.int64)
        differs = [numpy.diff(column) != 0 for column in (*codes, ranks)]
        changes = numpy.flatnonzero(differs[0] | differs[1] | differs[2]) + 1
        steps, times, values = (batch.column(name).to_numpy() for name in ("step", "time", "value"))
        bounds = [0, *changes.tolist(), batch.num_rows] if batch.num_rows else []
        for start, end in pairwise(bounds):
            run_id, key = (name.dictionary[int(code[start])].as_py() for name, code in zip(names, codes, strict=True))
            piece = slice(start, end)
            columns = _array("q", steps[piece]), _array("d", times[piece]), _array("d", values[piece])
            yield _Piece(run_id, Column(key, *columns, int(ranks[start])))


def _array(kind: str, values: Any) -> array[Any]:
    column = array(kind)
    column.frombytes(values.tobytes())
    return column


def _csv_columns(file: Path) -> Iterator[_Piece]:
    return _collected(_rows(file, METRICS, "csv"))


def _json_columns(file: Path) -> Iterator[_Piece]:
    return _collected(_rows(file, METRICS, "json"))


def _collected(rows: Iterator[dict[str, Any]]) -> Iterator[_Piece]:
    """Rows that follow each other and belong to one metric, as columns."""
    places = groupby(rows, key=lambda row: (row["run_id"], row["key"], row.get("rank") or 0))
    for (run_id, key, rank), group in places:
        column = Column(key, array("q"), array("d"), array("d"), rank)
        for row in group:
            column.steps.append(row["step"])
            column.times.append(row["time"])
            column.values.append(row["value"])
            if len(column) == ROWS:
                yield _Piece(run_id, column)
                column = Column(key, array("q"), array("d"), array("d"), rank)
        if len(column):
            yield _Piece(run_id, column)


def _rows(file: Path, columns: Columns, format: Format) -> Iterator[dict[str, Any]]:
    """Rows of a table in Python's own types."""
    if format == "parquet":
        for batch in need("pyarrow.parquet").ParquetFile(file).iter_batches(1000):
            for row in batch.to_pylist():
                yield {n: json.loads(v) if columns[n] == "json" and v is not None else v for n, v in row.items()}
    elif format == "csv":
        with file.open(encoding="utf-8", newline="") as stream:
            for cells in csv.DictReader(stream):
                yield {name: _from_cell(cells[name], kind) for name, kind in columns.items() if name in cells}
    else:
        with file.open("rb") as stream:
            for line in stream:
                row = msgspec.json.decode(line)
                yield {n: number(v) if columns[n] == "float" and v is not None else v for n, v in row.items()}


def _from_cell(cell: str, kind: str) -> Any:
    if cell == "":
        return None
    if kind in ("int", "float"):
        return int(cell) if kind == "int" else float(cell)
    text = cell.removeprefix("'")
    return json.loads(text) if kind == "json" else text
