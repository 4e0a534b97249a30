"""Projects and runs: rows in, rows out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Table, Text, and_, func, or_
from sqlmodel import Session, col, select

from service.store.cursor import Cursor, Statement, among
from service.store.database import dump_json
from service.store.filters import Condition, Order, attribute, order_column, order_source, where
from service.store.tables import Param, Project, Run, Tag

_RUN: Table = Run.__table__  # type: ignore[attr-defined]
_PARAM: Table = Param.__table__  # type: ignore[attr-defined]
_TAG: Table = Tag.__table__  # type: ignore[attr-defined]


_COLUMNS = [column for column in _RUN.c if column.name not in ("project_id", "config", "environment")]
_SHOWN = Statement(
    sql.select(
        *_COLUMNS,
        col(Project.name).label("project"),
        sql.cast(_RUN.c.config, Text).label("config"),
    )
    .join(Project, col(Project.id) == col(Run.project_id))
    .where(among(_RUN.c.id, "ids"))
)
_ADD = Statement(sql.insert(_RUN).inline().values({column.name: sql.bindparam(column.name) for column in _RUN.c}))
_PUT_PARAM = Statement.upsert(_PARAM, ["run_id", "key", "value", "number"])
_PUT_TAG = Statement.upsert(_TAG, ["run_id", "key", "value"])
_DROP_TAGS = Statement(sql.delete(_TAG).where(_TAG.c.run_id == sql.bindparam("run_id"), among(_TAG.c.key, "keys")))
_TAGS = Statement(
    sql.select(col(Tag.run_id), col(Tag.key), col(Tag.value))
    .where(among(col(Tag.run_id), "ids"))
    .order_by(col(Tag.run_id), col(Tag.key))
)


@dataclass(frozen=True)
class ProjectSummary:
    name: str
    n_runs: int
    last_activity_at: float


@dataclass(frozen=True)
class Place:
    """Where a page ended: the order value of its last run (None: it had none) and the run's id."""

    value: Any
    run_id: str


def project_id(session: Session, name: str) -> int:
    """The id of the project of this name: made when it is new, and taken out of the bin (its runs are not)."""
    found = session.exec(select(Project).where(Project.name == name)).first()
    if found is not None and found.deleted_at is not None:
        session.refresh(found, with_for_update=True)
        found.deleted_at = None
        session.flush()
    if found is None:
        now = time.time()
        found = Project(name=name, created_at=now, updated_at=now)
        session.add(found)
        session.flush()
    assert found.id is not None
    return found.id


def project_names(session: Session, ids: Iterable[int]) -> dict[int, str]:
    rows = session.exec(select(Project).where(col(Project.id).in_(set(ids)))).all()
    return {row.id: row.name for row in rows if row.id is not None}


def projects(session: Session) -> list[ProjectSummary]:
    rows = session.exec(
        select(Project.name, func.count(col(Run.id)), func.max(Run.heartbeat_at), Project.created_at)
        .join(Run, and_(col(Run.project_id) == Project.id, col(Run.deleted_at).is_(None)), isouter=True)
        # MLflow's "Default" is always there; it is worth a line once something is in it.
        .where(col(Project.deleted_at).is_(None), or_(col(Project.id) != 0, col(Run.id).is_not(None)))
        .group_by(col(Project.id), Project.name, col(Project.created_at))
        .order_by(Project.name)
    ).all()
    return [ProjectSummary(name, count, last or created) for name, count, last, created in rows]


def get(session: Session, run_id: str) -> Run | None:
    run = session.get(Run, run_id)
    return None if run is None or run.deleted_at is not None else run


def add(session: Session, run: Run) -> None:
    """Store a new run. `run` itself does not join the session: it is written once, as fast as can be."""
    values = {column.name: getattr(run, column.name) for column in _RUN.c}
    values |= {name: dump_json(values[name]) for name in ("config", "environment")}
    Cursor.of(session).run(_ADD, values)


