"""Deleting for good, some rows at a time: what a run or project owns first, itself last.

What is owned is read from the foreign keys, so a new table of runs is purged with them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy import ColumnElement, Connection, Table
from sqlmodel import Session, SQLModel, col, select

from service.store.tables import Audit, AuditEvaluation, Chunk, OrphanBlob, Project, Purge, Run, Writer
from service.store.upserts import upsert

ROWS = 16  # rows a statement: of chunks, half a megabyte


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


def some(session: Session, until: float) -> bool:
    """Go on with what is being purged until that moment (`time.monotonic`); False: there is nothing to purge.

    The least that is done is one statement.
    """
    goal = _next(session)
    if goal is None:
        return False
    table = _table(Run if goal.kind == "run" else Project)
    own = table.c.id == (goal.id if goal.kind == "run" else int(goal.id))
    if table is _table(Project) and not _is_empty(session, int(goal.id)):
        session.delete(goal)  # something was logged to it meanwhile: it stays
        return True
    connection = session.connection()
    while _delete_some(connection, session, table, own):
        if time.monotonic() >= until:
            return True
    session.delete(goal)
    return True


def _next(session: Session) -> Purge | None:
    """What to go on with, runs first; another replica may be at another one."""
    query = select(Purge).order_by(col(Purge.kind).desc(), col(Purge.id)).limit(1)
    return session.exec(query.with_for_update(skip_locked=True)).first()


def _is_empty(session: Session, project_id: int) -> bool:
    project = session.get(Project, project_id, with_for_update=True)
    if project is None or project.deleted_at is None:
        return project is None
    return session.exec(select(Run.id).where(Run.project_id == project_id).limit(1)).first() is None


def _delete_some(connection: Connection, session: Session, table: Table, condition: ColumnElement[bool]) -> bool:
    """Delete up to `ROWS` rows that rest on rows of the condition, or of these themselves; False: there are none."""
    keys, blobs = list(table.primary_key), _blobs_of(table)
    rows = connection.execute(sql.select(*keys, *blobs).where(condition).limit(ROWS)).all()
    if not rows:
        return False
    for column in owned(table):
        if _delete_some(connection, session, column.table, column.in_([row[0] for row in rows])):
            return True
    _note_orphans(session, {sha256 for row in rows for sha256 in row[len(keys) :]})
    gone = sql.tuple_(*keys).in_([tuple(row[: len(keys)]) for row in rows])
    connection.execute(sql.delete(table).where(gone if len(keys) > 1 else keys[0].in_([row[0] for row in rows])))
    return True


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


def give_back(session: Session, until: float) -> bool:
    """Shrink a SQLite file, page by page, until that moment; False: nothing is unused, or this file cannot shrink."""
    run = session.connection().exec_driver_sql
    if run("PRAGMA auto_vacuum").scalar() != 2 or not run("PRAGMA freelist_count").scalar():
        return False
    while run("PRAGMA freelist_count").scalar() and time.monotonic() < until:
        # Of a number of pages, Python's driver would free the first: it steps once through what answers no columns.
        run("PRAGMA incremental_vacuum(1)")
    return True
