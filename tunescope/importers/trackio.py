"""Trackio: its folder of SQLite databases, one a project; or the Parquet files it writes where a database is missing.

The databases are opened read-only and row by row. `run_id` names a run; databases from before Trackio 0.24 have only
the run's name.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunescope._values import metric_key
from tunescope.importers._media import Place, encoded, histogram, table, text, within
from tunescope.importers._record import (
    Column,
    ImportedFile,
    ImportedMedium,
    ImportedRun,
    ImportProblem,
    LeftOut,
    PointBuffer,
    Source,
    flatten,
    need,
    number,
    whole,
)

__all__ = ["read"]

Row = Mapping[str, Any]
JSON_COLUMN = {"metrics": "metrics", "system_metrics": "metrics", "configs": "config"}
PARQUET = {"metrics": "", "system_metrics": "_system", "configs": "_configs"}
ROW_COLUMNS = frozenset({"id", "run_id", "timestamp", "run_name", "step", "log_id", "space_id", "created_at"})


def read(place: str | None, left_out: LeftOut) -> Source:
    """The runs of one project, by name, database or Parquet file; or of all projects of a folder.

    Without `place`, or with a project's name, the folder is `TRACKIO_DIR`, else where Trackio keeps it by default.
    """
    named = Path(place).expanduser() if place else None
    if named is not None and named.is_dir():
        found = _projects(named)
    elif named is not None and named.is_file():
        found = [_Project(named.parent, named.stem)]
    else:
        folder = _default_folder()
        found = [one for one in _projects(folder) if place is None or one.name == _file_name(place)]
        if place is not None and not found:
            known = ", ".join(one.name for one in _projects(folder)) or "none"
            raise ImportProblem(f"There is no Trackio project '{place}' in {folder} (there: {known}).")
    if not found:
        raise ImportProblem(f"There are no Trackio projects in {named or _default_folder()}.")
    runs = [run for project in found for run in _runs(project, left_out)]
    return Source(iter(runs), len(runs))


def _default_folder() -> Path:
    if named := os.environ.get("TRACKIO_DIR"):
        return Path(named).expanduser()
    cache = os.environ.get("HF_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache" / "huggingface") / "trackio"


def _file_name(project: str) -> str:
    """Trackio names a project's file by what of its name is letters, digits, '-' and '_'."""
    return "".join(c for c in project if c.isalnum() or c in "-_").rstrip() or "default"


def _projects(folder: Path) -> list[_Project]:
    names = {file.stem for file in folder.glob("*.db")}
    parts = tuple(suffix for suffix in PARQUET.values() if suffix)
    names |= {file.stem.removesuffix("_configs") for file in folder.glob("*_configs.parquet")}
    names |= {f.stem for f in folder.glob("*.parquet") if not f.stem.endswith(parts) and f"{f.stem}_configs" in names}
    return [_Project(folder, name) for name in sorted(names) if not name.startswith("registry-")]


