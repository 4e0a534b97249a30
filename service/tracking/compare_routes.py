"""Comparing runs: tables, curves, importance. Read by POST: a question may name hundreds of runs."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Depends, Request, Response

from service.auth import require
from service.dependencies import ReadSession, ServiceSettings
from service.tracking import compare, curves, importance
from service.tracking.compare_schemas import (
    CompareRequest,
    Comparison,
    Curves,
    CurvesRequest,
    Importance,
    ImportanceRequest,
)

router = APIRouter(prefix="/api/v1/runs", tags=["comparison"], dependencies=[Depends(require("read"))])
ARROW = "application/vnd.apache.arrow.stream"


@router.post("/compare")
def compare_runs(given: CompareRequest, session: ReadSession, settings: ServiceSettings) -> Comparison:
    """What differs between runs (config, environment, tags, data), and their metrics side by side, the best marked."""
    return compare.compare(session, given.run_ids, given.metrics, given.directions, settings.silent_after_seconds)


@router.post("/curves", response_model=Curves)
def read_curves(given: CurvesRequest, request: Request, session: ReadSession) -> Response:
    """Curves of several runs on one axis, thinned to a chart's pixels, smoothed; or mean and sd of groups of runs.

    JSON, or an Arrow stream with `Accept: application/vnd.apache.arrow.stream`.
    """
    answer = curves.read(session, given)
    if ARROW in request.headers.get("accept", ""):
        return Response(curves.as_arrow(answer), media_type=ARROW)
    return Response(
        orjson.dumps(curves.as_json(answer), option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


@router.post("/importance")
def explain_metric(given: ImportanceRequest, session: ReadSession, settings: ServiceSettings) -> Importance:
    """How much of a metric's variation over runs each config key explains by itself, with intervals."""
    return importance.explain(session, given, settings.silent_after_seconds)
