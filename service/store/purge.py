"""Deleting for good, some rows at a time: what a run or project owns first, itself last.

What is owned is read from the foreign keys, so a new table of runs is purged with them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sql
from sqlalchemy import ColumnElement, Table, func
from sqlmodel import Session, SQLModel, col, select

from service.store.tables import Audit, AuditEvaluation, Chunk, OrphanBlob, Project, Purge, Run, Writer
from service.store.upserts import upsert

GOALS = 32  # runs that are purged together
ROWS = 1024  # of a table that a statement deletes at most
TEXT_ROWS = 64  # of those whose rows hold text
JSON_ROWS = 4  # or documents, of which one may be megabytes
BYTES = 1 << 20  # of packed points


def _table(model: type[SQLModel]) -> Table:
    table: Table = model.__table__  # type: ignore[attr-defined]
    return table


# Who owns rows by a column that is no foreign key.
_LOOSE: dict[str, list[Any]] = {
    "series": [_table(Chunk).c.series_id],
    "run": [_table(Writer).c.run_id],
}
# Written once, and never deleted: what one of them names is not purged, nor the run that owns it (`bin.kept`).
_FROZEN = {_table(Audit), _table(AuditEvaluation)}


def owned(table: Table) -> list[Any]:
    """The columns of other tables that say: this row belongs to that one."""
    tied = [
        key.parent
        for other in SQLModel.metadata.sorted_tables
        for key in other.foreign_keys
        if key.column.table is table and other not in _FROZEN and other is not table
    ]
    return [*_LOOSE.get(table.name, []), *tied]


def blob_columns() -> list[Any]:
    """Every column that names a file of the artifact store."""
    return [column for table in SQLModel.metadata.sorted_tables for column in _blobs_of(table)]


def _blobs_of(table: Table) -> list[Any]:
    found = [column for column in table.c if column.name == "sha256" or column.name.endswith("_sha256")]
    return [] if table is _table(OrphanBlob) else found


@dataclass(frozen=True)
class Part:
    """What goes next: rows of one table, by their keys, and the files they name. No rows: the goals are reached."""

    goals: Sequence[tuple[str, str]]
    table: Table
    keys: Sequence[tuple[Any, ...]]
    blobs: Collection[str]


def find(session: Session, rows: int) -> Part | None:
    """What to delete next, so many rows at most; None: there is nothing to purge.

    What is being purged takes in nothing more, so that it need not be found in the transaction that deletes it.
    """
    goals = _next(session)
    if not goals:
        return None
    table = _table(Run if goals[0][0] == "run" else Project)
    ids = [goal_id if goals[0][0] == "run" else int(goal_id) for _, goal_id in goals]
    found = _leaves(session, table, table.c.id.in_(ids), rows) or (table, [], set())
    return Part(goals, *found)


def _next(session: Session) -> Sequence[tuple[str, str]]:
    """What to go on with: some runs, or if there are none, a project."""
    for kind, most in (("run", GOALS), ("project", 1)):
        query = select(Purge.kind, Purge.id).where(Purge.kind == kind).order_by(col(Purge.id)).limit(most)
        if found := session.exec(query).all():
            return found
    return []


def delete(session: Session, part: Part) -> None:
    """Delete it, unless another replica is at it."""
    own = sql.tuple_(col(Purge.kind), col(Purge.id)).in_(part.goals)
    goals = session.exec(select(Purge).where(own).with_for_update(skip_locked=True)).all()
    if len(goals) < len(part.goals):
        return
    if part.table is _table(Project) and part.keys and not _is_empty(session, part.keys[0][0]):
        part = replace(part, keys=[])  # something was logged to it meanwhile: it stays
    if not part.keys:
        for goal in goals:
            session.delete(goal)
        return
    _note_orphans(session, part.blobs)
    keys = list(part.table.primary_key)
    rows = sql.tuple_(*keys).in_(part.keys) if len(keys) > 1 else keys[0].in_([key for (key,) in part.keys])
    session.connection().execute(sql.delete(part.table).where(rows))


def _is_empty(session: Session, project_id: int) -> bool:
    project = session.get(Project, project_id, with_for_update=True)
    if project is None or project.deleted_at is None:
        return project is None
    return session.exec(select(Run.id).where(Run.project_id == project_id).limit(1)).first() is None


def _leaves(
    session: Session, table: Table, condition: ColumnElement[bool], most: int
) -> tuple[Table, list[tuple[Any, ...]], set[str]] | None:
    """Some rows that rest on rows of the condition, else some of these themselves: table, keys, and files they name."""
    keys, blobs = list(table.primary_key), _blobs_of(table)
    query = sql.select(_size_of(table), *keys, *blobs).where(condition).limit(max(most, GOALS))
    rows = session.connection().execute(query).all()
    if not rows:
        return None
    for column in owned(table):
        if found := _leaves(session, column.table, column.in_([row[1] for row in rows]), most):
            return found
    rows = rows[: min(most, _most_of(table), _fitting(row[0] for row in rows))]
    end = 1 + len(keys)
    return table, [tuple(row[1:end]) for row in rows], {sha256 for row in rows for sha256 in row[end:]}


def _most_of(table: Table) -> int:
    kinds = [type(column.type) for column in table.c]
    return JSON_ROWS if sql.JSON in kinds else TEXT_ROWS if sql.Text in kinds else ROWS


def _size_of(table: Table) -> Any:
    """The bytes of a row's packed columns: both databases know them without reading them."""
    packed = [column for column in table.c if isinstance(column.type, sql.LargeBinary)]
    return sum((func.coalesce(func.length(column), 0) for column in packed), sql.literal(0))


def _fitting(sizes: Iterable[int]) -> int:
    """How many of the first rows, of these sizes, have `BYTES` together; one at least."""
    return max(1, sum(total <= BYTES for total in itertools.accumulate(sizes)))


def _note_orphans(session: Session, hashes: Collection[str]) -> None:
    now = time.time()
    upsert(session, OrphanBlob, [{"sha256": one, "since": now} for one in hashes], replace=["since"])


def orphans(session: Session, before: float, limit: int = 200) -> list[str]:
    """Files whose row was purged before then."""
    query = select(OrphanBlob.sha256).where(OrphanBlob.since < before).order_by(col(OrphanBlob.since))
    return list(session.exec(query.limit(limit)).all())


def named(session: Session, hashes: Sequence[str]) -> set[str]:
    """Those of these files that a row names."""
    found: set[str] = set()
    for column in blob_columns():
        found.update(session.connection().execute(sql.select(column).where(column.in_(hashes)).distinct()).scalars())
    return found


def forget_orphans(session: Session, hashes: Sequence[str]) -> None:
    session.connection().execute(sql.delete(OrphanBlob).where(col(OrphanBlob.sha256).in_(hashes)))


def give_back(session: Session, pages: int) -> bool:
    """Shrink a SQLite file by so many pages at most; False: nothing is unused, or this file cannot shrink."""
    if session.connection().dialect.name != "sqlite":
        return False
    run = session.connection().exec_driver_sql
    unused = run("PRAGMA freelist_count").scalar() if run("PRAGMA auto_vacuum").scalar() == 2 else 0
    for _ in range(min(pages, unused or 0)):
        # Of a number of pages, Python's driver would free the first: it steps once through what answers no columns.
        run("PRAGMA incremental_vacuum(1)")
    return bool(unused)
