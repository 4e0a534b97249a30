"""The model registry: registered models, their versions, aliases and tags.

A deleted version is hidden, not removed: evaluations and audits still name it, and its number is not given again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, select

from service.store.tables import ModelAlias, ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag
from service.store.upserts import upsert

# A registered model with this tag set to "true" is a prompt of MLflow's: its versions are texts, kept in tags.
PROMPT_TAG = "mlflow.prompt.is_prompt"

# --- models ---


def get_model(session: Session, name: str) -> RegisteredModel | None:
    return session.get(RegisteredModel, name)


def create_model(
    session: Session,
    name: str,
    *,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    created_at: float | None = None,
) -> RegisteredModel | None:
    """A model without versions; None when the name is taken."""
    now = time.time()
    made = RegisteredModel(name=name, description=description, created_at=created_at or now, updated_at=now)
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:
        return None
    set_model_tags(session, name, tags or {})
    return session.get(RegisteredModel, name)


def models(session: Session, *, prompts: bool) -> list[RegisteredModel]:
    """All models by name: those that are prompts, or those that are not."""
    is_prompt = col(RegisteredModel.name).in_(prompt_names())
    query = select(RegisteredModel).where(is_prompt if prompts else ~is_prompt).order_by(RegisteredModel.name)
    return list(session.exec(query).all())


def prompt_names() -> Any:
    """The names of prompts, as a subquery."""
    return select(RegisteredModelTag.name).where(
        RegisteredModelTag.key == PROMPT_TAG, func.lower(RegisteredModelTag.value) == "true"
    )


def rename_model(session: Session, name: str, new_name: str) -> bool:
    """Give the model and all that belongs to it another name; False when that name is taken."""
    now = time.time()
    session.flush()
    try:
        with session.begin_nested():
            _rename(session, RegisteredModel, name, name=new_name, updated_at=now)
            _rename(session, RegisteredModelTag, name, name=new_name)
            _rename(session, ModelAlias, name, name=new_name)
            _rename(session, ModelVersion, name, name=new_name, updated_at=now)
    except IntegrityError:
        return False
    session.expire_all()
    return True


def delete_model(session: Session, name: str) -> None:
    """Remove the model, its tags and aliases, and hide its versions.

    The hidden versions give the name back, so that a new model of it starts at version 1: theirs says when it was
    deleted.
    """
    now = time.time()
    session.flush()
    for table in (RegisteredModelTag, ModelAlias, RegisteredModel):
        session.connection().execute(delete(table).where(col(table.name) == name))
    hidden = f"{name} (deleted {datetime.fromtimestamp(now, UTC).isoformat()})"
    living = update(ModelVersion).where(col(ModelVersion.name) == name, col(ModelVersion.deleted_at).is_(None))
    session.connection().execute(living.values(deleted_at=now, updated_at=now))
    _rename(session, ModelVersion, name, name=hidden)
    session.expire_all()


def _rename(session: Session, table: Any, old: str, **values: Any) -> None:
    session.connection().execute(update(table).where(table.name == old).values(**values))


def model_tags(session: Session, names: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    query = select(RegisteredModelTag).where(col(RegisteredModelTag.name).in_(names)).order_by(RegisteredModelTag.key)
    for tag in session.exec(query).all():
        found[tag.name][tag.key] = tag.value
    return found


def set_model_tags(session: Session, name: str, changes: Mapping[str, str | None]) -> None:
    """Merge `changes` into the model's tags; None takes a tag away."""
    _set_tags(session, RegisteredModelTag, {"name": name}, changes)


def newest(session: Session, names: Sequence[str]) -> list[ModelVersion]:
    """The newest version of each of these models in each of its stages."""
    place = (
        func.row_number()
        .over(partition_by=(col(ModelVersion.name), col(ModelVersion.stage)), order_by=col(ModelVersion.version).desc())
        .label("place")
    )
    living = select(ModelVersion.id, place).where(
        col(ModelVersion.name).in_(names), col(ModelVersion.deleted_at).is_(None)
    )
    ranked = living.subquery()
    query = select(ModelVersion).join(ranked, ranked.c.id == col(ModelVersion.id)).where(ranked.c.place == 1)
    return list(session.exec(query.order_by(ModelVersion.name, col(ModelVersion.version))).all())


def count_versions(session: Session, names: Sequence[str]) -> dict[str, int]:
    query = select(ModelVersion.name, func.count()).where(
        col(ModelVersion.name).in_(names), col(ModelVersion.deleted_at).is_(None)
    )
    return dict(session.exec(query.group_by(ModelVersion.name)).all())


# --- versions ---


def add_version(
    session: Session,
    name: str,
    *,
    number: int | None = None,
    created_at: float | None = None,
    tags: Mapping[str, str] | None = None,
    **fields: Any,
) -> ModelVersion | None:
    """The next version of `name`; the first is 1, and makes the model where there is none.

    With `number`, the version of that number; None when there is one, or was one that is deleted.
    """
    now = time.time()
    # This locks the model's row until the transaction ends: two writers cannot take the same number.
    upsert(session, RegisteredModel, [{"name": name, "created_at": now, "updated_at": now}], replace=["updated_at"])
    if number is None:
        number = (session.exec(select(func.max(ModelVersion.version)).where(ModelVersion.name == name)).one() or 0) + 1
    elif session.exec(select(ModelVersion.id).where(ModelVersion.name == name, ModelVersion.version == number)).first():
        return None
    version = ModelVersion(name=name, version=number, created_at=created_at or now, updated_at=now, **fields)
    session.add(version)
    session.flush()
    set_version_tags(session, version.id, tags or {})
    return version


