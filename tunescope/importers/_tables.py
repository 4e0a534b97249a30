"""The tables of an export of Tunescope, read from front to back: everything lies in the order of the runs."""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tunescope.exports import EVALUATIONS, METRICS, PREDICTIONS, SUFFIX, SUITE_ITEMS, SUITES, Columns, Format
from tunescope.importers._record import Column, ImportedEvaluation, ImportProblem, need, number
from tunescope.suites._records import ITEM

__all__ = ["ByRun", "EvaluationReader", "PointReader", "rows_of"]

ROWS = 1 << 16
DEFINITION = ("metrics", "primary_metric", "template", "parser", "labels", "description")


class ByRun:
    """Rows of a table by the run they belong to. They lie in the order of the runs, of which some have none; an older
    export may not have the table."""

    def __init__(self, file: Path, columns: Columns, format: Format) -> None:
        rows = rows_of(file, columns, format) if file.is_file() else iter(())
        self._groups = groupby(rows, key=itemgetter("run_id"))
        self._next: tuple[str, Iterator[dict[str, Any]]] | None = None
        self._came: set[str] = set()

    def come_to(self, run_id: str) -> None:
        """This run is next, whether or not anyone asks for its rows."""
        self._came.add(run_id)

    def of(self, run_id: str) -> Iterator[dict[str, Any]]:
        while True:
            self._next = self._next or next(self._groups, None)
            if self._next is None or self._next[0] not in self._came:
                return
            found, rows = self._next
            if found == run_id:
                yield from rows
            self._next = None


class EvaluationReader:
    """What the evaluations of an export can be made from again."""

    def __init__(self, folder: Path, format: Format) -> None:
        self._folder = folder
        self._format = format
        # Before layout 3 there were scores only.
        self._whole = self._file("suites").is_file()
        self._scores = ByRun(self._file("evaluations"), EVALUATIONS, format)
        self._predictions = _Predictions(self._file("predictions"), format)

    def come_to(self, run_id: str) -> None:
        self._scores.come_to(run_id)

    def of(self, run_id: str) -> Iterator[ImportedEvaluation]:
        """The evaluations of a run, the oldest first."""
        if not self._whole:
            return
        for evaluation_id, scores in groupby(self._scores.of(run_id), key=itemgetter("evaluation_id")):
            first = next(scores)
            yield ImportedEvaluation(
                suite=lambda row=first: self._suite(row["suite"], row["suite_hash"]),  # type: ignore[misc]
                suite_name=first["suite"],
                suite_hash=first["suite_hash"],
                prediction_hash=first["prediction_hash"],
                about={name: first[name] for name in ("name", "step", "settings")},
                predictions=lambda own=evaluation_id: self._predictions.of(own),  # type: ignore[misc]
            )

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.{SUFFIX[self._format]}"

    def _suite(self, suite: str, hash: str) -> dict[str, Any]:
        """What `Client.create_suite` takes."""
        suites = rows_of(self._file("suites"), SUITES, self._format)
        row = next((one for one in suites if (one["name"], one["hash"]) == (suite, hash)), None)
        if row is None:
            raise ImportProblem(f"The suite '{suite}' ({hash[:12]}…) is missing from the export.")
        items = [
            {name: item.get(name) for name in ITEM}  # an older export has no `labels`
            for item in rows_of(self._file("suite_items"), SUITE_ITEMS, self._format)
            if (item["suite"], item["suite_hash"]) == (suite, hash)
        ]
        definition = {n: row["definition"].get(n) for n in DEFINITION}
        return {"name": suite, "task_type": row["task_type"], "items": items, **definition}


class _Predictions:
    """Predictions by their evaluation, in the order of the evaluations; those of the last one can be read again."""

    def __init__(self, file: Path, format: Format) -> None:
        rows = rows_of(file, PREDICTIONS, format) if file.is_file() else iter(())
        self._groups = groupby(rows, key=itemgetter("evaluation_id"))
        self._last: tuple[str, list[dict[str, Any]]] = ("", [])

    def of(self, evaluation_id: str) -> list[dict[str, Any]]:
        while self._last[0] != evaluation_id:
            found = next(self._groups, None)
            if found is None:
                raise ImportProblem(f"The predictions of evaluation {evaluation_id} are missing from the export.")
            own, rows = found
            self._last = own, [_prediction(row) for row in rows] if own == evaluation_id else []
        return self._last[1]


def _prediction(row: dict[str, Any]) -> dict[str, Any]:
    """What `Client.create_evaluation` takes: the parsed answer also where there was none, so that it is not parsed
    again; of the rest what there is."""
    names = [name for name in PREDICTIONS if name != "evaluation_id"]
    return {name: row.get(name) for name in names if name in ("output", "parsed") or row.get(name) is not None}


class PointReader:
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
    return _collected(rows_of(file, METRICS, "csv"))


def _json_columns(file: Path) -> Iterator[_Piece]:
    return _collected(rows_of(file, METRICS, "json"))


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


def rows_of(file: Path, columns: Columns, format: Format) -> Iterator[dict[str, Any]]:
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
