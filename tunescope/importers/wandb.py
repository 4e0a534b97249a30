"""Weights & Biases: run folders on this disk (`wandb/offline-run-*`, `wandb/run-*`), finished or not.

Folders of one run that was resumed become one run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tunescope._console import Stream
from tunescope._values import metric_key
from tunescope.importers._media import Place
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
    flatten,
    need,
    number,
)
from tunescope.importers._wandb_log import Log, environment, find_logs, media_of, parsed, seconds, table_file

__all__ = ["read"]

STILL_WRITING = 600.0  # seconds since the last write after which a run without an end is taken for crashed


def read(place: str | None, left_out: LeftOut) -> Source:
    """Every run below `place` (default ./wandb): a run's folder, a `wandb` folder, or a folder that has one."""
    need("wandb")
    records = need("wandb.proto.wandb_internal_pb2")
    root = Path(place or "wandb").expanduser()
    logs = find_logs(root)
    if not logs:
        raise ImportProblem(f"There are no W&B run folders (offline-run-*, run-*) in {root}.")
    folders: dict[tuple[str, str], list[Log]] = {}
    for path in logs:
        log = Log(path, records, left_out)
        if log.head is None:
            left_out.add(path.name, "it holds no run that can be read")
        else:
            folders.setdefault((log.head.project, log.head.run_id), []).append(log)
    runs = [_Run(parts, left_out) for parts in folders.values()]
    return Source(_with_sweeps(runs), len(runs))


def _with_sweeps(runs: list[_Run]) -> Iterator[ImportedRun]:
    """The runs, each sweep before the first run of it."""
    sweeps: set[str] = set()
    for run in runs:
        record = run.record
        if record.parent is not None and record.parent not in sweeps:
            sweeps.add(record.parent)
            name = record.parent.rpartition("/")[2]
            yield ImportedRun(
                identity=record.parent,
                project=record.project,
                created_at=record.created_at,
                name=f"sweep {name}",
                tags={"wandb.sweep": name},
            )
        yield record


