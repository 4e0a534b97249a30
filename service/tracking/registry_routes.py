"""The native tracking API: artifacts of runs, and the model registry."""

from __future__ import annotations

import mimetypes
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings, WriteSession
from service.errors import NotFound
from service.shapes import ModelVersionOut
from service.store import artifacts
from service.store import registry as store
from service.store.database import Database
from service.tracking import links, models, runs
from service.tracking.contents import Sha256, check_path, take
from service.tracking.schemas import (
    AliasSet,
    ArtifactList,
    ArtifactOut,
    ModelList,
    ModelOut,
    ModelPut,
    ModelUpdate,
    ModelVersionList,
    VersionCreate,
    VersionUpdate,
)

router = APIRouter(prefix="/api/v1")
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
ModelName = Annotated[str, Path(min_length=1, max_length=250)]


class ArtifactNotFound(NotFound):
    code = "artifact_not_found"


@router.put("/runs/{run_id}/artifacts/{path:path}", tags=["artifacts"], dependencies=WRITE, status_code=201)
async def put_artifact(
    run_id: str,
    path: str,
    request: Request,
    database: ServiceDatabase,
    blobs: Blobs,
    settings: ServiceSettings,
    kind: str = "file",
    sha256: Sha256 = None,
) -> ArtifactOut:
    """Store the request's body as a file of the run; the same path again replaces it. A cut upload leaves nothing."""
    check_path(path)
    found, size = await take(request, blobs, database, sha256, settings.max_body_bytes, "TUNESCOPE_MAX_BODY_BYTES")
    return await run_in_threadpool(_record_artifact, database, run_id, path, kind, found, size)


def _record_artifact(database: Database, run_id: str, path: str, kind: str, sha256: str, size: int) -> ArtifactOut:
    with database.write() as session:
        run = runs.get(session, run_id)
        row = artifacts.add_artifact(session, run_id=run.id, path=path, kind=kind, sha256=sha256, size=size)
        return ArtifactOut.model_validate(row, from_attributes=True)


@router.get("/runs/{run_id}/artifacts", tags=["artifacts"], dependencies=READ)
def list_artifacts(run_id: str, session: ReadSession) -> ArtifactList:
    """The files of a run, by path."""
    found = artifacts.artifacts(session, runs.get(session, run_id).id)
    return ArtifactList(items=[ArtifactOut.model_validate(row, from_attributes=True) for row in found])


@router.get("/runs/{run_id}/artifacts/{path:path}", tags=["artifacts"], dependencies=READ)
def get_artifact(run_id: str, path: str, session: ReadSession, blobs: Blobs) -> StreamingResponse:
    """The bytes of an artifact, as a download."""
    artifact = artifacts.get_artifact(session, run_id, path)
    if artifact is None:
        raise ArtifactNotFound(f"The run '{run_id}' has no artifact '{path}'.")
    handle = blobs.open(artifact.sha256)
    name = path.rsplit("/", 1)[-1]
    headers = {
        "content-length": str(artifact.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "x-content-type-options": "nosniff",
    }
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return StreamingResponse(iter(lambda: handle.read(1 << 20), b""), media_type=media_type, headers=headers)


@router.get("/models", tags=["models"], dependencies=READ)
def list_models(
    session: ReadSession,
    prompts: Annotated[bool, Query(description="List the prompts that MLflow clients registered instead.")] = False,
) -> ModelList:
    """All registered models with their newest version."""
    return ModelList(items=models.show_models(session, store.models(session, prompts=prompts)))


@router.get("/models/{name}", tags=["models"], dependencies=READ)
def get_model(name: ModelName, session: ReadSession) -> ModelOut:
    """One registered model, with its newest version."""
    return models.show_models(session, [models.get_model(session, name)])[0]


@router.put("/models/{name}", tags=["models"], dependencies=WRITE)
def put_model(name: ModelName, given: ModelPut, session: WriteSession) -> ModelOut:
    """Make a model without versions; of one that is there already, change what is sent."""
    return models.show_models(session, [models.put_model(session, name, given)])[0]


@router.patch("/models/{name}", tags=["models"], dependencies=WRITE)
def update_model(name: ModelName, given: ModelUpdate, session: WriteSession) -> ModelOut:
    """Change a model's description, tags or name."""
    return models.show_models(session, [models.update_model(session, name, given)])[0]


@router.delete("/models/{name}", tags=["models"], dependencies=WRITE, status_code=204)
def delete_model(name: ModelName, session: WriteSession) -> None:
    """Delete a model and its versions. Evaluations and audits keep the versions that they name."""
    models.get_model(session, name)
    store.delete_model(session, name)


@router.post("/models/{name}/versions", tags=["models"], dependencies=WRITE, status_code=201)
def register_version(name: ModelName, given: VersionCreate, session: WriteSession) -> ModelVersionOut:
    """Register the next version of a model; the first call makes the model."""
    return models.show(session, [models.register(session, name, given)])[0]


@router.get("/models/{name}/versions", tags=["models"], dependencies=READ)
def list_versions(name: ModelName, session: ReadSession) -> ModelVersionList:
    """The versions of a model, newest first."""
    models.get_model(session, name)
    return ModelVersionList(items=models.show(session, store.versions(session, name=name)))


@router.put("/models/{name}/aliases/{alias}", tags=["models"], dependencies=WRITE)
def set_alias(name: ModelName, alias: str, given: AliasSet, session: WriteSession) -> ModelVersionOut:
    """Point an alias, such as `champion`, at a version."""
    return models.show(session, [models.move_alias(session, name, alias, given.version)])[0]


@router.get("/models/{name}/aliases/{alias}", tags=["models"], dependencies=READ)
def get_alias(name: ModelName, alias: str, session: ReadSession) -> ModelVersionOut:
    """The version that an alias points at."""
    return models.show(session, [models.by_alias(session, name, alias)])[0]


@router.delete("/models/{name}/aliases/{alias}", tags=["models"], dependencies=WRITE, status_code=204)
def delete_alias(name: ModelName, alias: str, session: WriteSession) -> None:
    """Take an alias away; the version it pointed at stays."""
    models.delete_alias(session, name, alias)


@router.get("/model-versions/{version_id}", tags=["models"], dependencies=READ)
def get_version(version_id: str, session: ReadSession) -> ModelVersionOut:
    """One model version, also a deleted one: `deleted_at` says so."""
    return models.show(session, [models.get(session, version_id, deleted=True)])[0]


@router.patch("/model-versions/{version_id}", tags=["models"], dependencies=WRITE)
def update_version(version_id: str, given: VersionUpdate, session: WriteSession) -> ModelVersionOut:
    """Change a version's description or tags."""
    return models.show(session, [models.update(session, version_id, given)])[0]


@router.delete("/model-versions/{version_id}", tags=["models"], dependencies=WRITE, status_code=204)
def delete_version(version_id: str, session: WriteSession) -> None:
    """Hide a version from lists and searches and take its aliases away.

    Evaluations and audits still name it, and its number is not given again.
    """
    store.hide_version(session, models.get(session, version_id))


@router.get("/model-versions/{version_id}/links", tags=["models"], dependencies=READ)
def get_version_links(version_id: str, session: ReadSession) -> links.VersionLinks:
    """The run behind a version, its base, its evaluations, audits and experiments."""
    return links.of_version(session, models.get(session, version_id, deleted=True))
