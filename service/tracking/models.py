"""The registry: versions of models, and what points at them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from service.errors import NotFound
from service.store import models as store
from service.store import runs
from service.store.tables import ModelVersion
from service.tracking.schemas import ModelOut, ModelVersionOut, VersionCreate


class ModelNotFound(NotFound):
    code = "model_not_found"


class LinkedRunNotFound(NotFound):
    code = "run_not_found"


def register(session: Session, name: str, given: VersionCreate) -> ModelVersion:
    if given.run_id is not None and runs.get(session, given.run_id) is None:
        raise LinkedRunNotFound(f"There is no run '{given.run_id}' to link the model version to.")
    if given.base_version_id is not None:
        get(session, given.base_version_id)
    version = store.add_version(session, name, **given.model_dump(exclude={"aliases"}))
    for alias in given.aliases:
        store.set_alias(session, name, alias, version.id)
    return version


def get(session: Session, version_id: str) -> ModelVersion:
    version = store.get_version(session, version_id)
    if version is None:
        raise ModelNotFound(f"There is no model version '{version_id}'.")
    return version


def move_alias(session: Session, name: str, alias: str, number: int) -> ModelVersion:
    version = store.find_version(session, name, number)
    if version is None:
        raise ModelNotFound(f"The model '{name}' has no version {number}.")
    store.set_alias(session, name, alias, version.id)
    return version


def show(session: Session, versions: Sequence[ModelVersion]) -> list[ModelVersionOut]:
    aliases = store.aliases(session, [version.id for version in versions])
    return [ModelVersionOut(**version.model_dump(), aliases=aliases[version.id]) for version in versions]


def models(session: Session) -> list[ModelOut]:
    by_name: dict[str, list[ModelVersionOut]] = {}
    for version in show(session, store.versions(session)):
        by_name.setdefault(version.name, []).append(version)
    return [ModelOut(name=name, n_versions=len(own), latest=own[0]) for name, own in by_name.items()]
