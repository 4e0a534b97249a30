"""The native tracking API: deleting runs and projects, the bin, and its purge."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service.auth import require
from service.dependencies import ReadSession, ServiceDatabase, ServiceSettings, WriteSession
from service.tracking import bin as rules
from service.tracking.bin_schemas import BinPage, Deleted, PurgeStarted, Restored, RunsToDelete, RunsToRestore

router = APIRouter(prefix="/api/v1", tags=["bin"])
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]


@router.delete("/runs/{run_id}", dependencies=WRITE, status_code=204)
def delete_run(run_id: str, session: WriteSession) -> Response:
    """Put a run into the bin. It can be restored until it is purged; logging to it is refused (`run_in_bin`)."""
    rules.delete_run(session, run_id)
    return Response(status_code=204)


@router.post("/runs/{run_id}/restore", dependencies=WRITE, status_code=204)
def restore_run(run_id: str, session: WriteSession) -> Response:
    """Take a run out of the bin. If its project is there too, that comes back without its other runs."""
    rules.restore_run(session, run_id)
    return Response(status_code=204)


@router.post("/runs/delete", dependencies=WRITE)
def delete_runs(given: RunsToDelete, database: ServiceDatabase, settings: ServiceSettings) -> Deleted:
    """Put many runs into the bin: those named, or all that a query finds. It is done in steps that let writers pass."""
    return rules.delete_runs(database, given, settings.silent_after_seconds)


@router.post("/runs/restore", dependencies=WRITE)
def restore_runs(given: RunsToRestore, database: ServiceDatabase) -> Restored:
    """Take many runs out of the bin."""
    return Restored(runs=rules.restore_runs(database, given.ids))


@router.delete("/projects/{name:path}", dependencies=WRITE)
def delete_project(name: str, database: ServiceDatabase) -> Deleted:
    """Put a project and its runs into the bin. Logging to it by name brings it back, without these runs."""
    return Deleted(runs=rules.delete_project(database, name))


@router.post("/projects/{name:path}/restore", dependencies=WRITE)
def restore_project(name: str, database: ServiceDatabase) -> Restored:
    """Take a project out of the bin, with the runs that went in with it; those deleted before stay there."""
    return Restored(runs=rules.restore_project(database, name))


@router.get("/bin", dependencies=READ)
def show_bin(
    session: ReadSession,
    database: ServiceDatabase,
    settings: ServiceSettings,
    project: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> BinPage:
    """What is in the bin, last deleted first: how much space it takes, until when it is kept, and what keeps it."""
    return rules.page(session, settings, project, limit, cursor, database.steps.held())


@router.delete("/bin", dependencies=[Depends(require("admin"))], status_code=202)
def purge_bin(
    request: Request,
    database: ServiceDatabase,
    run_id: Annotated[list[str] | None, Query(max_length=1000, description="Only these runs.")] = None,
    project: Annotated[str | None, Query(description="Only runs of this project.")] = None,
) -> PurgeStarted:
    """Delete for good what is in the bin, in the background; without parameters, all of it. There is no way back.

    What a run owns goes with it, its evaluations too. A run that a model version comes from, or that an audit rests
    on – on it or on one of its evaluations – is kept, and the answer says why.
    """
    started = rules.purge(database, run_id, project)
    request.app.state.purger.wake()
    return started
