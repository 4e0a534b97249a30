"""TensorBoard: a folder of event files, read with TensorBoard's own record loader and protocol buffers.

A folder with event files is a run, named by its path. Scalars come in both formats (`simple_value` and tensors). What
`add_hparams` of PyTorch writes beside a run, in a folder named by the time, belongs to that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tunescope._values import metric_key
from tunescope.importers._media import Place, gallery, histogram, text
from tunescope.importers._record import (
    Column,
    ImportedMedium,
    ImportedRun,
    ImportProblem,
    LeftOut,
    PointBuffer,
    Source,
    Status,
    need,
)
from tunescope.media import LARGEST_GALLERY

__all__ = ["read"]

HPARAMS_FOLDER = re.compile(r"\d{9,}(\.\d+)?")
END: dict[int, Status] = {1: "finished", 2: "failed", 3: "running"}
FRAME = 16  # bytes around a record: its length and two checksums
# Kinds of values by the plugin that shows them, in the old format.
PLUGIN = {"image": "images", "audio": "audio", "histo": "histograms"}
MEDIA = frozenset({"images", "audio", "text", "histograms"})


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
        run.media = events.shown
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
        tag, kind, plugin = value.tag, value.WhichOneof("value"), self._plugin(value)
        if plugin == "hparams":
            _take_hparams(run, value.metadata.plugin_data.content)
        elif kind == "simple_value":
            buffer.add(metric_key(tag), event.step, event.wall_time, value.simple_value)
        elif kind == "tensor" and plugin in ("scalars", ""):
            self._take_tensor(run, buffer, event, value)
        elif self._plugin(value) in MEDIA:
            if self._media_of(event, value):
                self.media = True
            else:
                run.keep(tag, event.step, event.wall_time, self._as_value(value))
        else:
            self.left_out.add(f"'{tag}' of plugin {plugin or kind}", "no counterpart")

    def _take_tensor(self, run: ImportedRun, buffer: PointBuffer, event: Any, value: Any) -> None:
        array = need("tensorboard.util.tensor_util").make_ndarray(value.tensor)
        if array.size == 1 and array.dtype.kind in "biuf":
            buffer.add(metric_key(value.tag), event.step, event.wall_time, float(array.reshape(())))
        else:
            run.keep(value.tag, event.step, event.wall_time, {"type": "tensor", "values": _plain(array)})

    def _plugin(self, value: Any) -> str:
        own = value.metadata.plugin_data.plugin_name or PLUGIN.get(value.WhichOneof("value"), "")
        return self.plugins.setdefault(value.tag, own)

    def shown(self) -> Iterator[ImportedMedium]:
        """Images, sounds, texts and histograms, in a second reading so that no more than one is held at a time."""
        if not self.media:
            return
        for event in self.read(quiet=True):
            for value in event.summary.value:
                if self._plugin(value) in MEDIA:
                    yield from self._media_of(event, value)

    def _media_of(self, event: Any, value: Any) -> list[ImportedMedium]:
        place, kind = Place(value.tag, event.step, event.wall_time), value.WhichOneof("value")
        parts = list(value.tensor.string_val) if kind == "tensor" else []
        match self._plugin(value):
            case "images":
                # A tensor is the width, the height, and pictures.
                pictures = [value.image.encoded_image_string] if kind == "image" else parts[2:]
                return gallery(pictures, [None] * len(pictures), place)
            case "audio":
                # A tensor has pairs of sound and label.
                sounds = [value.audio.encoded_audio_string] if kind == "audio" else parts[::2]
                labels = [label.decode("utf-8", "replace") or None for label in parts[1::2]]
                return gallery(sounds, labels if len(labels) == len(sounds) else [None] * len(sounds), place)
            case "text":
                texts = enumerate(_texts(value.tensor)) if len(parts) <= LARGEST_GALLERY else ()
                found = [text(one, replace(place, position=at, of=len(parts))) for at, one in texts]
            case _:
                found = [_as_histogram(value, place)]
        return [one for one in found if one is not None] if None not in found else []

    def _as_value(self, value: Any) -> dict[str, Any]:
        """What is kept of a value that is no medium here."""
        if self._plugin(value) == "text":
            return {"type": "text", "text": _texts(value.tensor)}
        if self._plugin(value) == "histograms":
            return {"type": "histogram", **_histogram(value)}
        return {"type": self._plugin(value), "values": "no image or sound of a form that is known here"}


def _as_histogram(value: Any, place: Place) -> ImportedMedium | None:
    buckets = _histogram(value)
    if buckets["left"][1:] != buckets["right"][:-1]:  # there is a gap between two
        return None
    return histogram([*buckets["left"], *buckets["right"][-1:]], buckets["counts"], place)


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