class _Run:
    """What is gathered about one run while its logs are read."""

    def __init__(self, logs: list[Log], left_out: LeftOut) -> None:
        head = logs[0].head
        self._logs = logs
        self._left_out = left_out
        self._summary: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._artifacts: dict[str, str] = {}
        self._shown: set[str] = set()
        self._has_media = False
        self._step = 0
        self._last = self._began = seconds(head.start_time)
        self._ended = False
        project = head.project or "uncategorized"
        self.record = ImportedRun(
            identity=f"{project}/{head.run_id}",
            project=project,
            created_at=self._began,
            name=head.display_name or head.run_id,
            parent=f"{project}/sweeps/{head.sweep_id}" if head.sweep_id else None,
            environment={"imported": {"from": "wandb", "run_id": head.run_id}, **environment(logs)},
            points=self._points,
            console=self._console,
            files=self._files,
            media=self._media,
        )

    def _points(self) -> Iterator[list[Column]]:
        buffer = PointBuffer()
        for log in self._logs:
            self._ended = False
            for record in log.read():
                self._take(record, buffer, log)
                if buffer.full:
                    yield buffer.drain()
        self._summary_points(buffer)
        self._end()
        yield buffer.drain()

    def _take(self, record: Any, buffer: PointBuffer, log: Log) -> None:
        match record.WhichOneof("record_type"):
            case "history":
                self._take_history(record.history, buffer, log)
            case "stats":
                self._take_stats(record.stats, buffer)
            case "run":
                self._take_run(record.run)
            case "config":
                _apply(self.record.config, record.config)
            case "summary":
                _apply(self._summary, record.summary)
            case "exit":
                self._ended = True
                self.record.exit_code = record.exit.exit_code
            case "artifact":
                self._take_artifact(record.artifact)
            case "alert":
                alert = {"type": "alert", "title": record.alert.title, "text": record.alert.text}
                self.record.keep("alert", self._step, self._last, alert)

    def _take_run(self, run: Any) -> None:
        own = self.record
        _apply(own.config, run.config)
        own.name = run.display_name or own.name
        own.notes, own.group = run.notes or own.notes, run.run_group or own.group
        own.tags.update(dict.fromkeys(run.tags, "true"))
        if run.job_type:
            own.tags["job_type"] = run.job_type
        _apply(self._summary, run.summary)

    def _take_history(self, history: Any, buffer: PointBuffer, log: Log) -> None:
        step, at, values = self._logged(history)
        self._step, self._last = step, max(self._last, at)
        for key, value in values:
            self._seen.add(key)
            found = number(value)
            if found is not None:
                buffer.add(key, step, at, found)
            elif media := media_of(log, value, Place(key, step, at)):
                self._has_media = True
                self._shown.update(str(one.content) for one in media if isinstance(one.content, Path))
                self._shown.update(str(file) for file in [table_file(log, value)] if file is not None)
            else:
                self.record.keep(key, step, at, value)

    def _logged(self, history: Any) -> tuple[int, float, list[tuple[str, Any]]]:
        """Step, time, and what was logged in one call."""
        values: dict[str, Any] = {}
        for item in history.item:
            _place(values, item, parsed(item.value_json))
        step = values.pop("_step", history.step.num)
        at = number(values.pop("_timestamp", None))
        ran = number(values.pop("_runtime", None))
        leaves = [(key, value) for key, value in flatten(values) if not key.startswith("_wandb")]
        return int(step), at if at is not None else self._began + (ran or 0.0), leaves

    def _media(self) -> Iterator[ImportedMedium]:
        """In a second reading, so that no more than one call's are held at a time."""
        for log in self._logs if self._has_media else ():
            for record in log.read(quiet=True):
                if record.WhichOneof("record_type") == "history":
                    step, at, values = self._logged(record.history)
                    for key, value in values:
                        if number(value) is None:
                            yield from media_of(log, value, Place(key, step, at))

    def _take_stats(self, stats: Any, buffer: PointBuffer) -> None:
        """System metrics; their step is the second of the run, as it is in runs of our own."""
        at = seconds(stats.timestamp)
        self._last = max(self._last, at)
        for item in stats.item:
            found = number(parsed(item.value_json))
            if found is not None:
                buffer.add(metric_key(f"system/{item.key}"), max(0, int(at - self._began)), at, found)

    def _take_artifact(self, artifact: Any) -> None:
        if artifact.type == "run_table":  # the same table lies in the run's folder
            return
        for entry in artifact.manifest.contents:
            if entry.local_path:
                self._artifacts[f"artifacts/{artifact.name}/{entry.path}"] = entry.local_path
            else:
                self._left_out.add(f"'{entry.path}' of artifact '{artifact.name}'", "it is not on this disk")
        if artifact.manifest.manifest_file_path:
            self._left_out.add(f"artifact '{artifact.name}'", "its list of files is kept apart, by W&B itself")

    def _summary_points(self, buffer: PointBuffer) -> None:
        """Numbers that were only ever put into the summary become a single point."""
        for key, value in flatten({k: v for k, v in self._summary.items() if not k.startswith("_")}):
            found = number(value)
            if key not in self._seen and found is not None:
                buffer.add(key, self._step, self._last, found)

    def _end(self) -> None:
        own = self.record
        own.config.pop("_wandb", None)
        if self._ended:
            own.status = "failed" if own.exit_code else "finished"
        elif time.time() - self._logs[-1].path.stat().st_mtime < STILL_WRITING:
            own.status = "running"
        else:
            own.status = "crashed"
            own.error = "W&B recorded no end of the run: it was killed, or the machine went down."
        own.finished_at = None if own.status == "running" else self._last

    def _console(self) -> Iterator[ImportedLine]:
        """What was printed, as a terminal would show it in the end."""
        for log in self._logs:
            streams = {"stdout": Stream(), "stderr": Stream()}
            at = self._began
            for record in log.read(quiet=True):
                kind = record.WhichOneof("record_type")
                if kind in ("output", "output_raw"):
                    printed = getattr(record, kind)
                    name: Literal["stdout", "stderr"] = "stdout" if printed.output_type else "stderr"
                    at = seconds(printed.timestamp)
                    yield from (ImportedLine(at, name, line) for line in streams[name].feed(printed.line))
            for name in ("stdout", "stderr"):
                yield from (ImportedLine(at, name, line) for line in streams[name].unfinished(at, final=True))

    # --- files ---

    def _files(self) -> Iterator[ImportedFile]:
        taken: set[str] = set()
        for log in reversed(self._logs):  # of a resumed run, the latest
            folder = log.path.parent / "files"
            for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
                name = file.relative_to(folder).as_posix()
                if file.is_file() and name not in taken and str(file) not in self._shown:
                    taken.add(name)
                    yield ImportedFile(name, file, _kind(name))
        if self._summary and "wandb-summary.json" not in taken:
            summary = json.dumps({k: v for k, v in self._summary.items() if k != "_wandb"}, indent=1)
            yield ImportedFile("wandb-summary.json", summary.encode(), "summary")
        for name, local in self._artifacts.items():
            if Path(local).is_file():
                yield ImportedFile(name, Path(local), "artifact")
            else:
                self._left_out.add(f"file '{name}'", "its local copy is gone")


def _apply(into: dict[str, Any], changes: Any) -> None:
    """A record of changes: items that are set, by key or by a path of keys, and items that are removed."""
    for item in changes.update:
        _place(into, item, parsed(item.value_json))
    for item in changes.remove:
        at, name = _parent(into, item)
        at.pop(name, None)


def _place(into: dict[str, Any], item: Any, value: Any) -> None:
    at, name = _parent(into, item)
    at[name] = value


def _parent(into: dict[str, Any], item: Any) -> tuple[dict[str, Any], str]:
    path = list(item.nested_key) or [item.key]
    at = into
    for name in path[:-1]:
        inner = at.get(name)
        if not isinstance(inner, dict):
            inner = at[name] = {}
        at = inner
    return at, path[-1]


def _kind(name: str) -> str:
    folder = name.split("/")[1] if name.startswith("media/") and name.count("/") > 1 else ""
    return {"images": "image", "audio": "audio", "table": "table"}.get(
        folder, "console" if name == "output.log" else "file"
    )
