"""Conditions over runs as values, and their SQL. Parameters are always bound, never spliced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Float, Text, and_, bindparam, case, func, literal_column, not_, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from service.store.tables import Param, Project, Run, Series, Tag
from service.store.tables.columns import INDEXED_TEXT, SHORT_VALUE
from service.store.tables.tracking import LIVE_RUNS


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
class Slot:
    """The place of a value in a statement that serves many: a number, or a text, `short` if an index holds it."""

    name: str
    is_number: bool = False
    short: bool = False


Value = str | float | Slot


@dataclass(frozen=True)
class Predicate:
    field: Field
    operator: str
    value: Value | tuple[Value, ...] | None


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
_OPTIONAL = {"group", "finished", "parent"}  # attributes that a run may lack
_LOOKED_UP = aliased(Run)  # apart from the run that a query is about


@dataclass(frozen=True)
class Order:
    field: Field
    descending: bool


def name_values(condition: Condition | None) -> tuple[Condition | None, dict[str, Any]]:
    """The condition with slots instead of values, and the values by slot: questions of one shape differ in those."""
    values: dict[str, Any] = {}

    def slot(field: Field, value: Any) -> Slot:
        if field.kind == "tag" and isinstance(value, float):
            value = f"{value:g}"
        name = f"v{len(values)}"
        values[name] = value
        return Slot(name, isinstance(value, float), isinstance(value, str) and len(value) <= INDEXED_TEXT)

    def named(part: Condition) -> Condition:
        match part:
            case And(parts):
                return And(tuple(named(one) for one in parts))
            case Or(parts):
                return Or(tuple(named(one) for one in parts))
            case Not(inner):
                return Not(named(inner))
            case Predicate(field, operator, tuple() as several):
                return Predicate(field, operator, tuple(slot(field, one) for one in several))
            case Predicate(field, operator, value):
                return part if value is None else Predicate(field, operator, slot(field, value))

    return (None if condition is None else named(condition)), values


def where(condition: Condition, of: Any = None) -> ColumnElement[bool]:
    """The condition, of slots, as SQL over `Run`. A run that lacks the field fails every test but `is null`.

    With `of`, a column that holds ids of runs, it is about the run of that id, which is looked up: for queries that
    come by few runs. Else the database may as well walk the index of a key, and hold all runs it finds there.
    """
    match condition:
        case And(parts):
            return and_(*(where(part, of) for part in _in_turn(parts, of)))
        case Or(parts):
            return or_(*(where(part, of) for part in _in_turn(parts, of)))
        case Not(inner):
            return not_(where(inner, of))
        case Predicate(Field("attribute", name), operator, value):
            column = attribute(name)
            if of is not None:
                its = attribute(name, _LOOKED_UP)
                column = select(its).where(col(_LOOKED_UP.id) == of).scalar_subquery()
            test = _apply(column, operator, value)
            # A run without it fails the test: SQL would know neither that nor its opposite.
            return and_(column.is_not(None), test) if name in _OPTIONAL and "null" not in operator else test
        case Predicate(field, operator, value):
            having, table = _having(field, operator, value), _table(field)
            if of is None:
                found = col(Run.id).in_(having)
            else:  # its own table, also where the query is ordered by another row of that
                found = having.where(table.run_id == of).exists().correlate_except(table)
            return not_(found) if operator == "is null" else found


def _in_turn(parts: Sequence[Condition], of: Any) -> Sequence[Condition]:
    """Where runs are looked at one by one, what costs least comes first: the first that decides ends it."""
    return parts if of is None else sorted(parts, key=_reads)


def _reads(condition: Condition) -> int:
    """What a test of one run costs, roughly in pages that are read."""
    match condition:
        case And(parts) | Or(parts):
            return sum(_reads(part) for part in parts)
        case Not(inner):
            return _reads(inner)
        case Predicate(field):
            return {"tag": 1, "param": 2, "attribute": 3, "metric": 4}[field.kind]


def indexed(condition: Condition) -> list[Any]:
    """Of what all runs have to meet that match: for each part that an index answers, the runs that do."""
    parts = condition.parts if isinstance(condition, And) else (condition,)
    return [
        _having(part.field, part.operator, part.value)
        for part in parts
        if isinstance(part, Predicate) and part.field.kind != "attribute" and _is_indexed(part)
    ]


def _is_indexed(part: Predicate) -> bool:
    slots = part.value if isinstance(part.value, tuple) else (part.value,)
    if all(isinstance(slot, Slot) and slot.is_number for slot in slots):
        return part.operator in _RANGES and part.field.aggregate == "last"
    return part.operator in ("=", "in") and all(isinstance(slot, Slot) and slot.short for slot in slots)


def _having(field: Field, operator: str, value: Any) -> Any:
    """The runs that have the field, and that pass the test unless it is only about having it."""
    table = _table(field)
    having = select(table.run_id).where(*_holds(table, field))
    if operator in ("is null", "is not null"):
        return having
    column = order_column(field, table)
    slots: Sequence[Slot] = value if isinstance(value, tuple) else (value,)
    if field.kind == "param":
        # A number compares as a number where the param is one; text compares as text.
        column = col(Param.number) if all(slot.is_number for slot in slots) else col(Param.value)
    having = having.where(_apply(column, operator, value))
    if operator in ("=", "in") and all(slot.short for slot in slots):
        having = having.where(literal_column(SHORT_VALUE))
    return having


def _table(field: Field) -> Any:
    return {"metric": Series, "param": Param, "tag": Tag}[field.kind]


def _holds(table: Any, field: Field) -> list[ColumnElement[bool]]:
    """The rows that hold the field. Rank 0 speaks for a run of many processes."""
    return [table.key == field.name, *([table.rank == 0] if field.kind == "metric" else [])]


def order_column(field: Field, table: Any) -> Any:
    if field.kind == "param":
        return col(table.number)
    if field.kind == "tag":
        return col(table.value)
    if field.aggregate == "mean":
        return col(table.sum) / func.nullif(col(table.finite_count), 0)
    return {"last": col(table.last), "min": col(table.min), "max": col(table.max)}[field.aggregate]


def attribute(name: str, run: Any = Run) -> Any:
    """The column; `silent_before` is a parameter of a query that asks for the status."""
    if name == "status":
        heard = col(run.heartbeat_at) + col(run.patience)
        silent = and_(col(run.status) == "running", heard < bindparam("silent_before", type_=Float()))
        return case((silent, "silent"), else_=col(run.status))
    columns: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "group": run.group_name,
        "created": run.created_at,
        "finished": run.finished_at,
        "parent": run.parent_run_id,
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


_RANGES = ("=", "in", "<", "<=", ">", ">=")


def _apply(column: ColumnElement[Any], operator: str, value: Any) -> ColumnElement[bool]:
    given = [bound(slot) for slot in value] if isinstance(value, tuple) else value and bound(value)
    return _OPERATORS[operator](column, given)


def bound(slot: Slot) -> Any:
    """The parameter that takes the value of a slot."""
    return bindparam(slot.name, type_=Float() if slot.is_number else Text())


class Source(NamedTuple):
    """What a query is ordered by: the column, and the table (if it is not the run's own) to outer-join for it."""

    key: Any
    table: Any = None
    joined: Any = None


def order_source(field: Field) -> Source:
    if field.kind == "attribute":
        return Source(attribute(field.name))
    # Its own table: a query may be ordered by several metrics.
    table: Any = aliased(_table(field))
    return Source(order_column(field, table), table, and_(table.run_id == Run.id, *_holds(table, field)))


def order_index(order: Order | None, in_project: bool) -> tuple[Any, Any, Any, list[ColumnElement[bool]]] | None:
    """An index that has this order: its table, columns of the order and of the run's id, and which of its rows; None
    if there is none. The newest first come by project; the others hold all projects' runs."""
    if order is None:
        return Run, col(Run.id), col(Run.id), [_of_project(Run)] if in_project else []
    field = order.field
    if field.kind == "param" or (field.kind == "metric" and field.aggregate == "last"):
        table: Any = aliased(_table(field))
        key = col(table.number if field.kind == "param" else table.last)
        return table, key, table.run_id, [*_holds(table, field), key.is_not(None)]
    return None


def in_scope(in_project: bool, of: Any = None) -> ColumnElement[bool]:
    """The run is not in the bin and, if asked, of the project that the parameter `project` names; `of` as for
    `where`."""
    run: Any = Run if of is None else _LOOKED_UP
    tests: list[ColumnElement[bool]] = [col(run.deleted_at).is_(None)]
    if in_project:
        tests.append(_of_project(run))
    if of is None:
        return and_(*tests)
    found = select(col(run.id)).where(run.id == of, *tests)
    # Else SQLite goes by the primary key to the row, and through its config to the end of it.
    return (found.with_hint(run, f"INDEXED BY {LIVE_RUNS}", "sqlite") if in_project else found).exists()


def _of_project(run: Any) -> ColumnElement[bool]:
    project_id = select(col(Project.id)).where(col(Project.name) == bindparam("project")).scalar_subquery()
    return col(run.project_id) == project_id
