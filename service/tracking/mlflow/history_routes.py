"""MLflow's face: the points of metrics. MLflow's own pages ask for them below `/ajax-api`, its clients below `/api`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from service.auth import require
from service.dependencies import ReadSession
from service.tracking.mlflow import history, messages, wire

router = APIRouter(include_in_schema=False)
pages = APIRouter(prefix="/2.0/mlflow/metrics", include_in_schema=False)
READ = [Depends(require("read"))]


@router.get("/api/2.0/mlflow/metrics/get-history", dependencies=READ)
def get_history(
    given: Annotated[messages.GetHistory, wire.message(messages.GetHistory)], session: ReadSession
) -> Response:
    points, following = history.page(session, given)
    return wire.answer({"metrics": points or None, "next_page_token": following})


@pages.get("/get-history-bulk", dependencies=READ)
def get_history_bulk(
    given: Annotated[messages.GetHistoryBulk, wire.message(messages.GetHistoryBulk)], session: ReadSession
) -> Response:
    return wire.answer({"metrics": history.bulk(session, given)})


@pages.get("/get-history-bulk-interval", dependencies=READ)
def get_history_interval(
    given: Annotated[messages.GetHistoryInterval, wire.message(messages.GetHistoryInterval)], session: ReadSession
) -> Response:
    return wire.answer({"metrics": history.interval(session, given) or None})


for prefix in ("/api", "/ajax-api"):
    router.include_router(pages, prefix=prefix)
