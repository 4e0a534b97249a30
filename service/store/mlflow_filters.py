"""MLflow's search clauses over runs and projects, and their SQL. Parameters are always bound, never spliced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, String, and_, case, cast, func, literal_column, not_, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from service.store.tables import Dataset, Param, Project, ProjectTag, Run, RunDataset, Series, Tag
from service.store.tables.columns import SHORT_VALUE

# What MLflow keeps in tags and a run has columns for: one place, read and written under both names.
COLUMN_TAGS: dict[str, Any] = {
    "mlflow.runName": col(Run.name),
    "mlflow.note.content": col(Run.notes),
    "mlflow.parentRunId": col(Run.parent_run_id),
    "mlflow.user": col(Run.environment)["user"].as_string(),
}
STATUS = {
    "running": "RUNNING",
    "scheduled": "SCHEDULED",
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "killed": "KILLED",
}
_CONTEXT = "mlflow.data.context"
_BIG = sys.float_info.max
_TABLES: dict[str, Any] = {"metric": Series, "param": Param, "tag": Tag}


@dataclass(frozen=True)
class Clause:
    """`kind`: attribute, metric, param, tag or dataset. `operator` in lower case; None is the value of `is null`.

    Where statements are made for many values, a value is a `Slot`, and then its parameter. `is_short`: text that is
    compared whole and short enough for an index.
    """

    kind: str
    key: str
    operator: str
    value: Any
    is_short: bool = False


@dataclass(frozen=True)
class Order:
    kind: str
    key: str
    descending: bool


# As in MLflow, a backslash in LIKE stands for itself: that sets these apart from the native search language's.
OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "like": lambda column, value: column.like(without_escapes("like", value), escape="\\"),
    "ilike": lambda column, value: column.ilike(without_escapes("ilike", value), escape="\\"),
    "in": lambda column, value: column.in_(value),
    "not in": lambda column, value: column.not_in(value),
    "is null": lambda column, _: column.is_(None),
    "is not null": lambda column, _: column.is_not(None),
}


def without_escapes(operator: str, value: Any) -> Any:
    """The value of a clause as the operator takes it; a parameter is taken as it is."""
    return value.replace("\\", "\\\\") if operator in ("like", "ilike") and isinstance(value, str) else value


def run_condition(clause: Clause, *, looked_up: bool = False) -> ColumnElement[bool]:
    """A clause about runs, with parameters for its values, as SQL over `Run` joined with its `Project`.

    `looked_up`: for queries that come by few runs, and look what they ask up for each; else the database may walk the
    index of a key and hold all the runs it finds there.
    """
    test = OPERATORS[clause.operator]
    if clause.kind == "attribute":
        return test(_run_attribute(clause.key), clause.value)
    if clause.kind == "tag" and clause.key in COLUMN_TAGS:
        return test(COLUMN_TAGS[clause.key], clause.value)
    if clause.kind == "dataset":
        return col(Run.id).in_(_dataset_runs(clause))
    table = _TABLES[clause.kind]
    holders = select(table.run_id).where(table.key == clause.key)
    if clause.kind == "metric":
        holders = holders.where(table.rank == 0)
    if clause.operator not in ("is null", "is not null"):
        if clause.kind == "metric":
            holders = holders.where(_metric_test(clause.operator, clause.value))
        else:
            holders = holders.where(test(table.value, clause.value))
            if clause.is_short:
                holders = holders.where(literal_column(SHORT_VALUE))
    if looked_up:
        found = holders.where(table.run_id == Run.id).exists()
        return not_(found) if clause.operator == "is null" else found
    return col(Run.id).not_in(holders) if clause.operator == "is null" else col(Run.id).in_(holders)


def _metric_test(operator: str, value: Any) -> ColumnElement[bool]:
    """The last value against a number. Infinities compare as numbers; NaN is unequal to all and nothing else."""
    test = OPERATORS[operator](col(Series.last), value)
    named = {
        "<": ["-Infinity"],
        "<=": ["-Infinity"],
        ">": ["Infinity"],
        ">=": ["Infinity"],
        "!=": ["-Infinity", "Infinity", "NaN"],
    }.get(operator, [])
    return or_(test, *(col(Series.last_special) == name for name in named))


def _dataset_runs(clause: Clause) -> Any:
    found = select(col(RunDataset.run_id)).join(Dataset, col(Dataset.id) == RunDataset.dataset_id)
    columns: dict[str, Any] = {
        "name": col(Dataset.name),
        "digest": col(Dataset.digest),
        "context": col(RunDataset.tags)[_CONTEXT].as_string(),
    }
    return found.where(OPERATORS[clause.operator](columns[clause.key], clause.value))


def _run_attribute(name: str) -> Any:
    root = func.coalesce(col(Project.artifact_location), "mlflow-artifacts:/" + cast(col(Project.id), String))
    attributes: dict[str, Any] = {
        "run_id": col(Run.id),
        "run_name": col(Run.name),
        "user_id": func.coalesce(COLUMN_TAGS["mlflow.user"], ""),
        "status": case(STATUS, value=col(Run.status), else_="RUNNING"),
        "artifact_uri": root + "/" + col(Run.id) + "/artifacts",
        "start_time": _milliseconds(Run.created_at),
        "end_time": _milliseconds(Run.finished_at),
    }
    return attributes[name]


def _milliseconds(seconds: Any) -> Any:
    return cast(func.round(col(seconds) * 1000.0), BigInteger)


def run_order(orders: Sequence[Order]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Tables to join from outside (with their conditions), and the ORDER BY: values, then NaN, then missing."""
    joins: list[tuple[Any, Any]] = []
    keys: list[Any] = []
    for order in orders:
        column: Any
        if order.kind == "attribute":
            column = _run_attribute(order.key)
        elif order.kind == "tag" and order.key in COLUMN_TAGS:
            column = COLUMN_TAGS[order.key]
        else:
            table: Any = aliased(_TABLES[order.kind])
            joined = and_(table.run_id == Run.id, table.key == order.key)
            joins.append((table, and_(joined, table.rank == 0) if order.kind == "metric" else joined))
            column = _metric_value(table) if order.kind == "metric" else table.value
            if order.kind == "metric":
                keys.append(case((table.last_special == "NaN", 1), (table.run_id.is_(None), 2), else_=0))
        keys.append(column.is_(None))
        keys.append(column.desc() if order.descending else column.asc())
    if not any(order.kind == "attribute" and order.key == "start_time" for order in orders):
        keys.append(col(Run.created_at).desc())
    return joins, [*keys, col(Run.id)]


