"""Projects and runs: rows in, rows out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Table, Text, func
from sqlmodel import Session, col, select

from service.store.cursor import Cursor, Statement, among
from service.store.database import dump_json
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
_FIND_PROJECT = Statement(
    sql.select(col(Project.id), col(Project.deleted_at)).where(col(Project.name) == sql.bindparam("name"))
)
# What a run is that nothing is said about; its id, project and times always are.
_RUNNING: Any = sql.literal_column("'running'")  # as the partial index has it
_BLANK = {column.name: None for column in _RUN.c} | {
    "status": "running",
    "config": {},
    "environment": {},
    "points_stored": 0,
}
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


def project_id(session: Session, name: str) -> int:
    """The id of the project of this name: made when it is new, and taken out of the bin (its runs are not)."""
    found = Cursor.of(session).rows(_FIND_PROJECT, {"name": name})
    if found and found[0][1] is None:
        return int(found[0][0])
    if found:
        project = session.get_one(Project, found[0][0], with_for_update=True)
        project.deleted_at = None
    else:
        now = time.time()
        project = Project(name=name, created_at=now, updated_at=now)
        session.add(project)
    session.flush()
    assert project.id is not None
    return project.id


def find_project_id(session: Session, name: str) -> int | None:
    """The id of the project of this name, if there is one and it is not in the bin."""
    return session.exec(select(Project.id).where(Project.name == name, col(Project.deleted_at).is_(None))).first()


def project_names(session: Session, ids: Iterable[int]) -> dict[int, str]:
    rows = session.exec(select(Project).where(col(Project.id).in_(set(ids)))).all()
    return {row.id: row.name for row in rows if row.id is not None}


def projects(session: Session) -> list[ProjectSummary]:
    # All is told from indexes.
    owner = col(Run.project_id)
    there = sql.select(func.count()).where(owner == col(Project.id), col(Run.deleted_at).is_(None)).scalar_subquery()
    over = sql.select(func.max(Run.heartbeat_at)).where(owner == col(Project.id), col(Run.status) != _RUNNING)
    running = sql.select(owner, func.max(Run.heartbeat_at)).where(col(Run.status) == _RUNNING).group_by(owner)
    alive = _by_project(session, running)
    query = sql.select(col(Project.id), col(Project.name), col(Project.created_at), there, over.scalar_subquery())
    found = []
    for project_id, name, created, n_runs, last in session.connection().execute(
        query.where(col(Project.deleted_at).is_(None)).order_by(col(Project.name))
    ):
        # MLflow's "Default" is always there; it is worth a line once something is in it.
        if project_id != 0 or n_runs:
            found.append(ProjectSummary(name, n_runs, max(last or 0.0, alive.get(project_id) or 0.0) or created))
    return found


def _by_project(session: Session, query: Any) -> dict[int, Any]:
    return dict(iter(session.connection().execute(query)))


def get(session: Session, run_id: str) -> Run | None:
    run = session.get(Run, run_id)
    return None if run is None or run.deleted_at is not None else run


def add(session: Session, **columns: Any) -> SimpleNamespace:
    """Store a new run of these columns, and give it with all of them: written once, as fast as can be."""
    values = _BLANK | columns
    texts = {name: dump_json(values[name]) for name in ("config", "environment")}
    Cursor.of(session).run(_ADD, values | texts)
    return SimpleNamespace(**values)


def many(session: Session, ids: Sequence[str]) -> dict[str, Run]:
    """Those of these runs that are there, by id."""
    query = select(Run).where(col(Run.id).in_(ids), col(Run.deleted_at).is_(None))
    return {run.id: run for run in session.exec(query).all()}


def exists(session: Session, run_id: str) -> bool:
    return session.get(Run, run_id) is not None


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
