"""Registered models on MLflow's face, and their aliases. A prompt is a registered model with a tag that says so."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlmodel import Session

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.store import registry as store
from service.store import registry_search as search_store
from service.store.tables import RegisteredModel
from service.tracking import models
from service.tracking.mlflow import limits, registry_search, wire
from service.tracking.mlflow import registry_messages as messages
from service.tracking.mlflow.errors import InvalidParameterValue, ResourceAlreadyExists, ResourceDoesNotExist
from service.tracking.mlflow.grammar import page_offset, page_token

router = APIRouter(prefix="/api/2.0/mlflow/registered-models", include_in_schema=False)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
MAX_RESULTS = 1000


@router.post("/create", dependencies=WRITE)
def create_model(
    given: Annotated[messages.CreateModel, wire.message(messages.CreateModel)], session: WriteSession
) -> Response:
    models.check_name(given.name)
    tags = messages.tags(given.tags)
    model = store.create_model(session, given.name, description=given.description or None, tags=tags)
    if model is None:
        raise _taken(session, given.name, tags)
    return _answer(session, model)


def _taken(session: Session, name: str, tags: dict[str, str]) -> ResourceAlreadyExists:
    there = _sort(store.model_tags(session, [name])[name])
    wanted = _sort(tags)
    if there == wanted:
        return ResourceAlreadyExists(f"{wanted} (name={name}) already exists.")
    return ResourceAlreadyExists(
        f"Tried to create a {wanted.lower()} with name '{name}', but the name is already taken by a {there.lower()}. "
        "MLflow does not allow creating a model and a prompt with the same name."
    )


def _sort(tags: dict[str, str]) -> str:
    return "Prompt" if store.PROMPT_TAG in tags else "Registered Model"


@router.get("/get", dependencies=READ)
def get_model(given: Annotated[messages.ModelName, wire.message(messages.ModelName)], session: ReadSession) -> Response:
    return _answer(session, models.get_model(session, given.name))


@router.patch("/update", dependencies=WRITE)
def update_model(
    given: Annotated[messages.UpdateModel, wire.message(messages.UpdateModel)], session: WriteSession
) -> Response:
    model = models.get_model(session, given.name)
    model.description, model.updated_at = given.description or None, time.time()
    return _answer(session, model)


@router.post("/rename", dependencies=WRITE)
def rename_model(
    given: Annotated[messages.RenameModel, wire.message(messages.RenameModel)], session: WriteSession
) -> Response:
    try:
        return _answer(session, models.rename(session, given.name, given.new_name))
    except models.ModelExists as error:
        raise ResourceAlreadyExists(error.message) from None


@router.delete("/delete", dependencies=WRITE)
def delete_model(
    given: Annotated[messages.ModelName, wire.message(messages.ModelName)], session: WriteSession
) -> Response:
    models.get_model(session, given.name)
    store.delete_model(session, given.name)
    return wire.answer()


@router.get("/search", dependencies=READ)
def search_models(
    given: Annotated[messages.SearchModels, wire.message(messages.SearchModels)], session: ReadSession
) -> Response:
    search = registry_search.parse(given.filter, given.order_by, registry_search.MODELS)
    if given.max_results == 0:  # nothing is asked for, which MLflow allows here
        return wire.answer({"registered_models": []})
    limit, offset = limits.check_results(given.max_results, MAX_RESULTS), page_offset(given.page_token)
    found = search_store.find_models(
        session, search.clauses, search.orders, prompts=search.prompts, offset=offset, limit=limit + 1
    )
    following = page_token(offset + limit) if len(found) > limit else None
    shown = messages.show_models(session, found[:limit])
    return wire.answer({"registered_models": shown, "next_page_token": following})


@router.api_route("/get-latest-versions", methods=["GET", "POST"], dependencies=READ)
def latest_versions(
    given: Annotated[messages.LatestVersions, wire.message(messages.LatestVersions)], session: ReadSession
) -> Response:
    wanted = {messages.stage(stage) for stage in given.stages} or set(messages.STAGES.values())
    name = models.get_model(session, given.name).name
    newest = [version for version in store.newest(session, [name]) if version.stage in wanted]
    return wire.answer({"model_versions": messages.show_versions(session, newest)})


@router.post("/set-tag", dependencies=WRITE)
def set_tag(
    given: Annotated[messages.SetModelTag, wire.message(messages.SetModelTag)], session: WriteSession
) -> Response:
    key, value = messages.tag(given.key, given.value)
    store.set_model_tags(session, models.get_model(session, given.name).name, {key: value})
    return wire.answer()


@router.delete("/delete-tag", dependencies=WRITE)
def delete_tag(
    given: Annotated[messages.DeleteModelTag, wire.message(messages.DeleteModelTag)], session: WriteSession
) -> Response:
    store.set_model_tags(session, models.get_model(session, given.name).name, {given.key: None})
    return wire.answer()


@router.post("/alias", dependencies=WRITE)
def set_alias(given: Annotated[messages.SetAlias, wire.message(messages.SetAlias)], session: WriteSession) -> Response:
    models.move_alias(session, given.name, given.alias, messages.number(given.version))
    return wire.answer()


@router.delete("/alias", dependencies=WRITE)
def delete_alias(given: Annotated[messages.Alias, wire.message(messages.Alias)], session: WriteSession) -> Response:
    store.delete_alias(session, models.get_model(session, given.name).name, given.alias)
    return wire.answer()


@router.get("/alias", dependencies=READ)
def version_by_alias(given: Annotated[messages.Alias, wire.message(messages.Alias)], session: ReadSession) -> Response:
    """The version an alias points at; `latest` is the newest one of any stage."""
    if given.alias.lower() == "latest":
        newest = store.newest(session, [models.get_model(session, given.name).name])
        if not newest:
            raise ResourceDoesNotExist(f"Latest version not found for model {given.name}.")
        version = newest[-1]
    else:
        try:
            version = models.by_alias(session, given.name, given.alias)
        except models.AliasNotFound as error:
            raise InvalidParameterValue(error.message) from None
    return wire.answer({"model_version": messages.show_versions(session, [version])[0]})


def _answer(session: Session, model: RegisteredModel) -> Response:
    return wire.answer({"registered_model": messages.show_models(session, [model])[0]})
