"""What an importer gives: runs as plain records, their points as columns, their files. Nothing here talks to anyone."""

from __future__ import annotations

import importlib
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Literal, NamedTuple, Protocol

from tunescope._exceptions import TunescopeError
from tunescope._values import INT64, metric_key, to_number, to_plain

__all__ = [
    "Column",
    "ImportProblem",
    "ImportedEvaluation",
    "ImportedFile",
    "ImportedLine",
    "ImportedLoggedModel",
    "ImportedMedium",
    "ImportedModel",
    "ImportedResult",
    "ImportedRun",
    "ImportedVersion",
    "Importer",
    "LeftOut",
    "PointBuffer",
    "Reported",
    "Source",
    "flatten",
    "need",
    "number",
    "whole",
]

BUFFERED_POINTS = 1 << 16
NAMED_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
Status = Literal["running", "finished", "failed", "crashed", "killed"]


class ImportProblem(TunescopeError):
    """A source cannot be read, or what is needed to read it is not installed."""


@dataclass(slots=True)
class Column:
    """Points of one metric in the order they were logged: int64 steps, float64 Unix seconds, float64 values; and the
    rank of the process that logged them."""

    key: str
    steps: array[int]
    times: array[float]
    values: array[float]
    rank: int = 0

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, start: int, end: int) -> Column:
        """The points from `start` up to `end`, counted from 0."""
        return Column(self.key, self.steps[start:end], self.times[start:end], self.values[start:end], self.rank)


class PointBuffer:
    """Collects single points into columns, so that an importer may read its source in the source's own order."""

    def __init__(self, limit: int = BUFFERED_POINTS) -> None:
        self._columns: dict[str, Column] = {}
        self._count = 0
        self._limit = limit

    def add(self, key: str, step: int, time: float, value: float) -> None:
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = Column(key, array("q"), array("d"), array("d"))
        column.steps.append(step)
        column.times.append(time)
        column.values.append(value)
        self._count += 1

    @property
    def full(self) -> bool:
        return self._count >= self._limit

    def drain(self) -> list[Column]:
        columns, self._columns, self._count = list(self._columns.values()), {}, 0
        return columns


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file to be kept with the run. `path` is its name there, parts joined by `/`."""

    path: str
    content: Path | bytes
    kind: str = "file"


@dataclass(frozen=True, slots=True)
class ImportedMedium:
    """A medium to be kept with the run; `about` is what `Client.upload_media` takes besides the content."""

    content: Path | bytes
    about: dict[str, Any]


class ImportedLine(NamedTuple):
    """A line that the run printed: Unix seconds, stdout or stderr, text, and the rank of the process."""

    time: float
    stream: Literal["stdout", "stderr"]
    text: str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class ImportedEvaluation:
    """Predictions on a suite, to be scored again. `suite` and `about` are what `Client.create_suite` and
    `Client.create_evaluation` take; the first is called only if there are predictions to store."""

    suite: Callable[[], dict[str, Any]]
    suite_name: str
    suite_hash: str
    prediction_hash: str
    about: dict[str, Any]
    predictions: Callable[[], list[dict[str, Any]]]


def _nothing() -> Iterator[Any]:
    return iter(())


@dataclass(slots=True)
class ImportedRun:
    """One run of a source.

    `points`, `console`, `files`, `media` and `evaluations` are called once each, in this order, and may complete the
    other fields while they run: those are written when all are through. Only `identity`, `parent`, `project`, `name`,
    `created_at` and `environment` must be right from the start. Points of one metric, and lines of one process, come
    in the same order every time a source is read, so that an import that was cut off goes on where it stopped.
    """

    identity: str
    """Names the run within its source, the same for ever."""
    project: str
    created_at: float
    name: str | None = None
    parent: str | None = None
    """`identity` of the run this one is a part of."""
    group: str | None = None
    notes: str | None = None
    status: Status = "finished"
    finished_at: float | None = None
    exit_code: int | None = None
    error: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    data_hash: str | None = None
    points: Callable[[], Iterator[list[Column]]] = _nothing
    console: Callable[[], Iterable[ImportedLine]] = _nothing
    files: Callable[[], Iterable[ImportedFile]] = _nothing
    media: Callable[[], Iterable[ImportedMedium]] = _nothing
    evaluations: Callable[[], Iterable[ImportedEvaluation]] = _nothing
    log: ValueLog | None = None

    def keep(self, key: str, step: int, time: float, value: Any) -> None:
        """Keep what was logged and is no number: it goes into the run's file `logged-values.jsonl`."""
        if self.log is None:
            self.log = ValueLog()
        self.log.add(key, step, time, value)