@dataclass(slots=True)
class _Project:
    folder: Path
    name: str

    @property
    def database(self) -> Path:
        return self.folder / f"{self.name}.db"

    def rows(self, table: str, run: str | None = None) -> Iterator[Row]:
        """Rows of a table, of one run or of all, in the order they were written; what was logged is under `json`."""
        if self.database.is_file():
            yield from self._from_database(table, run)
        else:
            yield from self._from_parquet(table, run)

    def first_rows(self, table: str) -> Iterator[tuple[str, str, float]]:
        """Run id, run name and first time of every run in a table."""
        if not self.database.is_file():
            seen: dict[str, Row] = {}
            for row in self._from_parquet(table, None):
                seen.setdefault(row["run_id"], row)
            yield from ((run, row["run_name"], _seconds(row["timestamp"])) for run, row in seen.items())
            return
        with closing(_open(self.database)) as connection:
            if key := _run_key(connection, table):
                query = f"SELECT {key}, run_name, MIN(timestamp) FROM {table} GROUP BY {key}"  # noqa: S608  (ours)
                yield from ((run, name, _seconds(first)) for run, name, first in connection.execute(query))

    def select(self, query: str, *values: str) -> list[sqlite3.Row]:
        """Rows of a table that not every version of Trackio has."""
        if not self.database.is_file():
            return []
        with closing(_open(self.database)) as connection:
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                return []

    def _from_database(self, table: str, run: str | None) -> Iterator[Row]:
        with closing(_open(self.database)) as connection:
            if (key := _run_key(connection, table)) is None:
                return
            condition = "" if run is None else f" WHERE {key} = ?"
            query = f"SELECT * FROM {table}{condition} ORDER BY id"  # noqa: S608  (names are ours)
            for row in connection.execute(query, () if run is None else (run,)):
                held = dict(row)
                yield {**held, "run_id": held[key], "json": json.loads(held[JSON_COLUMN[table]])}

    def _from_parquet(self, table: str, run: str | None) -> Iterator[Row]:
        file = self.folder / f"{self.name}{PARQUET[table]}.parquet"
        if not file.is_file():
            return
        dataset = need("pyarrow.dataset")
        rows = dataset.dataset(file)
        key = "run_id" if "run_id" in rows.schema.names else "run_name"
        wanted = None if run is None else dataset.field(key) == run
        for batch in rows.to_batches(filter=wanted):
            for row in batch.to_pylist():
                # The columns that are Trackio's own; all others are what was logged, null where nothing was.
                held = {name: row[name] for name in row.keys() & ROW_COLUMNS}
                logged = {name: value for name, value in row.items() if name not in held and value is not None}
                yield {**held, "run_id": row[key], "json": logged}


def _run_key(connection: sqlite3.Connection, table: str) -> str | None:
    """The column that tells runs apart; None without the table."""
    columns = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
    return None if not columns else "run_id" if "run_id" in columns else "run_name"


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


@dataclass(slots=True)
class _Held:
    """What is known of a run before its points are read."""

    name: str
    began: float
    config: dict[str, Any] = field(default_factory=dict)


def _runs(project: _Project, left_out: LeftOut) -> Iterator[ImportedRun]:
    held: dict[str, _Held] = {}
    try:
        for row in project.rows("configs"):
            began = row["json"].get("_Created") or row["created_at"]
            held[row["run_id"]] = _Held(row["run_name"], _seconds(began), dict(row["json"]))
        for table in ("metrics", "system_metrics"):  # runs that only logged
            for run_id, name, first in project.first_rows(table):
                held.setdefault(run_id, _Held(name, first))
    except (sqlite3.Error, ValueError, KeyError) as error:
        left_out.add(f"project '{project.name}'", f"it cannot be read: {error}")
        return
    for run_id, known in held.items():
        yield _Run(project, run_id, known, left_out).record


