"""Weights & Biases: run folders on this disk (`wandb/offline-run-*`, `wandb/run-*`), finished or not.

A `.wandb` file is a log in the format of LevelDB's: blocks of 32 KiB holding records, each framed with checksum,
length and whether it is whole or a part. The records are W&B's protocol buffers, which its own package decodes.
Folders of one run that was resumed become one run.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunescope._values import metric_key
from tunescope.importers._record import (
    Column,
    ImportedFile,
    ImportedRun,
    ImportProblem,
    LeftOut,
    PointBuffer,
    Source,
    flatten,
    need,
    number,
)

__all__ = ["read"]

IDENT = b":W&B"
BLOCK = 1 << 15
HEADER = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
STILL_WRITING = 600.0  # seconds since the last write after which a run without an end is taken for crashed


def read(place: str | None, left_out: LeftOut) -> Source:
    """Every run below `place` (default ./wandb): a run's folder, a `wandb` folder, or a folder that has one."""
    need("wandb")
    records = need("wandb.proto.wandb_internal_pb2")
    root = Path(place or "wandb").expanduser()
    logs = _logs(root)
    if not logs:
        raise ImportProblem(f"There are no W&B run folders (offline-run-*, run-*) in {root}.")
    folders: dict[tuple[str, str], list[_Log]] = {}
    for path in logs:
        log = _Log(path, records, left_out)
        if log.head is None:
            left_out.add(path.name, "it holds no run that can be read")
        else:
            folders.setdefault((log.head.project, log.head.run_id), []).append(log)
    runs = [_Run(parts, left_out) for parts in folders.values()]
    return Source(_with_sweeps(runs), len(runs))


def _logs(root: Path) -> list[Path]:
    """`.wandb` files at most three folders deep, each once (`latest-run` is a link), oldest first."""
    if root.is_file():
        return [root]
    found = [file for depth in ("", "*/", "*/*/", "*/*/*/") for file in root.glob(f"{depth}run-*.wandb")]
    return sorted({file.resolve() for file in found}, key=lambda file: (file.parent.name, file.name))


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


@dataclass(slots=True)
class _Log:
    """One `.wandb` file."""

    path: Path
    records: Any
    left_out: LeftOut
    head: Any = field(init=False)
    """The record that describes the run, None if there is none that can be read."""

    def __post_init__(self) -> None:
        self.head = next((r.run for r in self.read(quiet=True) if r.WhichOneof("record_type") == "run"), None)

    def read(self, *, quiet: bool = False) -> Iterator[Any]:
        """Records up to the first damage, which is reported unless `quiet`."""
        with self.path.open("rb") as stream:
            if stream.read(7)[:4] != IDENT:
                if not quiet:
                    self.left_out.add(self.path.name, "it is no W&B log")
                return
            while True:
                start = stream.tell()
                payload = _next_record(stream)
                if payload is None:
                    break
                try:
                    record = self.records.Record.FromString(payload)
                except Exception:  # protobuf's errors differ between its implementations
                    break
                yield record
            left = self.path.stat().st_size - start
            if left > 0 and not quiet:
                self.left_out.add(
                    f"the last {left:,} bytes of {self.path.name}", f"cut off or damaged at byte {start:,}"
                )


def _next_record(stream: Any) -> bytes | None:
    """The next record, put together from its parts; None at the end or at a damage."""
    parts: list[bytes] = []
    while True:
        left = BLOCK - stream.tell() % BLOCK
        if left < HEADER.size:  # a header never spans two blocks
            stream.seek(left, 1)
        head = stream.read(HEADER.size)
        if len(head) < HEADER.size:
            return None
        checksum, length, kind = HEADER.unpack(head)
        data = stream.read(length)
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return None
        if (kind in (WHOLE, FIRST)) == bool(parts):  # a part that does not fit the one before
            return None
        parts.append(data)
        if kind in (WHOLE, LAST):
            return b"".join(parts)