def _metric_value(series: Any) -> Any:
    return case({"Infinity": _BIG, "-Infinity": -_BIG}, value=series.last_special, else_=series.last)


def project_condition(clause: Clause) -> ColumnElement[bool]:
    test = OPERATORS[clause.operator]
    if clause.kind == "attribute":
        return test(_project_attribute(clause.key), clause.value)
    holders = select(col(ProjectTag.project_id)).where(col(ProjectTag.key) == clause.key)
    if clause.operator == "is null":
        return col(Project.id).not_in(holders)
    if clause.operator != "is not null":
        holders = holders.where(test(col(ProjectTag.value), clause.value))
    return col(Project.id).in_(holders)


def project_order(orders: Sequence[Order]) -> list[Any]:
    """Newest first unless an order is given; ties by id, so that pages do not overlap."""
    if not orders:
        return [_project_attribute("creation_time").desc(), col(Project.id)]
    keys = [_project_attribute(order.key) for order in orders]
    sorted_keys = [key.desc() if order.descending else key.asc() for key, order in zip(keys, orders, strict=True)]
    return (
        sorted_keys if any(order.key == "experiment_id" for order in orders) else [*sorted_keys, col(Project.id).desc()]
    )


def _project_attribute(name: str) -> Any:
    attributes: dict[str, Any] = {
        "name": col(Project.name),
        "experiment_id": col(Project.id),
        "creation_time": _milliseconds(Project.created_at),
        "last_update_time": _milliseconds(Project.updated_at),
    }
    return attributes[name]