def many(session: Session, ids: Sequence[str]) -> dict[str, Run]:
    """Those of these runs that are there, by id."""
    query = select(Run).where(col(Run.id).in_(ids), col(Run.deleted_at).is_(None))
    return {run.id: run for run in session.exec(query).all()}


def exists(session: Session, run_id: str) -> bool:
    return session.get(Run, run_id) is not None


def find(
    session: Session,
    *,
    project: str | None,
    condition: Condition | None,
    order: Order | None,
    after: Place | None,
    limit: int,
    silent_after: float,
) -> list[Place]:
    """Ids of runs with the value they are ordered by (newest first when no order is given), `limit` at most."""
    key = col(Run.id) if order is None else _order_key(order, silent_after)
    query: Any = sql.select(col(Run.id), key).where(col(Run.deleted_at).is_(None))
    if order is not None and order.field.kind != "attribute":
        table, joined = order_source(order.field)
        query = query.join(table, joined, isouter=True)
    if project is not None:
        query = query.join(Project, col(Project.id) == Run.project_id).where(Project.name == project)
    if condition is not None:
        query = query.where(where(condition, silent_after))
    if order is None:
        query = query.order_by(col(Run.id).desc())
        if after is not None:
            query = query.where(col(Run.id) < after.run_id)
    else:
        # Runs without the value come last in both directions; ties go newest first.
        query = query.order_by(key.is_(None), key.desc() if order.descending else key.asc(), col(Run.id).desc())
        if after is not None:
            query = query.where(_beyond(key, order, after))
    return [Place(value, run_id) for run_id, value in session.connection().execute(query.limit(limit))]


def rows(session: Session, ids: Sequence[str]) -> dict[str, SimpleNamespace]:
    """Runs by id, without their environment; `project` is its name, `config` the JSON text as it is stored.

    A page may be a thousand runs with large configs: nothing is decoded only to be encoded again.
    """
    cursor = Cursor.of(session)
    names = [*(column.name for column in _COLUMNS), "project", "config"]
    found = (SimpleNamespace(**dict(zip(names, row, strict=True))) for row in _among_ids(cursor, _SHOWN, ids))
    return {row.id: row for row in found}


def _among_ids(cursor: Cursor, statement: Statement, ids: Sequence[str]) -> list[Any]:
    return cursor.rows(statement, {"ids": cursor.texts(ids)})


def _order_key(order: Order, silent_after: float) -> Any:
    if order.field.kind == "attribute":
        return attribute(order.field.name, silent_after)
    return order_column(order.field)


def _beyond(key: Any, order: Order, after: Place) -> Any:
    if after.value is None:
        return and_(key.is_(None), col(Run.id) < after.run_id)
    farther = key < after.value if order.descending else key > after.value
    return or_(key.is_(None), farther, and_(key == after.value, col(Run.id) < after.run_id))


def tags(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {run_id: {} for run_id in run_ids}
    for run_id, key, value in _among_ids(Cursor.of(session), _TAGS, run_ids):
        found[run_id][key] = value
    return found


def set_tags(session: Session, run_id: str, changes: dict[str, str | None]) -> None:
    """Merge `changes` into the run's tags; None takes a tag away."""
    cursor = Cursor.of(session)
    gone = [key for key, value in changes.items() if value is None]
    if gone:
        cursor.run(_DROP_TAGS, {"run_id": run_id, "keys": cursor.texts(gone)})
    kept = [{"run_id": run_id, "key": key, "value": value} for key, value in changes.items() if value is not None]
    cursor.many(_PUT_TAG, kept)


def set_params(session: Session, run_id: str, params: dict[str, tuple[str, float | None]]) -> None:
    """Write flattened config leaves (text, and the number it is, if any), replacing those of the same key."""
    rows = [{"run_id": run_id, "key": k, "value": text, "number": number} for k, (text, number) in params.items()]
    Cursor.of(session).many(_PUT_PARAM, rows)


def params(session: Session, run_id: str) -> dict[str, str]:
    rows = session.exec(select(Param).where(Param.run_id == run_id).order_by(Param.key)).all()
    return {row.key: row.value for row in rows}
