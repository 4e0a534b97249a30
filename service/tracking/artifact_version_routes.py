"""The native tracking API: artifacts with versions, aliases, and lineage."""

from __future__ import annotations

import mimetypes
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from service.auth import require
from service.dependencies import Blobs, ReadSession, WriteSession
from service.store import artifact_versions as store
from service.tracking import artifact_versions as rules
from service.tracking.artifact_version_schemas import (
    ArtifactAliasSet,
    ArtifactVersionCreate,
    ArtifactVersionList,
    ArtifactVersionOut,
    ArtifactVersionWhole,
)

router = APIRouter(prefix="/api/v1", tags=["artifacts"])
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
Project = Annotated[str, Query(min_length=1, max_length=250)]
ArtifactName = Annotated[str, Query(min_length=1, max_length=250)]


@router.post("/runs/{run_id}/artifact-versions", dependencies=WRITE, status_code=201)
def log_version(run_id: str, given: ArtifactVersionCreate, session: WriteSession) -> ArtifactVersionOut:
    """Make files that the run has uploaded the next version of an artifact of its project.

    What equals the newest version is that version; the run is noted as one that made it.
    """
    return rules.show(session, [rules.log(session, run_id, given)])[0]


@router.put("/runs/{run_id}/artifact-uses/{version_id}", dependencies=WRITE, status_code=204)
def use_version(run_id: str, version_id: str, session: WriteSession) -> Response:
    """Note that a run uses a version of an artifact."""
    rules.use(session, run_id, version_id)
    return Response(status_code=204)


@router.get("/artifacts", dependencies=READ)
def list_collections(project: Project, session: ReadSession) -> ArtifactVersionList:
    """The artifacts of a project that have versions, by name: the newest version of each."""
    return rules.of_project(session, project)


@router.get("/artifact-versions", dependencies=READ)
def list_artifact_versions(
    project: Project,
    name: ArtifactName,
    session: ReadSession,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> ArtifactVersionList:
    """The versions of an artifact, newest first."""
    return rules.page(session, project, name, cursor, limit)


@router.get("/artifact-versions/find", dependencies=READ)
def find_version(
    project: Project,
    name: ArtifactName,
    session: ReadSession,
    reference: Annotated[str, Query(description="`latest`, `v3`, or an alias.")] = rules.LATEST,
) -> ArtifactVersionWhole:
    """The version that a reference names, with its files and the runs that made and used it."""
    return rules.whole(session, rules.resolve(session, project, name, reference).version.id)


@router.get("/artifact-versions/{version_id}", dependencies=READ)
def get_artifact_version(version_id: str, session: ReadSession) -> ArtifactVersionWhole:
    """One version, with its files and the runs that made and used it."""
    return rules.whole(session, version_id)


@router.get("/artifact-versions/{version_id}/files/{path:path}", dependencies=READ)
def get_artifact_version_file(version_id: str, path: str, session: ReadSession, blobs: Blobs) -> StreamingResponse:
    """The bytes of a file of a version, as a download."""
    found = store.file(session, rules.get(session, version_id).version.id, path)
    if found is None:
        raise rules.ArtifactVersionNotFound(f"The version '{version_id}' has no file '{path}'.")
    handle = blobs.open(found.sha256)
    name = path.rsplit("/", 1)[-1]
    headers = {
        "content-length": str(found.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name)}",
        "x-content-type-options": "nosniff",
    }
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return StreamingResponse(iter(lambda: handle.read(1 << 20), b""), media_type=media_type, headers=headers)


@router.put("/artifact-aliases/{alias}", dependencies=WRITE)
def set_artifact_alias(
    alias: str, project: Project, name: ArtifactName, given: ArtifactAliasSet, session: WriteSession
) -> ArtifactVersionOut:
    """Point an alias of an artifact at a version."""
    return rules.show(session, [rules.set_alias(session, project, name, alias, given.version)])[0]


@router.delete("/artifact-aliases/{alias}", dependencies=WRITE, status_code=204)
def delete_artifact_alias(alias: str, project: Project, name: ArtifactName, session: WriteSession) -> Response:
    """Take an alias away; the version it pointed at stays."""
    rules.delete_alias(session, project, name, alias)
    return Response(status_code=204)