class _Run:
    def __init__(self, project: _Project, run_id: str, known: _Held, left_out: LeftOut) -> None:
        self._project, self._run_id, self._left_out = project, run_id, left_out
        self._files_named: list[str] = []
        self._has_media = False
        config = known.config
        # Trackio keeps what is no setting of the user under names that begin with '_'.
        own = {name: config.pop(name) for name in list(config) if name.startswith("_")}
        user = own.get("_Username")
        self.record = ImportedRun(
            identity=f"{project.name}/{run_id}",
            project=project.name,
            created_at=known.began,
            name=known.name,
            group=own.get("_Group"),
            config=config,
            environment={"imported": {"from": "trackio", "run_id": run_id}, **({"user": user} if user else {})},
            points=self._points,
            files=self._files,
            media=self._media,
        )

    def _points(self) -> Iterator[list[Column]]:
        buffer, last = PointBuffer(), self.record.created_at
        for row in self._project.rows("metrics", self._run_id):
            at, step = _seconds(row["timestamp"]), whole(row["step"])
            last = max(last, at)
            if step is None:
                self._left_out.add("rows of metrics", "the step is no 64-bit integer")
                continue
            for key, value in flatten(row["json"]):
                self._take(buffer, key, step, at, value)
            if buffer.full:
                yield buffer.drain()
        for row in self._project.rows("system_metrics", self._run_id):
            at = _seconds(row["timestamp"])
            last = max(last, at)
            for key, value in flatten(row["json"]):
                # As in runs of our own, a reading's step is the second of the run.
                self._take(buffer, metric_key(f"system/{key}"), max(0, int(at - self.record.created_at)), at, value)
            if buffer.full:
                yield buffer.drain()
        for alert in self._project.select("SELECT * FROM alerts WHERE run_id = ? ORDER BY id", self._run_id):
            content = {"type": "alert", "title": alert["title"], "text": alert["text"], "level": alert["level"]}
            self.record.keep("alert", alert["step"] or 0, _seconds(alert["timestamp"]), content)
        # Trackio records no end and no state: the last thing it heard is the end.
        self.record.finished_at = last
        yield buffer.drain()

    def _take(self, buffer: PointBuffer, key: str, step: int, at: float, value: Any) -> None:
        found = number(value)
        if found is not None:
            buffer.add(key, step, at, found)
        elif self._medium(value, Place(key, step, at)) is not None:
            self._has_media = True
        else:
            self.record.keep(key, step, at, value)
            self._files_named += _files_in(value)
        if isinstance(value, dict):
            self._files_named += _files_in(value.get("_value"))

    def _media(self) -> Iterator[ImportedMedium]:
        """In a second reading, so that no more than a row's are held at a time."""
        for row in self._project.rows("metrics", self._run_id) if self._has_media else ():
            step = whole(row["step"])
            for key, value in flatten(row["json"]) if step is not None else ():
                medium = self._medium(value, Place(key, step or 0, _seconds(row["timestamp"])))
                if medium is not None:
                    yield medium

    def _medium(self, value: Any, place: Place) -> ImportedMedium | None:
        if not isinstance(value, dict) or "_type" not in value:
            return None
        place = replace(place, caption=value.get("caption"))
        match value["_type"], value.get("_value"):
            case "trackio.histogram", _:
                return histogram(value.get("bins"), value.get("values"), place)
            case "trackio.table", [*rows] if all(isinstance(row, dict) for row in rows):
                columns = list(dict.fromkeys(name for row in rows for name in row))
                return table(columns, [[row.get(name) for name in columns] for row in rows], place)
            case "trackio.markdown", str() as said:
                return text(said, place)
            case _:
                file = within(self._project.folder / "media", value.get("file_path"))
                return encoded(file, place) if file is not None else None

    def _files(self) -> Iterator[ImportedFile]:
        """What rows name and is no medium of its own: videos, and images in the cells of tables."""
        media = self._project.folder / "media"
        for name in dict.fromkeys(self._files_named):
            file = within(media, name)
            if file is not None:
                kind = "image" if file.suffix in {".png", ".jpg", ".jpeg", ".webp", ".gif"} else "file"
                yield ImportedFile(f"media/{Path(*file.relative_to(media).parts[2:]).as_posix()}", file, kind)
            else:
                self._left_out.add(f"file '{name}'", "it is not in Trackio's folder")
        yield from self._artifacts()

    def _artifacts(self) -> Iterator[ImportedFile]:
        """Files of the artifacts this run logged."""
        versions = self._project.select(
            "SELECT a.name, a.type, v.version, v.manifest FROM run_artifact_links l "
            "JOIN artifact_versions v ON v.id = l.artifact_version_id JOIN artifacts a ON a.id = v.artifact_id "
            "WHERE l.direction = 'output' AND l.run_id = ?",
            self._run_id,
        )
        blobs = self._project.folder / "artifacts" / self._project.name / "blobs" / "sha256"
        for version in versions:
            for entry in json.loads(version["manifest"]):
                path, digest = entry["path"], entry.get("digest") or ""
                name = f"artifacts/{version['name']}/v{version['version']}/{path}"
                if digest and (blobs / digest[:2] / digest).is_file():
                    yield ImportedFile(name, blobs / digest[:2] / digest, "artifact")
                else:
                    self._left_out.add(f"file '{name}'", "its copy is not in Trackio's folder")


def _files_in(value: Any) -> list[str]:
    """Paths of files that a value names, also in the cells of a table."""
    if isinstance(value, list):
        return [path for one in value for path in _files_in(one)]
    if not isinstance(value, dict):
        return []
    return [value["file_path"]] if value.get("file_path") else _files_in(list(value.values()))


def _seconds(stamp: str) -> float:
    """Unix seconds of an ISO 8601 time; one without a zone is UTC."""
    moment = datetime.fromisoformat(stamp)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
