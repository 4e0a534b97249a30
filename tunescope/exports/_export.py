"""Everything of runs in files: `tunescope export`. Every point that was stored, none thinned, in three formats.

    <folder>/
        export.json     what this is; written last, so that its absence tells of an export that was cut off
        metrics.*       one row a point: run_id, key, rank, segment, step, time, value
        runs.*          one row a run
        console.*       one row a line that was printed
        evaluations.*   one row a score
        suites.*        one row an evaluation set that these were made on; suite_items.*: one row an item of one
        predictions.*   one row an answer of an evaluation
        artifacts.*     one row a file; the files themselves in artifacts/<run id>/ when they were asked for
        media.*         one row an image, table, histogram, …; with the files, `file` says where in the folder it is

Parquet keeps every bit. CSV (`.csv`) and JSON (`.jsonl`, one object a line) keep every value: floats are written so
that they read back the same; NaN and the infinities go by name, and a NaN comes back as the usual one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, TunescopeError
from tunescope.exports._evaluations import EvaluationTables, pages
from tunescope.exports._tables import (
    ARTIFACTS,
    CONSOLE,
    EVALUATIONS,
    MEDIA,
    METRICS,
    PREDICTIONS,
    RUNS,
    SUFFIX,
    SUITE_ITEMS,
    SUITES,
    Format,
    Table,
    open_table,
)
from tunescope.importers._record import need

__all__ = ["Exported", "Format", "export"]

MANIFEST = "export.json"
LAYOUT = 4  # 1 had no ranks, 2 neither console nor suites and predictions, 3 answers of text alone
POINTS_A_REQUEST = 500_000
SERIES_A_REQUEST = 100
PAGE = 100
LINES_A_REQUEST = 10_000


class NothingToExport(TunescopeError):
    """The target names no run and no project, or the query finds nothing."""


@dataclass(slots=True)
class Exported:
    """How much was written."""

    runs: int = 0
    points: int = 0
    lines: int = 0
    evaluations: int = 0
    scores: int = 0
    artifacts: int = 0
    media: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)


def export(
    client: Client,
    folder: Path,
    format: Format,
    *,
    target: str | None = None,
    query: str | None = None,
    files: bool = False,
    progress: Callable[[str, Exported, int | None], None] = lambda name, done, total: None,
) -> Exported:
    """Write runs, metrics, evaluations and artifacts to a new folder, a few series at a time.

    `target` is a run's id or a project; `query` narrows a project, or all projects. `files` also fetches the
    artifacts. Raises `NothingToExport`, `ConnectionFailed`, `ApiError`.
    """
    need("pyarrow")
    if folder.exists() and any(folder.iterdir()):
        raise TunescopeError(f"{folder} is not empty: name a new folder.")
    total, runs = _targets(client, target, query)
    folder.mkdir(parents=True, exist_ok=True)
    done = Exported()
    with ExitStack() as stack:
        tables = {
            name: stack.enter_context(open_table(folder / f"{name}.{SUFFIX[format]}", columns, format))
            for name, columns in (
                ("metrics", METRICS),
                ("runs", RUNS),
                ("console", CONSOLE),
                ("evaluations", EVALUATIONS),
                ("suites", SUITES),
                ("suite_items", SUITE_ITEMS),
                ("predictions", PREDICTIONS),
                ("artifacts", ARTIFACTS),
                ("media", MEDIA),
            )
        }
        evaluations = EvaluationTables(client, tables)
        for run in runs:
            _write_run(client, run, tables, done, lambda name: progress(name, done, total))
            made, scores = evaluations.write(run["id"])
            done.evaluations += made
            done.scores += scores
            for page in _media(client, run["id"]):
                places = [_fetch_medium(client, folder, one, done) if files else None for one in page]
                tables["media"].write([{**one, "file": file} for one, file in zip(page, places, strict=True)])
                done.media += len(page)
            if files:
                _fetch(client, folder / "artifacts", run["id"], done)
    manifest = {
        "what": "tunescope export",
        "layout": LAYOUT,
        "format": format,
        "artifacts": files,
        "tunescope": version("tunescope"),
        "created_at": time.time(),
        "url": client.url,
        "target": target,
        "query": query,
        "runs": done.runs,
        "points": done.points,
        "evaluations": done.evaluations,
        "scores": done.scores,
    }
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    progress("", done, total)
    return done


def _write_run(
    client: Client, run: Json, tables: Mapping[str, Table], done: Exported, progress: Callable[[str], None]
) -> None:
    """A run's rows of every table; the run's own comes last and says how many points were written."""
    points = 0
    progress(run["name"])
    for table in _points(client, run):
        tables["metrics"].write_arrow(table)
        points += table.num_rows
        done.points += table.num_rows
        progress(run["name"])
    for lines in _console(client, run["id"]):
        tables["console"].write(lines)
        done.lines += len(lines)
    listed = client.list_artifacts(run["id"])["items"]
    tables["artifacts"].write([{**one, "run_id": run["id"]} for one in listed])
    tables["runs"].write([{**run, "points": points}])
    done.runs += 1
    done.artifacts += len(listed)


def _targets(client: Client, target: str | None, query: str | None) -> tuple[int | None, Iterator[Json]]:
    """How many runs there are, if that is known, and the runs with everything about them."""
    if target is not None and query is None:
        try:
            return 1, iter([client.get_run(target)])
        except ApiError as error:
            if error.status != 404:
                raise
    projects = {project["name"]: project["n_runs"] for project in client.list_projects()["items"]}
    if target is not None and target not in projects:
        raise NothingToExport(f"'{target}' is neither the id of a run nor a project of {client.url}.")
    total = projects[target] if target is not None and query is None else None
    runs = _found(client, target, query)
    first = next(runs, None)
    if first is None:
        raise NothingToExport(f"There are no such runs in {f'project {target!r}' if target else client.url}.")
    return total, chain([first], runs)


def _found(client: Client, project: str | None, query: str | None) -> Iterator[Json]:
    cursor: str | None = None
    while True:
        # The summaries come with each run by itself: a page of them could be large.
        page = client.list_runs(project, query, limit=PAGE, cursor=cursor, metrics=[" "])
        yield from (client.get_run(run["id"]) for run in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _points(client: Client, run: Json) -> Iterator[Any]:
    """Arrow tables of a run's points, of every rank, series by series, each series in the order it was logged."""
    arrow = need("pyarrow")
    keys: list[str] = []
    size = 0
    counts: Counter[str] = Counter()
    for series in client.run_series(run["id"])["items"]:
        counts[series["key"]] += series["count"]

    def read() -> Any:
        return arrow.ipc.open_stream(client.history_arrow(run["id"], keys, whole=True, rank="all")).read_all()

    for key, count in counts.items():
        if keys and (size + count > POINTS_A_REQUEST or len(keys) == SERIES_A_REQUEST):
            yield read()
            keys, size = [], 0
        keys.append(key)
        size += count
    if keys:
        yield read()


