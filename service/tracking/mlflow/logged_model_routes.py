"""Logged models on MLflow's face."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlmodel import Session

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.store import lineage as store
from service.store import mlflow_artifacts
from service.store.tables import LoggedModel
from service.tracking import logged
from service.tracking.mlflow import artifacts, logged_models, wire

router = APIRouter(prefix="/api/2.0/mlflow", include_in_schema=False)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]


@router.post("/logged-models", dependencies=WRITE)
def create(
    given: Annotated[logged_models.Create, wire.message(logged_models.Create)], session: WriteSession
) -> Response:
    return _answer(session, logged_models.create(session, given))


@router.post("/logged-models/search", dependencies=READ)
def search(
    given: Annotated[logged_models.Search, wire.message(logged_models.Search)], session: ReadSession
) -> Response:
    found, following = logged_models.search(session, given)
    return wire.answer({"models": logged_models.shown(session, found), "next_page_token": following})


@router.get("/logged-models/{model_id}", dependencies=READ)
def get(model_id: str, session: ReadSession, allow_deleted: bool = False) -> Response:
    return _answer(session, logged.get(session, model_id, deleted=allow_deleted))


@router.patch("/logged-models/{model_id}", dependencies=WRITE)
def finalize(
    model_id: str,
    given: Annotated[logged_models.Finalize, wire.message(logged_models.Finalize)],
    session: WriteSession,
) -> Response:
    return _answer(session, logged_models.finalize(session, model_id, given))


@router.delete("/logged-models/{model_id}", dependencies=WRITE)
def delete(model_id: str, session: WriteSession) -> Response:
    store.hide_model(logged.lock(session, model_id))
    return wire.answer()


@router.patch("/logged-models/{model_id}/tags", dependencies=WRITE)
def set_tags(
    model_id: str, given: Annotated[logged_models.Tags, wire.message(logged_models.Tags)], session: WriteSession
) -> Response:
    logged_models.set_tags(session, model_id, given)
    return wire.answer()


@router.delete("/logged-models/{model_id}/tags/{key:path}", dependencies=WRITE)
def delete_tag(model_id: str, key: str, session: WriteSession) -> Response:
    logged_models.delete_tag(session, model_id, key)
    return wire.answer()


@router.post("/logged-models/{model_id}/params", dependencies=WRITE)
def add_params(
    model_id: str,
    given: Annotated[logged_models.Params, wire.message(logged_models.Params)],
    session: WriteSession,
) -> Response:
    logged_models.add_params(session, model_id, given)
    return wire.answer()


@router.get("/logged-models/{model_id}/artifacts/directories", dependencies=READ)
def list_artifacts(model_id: str, session: ReadSession, artifact_directory_path: str = "") -> Response:
    """Files with their paths from the model's root, unlike those of the artifact proxy."""
    model = logged.get(session, model_id)
    folder = artifacts.safe(artifact_directory_path)
    below = mlflow_artifacts.below(session, mlflow_artifacts.Owner("model", model.id), folder)
    files = [
        {**entry, "path": f"{folder}/{entry['path']}" if folder else entry["path"]}
        for entry in artifacts.listed(below, folder)
    ]
    return wire.answer({"root_uri": logged.location(session, model), "files": files})


@router.post("/runs/outputs", dependencies=WRITE)
def log_outputs(
    given: Annotated[logged_models.LogOutputs, wire.message(logged_models.LogOutputs)], session: WriteSession
) -> Response:
    logged_models.log_outputs(session, given)
    return wire.answer()


def _answer(session: Session, model: LoggedModel) -> Response:
    return wire.answer({"model": logged_models.shown(session, [model])[0]})
