"""`init` and `Run`: what a training script sees."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tunescope import _environment, _ranks, _settings
from tunescope._artifacts import UsedArtifact, checked_aliases, resolved
from tunescope._config import Config, mapping
from tunescope._exceptions import TunescopeError
from tunescope._hooks import Ending, Status, unwatch, watch
from tunescope._journal import Use, Version
from tunescope._values import to_plain
from tunescope._writer import FinishReport, Writer, WriterOptions

__all__ = ["Config", "Run", "init"]

log = logging.getLogger("tunescope")

Mode = Literal["online", "offline", "disabled"]
LONGEST_ERROR = 20_000
RUN_ID = re.compile(r"[0-9a-zA-Z][\w\-]{0,63}", re.ASCII)


def init(
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    tags: Mapping[str, Any] | Iterable[str] | None = None,
    group: str | None = None,
    *,
    notes: str | None = None,
    parent_run_id: str | None = None,
    data_hash: str | None = None,
    url: str | None = None,
    api_key: str | None = None,
    mode: Mode | None = None,
    resume: str | None = None,
    dir: str | Path | None = None,
    rank: int | None = None,
    system_interval: float | None = 10.0,
    console: bool = True,
    git_diff: bool = True,
    quiet: bool = False,
) -> Run:
    """Start a run, or continue one.

    Args:
        project: a named group of runs; default `TUNESCOPE_PROJECT`, else "default".
        config: hyper-parameters of any depth: a dictionary, dataclass or argparse namespace.
        tags: names with values, or only names.
        group: what belongs together, such as the seeds of one configuration.
        parent_run_id: the run this one is a part of (sweep, cross-validation).
        data_hash: hash of the training data, so that a run leads back to it.
        url, api_key: the service; default `TUNESCOPE_URL` (http://127.0.0.1:8000) and `TUNESCOPE_API_KEY`.
        mode: "online"; "offline" (only the journal, for `tunescope sync` later); "disabled" (nothing at all).
            Default `TUNESCOPE_MODE`, else online.
        resume: id of a run to continue; default `TUNESCOPE_RUN_ID`, which also starts the run of that id.
        dir: where journals are kept; default `TUNESCOPE_DIR`, else ~/.local/state/tunescope.
        rank: which of the processes of the run this is; default: what torch.distributed or the launcher says (`RANK`,
            `SLURM_PROCID`, `OMPI_COMM_WORLD_RANK`), else 0. Rank 0 makes the run and speaks for it: config, tags and
            status are its to say. The others join it by its id (`resume`, `TUNESCOPE_RUN_ID`) or, where all are on one
            machine or once torch.distributed is initialised, by themselves, and log metrics, files and console.
        system_interval: seconds between samples of CPU, memory, disk, network and GPUs; None for none.
        console: keep what is printed, secrets masked.
        git_diff: keep the uncommitted changes as the artifact `git.diff`, secrets masked.
        quiet: do not print the line at the end.

    Raises:
        ApiError: the service refuses the run: wrong key, a name that is not allowed, an unknown id to resume.
        JournalError: the journal cannot be written.
        TunescopeError: an argument makes no sense, or another rank than 0 cannot learn which run is meant.

    A service that does not answer is no error: the run goes on, is kept in the journal, and is sent when it can be.
    """
    mode = mode or _mode(_settings.mode())
    if mode not in ("online", "offline", "disabled"):
        raise TunescopeError(f"mode is 'online', 'offline' or 'disabled', not {mode!r}.")
    _checked(resume)
    now = time.time()
    settings = Config(mapping(config))
    rank = _ranks.rank_here() if rank is None and mode != "disabled" else rank or 0
    project = project or _settings.project()
    subject = f"{project}/{name}"
    given = resume or _checked(_settings.run_id())
    if given is None and rank > 0 and mode != "disabled":
        given = _ranks.joined(subject, rank)
    body: dict[str, Any] = {
        "id": given or new_id(),
        "project": project,
        "name": name,
        "config": dict(settings),
        "tags": _tags(tags),
        "group": group,
        "notes": notes,
        "parent_run_id": parent_run_id,
        "data_hash": data_hash,
        "created_at": now,
        "resume": "allow",
    }
    if mode == "disabled":
        return Run(body, settings, None, url=None, quiet=True)
    directory = Path(dir).expanduser().absolute() if dir is not None else _settings.directory().absolute()
    if resume is not None and not (directory / resume).is_dir():
        body["resume"] = "must"  # a run nobody here has heard of: a slip of the pen must not make a new one
    if rank == 0:
        body["environment"] = to_plain(_environment.capture())
    service = (url or _settings.url()).rstrip("/") if mode == "online" else None
    key = api_key or _settings.api_key()
    options = WriterOptions(directory, body, now, service, key, system_interval, rank, console, git_diff)
    run = Run(body, settings, options, url=_link(service, body["id"]), quiet=quiet)
    if rank == 0 and given is None:
        _ranks.announce(subject, run.id)
    return run


class Run:
    """A run being recorded. `log` may be called from any thread, and after a fork."""

    def __init__(
        self, body: dict[str, Any], config: Config, options: WriterOptions | None, *, url: str | None, quiet: bool
    ) -> None:
        """Made by `tunescope.init`."""
        self.id: str = body["id"]
        self.project: str = body["project"]
        self.rank = options.rank if options is not None else 0
        self.config = config
        self._options = options
        self._quiet = quiet
        self._report: FinishReport | None = None
        self._ending: Ending = ("finished", 0, None)
        self._warned = False
        self._forked = False
        self._writer: Writer | None = Writer(options) if options is not None else None
        self._put = self._writer.put if self._writer else _nothing
        answer = self._writer.run if self._writer else {}
        self.name: str = answer.get("name") or body["name"] or self.id
        self.url: str | None = url
        if self.rank == 0:
            if answer.get("config"):
                self.config.replace(answer["config"])
            self.config.changed = self._update_config
        if self._writer is not None:
            watch(self)

    def __repr__(self) -> str:
        rank = f", rank={self.rank}" if self.rank else ""
        return f"<tunescope.Run {self.name!r} of {self.project!r}, id={self.id}{rank}>"

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics, and media, at a step; without one, at the step after the last.

        Values are whatever is one number: Python, NumPy, one-element tensors; nested dictionaries become `a/b`. Media
        are `tunescope.Image`, `Audio`, `Text`, `Table`, `Histogram`, `Plot`, `ConfusionMatrix`, `PRCurve`, figures of
        Matplotlib or Plotly, PIL images, DataFrames, and lists of these: galleries.
        Returns at once and never raises: what cannot be stored is reported once, by name, through `logging`.
        """
        try:
            self._put(values, step)
        except Exception as error:  # training must not end because a number could not be logged
            if not self._warned:
                self._warned = True
                log.warning("tunescope: log(%.200r) could not be recorded: %r", values, error)

    def log_artifact(
        self,
        path: str | os.PathLike[str] | bytes,
        name: str | None = None,
        kind: str = "file",
        *,
        aliases: Sequence[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep a file, a folder, or bytes with the run, under `name` (default: the file's own).

        With `aliases`, even none (`[]`), it also becomes a version of the project's artifact of this name, to which
        `latest`, `v3` and these aliases lead: `run.log_artifact("ckpt/", "model", aliases=["best"])`, and later
        `run.use_artifact("model:best")`. What equals the newest version makes no new one. `about` is kept with it.
        The content is copied now and uploaded in the background. Raises FileNotFoundError if there is no such file.
        """
        if isinstance(path, bytes):
            if name is None:
                raise TunescopeError("log_artifact(bytes) needs a name.")
            files: list[tuple[str, Path | bytes, str]] = [(name, path, name.rpartition("/")[2])]
        else:
            source = Path(path)
            name = name or source.name
            if source.is_dir():
                inner = [(file, file.relative_to(source).as_posix()) for file in sorted(source.rglob("*"))]
                files = [(f"{name}/{own}", file, own) for file, own in inner if file.is_file()]
            elif source.is_file():
                files = [(name, source, source.name)]
            else:
                raise FileNotFoundError(f"There is no file {source} to keep with the run.")
        named = None if aliases is None else checked_aliases(name, aliases)
        kept = [(own, self._add_file(content, where, kind)) for where, content, own in files]
        writer = self._open_writer()
        if named is not None and kept and writer is not None:
            writer.add_record(Version(to_plain(name), kind, kept, named, to_plain(dict(about or {}))))

    def use_artifact(self, reference: str, project: str | None = None) -> UsedArtifact:
        """A version of an artifact, of which is kept that this run uses it: `run.use_artifact("model:champion")`.

        `reference` is a name, with an alias or a version behind a colon (default `latest`); `project` is another than
        the run's. `download()` of what comes back fetches the files. Asks the service, and so raises
        `ConnectionFailed` and `ApiError`; and `TunescopeError` offline.
        """
        if self._options is None or self._options.url is None:
            raise TunescopeError(f"use_artifact({reference!r}) asks the service: the run is offline or disabled.")
        used = resolved(reference, project or self.project, self._options.url, self._options.api_key)
        if (writer := self._open_writer()) is not None:
            writer.add_record(Use(used.id))
        return used

    def _add_file(self, source: Path | bytes, name: str, kind: str) -> str:
        """The path under which the run has it."""
        clean = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        clean = clean or "artifact"
        if (writer := self._open_writer()) is not None:
            writer.add_file(source, clean, kind)
        return clean

    def set_tags(self, tags: Mapping[str, Any] | Iterable[str]) -> None:
        """Add tags; one with the value None is taken away."""
        self._update({"tags": _tags(tags)})

    def set_notes(self, notes: str) -> None:
        self._update({"notes": to_plain(str(notes))})

    def _update_config(self, changes: dict[str, Any]) -> None:
        self._update({"config": changes})

    def _update(self, changes: dict[str, Any]) -> None:
        """Of several ranks, which all run the same script, rank 0 is heard."""
        if self.rank == 0 and (writer := self._open_writer()) is not None:
            writer.update(changes)

    def finish(self, status: Status = "finished", timeout: float = 30.0) -> FinishReport:
        """End the run: wait for what is still on its way, and say what is left and where.

        Takes at most `timeout` seconds, and about five if the service does not answer.
        """
        if status != "finished":
            self.ends((status, 1, None))
        if self._report is None:
            unwatch(self)
            self._report = self._finish(timeout)
        return self._report

    def _finish(self, timeout: float) -> FinishReport:
        writer, self._put = None if self._forked else self._writer, self._put_too_late
        if writer is None:
            return FinishReport(sent=0, stored=0, left=0, journal=None)
        status, exit_code, error = self._ending
        error = None if error is None else to_plain(error[-LONGEST_ERROR:])
        changes = {"status": status, "exit_code": exit_code, "error": error, "finished_at": time.time()}
        report = writer.finish(changes if writer.main else None, timeout)
        if writer.main and not self._quiet:
            print(self._summary(status, report), file=sys.stderr)
        return report

    def _summary(self, status: str, report: FinishReport) -> str:
        if self.url is None:
            return f"tunescope: {self.name} {status}, {report.left:,} points kept: tunescope sync {report.journal}"
        left = f", {report.left:,} left: tunescope sync {report.journal}" if report.left else ""
        return f"tunescope: {self.name} {status}, {report.sent:,} points sent{left} · {self.url}"

    # --- how the process ends, and forks (see `_hooks.py`) ---

    def ends(self, ending: Ending) -> None:
        """Note how the run is going to end; `finish` tells it. The first reason wins."""
        if self._ending[0] == "finished":
            self._ending = ending

    def finish_here(self, timeout: float) -> None:
        """Finish what this process has recorded; nothing in a forked child that recorded nothing."""
        if not self._forked:
            self.finish(timeout=timeout)

    def after_fork(self) -> None:
        """In a forked child: its first record opens a journal of its own, for the same run."""
        if self._writer is not None and self._report is None:
            self._forked = True
            self._put = self._put_in_child

    def _open_writer(self) -> Writer | None:
        """The writer of this process, if there is anything left to write to."""
        if self._report is not None or self._writer is None or self._options is None:
            return None
        if self._forked:
            self._writer = Writer(self._options, next_step=self._writer.recorder.next_step, forked=True)
            self._put, self._forked = self._writer.put, False
        return self._writer

    def _put_in_child(self, values: Mapping[Any, Any], step: int | None) -> None:
        if (writer := self._open_writer()) is not None:
            writer.put(values, step)

    def _put_too_late(self, values: Mapping[Any, Any], step: int | None) -> None:
        if not self._warned:
            self._warned = True
            log.warning("tunescope: the run %s is finished; what is logged now is not recorded.", self.name)

    @property
    def finished(self) -> bool:
        """Whether `finish` has been called: nothing is recorded any more."""
        return self._report is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = error.code if isinstance(error, SystemExit) else 1
        if error is not None and code not in (None, 0):
            text = "".join(traceback.format_exception(kind, error, trace))
            self.ends(("failed", code if isinstance(code, int) else 1, text))
        self.finish()


def new_id() -> str:
    """A UUIDv7 as 32 hex digits: unique, and sorted by the millisecond it was made in."""
    random = int.from_bytes(os.urandom(10), "big")
    value = time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return f"{value:032x}"


def _link(service: str | None, run_id: str) -> str | None:
    """Where a person can look at the run: its page, if it is known where the dashboard is."""
    dashboard = _settings.dashboard_url()
    if service is None:
        return None
    # The page at the service's root knows where its dashboard is.
    return f"{dashboard}/run?id={run_id}" if dashboard else f"{service}/#/runs/{run_id}"


def _checked(run_id: str | None) -> str | None:
    if run_id is not None and not RUN_ID.fullmatch(run_id):
        raise TunescopeError(f"{run_id!r} is not the id of a run.")
    return run_id


def _mode(text: str) -> Any:
    return text.lower()


def _tags(tags: Mapping[str, Any] | Iterable[str] | None) -> dict[str, Any]:
    if isinstance(tags, Mapping):
        return {to_plain(str(key)): None if value is None else to_plain(str(value)) for key, value in tags.items()}
    return {to_plain(str(tag)): "true" for tag in ([tags] if isinstance(tags, str) else tags or [])}


def _nothing(values: Mapping[Any, Any], step: int | None) -> None:
    """A disabled run records nothing."""
