"""Searching the registry: MLflow's clauses over registered models and model versions, and their SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, func, select

from service.store.mlflow_filters import OPERATORS, Clause, Order
from service.store.registry import prompt_names
from service.store.tables import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag


def find_models(
    session: Session, clauses: Sequence[Clause], orders: Sequence[Order], *, prompts: bool, offset: int, limit: int
) -> list[RegisteredModel]:
    """Models that meet every clause, in this order and then by name. Only prompts, or none of them."""
    query = select(RegisteredModel).where(*_conditions(RegisteredModel, clauses, prompts))
    query = query.order_by(*_keys(RegisteredModel, orders), col(RegisteredModel.name))
    return list(session.exec(query.offset(offset).limit(limit)).all())


def find_versions(
    session: Session, clauses: Sequence[Clause], orders: Sequence[Order], *, prompts: bool, offset: int, limit: int
) -> list[ModelVersion]:
    """Versions that meet every clause and are not deleted, in this order, then by name and newest first."""
    query = select(ModelVersion).where(*_conditions(ModelVersion, clauses, prompts))
    query = query.where(col(ModelVersion.deleted_at).is_(None))
    query = query.order_by(*_keys(ModelVersion, orders), col(ModelVersion.name), col(ModelVersion.version).desc())
    return list(session.exec(query.offset(offset).limit(limit)).all())


def _conditions(table: Any, clauses: Sequence[Clause], prompts: bool) -> list[ColumnElement[bool]]:
    is_prompt: ColumnElement[bool] = table.name.in_(prompt_names())
    return [is_prompt if prompts else ~is_prompt, *(_condition(table, clause) for clause in clauses)]


def _condition(table: Any, clause: Clause) -> ColumnElement[bool]:
    test = OPERATORS[clause.operator]
    if clause.kind == "attribute":
        # A version without a run or source has an empty one: it is unequal to all others.
        column = getattr(table, clause.key)
        return test(func.coalesce(column, "") if clause.key in {"run_id", "source"} else column, clause.value)
    tag, owner, own = (
        (RegisteredModelTag, col(RegisteredModelTag.name), col(RegisteredModel.name))
        if table is RegisteredModel
        else (ModelVersionTag, col(ModelVersionTag.model_version_id), col(ModelVersion.id))
    )
    holders = select(owner).where(col(tag.key) == clause.key, test(col(tag.value), clause.value))
    return own.in_(holders)


def _keys(table: Any, orders: Sequence[Order]) -> list[Any]:
    columns = [(getattr(table, order.key), order.descending) for order in orders]
    return [column.desc() if descending else column.asc() for column, descending in columns]
