"""Searching logged models: MLflow's clauses over their columns, params, tags and metrics, and their SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, cast, false, func, or_
from sqlmodel import Session, col, select

from service.store.mlflow_filters import OPERATORS, Clause
from service.store.tables import LoggedModel, LoggedModelMetric


@dataclass(frozen=True)
class OnDataset:
    """A data set that a metric was measured on: by name, and by digest when there is one."""

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class ModelOrder:
    """`kind`: attribute or metric (its last value, on `dataset` if that is given)."""

    kind: str
    key: str
    descending: bool
    dataset: OnDataset | None = None


def find_models(
    session: Session,
    project_ids: Sequence[int],
    *,
    clauses: Sequence[Clause],
    datasets: Sequence[OnDataset],
    orders: Sequence[ModelOrder],
    offset: int,
    limit: int,
) -> list[LoggedModel]:
    """Models of these projects that meet every clause and are not deleted, newest first unless an order is given.

    With `datasets`, clauses about metrics count what was measured on one of them; without such a clause, a model has
    to have been measured on one.
    """
    query = select(LoggedModel).where(col(LoggedModel.project_id).in_(project_ids))
    query = query.where(col(LoggedModel.deleted_at).is_(None))
    measured = or_(*(_on(dataset) for dataset in datasets)) if datasets else None
    query = query.where(*(_condition(clause, measured) for clause in clauses))
    if measured is not None and not any(clause.kind == "metric" for clause in clauses):
        query = query.where(col(LoggedModel.id).in_(select(LoggedModelMetric.model_id).where(measured)))
    for order in orders:
        if order.kind == "metric":
            last = _last(order)
            query = query.join(last, and_(last.c.model_id == LoggedModel.id, last.c.place == 1), isouter=True)
            key: Any = last.c.value
        else:
            key = _attribute(order.key)
        # Models without the value come last in both directions.
        query = query.order_by(key.is_(None), key.desc() if order.descending else key.asc())
    query = query.order_by(col(LoggedModel.created_at).desc(), LoggedModel.id)
    return list(session.exec(query.offset(offset).limit(limit)).all())


def _condition(clause: Clause, measured: ColumnElement[bool] | None) -> ColumnElement[bool]:
    test = OPERATORS[clause.operator]
    if clause.kind == "metric":
        value = test(col(LoggedModelMetric.value), clause.value)
        holders = select(LoggedModelMetric.model_id).where(LoggedModelMetric.key == clause.key, value)
        return col(LoggedModel.id).in_(holders if measured is None else holders.where(measured))
    if clause.kind == "attribute":
        return test(_attribute(clause.key), clause.value)
    if '"' in clause.key:  # no such key can be stored, and none can be asked for
        return false()
    column = col(LoggedModel.params) if clause.kind == "param" else col(LoggedModel.tags)
    return test(column[clause.key].as_string(), clause.value)


def _on(dataset: OnDataset) -> ColumnElement[bool]:
    same = col(LoggedModelMetric.dataset_name) == dataset.name
    return same if dataset.digest is None else and_(same, col(LoggedModelMetric.dataset_digest) == dataset.digest)


def _last(order: ModelOrder) -> Any:
    """The metric's values of each model, the last one in place 1."""
    latest = (col(LoggedModelMetric.time).desc(), col(LoggedModelMetric.step).desc(), col(LoggedModelMetric.run_id))
    place = func.row_number().over(partition_by=col(LoggedModelMetric.model_id), order_by=latest).label("place")
    query = select(LoggedModelMetric.model_id, LoggedModelMetric.value, place).where(LoggedModelMetric.key == order.key)
    return (query if order.dataset is None else query.where(_on(order.dataset))).subquery()


def _attribute(name: str) -> Any:
    if name in {"created_at", "updated_at"}:
        return cast(func.round(getattr(LoggedModel, name) * 1000.0), BigInteger)
    return getattr(LoggedModel, name)