class _Run:
    """What is gathered about one run while its logs are read."""

    def __init__(self, logs: list[_Log], left_out: LeftOut) -> None:
        head = logs[0].head
        self._logs = logs
        self._left_out = left_out
        self._summary: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._artifacts: dict[str, str] = {}
        self._step = 0
        self._last = self._began = _seconds(head.start_time)
        self._console = False
        self._ended = False
        project = head.project or "uncategorized"
        self.record = ImportedRun(
            identity=f"{project}/{head.run_id}",
            project=project,
            created_at=self._began,
            name=head.display_name or head.run_id,
            parent=f"{project}/sweeps/{head.sweep_id}" if head.sweep_id else None,
            environment={"imported": {"from": "wandb", "run_id": head.run_id}, **_environment(logs)},
            points=self._points,
            files=self._files,
        )

    def _points(self) -> Iterator[list[Column]]:
        buffer = PointBuffer()
        for log in self._logs:
            self._ended = False
            for record in log.read():
                self._take(record, buffer)
                if buffer.full:
                    yield buffer.drain()
        self._summary_points(buffer)
        self._end()
        yield buffer.drain()

    def _take(self, record: Any, buffer: PointBuffer) -> None:
        match record.WhichOneof("record_type"):
            case "history":
                self._take_history(record.history, buffer)
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
            case "output" | "output_raw":
                self._console = True
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

    def _take_history(self, history: Any, buffer: PointBuffer) -> None:
        values: dict[str, Any] = {}
        for item in history.item:
            _place(values, item, _json(item.value_json))
        step = values.pop("_step", history.step.num)
        at = number(values.pop("_timestamp", None))
        ran = number(values.pop("_runtime", None))
        at = at if at is not None else self._began + (ran or 0.0)
        self._step, self._last = int(step), max(self._last, at)
        for key, value in flatten(values):
            if key.startswith("_wandb"):
                continue
            self._seen.add(key)
            found = number(value)
            if found is None:
                self.record.keep(key, self._step, at, value)
            else:
                buffer.add(key, self._step, at, found)

    def _take_stats(self, stats: Any, buffer: PointBuffer) -> None:
        """System metrics; their step is the second of the run, as it is in runs of our own."""
        at = _seconds(stats.timestamp)
        self._last = max(self._last, at)
        for item in stats.item:
            found = number(_json(item.value_json))
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

    # --- files ---

    def _files(self) -> Iterator[ImportedFile]:
        taken: set[str] = set()
        for log in reversed(self._logs):  # of a resumed run, the latest
            folder = log.path.parent / "files"
            for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
                name = file.relative_to(folder).as_posix()
                if file.is_file() and name not in taken:
                    taken.add(name)
                    yield ImportedFile(name, file, _kind(name))
        if self._console and "output.log" not in taken:
            yield ImportedFile("output.log", self._console_text().encode(), "console")
        if self._summary and "wandb-summary.json" not in taken:
            summary = json.dumps({k: v for k, v in self._summary.items() if k != "_wandb"}, indent=1)
            yield ImportedFile("wandb-summary.json", summary.encode(), "summary")
        for name, local in self._artifacts.items():
            if Path(local).is_file():
                yield ImportedFile(name, Path(local), "artifact")
            else:
                self._left_out.add(f"file '{name}'", "its local copy is gone")

    def _console_text(self) -> str:
        lines: list[str] = []
        for log in self._logs:
            for record in log.read(quiet=True):
                kind = record.WhichOneof("record_type")
                if kind in ("output", "output_raw"):
                    lines.append(getattr(record, kind).line)
        return "".join(lines)


def _environment(logs: list[_Log]) -> dict[str, Any]:
    """What W&B recorded of machine and code, under the names runs of our own use."""
    file = logs[-1].path.parent / "files" / "wandb-metadata.json"
    head = logs[-1].head
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else _recorded_environment(logs[-1])
    git = held.get("git") or {}
    commit, remote = head.git.commit or git.get("commit"), head.git.remote_url or git.get("remote")
    found = {
        "git": {"commit": commit, "remote": remote} if commit or remote else None,
        "command": [held["program"], *held.get("args", [])] if held.get("program") else None,
        "working_directory": held.get("root"),
        "python": held.get("python"),
        "executable": held.get("executable"),
        "platform": held.get("os"),
        "host": held.get("host") or head.host,
        "user": held.get("username") or held.get("email"),
        "cpu_count": held.get("cpu_count_logical") or held.get("cpu_count"),
        "gpus": [gpu.get("name") for gpu in held.get("gpu_nvidia") or []] or None,
    }
    packages = logs[-1].path.parent / "files" / "requirements.txt"
    if packages.is_file():
        pairs = (line.partition("==") for line in packages.read_text(encoding="utf-8").splitlines())
        found["packages"] = {name: version for name, equals, version in pairs if equals}
    return {name: value for name, value in found.items() if value}


def _recorded_environment(log: _Log) -> dict[str, Any]:
    """What newer logs hold themselves, before the first step."""
    as_dict = need("google.protobuf.json_format").MessageToDict
    found: dict[str, Any] = {}
    for record in log.read(quiet=True):
        kind = record.WhichOneof("record_type")
        if kind == "environment":
            found |= as_dict(record.environment, preserving_proto_field_name=True)
        elif kind == "history":
            break
    return found


def _apply(into: dict[str, Any], changes: Any) -> None:
    """A record of changes: items that are set, by key or by a path of keys, and items that are removed."""
    for item in changes.update:
        _place(into, item, _json(item.value_json))
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


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _seconds(stamp: Any) -> float:
    return float(stamp.seconds) + float(stamp.nanos) / 1e9


def _kind(name: str) -> str:
    folder = name.split("/")[1] if name.startswith("media/") and name.count("/") > 1 else ""
    return {"images": "image", "audio": "audio", "table": "table"}.get(
        folder, "console" if name == "output.log" else "file"
    )