def _media(client: Client, run_id: str) -> Iterator[list[Json]]:
    return pages(lambda at: client.list_media(run_id, limit=1000, cursor=at))


def _fetch_medium(client: Client, folder: Path, one: Json, done: Exported) -> str | None:
    """Where in the folder a medium lies. Equal content lies there once."""
    suffix = one["content_type"].partition("/")[2].partition("+")[0].replace("plain", "txt")
    place = folder / "media" / f"{one['sha256']}.{suffix}"
    if not place.exists():
        try:
            content = client.download_media(one["id"])
        except ApiError as error:
            done.left_out.append(f"{one['key']} at step {one['step']} of run {one['run_id']}: {error}")
            return None
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        done.bytes += len(content)
    return place.relative_to(folder).as_posix()


def _console(client: Client, run_id: str) -> Iterator[list[Json]]:
    """What a run printed, every process of it, in the order it came in."""
    cursor, more = 0, True
    while more:
        page = client.console(run_id, after=cursor, limit=LINES_A_REQUEST)
        yield [{**line, "run_id": run_id} for line in page["items"]]
        cursor, more = page["cursor"], page["more"]


def _fetch(client: Client, folder: Path, run_id: str, done: Exported) -> None:
    for one in client.list_artifacts(run_id)["items"]:
        place = folder / run_id / one["path"]
        if not place.resolve().is_relative_to(folder.resolve()):
            done.left_out.append(f"{one['path']} of run {run_id}: it would lie outside the folder")
            continue
        try:
            content = client.download_artifact(run_id, one["path"])
        except ApiError as error:
            done.left_out.append(f"{one['path']} of run {run_id}: {error}")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        done.bytes += len(content)
