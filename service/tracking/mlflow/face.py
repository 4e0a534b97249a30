"""The MLflow face: what unmodified `mlflow` clients call when MLFLOW_TRACKING_URI names this service.

It translates and decides nothing: experiments are projects, runs are runs. Its routes are MLflow's REST protocol and
stay out of this service's own OpenAPI.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from service.dependencies import ServiceSettings
from service.store.database import Database
from service.store.mlflow_projects import ensure_default
from service.tracking.mlflow import (
    artifact_routes,
    errors,
    experiment_routes,
    history_routes,
    landing,
    logged_model_routes,
    registry_model_routes,
    registry_version_routes,
    run_routes,
    wire,
)

# The protocol spoken, as clients ask for it: they send traces over OTLP to servers from 3.4 on.
PROTOCOL_VERSION = "3.17.2"
ERROR_SHAPES = dict.fromkeys(errors.PREFIXES, errors.body)

router = APIRouter(include_in_schema=False)
routers = (
    run_routes.router,
    run_routes.direct,
    history_routes.router,
    experiment_routes.router,
    artifact_routes.router,
    registry_model_routes.router,
    registry_version_routes.router,
    logged_model_routes.router,
    router,
)
direct = run_routes.direct


def prepare(database: Database) -> None:
    """Clients log to experiment "0" unasked: it has to be there."""
    with database.write() as session:
        ensure_default(session)


@router.get("/")
async def root(settings: ServiceSettings) -> HTMLResponse:
    return landing.page(settings.dashboard_url)


@router.get("/version")
async def version() -> PlainTextResponse:
    return PlainTextResponse(PROTOCOL_VERSION)


@router.get("/health")
async def health() -> PlainTextResponse:
    return PlainTextResponse("OK")


@router.get("/api/3.0/mlflow/server-info")
async def server_info() -> Response:
    info: dict[str, Any] = {"store_type": "SqlStore", "workspaces_enabled": False, "multipart_uploads_enabled": False}
    return wire.answer(info)
