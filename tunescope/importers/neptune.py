"""Neptune: what `neptune-exporter` wrote, one folder of Parquet files a project and the files beside it.

    exports/
        data/<project>/<run>_part_<n>.parquet     one row an attribute, or a step of one
        files/…                                   what rows of files name by `file_value.path`

Both versions of Neptune come out in this form (github.com/neptune-ai/neptune-exporter, its README and `model.py`).
An export renames part 0 last: parts that end in `.tmp`, or have no part 0, are of a run that was cut off.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tunescope._values import metric_key, to_plain
from tunescope.importers._media import Place, encoded, histogram, text
from tunescope.importers._record import (
    Column,
    ImportedFile,
    ImportedLine,
    ImportedMedium,
    ImportedRun,
    ImportProblem,
    LeftOut,
    PointBuffer,
    Source,
    Status,
    need,
)

__all__ = ["read"]

PART = re.compile(r"(?P<run>.*?)_?part_(?P<number>\d+)\.parquet(?P<cut>\.tmp)?")
COLUMNS = frozenset({"project_id", "run_id", "attribute_path", "attribute_type", "step", "float_value"})
FIELDS = {
    "float": "float_value",
    "int": "int_value",
    "string": "string_value",
    "bool": "bool_value",
    "datetime": "datetime_value",
    "string_set": "string_set_value",
}
SERIES = ("float_series", "string_series", "histogram_series", "file_series")
FILES = ("file", "file_set", "artifact")
# What these attributes say has a place of its own here.
OWN_PLACE = frozenset(
    f"sys/{name}"
    for name in ("name", "custom_run_id", "description", "tags", "creation_time", "owner", "hostname", "failed")
)
STREAMS: dict[str, Literal["stdout", "stderr"]] = {"stdout": "stdout", "stderr": "stderr"}
DIGITS = 6
"""Of a step after the point."""
MOST_TEXTS = 1000
"""Of one series that become media; what follows is kept as values."""
ROWS = 1 << 16


def read(place: str | None, left_out: LeftOut) -> Source:
    """The runs of an export: its folder, its folder `data`, or one project's folder in that.

    Files are looked for in the folder `files` beside `data`. Default place: ./exports.
    """
    need("pyarrow.parquet")
    root = Path(place or "exports").expanduser()
    data = root / "data" if (root / "data").is_dir() else root
    parts = _parts(data, left_out)
    if not parts:
        raise ImportProblem(f"There are no Parquet files of neptune-exporter (*_part_0.parquet) in {data}.")
    beside = [folder / "files" for folder in (root, data.parent, data.parent.parent)]
    files = next((folder for folder in beside if folder.is_dir()), None)
    runs = [_Run(head, run_parts, files, left_out) for run_parts in parts for head in _heads(run_parts)]
    by_name = {(run.head.project_id, name): run for run in runs for name in run.head.names}
    return Source((run.record(by_name) for run in runs), len(runs))


def _parts(data: Path, left_out: LeftOut) -> list[list[Path]]:
    """The parts of each run, in order. Exports of early versions hold several runs in the parts of one project."""
    found: dict[tuple[Path, str], dict[int, Path]] = {}
    for file in sorted(data.rglob("*part_*.parquet*") if data.is_dir() else []):
        match = PART.fullmatch(file.name)
        if match and match["cut"]:
            left_out.add(f"'{file.name}'", "the export of this run was cut off")
        elif match:
            found.setdefault((file.parent, match["run"]), {})[int(match["number"])] = file
    whole = []
    for (folder, run), parts in found.items():
        if sorted(parts) != list(range(len(parts))):
            left_out.add(f"run '{run or folder.name}'", "the export of this run was cut off: parts of it are missing")
        else:
            whole.append([parts[number] for number in sorted(parts)])
    return whole


@dataclass(slots=True)
class _Head:
    """What is known of a run before its points are read: its attributes under `sys/`."""

    project_id: str
    run_id: str
    system: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return f"{self.project_id}/{self.run_id}"

    @property
    def names(self) -> set[str]:
        """What another run may call it."""
        return {self.run_id, *(self.system[key] for key in ("sys/id", "sys/custom_run_id") if self.system.get(key))}

    @property
    def in_experiments(self) -> bool:
        """Neptune 3 names a run by its own id, and many runs after their experiment; Neptune 2 by a short id."""
        return self.system.get("sys/custom_run_id") == self.run_id != self.system.get("sys/id")


def _heads(parts: list[Path]) -> list[_Head]:
    arrow, compute = need("pyarrow"), need("pyarrow.compute")
    heads: dict[tuple[str, str], _Head] = {}
    for batch in _batches(parts, ["project_id", "run_id", "attribute_path", "attribute_type", *FIELDS.values()]):
        owners = arrow.Table.from_batches([batch.select(["project_id", "run_id"])])
        for row in owners.group_by(["project_id", "run_id"]).aggregate([]).to_pylist():
            heads.setdefault((row["project_id"], row["run_id"]), _Head(**row))
        for row in batch.filter(compute.starts_with(batch.column("attribute_path"), "sys/")).to_pylist():
            value = row[FIELDS[row["attribute_type"]]] if row["attribute_type"] in FIELDS else None
            if value is not None:
                heads[row["project_id"], row["run_id"]].system[row["attribute_path"]] = value
    return list(heads.values())


def _batches(parts: list[Path], columns: list[str]) -> Iterator[Any]:
    parquet = need("pyarrow.parquet")
    for part in parts:
        try:
            file = parquet.ParquetFile(part)
        except Exception as error:  # whatever pyarrow says of a file that is none
            raise ImportProblem(f"{part} cannot be read: {error}") from error
        with file:
            if not set(file.schema_arrow.names) >= COLUMNS:
                raise ImportProblem(f"{part} is no file of neptune-exporter: it has other columns.")
            yield from file.iter_batches(ROWS, columns=columns)


class _Run:
    """One run, whose rows are read again for each thing that is asked of it: no more than a batch is held."""

    def __init__(self, head: _Head, parts: list[Path], files: Path | None, left_out: LeftOut) -> None:
        self.head = head
        self._parts = parts
        self._folder = files
        self._left_out = left_out
        self._scale = 1
        self._began = 0.0

    def record(self, by_name: dict[tuple[str, str], _Run]) -> ImportedRun:
        head, system = self.head, self.head.system
        first, self._last, self._scale = self._look()
        created = system.get("sys/creation_time")
        self._began = created.timestamp() if isinstance(created, datetime) else first
        parent = by_name.get((head.project_id, str(system.get("sys/forking/parent"))))
        own_name = None if head.in_experiments else system.get("sys/name")
        groups = sorted(system.get("sys/group_tags") or [])
        imported = {"from": "neptune", "run_id": head.run_id, "project": head.project_id}
        if self._scale > 1:
            imported["steps_times"] = str(self._scale)
            self._left_out.add(
                f"steps of run '{head.run_id}'", f"fractions: all of them are multiplied by {self._scale:,}"
            )
        status: Status = "failed" if system.get("sys/failed") is True else "finished"
        run = ImportedRun(
            identity=head.identity,
            project=head.project_id,
            name=own_name or system.get("sys/custom_run_id") or head.run_id,
            parent=parent.head.identity if parent is not None else None,
            group=system.get("sys/name") if head.in_experiments else ", ".join(groups) or None,
            notes=system.get("sys/description") or None,
            created_at=self._began,
            finished_at=max(self._last, self._began),
            status=status,
            tags=dict.fromkeys([*(system.get("sys/tags") or []), *(groups if head.in_experiments else [])], "true"),
            environment={
                "imported": imported,
                **({"user": system["sys/owner"]} if system.get("sys/owner") else {}),
                **({"host": system["sys/hostname"]} if system.get("sys/hostname") else {}),
                "neptune": {key[4:]: _plain(value) for key, value in system.items() if key not in OWN_PLACE},
            },
        )
        run.points = partial(self._points, run)
        run.console, run.files, run.media = self._console, self._files, self._media
        return run

    def _mine(self, columns: list[str], *types: str) -> Iterator[Any]:
        """Batches of rows of these types of this run."""
        arrow, compute = need("pyarrow"), need("pyarrow.compute")
        for batch in _batches(self._parts, ["project_id", "run_id", "attribute_type", *columns]):
            keep = compute.and_(
                compute.and_(
                    compute.equal(batch.column("run_id"), self.head.run_id),
                    compute.equal(batch.column("project_id"), self.head.project_id),
                ),
                compute.is_in(batch.column("attribute_type"), value_set=arrow.array(types)),
            )
            yield batch.filter(keep)

    def _look(self) -> tuple[float, float, int]:
        """The first and last time of all series, and what makes the least fraction of a step a whole number."""
        compute = need("pyarrow.compute")
        first, last, digits = float("inf"), 0.0, 0
        for batch in self._mine(["step", "timestamp"], *SERIES):
            ends = compute.min_max(batch.column("timestamp")).as_py()
            if ends["min"] is not None:
                first, last = min(first, ends["min"].timestamp()), max(last, ends["max"].timestamp())
            for step in compute.unique(batch.column("step")).to_pylist():
                if step is not None and digits < DIGITS:
                    digits = max(digits, -int(step.normalize().as_tuple().exponent))
        return (first if last else 0.0), last, 10**digits

    def _points(self, run: ImportedRun) -> Iterator[list[Column]]:
        self._take_fields(run)
        buffer = PointBuffer()
        for path, step, at, value in self._series("float_series", "float_value"):
            if step is None or value is None:
                self._left_out.add(f"points of '{path}'", "the step or the value is missing")
                continue
            buffer.add(metric_key(path), self._step(step), self._time(at), value)
            if buffer.full:
                yield buffer.drain()
        yield buffer.drain()
        self._keep_others(run)

    def _take_fields(self, run: ImportedRun) -> None:
        for batch in self._mine(["attribute_path", *FIELDS.values()], *FIELDS):
            for row in batch.to_pylist():
                value = row[FIELDS[row["attribute_type"]]]
                if value is not None and not row["attribute_path"].startswith("sys/"):
                    _put(run.config, row["attribute_path"].split("/"), _plain(value))

    def _keep_others(self, run: ImportedRun) -> None:
        """What is neither a number nor a medium is kept as a value."""
        seen: Counter[str] = Counter()
        for path, step, at, value in self._texts():
            seen[path] += 1
            if seen[path] > MOST_TEXTS:
                run.keep(path, self._step(step), self._time(at), value)
        for path, step, at, value in self._series("histogram_series", "histogram_value"):
            if value is not None and self._histogram(path, step, at, value) is None:
                run.keep(path, self._step(step), self._time(at), value)

    def _console(self) -> Iterator[ImportedLine]:
        """Neptune keeps what was printed as series of texts that are named like the streams."""
        for path, _, at, value in self._series("string_series", "string_value"):
            stream = STREAMS.get(path.rpartition("/")[2])
            if value is not None and stream is not None:
                yield from (ImportedLine(self._time(at), stream, line) for line in value.splitlines() or [""])

    def _texts(self) -> Iterator[tuple[str, Any, Any, str]]:
        for path, step, at, value in self._series("string_series", "string_value"):
            if value is not None and path.rpartition("/")[2] not in STREAMS:
                yield path, step, at, value

    def _media(self) -> Iterator[ImportedMedium]:
        """Texts, histograms, and of the files with steps those that are images or sounds."""
        seen: Counter[str] = Counter()
        for path, step, at, value in self._texts():
            seen[path] += 1
            if seen[path] <= MOST_TEXTS and (said := text(value, self._place(path, step, at))) is not None:
                yield said
        for path, step, at, value in self._series("histogram_series", "histogram_value"):
            if value is not None and (counted := self._histogram(path, step, at, value)) is not None:
                yield counted
        for path, step, at, value in self._series("file_series", "file_value"):
            file = self._stored(value)
            if file is not None and file.is_file():
                shown = encoded(file, self._place(path, step, at))
                if shown is not None:
                    yield shown

    def _histogram(self, path: str, step: Any, at: Any, value: dict[str, Any]) -> ImportedMedium | None:
        """None for densities: our histograms are counts."""
        counts = value["type"] == "COUNTING"
        return histogram(value["edges"], value["values"], self._place(path, step, at)) if counts else None

    def _files(self) -> Iterator[ImportedFile]:
        for kind in (*FILES, "file_series"):
            for path, step, at, value in self._series(kind, "file_value"):
                file = self._stored(value)
                if file is None:
                    self._left_out.add(f"file '{path}'", "it is not in the folder 'files' of the export")
                elif file.is_dir():
                    for inner in sorted(one for one in file.rglob("*") if one.is_file()):
                        yield ImportedFile(f"{path}/{inner.relative_to(file).as_posix()}", inner)
                elif kind == "artifact":  # of these, Neptune keeps the list of files
                    yield ImportedFile(f"{path}/{file.name}", file)
                elif kind == "file":
                    yield ImportedFile(path, file)
                elif encoded(file, self._place(path, step, at)) is None:
                    yield ImportedFile(f"{path}/{self._step(step)}{file.suffix}", file)

    def _stored(self, value: Any) -> Path | None:
        """The file or folder that a row names, if it is there."""
        if self._folder is None or not value or not value["path"]:
            return None
        file = self._folder / value["path"]
        return file if file.exists() and file.resolve().is_relative_to(self._folder.resolve()) else None

    def _series(self, kind: str, column: str) -> Iterator[tuple[str, Any, Any, Any]]:
        """Path, step, time and value of every row of a type; of files, step and time may be None."""
        names = ["attribute_path", "step", "timestamp", column]
        for batch in self._mine(names, kind):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)

    def _place(self, path: str, step: Any, at: datetime | None) -> Place:
        return Place(path, self._step(step), self._time(at))

    def _step(self, step: Any) -> int:
        return int((step or 0) * self._scale)

    def _time(self, at: datetime | None) -> float:
        return at.timestamp() if at is not None else self._began


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, list) else to_plain(value)


def _put(config: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value where its path leads; where that is taken, under the path as one key."""
    at = config
    for depth, name in enumerate(path[:-1]):
        inner = at.setdefault(name, {})
        if not isinstance(inner, dict):
            at["/".join(path[depth:])] = value
            return
        at = inner
    at[path[-1]] = value
