"""Finding runs: a page of those for which a condition holds, in an order.

The statements for one shape of question (its condition and order, without the values in them) are made once and run on
the driver, for making them costs as much as running them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sql
from sqlalchemy import and_, bindparam, not_, or_
from sqlmodel import Session, col

from service.store.cursor import Cursor, Statement
from service.store.cursor import among as listed
from service.store.filters import (
    Condition,
    Order,
    in_scope,
    indexed,
    name_values,
    order_index,
    order_source,
    where,
)
from service.store.tables import Run

FEW = 256  # runs that meet one of the conditions: they are looked at one by one
WALK = 2_000  # runs to look at in the index of an order before all that match are sought instead
EACH = 1_000  # runs of a project that are looked at one by one at once
EACH_LATER = 5_000  # and if a walk has not found enough


@dataclass(frozen=True)
class Place:
    """Where a page ended: the order values of its last run (None: it had none) and the run's id."""

    values: tuple[Any, ...]
    run_id: str


# Where a page begins: at the first run, or after one that had, in each order, a value (True) or none.
After = tuple[bool, ...] | None


def find(
    session: Session,
    *,
    project: str | None,
    condition: Condition | None,
    orders: tuple[Order, ...],
    after: Place | None,
    limit: int,
    silent_after: float,
) -> list[Place]:
    """Ids of runs with the values they are ordered by (newest first when no order is given), `limit` at most.

    Runs without a value come after those that have one, in both directions. What is level in all orders goes newest
    first when the last of them descends, else oldest.
    """
    named, values = name_values(condition)
    values |= {"silent_before": time.time() - silent_after, "limit": limit}
    if project is not None:
        values["project"] = project
    begin: After = None
    if after is not None:
        begin = tuple(value is not None for value in after.values)
        values |= {f"after_value{place}": value for place, value in enumerate(after.values) if value is not None}
        values["after_id"] = after.run_id
    question = _prepared(named, orders, project is not None, begin)
    cursor = Cursor.of(session)
    if question.few is not None:
        ids = question.few.ids(cursor, values)
        if ids is not None:
            return _places(cursor, question.few.among, {**values, "few": cursor.texts(ids)})
    by_project = question.project
    if by_project is not None and by_project.is_small(cursor, values, EACH):
        return _places(cursor, by_project.each, values)
    if question.walk is not None and (condition is not None or orders):
        found = question.walk.page(cursor, values)
        if found is not None:
            return found
    if by_project is not None and by_project.is_small(cursor, values, EACH_LATER):
        return _places(cursor, by_project.each, values)
    return _places(cursor, question.every, values)


def _places(cursor: Cursor, statement: Statement, values: dict[str, Any]) -> list[Place]:
    return [Place(tuple(found), run_id) for run_id, *found in cursor.rows(statement, values)]


@dataclass(frozen=True)
class _Walk:
    """Along the index that has the order. `end`: where to stop; `before_end`: what comes before that and matches;
    `whole`: the same where the index is shorter; `complete`: all runs are in it."""

    end: Statement
    before_end: Statement
    whole: Statement
    complete: bool

    def page(self, cursor: Cursor, values: dict[str, Any]) -> list[Place] | None:
        """The page, if it is near the start of the index: that costs what the page costs, and not what all the runs
        cost that match. None where it is not."""
        end = _places(cursor, self.end, {**values, "walk": WALK})
        if end:
            found = _places(
                cursor, self.before_end, {**values, "end_value0": end[0].values[0], "end_id": end[0].run_id}
            )
            return found if len(found) == values["limit"] else None
        found = _places(cursor, self.whole, values)
        # At the end of an index that is not complete come the runs without the value.
        return found if self.complete or len(found) == values["limit"] else None


@dataclass(frozen=True)
class _Few:
    """By way of the condition that the fewest runs meet. `counts`: for each that an index answers, how many do, up to
    a limit; `meeting`: which ones; `among`: those of them for which all the rest holds."""

    counts: list[Statement]
    meeting: list[Statement]
    among: Statement

    def ids(self, cursor: Cursor, values: dict[str, Any]) -> list[str] | None:
        """The runs to look at; None if more than `FEW` meet each of the conditions."""
        limited = {**values, "few": FEW + 1}
        counted = [(cursor.rows(count, limited)[0][0], place) for place, count in enumerate(self.counts)]
        least, place = min(counted)
        return None if least > FEW else [row[0] for row in cursor.rows(self.meeting[place], limited)]


@dataclass(frozen=True)
class _Project:
    """By way of the runs of a project, however many others share its keys. `count`: how many it has, up to a limit;
    `each`: those that match, looked at one by one."""

    count: Statement
    each: Statement

    def is_small(self, cursor: Cursor, values: dict[str, Any], most: int) -> bool:
        held: int = cursor.rows(self.count, {**values, "few": most + 1})[0][0]
        return held <= most


