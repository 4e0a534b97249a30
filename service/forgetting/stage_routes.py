"""A sequence of fine-tunes and a run's checkpoints: the matrix of stages × suites, forgetting events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.auth import require
from service.dependencies import Blobs, ServiceDatabase
from service.forgetting import events, stages
from service.forgetting.stage_schemas import ForgettingEvents, StageMatrix, StageMatrixCreate

router = APIRouter(prefix="/api/v1")
READ = [Depends(require("read"))]


@router.post("/stages", tags=["audits"], dependencies=READ)
def read_stages(wanted: StageMatrixCreate, database: ServiceDatabase, blobs: Blobs) -> StageMatrix:
    """R[i][j], the score on suite j after stage i, with every published score of it under its convention's name.

    It only reads: the matrix is made of evaluations that are there. POST because the question is long.
    """
    with database.read() as session:
        found = stages.gather(session, wanted)
    return stages.matrix(found, blobs)


@router.get("/forgetting-events", tags=["audits"], dependencies=READ)
def get_forgetting_events(
    database: ServiceDatabase,
    blobs: Blobs,
    run_id: str,
    suite: Annotated[str, Query(description="The name of a suite that the run was evaluated on at several steps.")],
    metric: Annotated[str | None, Query(description="Absent: the suite's primary metric.")] = None,
    limit: Annotated[int, Query(ge=0, le=1000, description="Of `most_forgotten`.")] = 50,
) -> ForgettingEvents:
    """Items that went from right to wrong over the checkpoints of a run, and those that never did."""
    with database.read() as session:
        found = events.gather(session, run_id, suite)
    return events.count(found, metric, blobs, limit)
