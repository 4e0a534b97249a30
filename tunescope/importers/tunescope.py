"""Tunescope's own exports (`tunescope export`), Parquet, CSV or JSON: back into this or another service.

Runs keep their ids, unless `--project` moves them. Evaluations are made again, from the suites and the predictions: a
service scores those itself.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tunescope.exports import ARTIFACTS, CONSOLE, LAYOUT, MANIFEST, MEDIA, RUNS, SUFFIX, Format
from tunescope.importers._record import (
    ImportedFile,
    ImportedLine,
    ImportedMedium,
    ImportedRun,
    ImportProblem,
    LeftOut,
    Source,
)
from tunescope.importers._tables import ByRun, EvaluationReader, PointReader, rows_of

__all__ = ["read"]

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
    if (scores := manifest.get("scores")) and manifest["layout"] < 3:
        left_out.add("scores of evaluations", "exports of before did not hold the predictions", scores)
    format: Format = manifest["format"]
    csv.field_size_limit(1 << 31)
    return Source(_runs(folder, format, manifest["artifacts"], left_out), manifest["runs"], keeps_ids=True)


def _runs(folder: Path, format: Format, with_files: bool, left_out: LeftOut) -> Iterator[ImportedRun]:
    points = PointReader(folder / f"metrics.{SUFFIX[format]}", format)
    console = ByRun(folder / f"console.{SUFFIX[format]}", CONSOLE, format)
    evaluations = EvaluationReader(folder, format)
    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(folder / f"artifacts.{SUFFIX[format]}", ARTIFACTS, format):
        files.setdefault(row["run_id"], []).append(row)
    media: dict[str, list[dict[str, Any]]] = {}
    if (table := folder / f"media.{SUFFIX[format]}").is_file():  # exports of before there were any have none
        for row in rows_of(table, MEDIA, format):
            media.setdefault(row["run_id"], []).append(row)
    for row in rows_of(folder / f"runs.{SUFFIX[format]}", RUNS, format):
        console.come_to(row["id"])
        evaluations.come_to(row["id"])
        listed = files.get(row["id"], [])
        if listed and not with_files:
            left_out.add(f"files of run '{row['name']}'", "the export was made without --artifacts", len(listed))
        shown = media.get(row["id"], [])
        if shown and not with_files:
            left_out.add(f"media of run '{row['name']}'", "the export was made without --artifacts", len(shown))
        run = _run(row, points, _reader(folder, listed if with_files else [], left_out))
        run.media = _media_reader(folder, shown if with_files else [], left_out)
        run.console = partial(_printed, console, row["id"])
        run.evaluations = partial(evaluations.of, row["id"])
        yield run


def _run(row: dict[str, Any], points: PointReader, files: Callable[[], Iterator[ImportedFile]]) -> ImportedRun:
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


def _printed(console: ByRun, run_id: str) -> Iterator[ImportedLine]:
    for row in console.of(run_id):
        yield ImportedLine(row["time"], row["stream"], row["text"], row["rank"])


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
