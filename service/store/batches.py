"""Exactly once: the highest batch applied for each (run, writer), and what a batch leaves on its run."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy import Table
from sqlmodel import Session

from service.store.cursor import Cursor, Statement
from service.store.tables import Run, Writer

_RUN: Table = Run.__table__  # type: ignore[attr-defined]
_WRITER: Table = Writer.__table__  # type: ignore[attr-defined]

_FIND = Statement(
    sql.select(_RUN.c.points_stored, _RUN.c.points_sent, _RUN.c.heartbeat_at)
    .where(_RUN.c.id == sql.bindparam("run_id"), _RUN.c.deleted_at.is_(None))
    .with_for_update()
)
_LAST = Statement(
    sql.select(_WRITER.c.last_batch).where(
        _WRITER.c.run_id == sql.bindparam("run_id"), _WRITER.c.writer == sql.bindparam("writer")
    )
)
_FIRST = Statement(
    sql.insert(_WRITER).inline().values({name: sql.bindparam(name) for name in ("run_id", "writer", "last_batch")})
)
_NEXT = Statement(
    sql.update(_WRITER)
    .where(_WRITER.c.run_id == sql.bindparam("of_run"), _WRITER.c.writer == sql.bindparam("of_writer"))
    .values(last_batch=sql.bindparam("new_batch"))
)
_TOUCH = Statement(
    sql.update(_RUN)
    .where(_RUN.c.id == sql.bindparam("own"))
    .values(
        points_stored=sql.bindparam("new_points"),
        points_sent=sql.bindparam("new_sent"),
        heartbeat_at=sql.bindparam("new_heartbeat"),
    )
)


@dataclass(slots=True)
class Tally:
    """What a batch changes on its run."""

    points_stored: int
    points_sent: int | None
    heartbeat_at: float


def locked(session: Session, run_id: str) -> Tally | None:
    """The tally of a run that is not in the bin, held until the transaction ends; None: there is no such run."""
    found = Cursor.of(session).rows(_FIND, {"run_id": run_id})
    return Tally(*found[0]) if found else None


def touch(session: Session, run_id: str, tally: Tally) -> None:
    values = {"new_points": tally.points_stored, "new_sent": tally.points_sent, "new_heartbeat": tally.heartbeat_at}
    Cursor.of(session).run(_TOUCH, {"own": run_id, **values})


def last_batch(session: Session, run_id: str, writer: str) -> int | None:
    """The number of the last batch applied; None: this writer has written none."""
    found = Cursor.of(session).rows(_LAST, {"run_id": run_id, "writer": writer})
    return int(found[0][0]) if found else None


def set_last_batch(session: Session, run_id: str, writer: str, batch: int, *, first: bool) -> None:
    cursor = Cursor.of(session)
    if first:
        cursor.run(_FIRST, {"run_id": run_id, "writer": writer, "last_batch": batch})
    else:
        cursor.run(_NEXT, {"of_run": run_id, "of_writer": writer, "new_batch": batch})
