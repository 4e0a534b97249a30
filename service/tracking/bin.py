"""What may go into the bin, come back from it, and be purged."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.settings import Settings
from service.store import bin as store
from service.store import search
from service.store.bin import PurgeUnderWay
from service.store.database import Database
from service.store.pace import Held
from service.store.tables import Project
from service.tracking import runs
from service.tracking.bin_schemas import (
    BinnedProjectOut,
    BinnedRunOut,
    BinPage,
    Deleted,
    KeptRun,
    PurgeStarted,
    RunsToDelete,
    StepsOut,
)
from service.tracking.purger import DAY, condemn, condemn_runs, follow_projects
from service.tracking.search import parse

KEPT_SHOWN = 100


class NothingNamed(Invalid):
    code = "nothing_named"


class ProjectUnknown(NotFound):
    code = "project_not_found"


class BadBinCursor(Invalid):
    code = "bad_cursor"


def delete_run(session: Session, run_id: str) -> None:
    """Into the bin; a run that is there already stays as it is."""
    if not store.put_runs(session, [run_id], time.time()) and not store.known(session, [run_id]):
        raise runs.missing(session, run_id)


def restore_run(session: Session, run_id: str) -> None:
    """Out of the bin; a run that is not in it stays as it is.

    Raises:
        RunNotFound, PurgeUnderWay
    """
    if store.restore_runs(session, [run_id]):
        return
    if store.is_purging(session, run_id):
        raise PurgeUnderWay(f"The run '{run_id}' is being purged and cannot be restored.")
    runs.get(session, run_id)


def delete_runs(database: Database, given: RunsToDelete, silent_after: float) -> Deleted:
    """Move many runs into the bin, some at a time: those named, or all that a query finds."""
    if given.ids is None and not given.query.strip() and given.project is None:
        raise NothingNamed("Say which runs: give `ids`, or a `query` or a `project` (all runs of it).")
    if given.ids is not None and (given.query or given.project):
        raise NothingNamed("Give either `ids` or a `query` with its `project`, not both.")
    now, deleted, missing = time.time(), 0, list[str]()
    for ids in _pieces(given.ids) if given.ids is not None else _found(database, given, silent_after):
        with database.read() as session:
            there = store.known(session, ids)
        deleted += sum(database.in_steps(ids, lambda session, some: store.put_runs(session, some, now), store.STEP))
        missing += [run_id for run_id in ids if run_id not in there]
    return Deleted(runs=deleted, missing=missing)


def _pieces(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + store.STEP] for start in range(0, len(ids), store.STEP))


def _found(database: Database, given: RunsToDelete, silent_after: float) -> Iterator[list[str]]:
    condition, _ = parse(given.query)
    after = None
    while True:
        with database.read() as session:
            page = search.find(
                session, project=given.project, condition=condition, orders=(), after=after, limit=store.STEP,
                silent_after=silent_after,
            )  # fmt: skip
        if not page:
            return
        yield [place.run_id for place in page]
        after = page[-1]


def restore_runs(database: Database, ids: Iterable[str]) -> int:
    """Take these out; how many came back."""
    return sum(database.in_steps(ids, store.restore_runs, store.STEP))


def delete_project(database: Database, name: str) -> int:
    """The project and its runs into the bin; how many runs that were not there yet."""
    with database.write() as session:
        project = _project(session, name)
        # The project first: nothing is logged to it by its name any more, and what is left follows at the next start.
        project.deleted_at = project.deleted_at or time.time()
        project.updated_at = time.time()
    return follow_projects(database)


def restore_project(database: Database, name: str) -> int:
    """The project out of the bin, with the runs that went in with it; how many came back."""
    with database.write() as session:
        project = _project(session, name)
        assert project.id is not None
        if store.project_is_purging(session, project.id):
            raise PurgeUnderWay(f"The project '{name}' is being purged and cannot be restored.")
        project_id, deleted_at, project.deleted_at = project.id, project.deleted_at, None
    return 0 if deleted_at is None else restore_runs(database, _companions(database, project_id, deleted_at))


def _companions(database: Database, project_id: int, deleted_at: float) -> Iterator[str]:
    after = ""
    while True:
        with database.read() as session:
            some = store.companions(session, project_id, deleted_at, after)
        if not some:
            return
        yield from some
        after = some[-1]


def _project(session: Session, name: str) -> Project:
    found = store.project(session, name)
    if found is None:
        raise ProjectUnknown(f"There is no project '{name}'.")
    return found


def page(
    session: Session, settings: Settings, project: str | None, limit: int, cursor: str | None, steps: Held | None
) -> BinPage:
    """What is in the bin. `steps`: how long filling and emptying it has kept writers waiting."""
    found = store.runs(session, project, _place(cursor) if cursor else None, limit + 1)
    shown = found[:limit]
    reasons = store.kept(session, [run.id for run in shown])
    keep = settings.bin_days * DAY
    items = [
        BinnedRunOut(
            **vars(run),
            kept=reasons.get(run.id),
            purged_after=None if run.id in reasons else run.deleted_at + keep,
        )
        for run in shown
    ]
    held = store.totals(session)
    return BinPage(
        items=items,
        next_cursor=_cursor(shown[-1]) if len(found) > limit else None,
        projects=[BinnedProjectOut(**vars(one), purged_after=one.deleted_at + keep) for one in store.projects(session)],
        n_runs=held.n_runs,
        bytes=held.bytes,
        n_purging=held.n_purging,
        keep_days=settings.bin_days,
        steps=None if steps is None else StepsOut(**vars(steps)),
    )


def purge(database: Database, ids: Sequence[str] | None, project: str | None) -> PurgeStarted:
    """Let runs be purged now: those named, those of a project, or all that are in the bin."""
    if ids is None:
        project_id = None
        if project is not None:
            with database.write() as session:
                project_id = _project(session, project).id
        going, kept = condemn(database, time.time() + 1, project_id)
    else:
        going, kept = condemn_runs(database, ids)
    reasons_shown = [KeptRun(id=run_id, reason=reason) for run_id, reason in list(kept.items())[:KEPT_SHOWN]]
    return PurgeStarted(purging=going, n_kept=len(kept), kept=reasons_shown)


def _cursor(run: store.BinnedRun) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([run.deleted_at, run.id])).decode()


def _place(cursor: str) -> tuple[float, str]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadBinCursor("The cursor is not one this service gave. Start again without it.") from None