@dataclass(slots=True)
class ImportedLoggedModel:
    """A model that a run saved, with files of its own. Runs are named by their `identity`."""

    identity: str
    project: str
    name: str
    created_at: float
    updated_at: float
    run: str | None = None
    model_type: str | None = None
    status: Literal["UNSPECIFIED", "PENDING", "READY", "FAILED"] = "READY"
    status_message: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    made_by: list[tuple[str, int]] = field(default_factory=list)
    """Runs that had it as an output, each at a step."""
    used_by: list[str] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """What was measured on it: run, key, value, step, time, dataset_name, dataset_digest."""
    files: Callable[[], Iterable[ImportedFile]] = _nothing


@dataclass(slots=True)
class ImportedVersion:
    """A version of a registered model. `run` and `logged_model` are identities; `path`: its files among those of the
    run."""

    number: int
    created_at: float
    source: str | None = None
    run: str | None = None
    path: str | None = None
    logged_model: str | None = None
    stage: str = "None"
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ImportedModel:
    """A registered model, or a prompt; versions upwards."""

    name: str
    created_at: float
    is_prompt: bool = False
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    versions: list[ImportedVersion] = field(default_factory=list)


class ValueLog:
    """A temporary file of logged values that are no numbers, one JSON object a line: key, step, time, value."""

    name = "logged-values.jsonl"

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.NamedTemporaryFile("w+", encoding="utf-8", suffix=".jsonl")  # noqa: SIM115
        self.counts: Counter[str] = Counter()

    def add(self, key: str, step: int, time: float, value: Any) -> None:
        self.counts[key] += 1
        line = {"key": key, "step": step, "time": time, "value": to_plain(value)}
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def as_file(self) -> ImportedFile:
        self._file.flush()
        return ImportedFile(self.name, Path(self._file.name), "values")

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Reported:
    """A value that a harness gave for a set, under the harness's name for it.

    `metric`: the one here that must give the same, times `factor`; None where there is none, and `reason` says why.
    `over`: how many items it was taken over, where that is not all of them: the others count as 0 here.
    """

    name: str
    value: float
    metric: str | None = None
    reason: str = ""
    factor: float = 1.0
    over: int | None = None


@dataclass(frozen=True, slots=True)
class ImportedResult:
    """What a harness made of one model's answers to one task: a suite, predictions, and what it said of them.

    `suite` is what `Client.create_suite` takes. Results of one `group` (epochs, say) share what was reported: it is the
    mean of theirs.
    """

    model: str
    name: str
    suite: dict[str, Any]
    predictions: list[dict[str, Any]]
    settings: dict[str, Any]
    reported: list[Reported]
    group: tuple[str, ...]


@dataclass(slots=True)
class Source:
    """The runs of one place, read lazily, then its models; or the results of a harness, all read."""

    runs: Iterator[ImportedRun] = field(default_factory=_nothing)
    total: int | None = None
    """How many runs there are, if that is known before they are read."""
    keeps_ids: bool = False
    """Whether identities are run ids of Tunescope, to be kept."""
    results: list[ImportedResult] | None = None
    """None where runs are read."""
    logged_models: Callable[[], Iterator[ImportedLoggedModel]] = _nothing
    """Called once all runs are read."""
    models: Callable[[], Iterator[ImportedModel]] = _nothing
    """Called after those."""
    close: Callable[[], object] = _nothing
    """Called when nothing more is read."""


class LeftOut:
    """What could not be brought over: how often, by name and reason."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, reason: str, count: int = 1) -> None:
        self.counts[name, reason] += count


class Importer(Protocol):
    def __call__(self, place: str | None, left_out: LeftOut) -> Source:
        """The runs at `place`. Raises `ImportProblem` when there is nothing to read."""


def need(module: str, extra: str = "importers") -> ModuleType:
    """A package of the optional extra, or one sentence that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ImportProblem(
            f"This needs the package {error.name or package}: pip install 'tunescope[{extra}]'"
        ) from error


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of what was logged in one call, keys joined by `/`. An object with a `_type` is one value, not a group."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "_type" not in value:
            yield from flatten(value, f"{name}/")
        else:
            yield metric_key(name), value


def number(value: Any) -> float | None:
    """The value as a float64, None if it is not one number. JSON's names for NaN and the infinities are numbers."""
    if isinstance(value, str):
        return float(value) if value in NAMED_NUMBERS else None
    return to_number(value)


def whole(value: Any) -> int | None:
    """The value as a step, None if it is not one."""
    found = number(value)
    if found is None or found != found or found in (float("inf"), float("-inf")):
        return None
    step = int(value) if isinstance(value, int) else int(found)
    return step if step in INT64 else None
