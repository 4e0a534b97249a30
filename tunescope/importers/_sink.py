"""Where imported runs go: the service's ordinary API, in numbered batches, each point once.

An import may be cut off and repeated at any time. The id of a run follows from its identity in the source, so that the
same run is met again. Of each metric the service says how many points it holds, and that many are passed over; a batch
whose answer was lost is sent again under its number, and the service drops it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from tunescope import _journal
from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, ConnectionFailed
from tunescope._journal import little_endian
from tunescope._values import to_plain
from tunescope.importers._contents import Contents, Tally, files_of
from tunescope.importers._model_sink import Models
from tunescope.importers._record import Column, ImportedRun, LeftOut, Source

__all__ = ["NAMESPACE", "Sink", "Tally", "again", "run_id"]

T = TypeVar("T")
NAMESPACE = uuid.UUID("6f1a7a4e-3e0b-5b0c-9a53-1f2f0d7c8e11")
WRITER = "import"
ATTEMPTS = 6
MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_NAME = 250
POINTS_A_BATCH = 1 << 17
LINES_A_BATCH = 2000
LONGEST_LINE = 20_000


def run_id(kind: str, project: str, identity: str) -> str:
    """The id an imported run has: always the same, and another one in another project."""
    return uuid.uuid5(NAMESPACE, f"{kind}\n{project}\n{identity}").hex


@dataclass(slots=True)
class _Held:
    """What the service has of a run."""

    new: bool
    counts: dict[tuple[int, str], int] = field(default_factory=dict)
    """Points by rank and metric."""
    batch: int = 0
    stored: int = 0


class Sink:
    """Writes runs one after the other. Without a client it only counts: a dry run."""

    def __init__(self, client: Client | None, kind: str, project: str | None, left_out: LeftOut) -> None:
        """`project`: where all runs go; None leaves them in the projects the source names."""
        self.tally = Tally()
        self._client = client
        self._kind = kind
        self._project = project
        self._left_out = left_out
        self._own_ids: dict[str, str] = {}
        self._contents = Contents(client, self._again, self.tally, left_out) if client is not None else None

    def write_all(self, source: Source, progress: Callable[[str, Tally], None]) -> None:
        """Write every run of a source, then its models. What is refused is left out by name; the rest goes on.

        Raises:
            ConnectionFailed: the service is away. What was written stays; repeat the import to go on.
        """
        try:
            self._write_runs(source, progress)
            self._write_models(source, progress)
        finally:
            source.close()
        progress("", self.tally)

    def _write_runs(self, source: Source, progress: Callable[[str, Tally], None]) -> None:
        for run in source.runs:
            progress(run.name or run.identity, self.tally)
            try:
                self._write(run, source.keeps_ids and self._project is None, progress)
            except ApiError as error:
                if error.status in {401, 403}:
                    raise
                self._left_out.add(f"run '{run.name or run.identity}'", error.message.rstrip("."))
            finally:
                if run.log is not None:
                    run.log.close()

    def _write_models(self, source: Source, progress: Callable[[str, Tally], None]) -> None:
        def id_of(project: str, identity: str) -> str:
            return f"m-{run_id(self._kind, (self._project or project)[:LONGEST_NAME], identity)}"

        again = None if self._client is None else self._again
        models = Models(again, self.tally, self._left_out, self._own_ids, id_of)
        for logged in source.logged_models():
            progress(logged.name, self.tally)
            models.store_logged(logged, (self._project or logged.project)[:LONGEST_NAME])
        for model in source.models():
            progress(model.name, self.tally)
            models.store(model)

    def _write(self, run: ImportedRun, keep_id: bool, progress: Callable[[str, Tally], None]) -> None:
        project = (self._project or run.project)[:LONGEST_NAME]

        def id_of(identity: str) -> str:
            return identity if keep_id else run_id(self._kind, project, identity)

        own_id = id_of(run.identity)
        held = self._open(run, own_id, project, id_of(run.parent) if run.parent else None)
        for columns in run.points():
            for part in _parts(columns):
                self._send(own_id, held, part)
                progress(run.name or run.identity, self.tally)
        self._print(run, own_id, held)
        if self._contents is not None:
            self._contents.store(run, own_id, held.new)
        else:
            self._count(run)
        if self._client is not None:
            changes = {**_ending(run), "points_sent": held.stored}
            self._again(lambda client: client.update_run(own_id, **changes))
        self._own_ids[run.identity] = own_id
        self.tally.runs += 1
        self.tally.new_runs += held.new
        self.tally.params += _leaves(run.config)
        self.tally.tags += len(run.tags)

    # --- the run ---

    def _open(self, run: ImportedRun, own_id: str, project: str, parent: str | None) -> _Held:
        """Create the run, or learn what the service already has of it. A run that is there is not woken up."""
        if self._client is None:
            return _Held(new=True)
        body = {
            "id": own_id,
            "project": project,
            "name": to_plain(run.name[:LONGEST_NAME]) if run.name else None,
            "parent_run_id": parent,
            "environment": to_plain(run.environment),
            "created_at": run.created_at,
        }
        try:
            self._again(lambda client: client.create_run(**body))
            return _Held(new=True)
        except ApiError as error:
            if error.code != "run_exists":
                raise
        known = self._again(lambda client: client.get_run(own_id))
        if known["project"] != project:
            raise ApiError(409, "run_exists", f"Its id {own_id} is taken by a run of project '{known['project']}'")
        # An empty batch 1 is a question: stored if this writer is new here, answered with its last number if not.
        answer = self._send_batch(own_id, 1, [])
        listed = self._again(lambda client: client.run_series(own_id))["items"]
        counts = {(one["rank"], one["key"]): one["count"] for one in listed}
        return _Held(False, counts, answer["last_batch"], answer["points_stored"])

    # --- points ---

    def _send(self, own_id: str, held: _Held, columns: list[Column]) -> None:
        fresh: list[Column] = []
        for column in columns:
            place = column.rank, column.key
            known = min(held.counts.get(place, 0), len(column))
            if known:
                held.counts[place] -= known
                self.tally.known_points += known
            if known < len(column):
                fresh.append(column.between(known, len(column)) if known else column)
        if not fresh:
            return
        if self._client is not None:
            for rank in sorted({column.rank for column in fresh}):
                of_rank = [column for column in fresh if column.rank == rank]
                answer = self._send_batch(own_id, held.batch + 1, of_rank, rank)
                held.batch, held.stored = answer["last_batch"], answer["points_stored"]
        self.tally.points += sum(len(column) for column in fresh)

    def _print(self, run: ImportedRun, own_id: str, held: _Held) -> None:
        """Send the lines that the service does not have, in the order they came in."""
        known: Counter[int] | None = None
        for rank, lines in _lines(run):
            if known is None:
                known = Counter() if held.new or self._client is None else self._known_lines(own_id)
            passed = min(known[rank], len(lines))
            known[rank] -= passed
            self.tally.known_lines += passed
            if fresh := lines[passed:]:
                self.tally.lines += len(fresh)
                if self._client is not None:
                    held.batch = self._send_batch(own_id, held.batch + 1, [], rank, fresh)["last_batch"]

    def _known_lines(self, own_id: str) -> Counter[int]:
        """How many lines of each rank the service has."""
        found: Counter[int] = Counter()
        cursor, more = 0, True
        while more:
            page = self._console_page(own_id, cursor)
            found.update(line["rank"] for line in page["items"])
            cursor, more = page["cursor"], page["more"]
        return found

    def _console_page(self, own_id: str, cursor: int) -> Json:
        return self._again(lambda client: client.console(own_id, after=cursor, limit=10_000))

    def _send_batch(
        self, own_id: str, number: int, columns: list[Column], rank: int = 0, lines: Sequence[list[Any]] = ()
    ) -> Json:
        packed = [
            _journal.Column(c.key, little_endian(c.steps), little_endian(c.times), little_endian(c.values))
            for c in columns
        ]
        batch = {"writer": WRITER, "batch": number, "rank": rank, "metrics": packed, "console": lines}
        body = msgspec.msgpack.encode(batch)
        return self._again(lambda client: client.send_batch(own_id, body))

    def _count(self, run: ImportedRun) -> None:
        """What a dry run would store besides points and lines."""
        self.tally.artifacts += sum(1 for _ in files_of(run))
        self.tally.media += sum(1 for _ in run.media())
        self.tally.evaluations += sum(1 for _ in run.evaluations())

    def _again(self, ask: Callable[[Client], T]) -> T:
        assert self._client is not None
        return again(self._client, ask)


def again(client: Client, ask: Callable[[Client], T]) -> T:
    """Ask the service, again while it may come back. Everything that is asked here may be asked twice."""
    for attempt in range(ATTEMPTS):
        try:
            return ask(client)
        except (ConnectionFailed, ApiError) as error:
            passing = isinstance(error, ConnectionFailed) or error.status in MAY_PASS
            if not passing or attempt == ATTEMPTS - 1:
                raise
        time.sleep(0.25 * 2**attempt * (0.5 + random.random()))
    raise AssertionError  # pragma: no cover


def _ending(run: ImportedRun) -> dict[str, Any]:
    """What is known for certain once a run was read to its end."""
    changes: dict[str, Any] = {
        "name": run.name[:LONGEST_NAME] if run.name else None,
        "group": run.group,
        "notes": run.notes,
        "config": run.config,
        "tags": run.tags,
        "status": run.status,
        "finished_at": run.finished_at,
        "exit_code": run.exit_code,
        "error": run.error,
        "data_hash": run.data_hash,
    }
    plain: dict[str, Any] = to_plain({name: value for name, value in changes.items() if value not in (None, {})})
    return plain


def _parts(columns: list[Column]) -> Iterator[list[Column]]:
    """In batches of bounded size: an importer may give a whole long series at once."""
    if sum(len(column) for column in columns) <= POINTS_A_BATCH:
        yield columns
        return
    for column in columns:
        for start in range(0, len(column), POINTS_A_BATCH):
            yield [column.between(start, start + POINTS_A_BATCH)]


def _lines(run: ImportedRun) -> Iterator[tuple[int, list[list[Any]]]]:
    """What the run printed, in pieces of one rank."""
    for rank, lines in groupby(run.console(), key=attrgetter("rank")):
        while piece := list(islice(lines, LINES_A_BATCH)):
            yield rank, [[line.time, line.stream, to_plain(line.text[:LONGEST_LINE])] for line in piece]


def _leaves(config: dict[str, Any]) -> int:
    return sum(_leaves(value) if isinstance(value, dict) and value else 1 for value in config.values())