@dataclass(frozen=True)
class _Question:
    """The statements for one shape of question: for all runs that match, and to come by few, if an index helps."""

    every: Statement
    walk: _Walk | None
    few: _Few | None
    project: _Project | None


@lru_cache(maxsize=128)
def _prepared(condition: Condition | None, orders: tuple[Order, ...], in_project: bool, after: After) -> _Question:
    every = Statement(_every(condition, orders, in_project, after))
    few = _by_few(condition, orders, in_project, after)
    project = _by_project(condition, orders, after) if in_project and (condition or orders) else None
    # Along an index runs come by one field, and level ones by their id.
    index = order_index(orders[0] if orders else None, in_project) if len(orders) < 2 else None
    if index is None or (after is not None and not all(after)):
        return _Question(every, None, few, project)
    table, key, run_id, rows = index
    descending = not orders or orders[-1].descending
    if after is not None:
        rows.append(_beyond_value(key, run_id, descending, "after"))
    ahead: Any = sql.select(run_id, key).select_from(table).where(*rows)
    ahead = ahead.order_by(_directed(key, descending), _directed(run_id, descending))
    page = ahead.where(in_scope(in_project, run_id)).limit(_count("limit"))
    if condition is not None:
        page = page.where(where(condition, run_id))
    walk = _Walk(
        end=Statement(ahead.offset(_count("walk")).limit(1)),
        before_end=Statement(page.where(not_(_beyond_value(key, run_id, descending, "end")))),
        whole=Statement(page),
        complete=not orders,
    )
    return _Question(every, walk, few, project)


def _by_few(condition: Condition | None, orders: tuple[Order, ...], in_project: bool, after: After) -> _Few | None:
    meeting = [] if condition is None else indexed(condition)
    if in_project and (condition is not None or orders):
        meeting.append(_of_project())
    if not meeting:
        return None
    some = [one.limit(_count("few")) for one in meeting]
    found = _every(condition, orders, in_project, after, among=listed(col(Run.id), "few"))
    return _Few([_counting(one) for one in some], [Statement(one) for one in some], Statement(found))


def _by_project(condition: Condition | None, orders: tuple[Order, ...], after: After) -> _Project:
    each = _every(condition, orders, True, after, among=sql.true())
    return _Project(_counting(_of_project().limit(_count("few"))), Statement(each))


def _of_project() -> Any:
    return sql.select(col(Run.id)).where(in_scope(True))


def _counting(rows: Any) -> Statement:
    return Statement(sql.select(sql.func.count()).select_from(rows.subquery()))


def _every(
    condition: Condition | None, orders: tuple[Order, ...], in_project: bool, after: After, among: Any | None = None
) -> Any:
    """All runs that match, sorted; with `among`, those of which that holds, each looked at by itself."""
    sources = [order_source(order.field) for order in orders]
    keys = [source.key for source in sources] or [col(Run.id)]
    query: Any = sql.select(col(Run.id), *keys).where(in_scope(in_project))
    for source in sources:
        if source.table is not None:
            query = query.join(source.table, source.joined, isouter=True)
    if among is not None:
        query = query.where(among)
    if condition is not None:
        query = query.where(where(condition, None if among is None else col(Run.id)))
    for order, key in zip(orders, keys, strict=False):
        query = query.order_by(key.is_(None), _directed(key, order.descending))
    last_descends = not orders or orders[-1].descending
    query = query.order_by(_directed(col(Run.id), last_descends))
    if after is not None:
        query = query.where(_beyond(keys if orders else [], orders, after, last_descends))
    return query.limit(_count("limit"))


def _count(name: str) -> Any:
    return bindparam(name, type_=sql.Integer())


def _directed(column: Any, descending: bool) -> Any:
    return column.desc() if descending else column.asc()


def _beyond(keys: list[Any], orders: tuple[Order, ...], after: tuple[bool, ...], descending: bool) -> Any:
    """Behind the place where a page ended: behind it in one of the orders, and level with it in those before."""
    level: list[Any] = []
    beyond: list[Any] = []
    for place, (key, order, has_value) in enumerate(zip(keys, orders, after, strict=False)):
        if has_value:
            value: Any = bindparam(f"after_value{place}", type_=key.type)
            beyond.append(and_(*level, or_(key.is_(None), key < value if order.descending else key > value)))
            level.append(key == value)
        else:
            level.append(key.is_(None))
    run_id: Any = col(Run.id)
    last: Any = bindparam("after_id")
    return or_(*beyond, and_(*level, run_id < last if descending else run_id > last))


def _beyond_value(key: Any, run_id: Any, descending: bool, place: str) -> Any:
    """Behind the place of which the parameters `…_value0` and `…_id` tell."""
    value: Any = bindparam(f"{place}_value0", type_=key.type)
    last: Any = bindparam(f"{place}_id")
    if descending:
        return or_(key < value, and_(key == value, run_id < last))
    return or_(key > value, and_(key == value, run_id > last))
