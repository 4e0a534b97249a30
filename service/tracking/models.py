"""The registry's rules, for the native API and the MLflow face alike: one registry, two ways to speak to it.

What they refuse is said in MLflow's words, which its clients look for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from service.errors import Conflict, Invalid, NotFound
from service.shapes import ModelVersionOut
from service.store import registry as store
from service.store import runs
from service.store.tables import ModelVersion, RegisteredModel
from service.tracking import logged
from service.tracking.schemas import (
    ModelOut,
    ModelPut,
    ModelUpdate,
    VersionCreate,
    VersionUpdate,
)

_ALIAS = re.compile(r"[\w\-]+")
MAX_ALIAS_LENGTH = 255


class ModelNotFound(NotFound):
    code = "model_not_found"


class LinkedRunNotFound(NotFound):
    code = "run_not_found"


class AliasNotFound(NotFound):
    code = "alias_not_found"


class ModelExists(Conflict):
    code = "model_exists"


class VersionExists(Conflict):
    """There is a version of this number, or there was one: a deleted version's number is not given again."""

    code = "version_exists"


class BadModelName(Invalid):
    code = "bad_model_name"


class BadAlias(Invalid):
    code = "bad_alias"


def check_name(name: str) -> None:
    """Refuse a name that `models:/name/version`, or a folder, could not hold."""
    if not name.strip():
        raise BadModelName("Missing value for required parameter 'name'.")
    if "/" in name or ":" in name:
        raise BadModelName(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if name == "." or name.startswith(".."):
        raise BadModelName(
            f"Invalid value \"{name}\" for parameter 'name' supplied: Names may be treated as files in certain cases, "
            f"and must not resolve to other names when treated as such. This name would resolve to '{name}'"
        )


def check_alias(alias: str) -> None:
    """Refuse an alias that is reserved, or that `models:/name@alias` could not hold."""
    if not _ALIAS.fullmatch(alias):
        raise BadAlias(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(alias) > MAX_ALIAS_LENGTH:
        raise BadAlias(f"'Registered model alias name' exceeds the maximum length of {MAX_ALIAS_LENGTH} characters")
    if alias.lower() == "latest":
        raise BadAlias("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise BadAlias(f"Version alias name '{alias}' is reserved.")


# --- models ---


def get_model(session: Session, name: str) -> RegisteredModel:
    model = store.get_model(session, name)
    if model is None:
        raise ModelNotFound(f"Registered Model with name={name} not found")
    return model


def put_model(session: Session, name: str, given: ModelPut) -> RegisteredModel:
    """The model of this name, made if it is not there."""
    check_name(name)
    made = store.create_model(
        session, name, description=given.description, tags=given.tags, created_at=given.created_at
    )
    if made is not None:
        return made
    changes = given.model_dump(include=given.model_fields_set & {"description", "tags"})
    return update_model(session, name, ModelUpdate(**changes))


def update_model(session: Session, name: str, given: ModelUpdate) -> RegisteredModel:
    model = get_model(session, name)
    if "description" in given.model_fields_set:
        model.description = given.description
    store.set_model_tags(session, name, given.tags)
    model.updated_at = time.time()
    if given.name is None or given.name == name:
        return model
    return rename(session, name, given.name)


def rename(session: Session, name: str, new_name: str) -> RegisteredModel:
    check_name(new_name)
    get_model(session, name)
    if not store.rename_model(session, name, new_name):
        raise ModelExists(f"Registered Model (name={new_name}) already exists.")
    return get_model(session, new_name)


def show_models(session: Session, found: Sequence[RegisteredModel]) -> list[ModelOut]:
    names = [model.name for model in found]
    tags, counts = store.model_tags(session, names), store.count_versions(session, names)
    aliases = store.aliases_of_models(session, names)
    # One of each stage, oldest first: the last one of a name is its newest.
    newest = {version.name: version for version in store.newest(session, names)}
    latest = {version.name: version for version in show(session, list(newest.values()))}
    return [
        ModelOut(
            **model.model_dump(),
            tags=tags[model.name],
            aliases=aliases[model.name],
            n_versions=counts.get(model.name, 0),
            latest=latest.get(model.name),
        )
        for model in found
    ]


# --- versions ---


def register(session: Session, name: str, given: VersionCreate) -> ModelVersion:
    """The next version of the model; the first makes the model."""
    check_name(name)
    for alias in given.aliases:
        check_alias(alias)
    fields = given.model_dump(exclude={"aliases", "version"})
    fields["number"] = given.version
    if given.run_id is not None and runs.get(session, given.run_id) is None:
        raise LinkedRunNotFound(f"There is no run '{given.run_id}' to link the model version to.")
    if given.base_version_id is not None:
        get(session, given.base_version_id)
    fields["location"] = given.source
    if given.logged_model_id is not None:
        model = logged.get(session, given.logged_model_id)
        fields["run_id"] = given.run_id or model.run_id
        if given.source is None:
            fields |= {"source": f"models:/{model.id}", "location": logged.location(session, model)}
    version = add(session, name, **fields)
    for alias in given.aliases:
        store.set_alias(session, name, alias, version.id)
    return version


def add(session: Session, name: str, *, logged_model_id: str | None = None, **fields: Any) -> ModelVersion:
    """The next version of the model, or that of a `number`, from what was checked before."""
    version = store.add_version(session, name, logged_model_id=logged_model_id, **fields)
    if version is None:
        raise VersionExists(
            f"Version {fields['number']} of '{name}' is taken, maybe by one that was deleted. Leave `version` out for "
            "the next number."
        )
    if logged_model_id is not None:
        logged.note_version(session, logged_model_id, version)
    return version


def get(session: Session, version_id: str, *, deleted: bool = False) -> ModelVersion:
    version = store.get_version(session, version_id, deleted=deleted)
    if version is None:
        raise ModelNotFound(f"There is no model version '{version_id}'.")
    return version


def find(session: Session, name: str, number: int) -> ModelVersion:
    version = store.find_version(session, name, number)
    if version is None:
        raise ModelNotFound(f"Model Version (name={name}, version={number}) not found")
    return version


def update(session: Session, version_id: str, given: VersionUpdate) -> ModelVersion:
    version = get(session, version_id)
    if "description" in given.model_fields_set:
        version.description = given.description
    store.set_version_tags(session, version.id, given.tags)
    version.updated_at = time.time()
    return version


def move_alias(session: Session, name: str, alias: str, number: int) -> ModelVersion:
    check_alias(alias)
    version = find(session, name, number)
    store.set_alias(session, name, alias, version.id)
    return version


def by_alias(session: Session, name: str, alias: str) -> ModelVersion:
    get_model(session, name)
    version = store.version_by_alias(session, name, alias)
    if version is None:
        raise AliasNotFound(f"Registered model alias {alias} not found.")
    return version


def delete_alias(session: Session, name: str, alias: str) -> None:
    get_model(session, name)
    if not store.delete_alias(session, name, alias):
        raise AliasNotFound(f"Registered model alias {alias} not found.")


def show(session: Session, versions: Sequence[ModelVersion]) -> list[ModelVersionOut]:
    ids = [version.id for version in versions]
    aliases, tags = store.aliases(session, ids), store.version_tags(session, ids)
    return [
        ModelVersionOut(**version.model_dump(), aliases=aliases[version.id], tags=tags[version.id])
        for version in versions
    ]
