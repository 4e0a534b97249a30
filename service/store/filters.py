"""Conditions over runs as values, and their SQL. Parameters are always bound, never spliced."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal_column, not_, or_, select
from sqlmodel import col

from service.store.tables import Param, Run, Series, Tag
from service.store.tables.columns import INDEXED_TEXT, SHORT_VALUE


@dataclass(frozen=True)
class Field:
    """`kind`: metric, param, tag or attribute. `aggregate` (metrics only): last, min, max, mean."""

    kind: str
    name: str
    aggregate: str = "last"

    @property
    def is_number(self) -> bool:
        return self.kind == "metric" or (self.kind == "attribute" and self.name in {"created", "finished"})

    def __str__(self) -> str:
        return self.name if self.kind == "attribute" else f"{self.kind}s.{self.name}"


@dataclass(frozen=True)
class Predicate:
    field: Field
    operator: str
    value: str | float | tuple[str | float, ...] | None


@dataclass(frozen=True)
class Not:
    inner: Condition


@dataclass(frozen=True)
class And:
    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Condition, ...]


Condition = Predicate | Not | And | Or


@dataclass(frozen=True)
class Order:
    field: Field
    descending: bool


def where(condition: Condition, silent_after: float) -> ColumnElement[bool]:
    """The condition as SQL over `Run`. A run that lacks the field fails every test but `is null`."""
    match condition:
        case And(parts):
            return and_(*(where(part, silent_after) for part in parts))
        case Or(parts):
            return or_(*(where(part, silent_after) for part in parts))
        case Not(inner):
            return not_(where(inner, silent_after))
        case Predicate(field, operator, value):
            return _test(field, operator, value, silent_after)


def _test(field: Field, operator: str, value: Any, silent_after: float) -> ColumnElement[bool]:
    if field.kind == "attribute":
        column = attribute(field.name, silent_after)
        return _apply(column, operator, value)
    table, _ = _owner(field)
    # Not EXISTS: the database may walk the index of the key once, or look each run up, whichever is less.
    having = select(table.run_id).where(table.key == field.name, *_spokesman(table))
    if operator == "is null":
        return col(Run.id).not_in(having)
    if operator == "is not null":
        return col(Run.id).in_(having)
    column = order_column(field)
    if field.kind == "param":
        # A number compares as a number where the param is one; text compares as text.
        numeric = isinstance(value, float) or (isinstance(value, tuple) and all(isinstance(v, float) for v in value))
        column = col(Param.number) if numeric else col(Param.value)
    if field.kind == "tag" and isinstance(value, float):
        value = f"{value:g}"
    having = having.where(_apply(column, operator, value))
    if operator in ("=", "in") and _is_short_text(value):
        having = having.where(literal_column(SHORT_VALUE))
    return col(Run.id).in_(having)


def _is_short_text(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(one, str) and len(one) <= INDEXED_TEXT for one in values)


def _owner(field: Field) -> tuple[Any, ColumnElement[bool]]:
    table: Any = {"metric": Series, "param": Param, "tag": Tag}[field.kind]
    return table, and_(table.run_id == Run.id, table.key == field.name, *_spokesman(table))


def _spokesman(table: Any) -> list[ColumnElement[bool]]:
    """Rank 0 speaks for a run of many processes."""
    return [col(Series.rank) == 0] if table is Series else []


def order_column(field: Field) -> Any:
    if field.kind == "param":
        return col(Param.number)
    if field.kind == "tag":
        return col(Tag.value)
    if field.aggregate == "mean":
        return col(Series.sum) / func.nullif(col(Series.finite_count), 0)
    return {"last": col(Series.last), "min": col(Series.min), "max": col(Series.max)}[field.aggregate]


def attribute(name: str, silent_after: float) -> Any:
    if name == "status":
        silent = and_(col(Run.status) == "running", col(Run.heartbeat_at) < time.time() - silent_after)
        return case((silent, "silent"), else_=col(Run.status))
    columns: dict[str, Any] = {
        "id": Run.id,
        "name": Run.name,
        "group": Run.group_name,
        "created": Run.created_at,
        "finished": Run.finished_at,
        "parent": Run.parent_run_id,
    }
    return col(columns[name])


_OPERATORS: dict[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "like": lambda column, value: column.like(value, escape="\\"),
    "ilike": lambda column, value: column.ilike(value, escape="\\"),
    "in": lambda column, value: column.in_(value),
    "is null": lambda column, _: column.is_(None),
    "is not null": lambda column, _: column.is_not(None),
}


def _apply(column: ColumnElement[Any], operator: str, value: Any) -> ColumnElement[bool]:
    return _OPERATORS[operator](column, value)


def order_source(field: Field) -> tuple[Any, ColumnElement[bool]]:
    """The table to outer-join for ordering by a metric, param or tag, and how it joins."""
    return _owner(field)
