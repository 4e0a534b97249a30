"""MLflow's face: files. Bytes stream between the request and the blob store; no file is held in memory."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings, WriteSession
from service.store import media
from service.store import mlflow_artifacts as store
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.tables import new_id
from service.tracking.mlflow import artifacts, messages, runs, show, wire
from service.tracking.mlflow.errors import InvalidParameterValue, ResourceDoesNotExist

router = APIRouter(include_in_schema=False)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@router.put(PROXY + "/{path:path}", dependencies=WRITE)
async def upload(
    path: str, request: Request, database: ServiceDatabase, blobs: Blobs, settings: ServiceSettings
) -> Response:
    place = await run_in_threadpool(_find_place, database, path)
    if not place.path:
        raise InvalidParameterValue("Invalid path")
    sha256, size = await blobs.put_stream(request.stream(), settings.max_artifact_bytes)
    await run_in_threadpool(_record, database, place, sha256, size, settings.max_media_bytes)
    return wire.answer()


def _find_place(database: Database, path: str) -> artifacts.Place:
    with database.read() as session:
        return artifacts.place(session, path)


def _record(database: Database, place: artifacts.Place, sha256: str, size: int, largest_medium: int) -> None:
    medium = artifacts.medium(place.path) if place.owner.kind == "run" and size <= largest_medium else None
    with database.write() as session:
        store.add(session, place.owner, store.File(place.path, sha256, size))
        if medium is not None:
            whose = {"id": new_id(), "run_id": place.owner.id, "rank": 0, "position": 0}
            media.put(session, whose | medium | {"sha256": sha256, "size": size, "caption": None, "details": {}}, of=1)


@router.get(PROXY, dependencies=READ)
def list_files(session: ReadSession, path: str = "") -> Response:
    place = artifacts.place(session, path)
    files = store.below(session, place.owner, place.path)
    return wire.answer({"files": artifacts.listed(files, place.path) or None})


@router.get(PROXY + "/{path:path}", dependencies=READ)
def download(path: str, session: ReadSession, blobs: Blobs) -> Response:
    return _file(session, blobs, artifacts.place(session, path))


def _file(session: ReadSession, blobs: BlobStore, place: artifacts.Place) -> Response:
    found = store.find(session, place.owner, place.path)
    if found is None:
        raise ResourceDoesNotExist(f"No such artifact: '{place.path}'")
    headers, media_type = artifacts.headers(place.path), artifacts.media_type(place.path)
    local = blobs.local_path(found.sha256)
    if local is not None:
        return FileResponse(local, media_type=media_type, headers=headers)
    handle = blobs.open(found.sha256)
    chunks = iter(lambda: handle.read(1 << 20), b"")
    return StreamingResponse(chunks, media_type=media_type, headers={**headers, "content-length": str(found.size)})


@router.delete(PROXY + "/{path:path}", dependencies=WRITE)
def remove(path: str, session: WriteSession) -> Response:
    place = artifacts.place(session, path)
    store.remove(session, place.owner, place.path)
    return wire.answer()


@router.get("/api/2.0/mlflow/artifacts/list", dependencies=READ)
def list_of_run(
    given: Annotated[messages.ListArtifacts, wire.message(messages.ListArtifacts)], session: ReadSession
) -> Response:
    root = show.run_info(runs.get(session, given.run_id))["artifact_uri"]
    folder = artifacts.safe(given.path)
    files = artifacts.listed(store.below(session, store.Owner("run", given.run_id), folder), folder)
    below = f"{folder}/" if folder else ""
    return wire.answer({"root_uri": root, "files": [{**one, "path": below + one["path"]} for one in files] or None})


@router.get("/get-artifact", dependencies=READ)
def get_artifact(session: ReadSession, blobs: Blobs, path: str, run_id: str = "", run_uuid: str = "") -> Response:
    run = runs.get(session, run_id or run_uuid)
    return _file(session, blobs, artifacts.Place(store.Owner("run", run.id), artifacts.safe(path)))
