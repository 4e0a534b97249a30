"""The media of runs: what was logged at a step besides numbers, the bytes stored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlmodel import Session, col, select

from service.store import upserts
from service.store.tables import Media

PLACE = ("run_id", "key", "step", "rank", "position")


class Place(NamedTuple):
    """Where a page of media ended: steps come down, the rest goes up."""

    step: int
    key: str
    rank: int
    position: int


def put(session: Session, row: dict[str, Any], of: int) -> None:
    """Store a medium in its place, one of `of`; what was logged there, or in a larger gallery, before it goes.

    What was logged there later stays: a journal may be shipped after the run went on elsewhere.
    """
    table = Media.__table__  # type: ignore[attr-defined]
    statement = upserts.insert(table, session.get_bind().dialect.name).values(row)
    replaced = {name: statement.excluded[name] for name in row if name not in PLACE}
    older = table.c.time <= statement.excluded.time
    connection = session.connection()
    connection.execute(statement.on_conflict_do_update(index_elements=PLACE, set_=replaced, where=older))
    gallery = [table.c[name] == row[name] for name in PLACE[:-1]]
    connection.execute(sql.delete(table).where(*gallery, table.c.position >= of, table.c.time <= row["time"]))


def at(session: Session, row: dict[str, Any]) -> Media:
    """What is stored in the place of `row`."""
    return session.exec(select(Media).where(*(col(getattr(Media, name)) == row[name] for name in PLACE))).one()


def get(session: Session, media_id: str) -> Media | None:
    return session.get(Media, media_id)


def find(
    session: Session,
    run_id: str,
    *,
    keys: Sequence[str] | None,
    steps: Sequence[int] | None,
    first_step: int | None,
    last_step: int | None,
    rank: int | None,
    after: Place | None,
    limit: int,
) -> list[Media]:
    """Media of a run, the newest step first, then by key, rank and position."""
    query = select(Media).where(Media.run_id == run_id)
    if keys is not None:
        query = query.where(col(Media.key).in_(keys))
    if steps is not None:
        query = query.where(col(Media.step).in_(steps))
    if first_step is not None:
        query = query.where(Media.step >= first_step)
    if last_step is not None:
        query = query.where(Media.step <= last_step)
    if rank is not None:
        query = query.where(Media.rank == rank)
    if after is not None:
        rest = sql.tuple_(Media.key, Media.rank, Media.position) > sql.tuple_(*after[1:])
        query = query.where(sql.or_(col(Media.step) < after.step, sql.and_(col(Media.step) == after.step, rest)))
    order = (col(Media.step).desc(), col(Media.key), col(Media.rank), col(Media.position))
    return list(session.exec(query.order_by(*order).limit(limit)).all())


class Key(NamedTuple):
    key: str
    kind: str
    n: int
    first_step: int
    last_step: int


def keys(session: Session, run_id: str) -> list[Key]:
    """What was logged under which key, by key."""
    counts = (sql.func.count(), sql.func.min(Media.step), sql.func.max(Media.step))
    query = sql.select(Media.key, Media.kind, *counts).where(Media.run_id == run_id)  # type: ignore[call-overload]
    rows = session.connection().execute(query.group_by(Media.key, Media.kind).order_by(Media.key, Media.kind))
    return [Key(*row) for row in rows]


def steps(session: Session, run_id: str, key: str) -> list[int]:
    """Every step at which something was logged under a key, upwards."""
    query = select(Media.step).where(Media.run_id == run_id, Media.key == key).distinct().order_by(col(Media.step))
    return list(session.exec(query).all())
