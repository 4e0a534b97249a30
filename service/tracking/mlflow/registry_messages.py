"""The registry's requests and answers in MLflow's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Session

from service.store import registry as store
from service.store.tables import ModelVersion, RegisteredModel
from service.tracking.mlflow import limits, show, wire
from service.tracking.mlflow.errors import InvalidParameterValue
from service.tracking.mlflow.messages import KeyValue

TAG_VALUE = 100_000
PROMPT_TEXT_TAG = "mlflow.prompt.text"
STAGES = {stage.lower(): stage for stage in ("None", "Staging", "Production", "Archived")}


class CreateModel(msgspec.Struct):
    name: wire.Text
    tags: list[KeyValue] = []
    description: str | None = None


class ModelName(msgspec.Struct):
    name: wire.Text


class UpdateModel(msgspec.Struct):
    name: wire.Text
    description: str | None = None


class RenameModel(msgspec.Struct):
    name: wire.Text
    new_name: wire.Text


class SearchModels(msgspec.Struct):
    filter: str = ""
    max_results: wire.Int64 = 100
    order_by: list[str] = []
    page_token: str = ""


class LatestVersions(msgspec.Struct):
    name: wire.Text
    stages: list[str] = []


class SetModelTag(msgspec.Struct):
    name: wire.Text
    key: wire.Text
    value: str = ""


class DeleteModelTag(msgspec.Struct):
    name: wire.Text
    key: wire.Text


class Alias(msgspec.Struct):
    name: wire.Text
    alias: wire.Text


class SetAlias(msgspec.Struct):
    name: wire.Text
    alias: wire.Text
    version: wire.Text


class CreateVersion(msgspec.Struct):
    name: wire.Text
    source: wire.Text
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    description: str | None = None
    tags: list[KeyValue] = []


class Version(msgspec.Struct):
    """A version is a number, sent as text."""

    name: wire.Text
    version: wire.Text

    @property
    def number(self) -> int:
        return number(self.version)


class UpdateVersion(Version):
    description: str | None = None


class TransitionStage(Version, kw_only=True):
    stage: wire.Text
    archive_existing_versions: bool = False


class SetVersionTag(Version, kw_only=True):
    key: wire.Text
    value: str = ""


class DeleteVersionTag(Version, kw_only=True):
    key: wire.Text


class SearchVersions(msgspec.Struct):
    filter: str = ""
    max_results: wire.Int64 = 10_000
    order_by: list[str] = []
    page_token: str = ""


def number(version: str) -> int:
    try:
        return int(version)
    except ValueError:
        raise InvalidParameterValue(f"Parameter 'version' must be an integer, got '{version}'.") from None


def stage(name: str) -> str:
    """The stage as it is kept, however it was written."""
    found = STAGES.get(name.lower())
    if found is None:
        allowed = ", ".join(STAGES.values())
        raise InvalidParameterValue(f"Invalid Model Version stage: {name}. Value must be one of {allowed}.")
    return found


def tags(given: Sequence[KeyValue]) -> dict[str, str]:
    """Tags as they are stored; the last one of a key counts."""
    return dict(tag(one.key, one.value) for one in given)


def tag(key: str, value: str) -> tuple[str, str]:
    limits.check_name(key, "key")
    limits.check_length("key", limits.KEY, key)
    if key == PROMPT_TEXT_TAG and len(value) > TAG_VALUE:
        raise InvalidParameterValue(f"Prompt text exceeds max length of {TAG_VALUE} characters.")
    limits.check_length("value", TAG_VALUE, value)
    return key, value


def show_models(session: Session, found: Sequence[RegisteredModel]) -> list[dict[str, Any]]:
    names = [model.name for model in found]
    own_tags, aliases = store.model_tags(session, names), store.aliases_of_models(session, names)
    newest: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for version in show_versions(session, store.newest(session, names)):
        newest[version["name"]].append(version)
    return [
        {
            "name": model.name,
            "creation_timestamp": wire.milliseconds(model.created_at),
            "last_updated_timestamp": wire.milliseconds(model.updated_at),
            "description": model.description or "",
            "latest_versions": newest[model.name],
            "tags": show.pairs(list(own_tags[model.name].items())),
            "aliases": [{"alias": alias, "version": str(at)} for alias, at in aliases[model.name].items()],
        }
        for model in found
    ]


def show_versions(session: Session, found: Sequence[ModelVersion]) -> list[dict[str, Any]]:
    ids = [version.id for version in found]
    own_tags, aliases = store.version_tags(session, ids), store.aliases(session, ids)
    return [
        {
            "name": version.name,
            "version": str(version.version),
            "creation_timestamp": wire.milliseconds(version.created_at),
            "last_updated_timestamp": wire.milliseconds(version.updated_at),
            "current_stage": version.stage,
            "description": version.description or "",
            "source": version.source or "",
            "run_id": version.run_id or "",
            "run_link": version.run_link or "",
            "status": version.status,
            "tags": show.pairs(list(own_tags[version.id].items())),
            "aliases": aliases[version.id],
        }
        for version in found
    ]
