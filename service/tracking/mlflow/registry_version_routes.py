"""Versions of registered models on MLflow's face."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlmodel import Session

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.store import registry as store
from service.store import registry_search as search_store
from service.store.tables import ModelVersion
from service.tracking import models
from service.tracking.mlflow import limits, registry_search, registry_sources, wire
from service.tracking.mlflow import registry_messages as messages
from service.tracking.mlflow.errors import InvalidParameterValue
from service.tracking.mlflow.grammar import page_offset, page_token

router = APIRouter(prefix="/api/2.0/mlflow/model-versions", include_in_schema=False)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
MAX_RESULTS = 200_000
ACTIVE_STAGES = ("Staging", "Production")


@router.post("/create", dependencies=WRITE)
def create_version(
    given: Annotated[messages.CreateVersion, wire.message(messages.CreateVersion)], session: WriteSession
) -> Response:
    tags = messages.tags(given.tags)
    if tags.get(store.PROMPT_TAG, "").lower() == "true":
        origin = registry_sources.of_prompt(given.source)
    else:
        origin = registry_sources.of_model(session, given.source, given.run_id, given.model_id)
    version = models.add(
        session,
        models.get_model(session, given.name).name,
        source=origin.source,
        location=origin.location,
        run_id=origin.run_id or None,
        logged_model_id=origin.logged_model_id or None,
        run_link=given.run_link or None,
        description=given.description or None,
        tags=tags,
    )
    return _answer(session, version)


@router.get("/get", dependencies=READ)
def get_version(given: Annotated[messages.Version, wire.message(messages.Version)], session: ReadSession) -> Response:
    return _answer(session, models.find(session, given.name, given.number))


@router.get("/search", dependencies=READ)
def search_versions(
    given: Annotated[messages.SearchVersions, wire.message(messages.SearchVersions)], session: ReadSession
) -> Response:
    search = registry_search.parse(given.filter, given.order_by, registry_search.VERSIONS)
    limit, offset = limits.check_results(given.max_results, MAX_RESULTS), page_offset(given.page_token)
    found = search_store.find_versions(
        session, search.clauses, search.orders, prompts=search.prompts, offset=offset, limit=limit + 1
    )
    following = page_token(offset + limit) if len(found) > limit else None
    shown = messages.show_versions(session, found[:limit])
    return wire.answer({"model_versions": shown, "next_page_token": following})


@router.patch("/update", dependencies=WRITE)
def update_version(
    given: Annotated[messages.UpdateVersion, wire.message(messages.UpdateVersion)], session: WriteSession
) -> Response:
    version = models.find(session, given.name, given.number)
    version.description, version.updated_at = given.description or None, time.time()
    return _answer(session, version)


@router.delete("/delete", dependencies=WRITE)
def delete_version(
    given: Annotated[messages.Version, wire.message(messages.Version)], session: WriteSession
) -> Response:
    store.hide_version(session, models.find(session, given.name, given.number))
    return wire.answer()


@router.post("/transition-stage", dependencies=WRITE)
def transition_stage(
    given: Annotated[messages.TransitionStage, wire.message(messages.TransitionStage)], session: WriteSession
) -> Response:
    stage = messages.stage(given.stage)
    if given.archive_existing_versions and stage not in ACTIVE_STAGES:
        raise InvalidParameterValue(
            "Model version transition cannot archive existing model versions because "
            f"'{given.stage}' is not an Active stage. Valid stages are {list(ACTIVE_STAGES)}"
        )
    version = models.find(session, given.name, given.number)
    store.move_to_stage(session, version, stage, archive="Archived" if given.archive_existing_versions else None)
    return _answer(session, version)


@router.get("/get-download-uri", dependencies=READ)
def get_download_uri(
    given: Annotated[messages.Version, wire.message(messages.Version)], session: ReadSession
) -> Response:
    version = models.find(session, given.name, given.number)
    return wire.answer({"artifact_uri": version.location or version.source or ""})


@router.post("/set-tag", dependencies=WRITE)
def set_tag(
    given: Annotated[messages.SetVersionTag, wire.message(messages.SetVersionTag)], session: WriteSession
) -> Response:
    key, value = messages.tag(given.key, given.value)
    store.set_version_tags(session, models.find(session, given.name, given.number).id, {key: value})
    return wire.answer()


@router.delete("/delete-tag", dependencies=WRITE)
def delete_tag(
    given: Annotated[messages.DeleteVersionTag, wire.message(messages.DeleteVersionTag)], session: WriteSession
) -> Response:
    store.set_version_tags(session, models.find(session, given.name, given.number).id, {given.key: None})
    return wire.answer()


def _answer(session: Session, version: ModelVersion) -> Response:
    return wire.answer({"model_version": messages.show_versions(session, [version])[0]})