def get_version(session: Session, version_id: str, *, deleted: bool = False) -> ModelVersion | None:
    """The version of this id; a deleted one only when asked for."""
    version = session.get(ModelVersion, version_id)
    return None if version is None or (version.deleted_at is not None and not deleted) else version


def find_version(session: Session, name: str, version: int) -> ModelVersion | None:
    query = select(ModelVersion).where(ModelVersion.name == name, ModelVersion.version == version)
    return session.exec(query.where(col(ModelVersion.deleted_at).is_(None))).first()


def versions(session: Session, *, name: str | None = None, run_id: str | None = None) -> list[ModelVersion]:
    """Newest first."""
    query = select(ModelVersion).where(col(ModelVersion.deleted_at).is_(None))
    query = query.order_by(col(ModelVersion.name), col(ModelVersion.version).desc())
    if name is not None:
        query = query.where(ModelVersion.name == name)
    if run_id is not None:
        query = query.where(ModelVersion.run_id == run_id)
    return list(session.exec(query).all())


def hide_version(session: Session, version: ModelVersion) -> None:
    """Delete the version as far as anyone can see; its aliases go with it."""
    now = time.time()
    session.connection().execute(delete(ModelAlias).where(col(ModelAlias.model_version_id) == version.id))
    version.deleted_at = version.updated_at = now
    touch_model(session, version.name, now)


def move_to_stage(session: Session, version: ModelVersion, stage: str, *, archive: str | None) -> None:
    """Put the version in `stage`; with `archive`, put what is there now into that stage."""
    now = time.time()
    if archive is not None:
        others = update(ModelVersion).where(
            col(ModelVersion.name) == version.name,
            col(ModelVersion.stage) == stage,
            col(ModelVersion.id) != version.id,
            col(ModelVersion.deleted_at).is_(None),
        )
        session.connection().execute(others.values(stage=archive, updated_at=now))
    version.stage, version.updated_at = stage, now
    touch_model(session, version.name, now)


def touch_model(session: Session, name: str, now: float) -> None:
    model = session.get(RegisteredModel, name)
    if model is not None:
        model.updated_at = now
    session.flush()


def version_tags(session: Session, version_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {version_id: {} for version_id in version_ids}
    query = select(ModelVersionTag).where(col(ModelVersionTag.model_version_id).in_(version_ids))
    for tag in session.exec(query.order_by(ModelVersionTag.key)).all():
        found[tag.model_version_id][tag.key] = tag.value
    return found


def set_version_tags(session: Session, version_id: str, changes: Mapping[str, str | None]) -> None:
    """Merge `changes` into the version's tags; None takes a tag away."""
    _set_tags(session, ModelVersionTag, {"model_version_id": version_id}, changes)


def _set_tags(session: Session, table: Any, owner: dict[str, str], changes: Mapping[str, str | None]) -> None:
    kept = [{**owner, "key": key, "value": value} for key, value in changes.items() if value is not None]
    upsert(session, table, kept, replace=["value"])
    if gone := [key for key, value in changes.items() if value is None]:
        own = (getattr(table, name) == value for name, value in owner.items())
        session.connection().execute(delete(table).where(*own, table.key.in_(gone)))


# --- aliases ---


def aliases(session: Session, version_ids: Sequence[str]) -> dict[str, list[str]]:
    """The aliases of each of these versions."""
    found: dict[str, list[str]] = {version_id: [] for version_id in version_ids}
    query = select(ModelAlias).where(col(ModelAlias.model_version_id).in_(version_ids)).order_by(ModelAlias.alias)
    for row in session.exec(query).all():
        found[row.model_version_id].append(row.alias)
    return found


def aliases_of_models(session: Session, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The aliases of each of these models, and the version each points at."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    query = (
        select(ModelAlias, ModelVersion.version)
        .join(ModelVersion, col(ModelVersion.id) == ModelAlias.model_version_id)
        .where(col(ModelAlias.name).in_(names))
        .order_by(ModelAlias.alias)
    )
    for row, version in session.exec(query).all():
        found[row.name][row.alias] = version
    return found


def set_alias(session: Session, name: str, alias: str, version_id: str) -> None:
    """Point the alias at this version; it leaves the one it pointed at."""
    upsert(
        session,
        ModelAlias,
        [{"name": name, "alias": alias, "model_version_id": version_id}],
        replace=["model_version_id"],
    )


def delete_alias(session: Session, name: str, alias: str) -> bool:
    """False when there is no such alias."""
    gone = delete(ModelAlias).where(col(ModelAlias.name) == name, col(ModelAlias.alias) == alias)
    return bool(session.connection().execute(gone).rowcount)


def version_by_alias(session: Session, name: str, alias: str) -> ModelVersion | None:
    query = select(ModelVersion).join(ModelAlias, col(ModelAlias.model_version_id) == ModelVersion.id)
    return session.exec(query.where(ModelAlias.name == name, ModelAlias.alias == alias)).first()
