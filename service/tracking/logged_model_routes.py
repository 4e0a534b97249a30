"""The native API of logged models: brought over from elsewhere, and read. MLflow clients make them on their face."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.concurrency import run_in_threadpool

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings, WriteSession
from service.store import mlflow_artifacts as files
from service.store.database import Database
from service.tracking import logged
from service.tracking.contents import Sha256, check_path, take
from service.tracking.logged_model_schemas import (
    LoggedModelFileList,
    LoggedModelFileOut,
    LoggedModelOut,
    LoggedModelPut,
)

router = APIRouter(prefix="/api/v1/logged-models", tags=["models"])
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
ModelId = Annotated[str, Path(pattern=r"^m-[0-9a-zA-Z]{1,64}$")]


@router.put("/{model_id}", dependencies=WRITE)
def put_logged_model(model_id: ModelId, given: LoggedModelPut, session: WriteSession) -> LoggedModelOut:
    """Store a logged model that was made elsewhere, under an id; again, to complete it. Its runs must be here."""
    return logged.show(session, logged.put(session, model_id, given))


@router.get("/{model_id}", dependencies=READ)
def get_logged_model(model_id: str, session: ReadSession) -> LoggedModelOut:
    """One logged model, with what was measured on it and the runs that made and used it."""
    return logged.show(session, logged.get(session, model_id))


@router.put("/{model_id}/files/{path:path}", dependencies=WRITE, status_code=201)
async def put_logged_model_file(
    model_id: str,
    path: str,
    request: Request,
    database: ServiceDatabase,
    blobs: Blobs,
    settings: ServiceSettings,
    sha256: Sha256 = None,
) -> LoggedModelFileOut:
    """Store the request's body as a file of the model; the same path again replaces it."""
    check_path(path)
    found, size = await take(request, blobs, database, sha256, settings.max_body_bytes, "TUNESCOPE_MAX_BODY_BYTES")
    return await run_in_threadpool(_record, database, model_id, files.File(path, found, size))


def _record(database: Database, model_id: str, file: files.File) -> LoggedModelFileOut:
    with database.write() as session:
        files.add(session, files.Owner("model", logged.get(session, model_id).id), file)
        return LoggedModelFileOut(**file._asdict())


@router.get("/{model_id}/files", dependencies=READ)
def list_logged_model_files(model_id: str, session: ReadSession) -> LoggedModelFileList:
    """The files of a logged model, by path."""
    found = files.files(session, files.Owner("model", logged.get(session, model_id).id))
    return LoggedModelFileList(items=[LoggedModelFileOut(**file._asdict()) for file in found])
