"""Finding runs as MLflow's clients ask for them. As in `search.py`, statements are made once a shape of question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy import BigInteger, Integer, bindparam
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from service.store.cursor import Cursor, Statement
from service.store.filters import Slot, bound
from service.store.mlflow_filters import COLUMN_TAGS, Clause, Order, run_condition, run_order, without_escapes
from service.store.tables import Project, Run, Series
from service.store.tables.columns import INDEXED_TEXT

WALK = 2_000  # runs to look at in an index before all that match are sought instead


class Info(NamedTuple):
    """A run without its config and environment, which may be large. Times in Unix seconds."""

    id: str
    project_id: int
    artifact_location: str | None
    name: str
    status: str
    user: str | None
    notes: str | None
    parent_run_id: str | None
    created_at: float
    finished_at: float | None
    deleted_at: float | None


_INFO = (
    *(col(c) for c in (Run.id, Run.project_id, Project.artifact_location, Run.name, Run.status)),
    COLUMN_TAGS["mlflow.user"],
    *(col(c) for c in (Run.notes, Run.parent_run_id, Run.created_at, Run.finished_at, Run.deleted_at)),
)


def infos() -> Any:
    return sql.select(*_INFO).join(Project, col(Project.id) == col(Run.project_id))


def search(
    session: Session,
    project_ids: Sequence[int],
    *,
    clauses: Sequence[Clause],
    orders: Sequence[Order],
    deleted: bool | None,
    offset: int,
    limit: int,
) -> list[Info]:
    """Runs of these projects for which all clauses hold. `deleted`: only the bin, only the rest, or (None) both."""
    if not project_ids:
        return []
    named, values = _name_values(clauses)
    values |= {f"project{place}": project_id for place, project_id in enumerate(project_ids)}
    values |= {"offset": offset, "limit": limit}
    question = _prepared(tuple(named), tuple(orders), len(project_ids), deleted)
    cursor = Cursor.of(session)
    if question.walk is not None and offset + limit <= WALK:
        found = question.walk.page(cursor, values)
        if found is not None:
            return found
    return [Info(*row) for row in cursor.rows(question.every, values)]


def _name_values(clauses: Sequence[Clause]) -> tuple[list[Clause], dict[str, Any]]:
    """The clauses with slots instead of values, and the values by slot."""
    values: dict[str, Any] = {}

    def slot(value: Any) -> Slot:
        name = f"v{len(values)}"
        values[name] = value
        return Slot(name, is_number=not isinstance(value, str))

    def named(clause: Clause) -> Clause:
        if clause.value is None:
            return clause
        if isinstance(clause.value, tuple):
            return replace(clause, value=tuple(slot(one) for one in clause.value))
        is_short = clause.operator == "=" and isinstance(clause.value, str) and len(clause.value) <= INDEXED_TEXT
        return replace(clause, value=slot(without_escapes(clause.operator, clause.value)), is_short=is_short)

    return [named(clause) for clause in clauses], values


@dataclass(frozen=True)
class _Walk:
    """Along an index that has the order. `ahead`: is there a run that comes before all of the index? `end`: where to
    stop; `page` and `page_before_end`: what matches, of all the index or before its end."""

    ahead: Statement | None
    end: Statement
    whole: Statement
    before_end: Statement

    def page(self, cursor: Cursor, values: dict[str, Any]) -> list[Info] | None:
        """The page, if it is near the start of the index; None where it is not."""
        if self.ahead is not None and cursor.rows(self.ahead, values):
            return None
        end = cursor.rows(self.end, {**values, "walk": WALK})
        statement, place = (self.before_end, {"end": end[0][0]}) if end else (self.whole, {})
        found = [Info(*row) for row in cursor.rows(statement, {**values, **place})]
        return found if len(found) == values["limit"] else None


@dataclass(frozen=True)
class _Question:
    every: Statement
    walk: _Walk | None


@lru_cache(maxsize=128)
def _prepared(
    clauses: tuple[Clause, ...], orders: tuple[Order, ...], n_projects: int, deleted: bool | None
) -> _Question:
    in_scope = [col(Run.project_id).in_([bindparam(f"project{place}", type_=Integer()) for place in range(n_projects)])]
    if deleted is not None:
        in_scope.append(col(Run.deleted_at).is_not(None) if deleted else col(Run.deleted_at).is_(None))
    bounded = [replace(clause, value=_bound(clause.value)) for clause in clauses]
    joins, order = run_order(orders)
    every = infos().where(*in_scope, *(run_condition(clause) for clause in bounded))
    for table, joined in joins:
        every = every.outerjoin(table, joined)
    return _Question(Statement(_page(every.order_by(*order))), _walk(bounded, orders, in_scope, n_projects))


def _walk(clauses: Sequence[Clause], orders: Sequence[Order], in_scope: Sequence[Any], n_projects: int) -> _Walk | None:
    """By the last value of one metric, or by the time of start, if the projects are one."""
    newest = not orders or (len(orders) == 1 and (orders[0].kind, orders[0].key) == ("attribute", "start_time"))
    descending = not orders or orders[0].descending
    matching = [run_condition(clause, looked_up=True) for clause in clauses]
    if newest and n_projects == 1:
        key: Any = col(Run.created_at)
        index = sql.select(key).where(in_scope[0])
        page = infos().where(*in_scope, *matching)
        ahead, ties = None, list[Any]([col(Run.id)])
    elif len(orders) == 1 and orders[0].kind == "metric":
        table: Any = aliased(Series)
        key = table.last
        own = (table.key == orders[0].key, table.rank == 0)
        index = sql.select(key).where(*own, key.is_not(None))
        page = infos().join(table, table.run_id == Run.id).where(*own, key.is_not(None), *in_scope, *matching)
        # NaN comes after all values, and so does what has none; one of the infinities comes before.
        ahead = sql.select(table.id).where(*own, key.is_(None))
        ahead = ahead.where(table.last_special == ("Infinity" if descending else "-Infinity")).limit(1)
        ties = [col(Run.created_at).desc(), col(Run.id)]
    else:
        return None
    directed = key.desc() if descending else key.asc()
    end: Any = bindparam("end", type_=key.type)
    page = page.order_by(directed, *ties)
    return _Walk(
        ahead=None if ahead is None else Statement(ahead),
        end=Statement(index.order_by(directed).offset(bindparam("walk", type_=Integer())).limit(1)),
        whole=Statement(_page(page)),
        # Without those that are level with the end: of them, not all may have been met.
        before_end=Statement(_page(page.where(key > end if descending else key < end))),
    )


def _page(query: Any) -> Any:
    return query.offset(bindparam("offset", type_=BigInteger())).limit(bindparam("limit", type_=BigInteger()))


def _bound(value: Any) -> Any:
    return [bound(slot) for slot in value] if isinstance(value, tuple) else value and bound(value)
