"""What suites, data sets, evaluations, reviews, policies and audits share: written once, versioned, read in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import event, func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.errors import NotFound
from service.store import registry, runs
from service.store.tables import Audit, Evaluation, Judgement, Policy, Review, RowSet, Suite, Waiver


class RecordFrozen(RuntimeError):
    """Code tried to change or delete a row that is written once."""


class LinkedRunNotFound(NotFound):
    code = "run_not_found"


class LinkedVersionNotFound(NotFound):
    code = "model_version_not_found"


def _refuse(_mapper: Any, _connection: Any, row: Any) -> None:
    raise RecordFrozen(f"{type(row).__name__} {row.id} is written once: a change is a new record.")


for _table in (Suite, RowSet, Evaluation, Policy, Audit, Waiver, Judgement):
    event.listen(_table, "before_update", _refuse)
    event.listen(_table, "before_delete", _refuse)


class Identified(Protocol):
    @property
    def id(self) -> Any: ...


Versioned = TypeVar("Versioned", Suite, RowSet, Policy, Review)
Row = TypeVar("Row", bound=Identified)


def add_version(session: Session, row: Versioned) -> tuple[Versioned, bool]:
    """Store `row` as the next version of its name; a hash already stored answers with that version.

    Returns the stored row and whether it is new. Two writers at once get two versions, never an error.
    """
    table = type(row)
    while True:
        same = select(table).where(col(table.name) == row.name, col(table.hash) == row.hash)
        existing = session.exec(same).first()
        if existing is not None:
            return existing, False
        latest = session.exec(select(func.max(table.version)).where(col(table.name) == row.name)).one()
        row.version = (latest or 0) + 1
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:
            continue  # another replica took this version between the two statements
        return row, True


def page(
    session: Session, query: SelectOfScalar[Row], key: Any, limit: int, cursor: str | None
) -> tuple[Sequence[Row], str | None]:
    """Newest first, `limit` rows after `cursor` (the id of the last row seen), and the next cursor."""
    if cursor is not None:
        query = query.where(key < cursor)
    return cut(session.exec(query.order_by(key.desc()).limit(limit + 1)).all(), limit)


def cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """Of `limit` + 1 rows asked for: the page, and its last row's id if more follow."""
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def check_links(session: Session, run_id: str | None, *version_ids: str | None) -> None:
    """Refuse a link to a run or model version that is not there."""
    if run_id is not None and runs.get(session, run_id) is None:
        raise LinkedRunNotFound(f"There is no run '{run_id}' to link to.")
    for version_id in version_ids:
        if version_id is not None and registry.get_version(session, version_id) is None:
            raise LinkedVersionNotFound(f"There is no model version '{version_id}' to link to.")
