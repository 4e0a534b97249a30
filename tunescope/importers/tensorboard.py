"""TensorBoard: a folder of event files, read with TensorBoard's own record loader and protocol buffers.

A folder with event files is a run, named by its path. Scalars come in both formats (`simple_value` and tensors). What
`add_hparams` of PyTorch writes beside a run, in a folder named by the time, belongs to that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
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
    Status,
    need,
)

__all__ = ["read"]

HPARAMS_FOLDER = re.compile(r"\d{9,}(\.\d+)?")
END: dict[int, Status] = {1: "finished", 2: "failed", 3: "running"}
FRAME = 16  # bytes around a record: its length and two checksums
MEDIA = {"images": "png", "audio": "wav"}


def read(place: str | None, left_out: LeftOut) -> Source:
    """A run for every folder at or below `place` that holds event files. The project is named like the folder."""
    need("tensorboard.backend.event_processing.event_file_loader")
    root = Path(place or "runs").expanduser()
    folders = _folders(root)
    if not folders:
        raise ImportProblem(f"There are no TensorBoard event files in {root}.")
    return Source(_runs(root, folders, left_out), len(folders))


@dataclass(slots=True)
class _Folder:
    path: Path
    name: str
    files: list[Path]
    parent: _Folder | None = None
    first: str = ""
    """The run is known by its name and its first file, whose name holds time, host and process."""

    @property
    def identity(self) -> str:
        return f"{self.name}\n{self.first}"


def _folders(root: Path) -> list[_Folder]:
    """Folders with event files, the outer before the inner; those of `add_hparams` are merged into their run."""
    files: dict[Path, list[Path]] = {}
    for file in sorted(root.rglob("*tfevents*") if root.is_dir() else [root]):
        if file.is_file() and "tfevents" in file.name:
            files.setdefault(file.parent, []).append(file)
    found: dict[Path, _Folder] = {}
    for path in sorted(files):
        nearest = next((found[outer] for outer in path.parents if outer in found), None)
        inside = path.relative_to(root).as_posix() if root.is_dir() else "."
        name = root.resolve().name if inside == "." else inside
        found[path] = _Folder(path, name, files[path], nearest, files[path][0].name)
    for folder in list(found.values()):
        siblings = [one for one in found.values() if one.parent is folder and HPARAMS_FOLDER.fullmatch(one.path.name)]
        if len(siblings) == 1 and not any(one.parent is siblings[0] for one in found.values()):
            folder.files += siblings[0].files
            del found[siblings[0].path]
    return list(found.values())


def _runs(root: Path, folders: list[_Folder], left_out: LeftOut) -> Iterator[ImportedRun]:
    project = root.resolve().name if root.is_dir() else root.resolve().parent.name
    for folder in folders:
        events = _Events(folder, left_out)
        began = events.began()
        if began is None:
            left_out.add(f"run '{folder.name}'", "its event files hold nothing that can be read")
            continue
        run = ImportedRun(
            identity=folder.identity,
            project=project,
            name=folder.name,
            parent=folder.parent.identity if folder.parent else None,
            created_at=began,
            environment={"imported": {"from": "tensorboard", "folder": str(folder.path.absolute())}},
        )
        run.points = partial(events.points, run)
        run.files = events.files
        yield run


@dataclass(slots=True)
class _Events:
    """The events of one run, file after file."""

    folder: _Folder
    left_out: LeftOut
    plugins: dict[str, str] = field(default_factory=dict)
    """Which plugin a tag belongs to: only its first value says so."""
    media: bool = False

    def began(self) -> float | None:
        first = next(self.read(quiet=True), None)
        return None if first is None else float(first.wall_time)

    def read(self, *, quiet: bool = False) -> Iterator[Any]:
        """Up to the first damage of each file, which is reported unless `quiet`."""
        load = need("tensorboard.backend.event_processing.event_file_loader").RawEventFileLoader
        parse = need("tensorboard.compat.proto.event_pb2").Event.FromString
        for file in self.folder.files:
            seen = 0
            problem = "cut off or damaged"
            for record in load(str(file)).Load():
                try:
                    event = parse(record)
                except Exception as error:  # protobuf's errors differ between its implementations
                    problem = str(error)
                    break
                seen += FRAME + len(record)
                yield event
            left = file.stat().st_size - seen
            if left > 0 and not quiet:
                self.left_out.add(f"the last {left:,} bytes of {file.name}", f"{problem} at byte {seen:,}")

    def points(self, run: ImportedRun) -> Iterator[list[Column]]:
        buffer, last = PointBuffer(), run.created_at
        for event in self.read():
            last = max(last, event.wall_time)
            for value in event.summary.value:
                self._take(run, buffer, event, value)
            for what in ("graph_def", "meta_graph_def", "tagged_run_metadata"):
                if event.HasField(what):
                    self.left_out.add(f"graph of run '{run.name}'", "graphs have no counterpart")
            if buffer.full:
                yield buffer.drain()
        run.finished_at = run.finished_at or (last if run.status != "running" else None)
        yield buffer.drain()

    def _take(self, run: ImportedRun, buffer: PointBuffer, event: Any, value: Any) -> None:
        tag, kind = value.tag, value.WhichOneof("value")
        plugin = value.metadata.plugin_data.plugin_name or self.plugins.get(tag, "")
        self.plugins.setdefault(tag, plugin)
        if plugin == "hparams":
            _take_hparams(run, value.metadata.plugin_data.content)
        elif kind == "simple_value":
            buffer.add(metric_key(tag), event.step, event.wall_time, value.simple_value)
        elif kind == "tensor" and plugin in ("scalars", ""):
            self._take_tensor(run, buffer, event, value)
        elif kind in ("image", "audio") or plugin in MEDIA:
            self.media = True
        elif kind == "tensor" and plugin == "text":
            run.keep(tag, event.step, event.wall_time, {"type": "text", "text": _texts(value.tensor)})
        elif kind == "histo" or plugin == "histograms":
            run.keep(tag, event.step, event.wall_time, {"type": "histogram", **_histogram(value)})
        else:
            self.left_out.add(f"'{tag}' of plugin {plugin or kind}", "no counterpart")

    def _take_tensor(self, run: ImportedRun, buffer: PointBuffer, event: Any, value: Any) -> None:
        array = need("tensorboard.util.tensor_util").make_ndarray(value.tensor)
        if array.size == 1 and array.dtype.kind in "biuf":
            buffer.add(metric_key(value.tag), event.step, event.wall_time, float(array.reshape(())))
        else:
            run.keep(value.tag, event.step, event.wall_time, {"type": "tensor", "values": _plain(array)})

    def files(self) -> Iterator[ImportedFile]:
        """Images and sounds, in a second reading so that no more than one is held at a time."""
        if not self.media:
            return
        for event in self.read(quiet=True):
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                plugin = value.metadata.plugin_data.plugin_name or self.plugins.get(value.tag, "")
                folder = {"image": "images"}.get(kind, plugin if kind == "tensor" else kind)
                for number, content in enumerate(_encoded(value, kind, folder)):
                    ending = f"-{number}" if number else ""
                    name = f"media/{folder}/{_path(value.tag)}/{event.step}{ending}.{MEDIA[folder]}"
                    yield ImportedFile(name, content, {"images": "image"}.get(folder, folder))


def _encoded(value: Any, kind: str, folder: str) -> list[bytes]:
    """The encoded pictures or sounds of a value; none for a value of another sort."""
    if kind == "image":
        return [value.image.encoded_image_string]
    if kind == "audio":
        return [value.audio.encoded_audio_string]
    if kind != "tensor" or folder not in MEDIA:
        return []
    # An image tensor is its width, its height and pictures; a sound tensor has pairs of sound and label.
    texts = list(value.tensor.string_val)
    return texts[2:] if folder == "images" else texts[::2]


def _path(tag: str) -> str:
    """A tag as an artifact's path."""
    parts = [part if part not in {"", ".", ".."} else "_" for part in tag.replace("\\", "_").split("/")]
    return "/".join(parts)


def _take_hparams(run: ImportedRun, content: bytes) -> None:
    data = need("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData.FromString(content)
    if data.HasField("session_start_info"):
        start = data.session_start_info
        for name, value in start.hparams.items():
            run.config[name] = getattr(value, value.WhichOneof("kind") or "null_value")
        run.group = start.group_name or run.group
    elif data.HasField("session_end_info"):
        run.status = END.get(data.session_end_info.status, run.status)
        run.finished_at = data.session_end_info.end_time_secs or run.finished_at
    elif data.HasField("experiment") and data.experiment.description:
        run.notes = data.experiment.description


def _texts(tensor: Any) -> list[str]:
    return [text.decode("utf-8", "replace") for text in tensor.string_val]


def _histogram(value: Any) -> dict[str, Any]:
    """Edges and counts of the buckets."""
    modern = need("tensorboard.data_compat").migrate_value(value)
    buckets = need("tensorboard.util.tensor_util").make_ndarray(modern.tensor)
    return {"left": _plain(buckets[:, 0]), "right": _plain(buckets[:, 1]), "counts": _plain(buckets[:, 2])}


def _plain(array: Any) -> Any:
    return [text.decode("utf-8", "replace") for text in array.ravel()] if array.dtype == object else array.tolist()
