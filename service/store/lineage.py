"""What went into runs and came out of them: data sets, and logged models with what was measured on them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from service.store.tables import Dataset, LoggedModel, LoggedModelMetric, RunDataset, RunModel, new_id
from service.store.upserts import upsert


def create_model(session: Session, **fields: Any) -> LoggedModel:
    """A model in state PENDING; its id is made here."""
    now = time.time()
    model = LoggedModel(id=f"m-{new_id()}", created_at=now, updated_at=now, **fields)
    session.add(model)
    session.flush()
    return model


def get_model(session: Session, model_id: str, *, deleted: bool = False) -> LoggedModel | None:
    """The model of this id; a deleted one only when asked for."""
    model = session.get(LoggedModel, model_id)
    return None if model is None or (model.deleted_at is not None and not deleted) else model


def put_model(session: Session, model_id: str, **fields: Any) -> LoggedModel:
    """The model of this id, with these fields; params and tags are merged into those that it has."""
    model = lock_model(session, model_id)
    if model is None:
        model = LoggedModel(id=model_id, **fields)
        session.add(model)
    else:
        for name, value in fields.items():
            setattr(model, name, {**getattr(model, name), **value} if name in ("params", "tags") else value)
    session.flush()
    return model


def runs_of_model(session: Session, model_id: str) -> list[RunModel]:
    """The runs that made the model (`output`, at a step) or used it (`input`)."""
    query = select(RunModel).where(RunModel.logged_model_id == model_id)
    return list(session.exec(query.order_by(RunModel.role, RunModel.run_id)).all())


def lock_model(session: Session, model_id: str) -> LoggedModel | None:
    """The model, deleted or not, for a change that no other writer may come between."""
    return session.get(LoggedModel, model_id, with_for_update=True, populate_existing=True)


def set_status(model: LoggedModel, status: str) -> None:
    model.status, model.updated_at = status, time.time()


def set_tags(model: LoggedModel, changes: Mapping[str, str | None]) -> None:
    """Merge `changes` into the model's tags; None takes a tag away."""
    model.tags = {key: value for key, value in {**model.tags, **changes}.items() if value is not None}


def add_params(model: LoggedModel, params: Mapping[str, str]) -> None:
    model.params = {**model.params, **params}


def hide_model(model: LoggedModel) -> None:
    """Delete the model as far as searches can see: runs and versions still name it."""
    model.deleted_at = model.updated_at = time.time()


def of_runs(session: Session, run_ids: Sequence[str]) -> dict[str, list[RunModel]]:
    """What each of these runs used (`input`) and made (`output`)."""
    found: dict[str, list[RunModel]] = {run_id: [] for run_id in run_ids}
    query = select(RunModel).where(col(RunModel.run_id).in_(run_ids)).order_by(RunModel.logged_model_id)
    for row in session.exec(query).all():
        found[row.run_id].append(row)
    return found


def logged_by_id(session: Session, ids: Sequence[str]) -> dict[str, LoggedModel]:
    """These models, deleted ones too."""
    return {row.id: row for row in session.exec(select(LoggedModel).where(col(LoggedModel.id).in_(ids))).all()}


def datasets(session: Session, run_id: str) -> list[tuple[Dataset, dict[str, str]]]:
    """What the run read, and the tags that say as what."""
    query = (
        select(Dataset, RunDataset)
        .join(RunDataset, col(RunDataset.dataset_id) == Dataset.id)
        .where(RunDataset.run_id == run_id)
        .order_by(col(RunDataset.created_at), col(Dataset.id))
    )
    return [(dataset, link.tags) for dataset, link in session.exec(query).all()]


def link_run(session: Session, run_id: str, role: str, models: Mapping[str, int]) -> None:
    """Say that the run used (`input`) or made (`output`) these models, each at a step."""
    rows = [{"run_id": run_id, "logged_model_id": model, "role": role, "step": step} for model, step in models.items()]
    upsert(session, RunModel, rows, replace=["step"])


def metrics(session: Session, model_ids: Sequence[str]) -> dict[str, list[LoggedModelMetric]]:
    """Everything measured on each of these models, in the order in which it came."""
    found: dict[str, list[LoggedModelMetric]] = {model_id: [] for model_id in model_ids}
    query = select(LoggedModelMetric).where(col(LoggedModelMetric.model_id).in_(model_ids))
    for row in session.exec(query.order_by(col(LoggedModelMetric.id))).all():
        found[row.model_id].append(row)
    return found


def add_metrics(session: Session, rows: Sequence[LoggedModelMetric]) -> None:
    """Store what was measured on models. What is stored already is not stored twice: clients repeat themselves."""
    near = (
        col(LoggedModelMetric.model_id).in_({row.model_id for row in rows}),
        col(LoggedModelMetric.key).in_({row.key for row in rows}),
        col(LoggedModelMetric.step).in_({row.step for row in rows}),
    )
    known = {_measurement(row) for row in session.exec(select(LoggedModelMetric).where(*near)).all()}
    for row in rows:
        if _measurement(row) not in known:
            known.add(_measurement(row))
            session.add(row)
    session.flush()


def _measurement(row: LoggedModelMetric) -> tuple[Any, ...]:
    return row.model_id, row.run_id, row.key, row.step, row.time, row.dataset_name, row.dataset_digest, row.value
