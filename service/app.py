"""Where the parts meet: settings in, application out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from service import errors
from service.dependencies import get_database
from service.direct import Application
from service.evaluation import dataset_routes as evaluation_datasets
from service.evaluation import quality_routes as evaluation_quality
from service.evaluation import review_routes as evaluation_reviews
from service.evaluation import routes as evaluation
from service.experiments import gateway, ofrep
from service.experiments import routes as experiments
from service.experiments.traffic import Traffic
from service.forgetting import routes as forgetting
from service.forgetting import stage_routes as forgetting_stages
from service.judge import Handover
from service.settings import Settings
from service.store.blobs import BlobStore
from service.store.database import Database
from service.tracking import alert_routes as tracking_alerts
from service.tracking import artifact_version_routes as tracking_artifacts
from service.tracking import bin_routes as tracking_bin
from service.tracking import compare_routes as tracking_compare
from service.tracking import filter_routes as tracking_filters
from service.tracking import logged_model_routes as tracking_logged_models
from service.tracking import media_routes as tracking_media
from service.tracking import registry_routes as tracking_registry
from service.tracking import routes as tracking
from service.tracking.alerts import AlertWorker
from service.tracking.ingest import Ingest
from service.tracking.mlflow import face as mlflow
from service.tracking.purger import Purger
from service.tracking.webhooks import Deliveries

DESCRIPTION = """Experiment tracking and evaluation for fine-tuned language models:
did it learn (runs), is it better (evaluations), what did it forget (audits), do users prefer it (experiments).

Errors everywhere are `{"error": {"code", "message", "details"}}`. Times are Unix seconds. Lists answer
`{"items", "next_cursor"}`."""


# Faces that speak another protocol, by path.
ERROR_SHAPES = {**mlflow.ERROR_SHAPES, gateway.PATH: gateway.openai_error, ofrep.PATH: ofrep.error_body}


# Routes are tried in order, and FastAPI prepares a router's when it first comes to it. Health comes before these: it
# answers before they are prepared. Direct routes have shortcuts.
ROUTERS = (
    gateway.router,
    ofrep.router,
    tracking.router,
    tracking.direct,
    tracking_bin.router,
    tracking_alerts.router,
    tracking_registry.router,
    tracking_logged_models.router,
    tracking_artifacts.router,
    tracking_compare.router,
    tracking_filters.router,
    tracking_media.router,
    evaluation.router,
    evaluation_reviews.router,
    evaluation_datasets.router,
    evaluation_quality.router,
    forgetting.router,
    forgetting_stages.router,
    experiments.router,
    *mlflow.routers,
)
DIRECT = (gateway.router, ofrep.router, tracking.direct, mlflow.direct)


def create_app(settings: Settings, database: Database | None = None, judge_socket: str | None = None) -> FastAPI:
    """The service on these settings. `database` is given by callers that opened their own; with `judge_socket`, what
    takes long is done by the process behind it (see `judge.py`), else in this one."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.database = database or Database(settings.resolved_database_url)
        app.state.blobs = BlobStore(settings.resolved_artifacts_url, settings.data_dir)
        mlflow.prepare(app.state.database)
        app.state.deliveries = Deliveries(settings, app.state.database)
        await app.state.deliveries.start()
        app.state.alerts = AlertWorker(
            app.state.database, settings.silent_after_seconds, owed=app.state.deliveries.wake
        )
        app.state.alerts.start()
        app.state.ingest = Ingest(app.state.database, app.state.alerts.notice)
        app.state.ingest.start()
        app.state.purger = Purger(app.state.database, app.state.blobs, settings.bin_days)
        app.state.purger.start()
        app.state.traffic = Traffic(settings, app.state.database)
        await app.state.traffic.start()
        try:
            yield
        finally:
            await app.state.traffic.stop()
            app.state.purger.stop()
            app.state.ingest.stop()
            app.state.alerts.stop()
            await app.state.deliveries.stop()
            if database is None:
                app.state.database.close()

    app = Application(title="Tunescope", version=version("tunescope"), description=DESCRIPTION, lifespan=lifespan)
    app.state.settings = settings
    errors.install(app, ERROR_SHAPES)
    if judge_socket is not None:
        app.add_middleware(Handover, socket_path=judge_socket)
    for router in (health, *ROUTERS):
        app.include_router(router)
    app.put_first(*DIRECT)
    return app


health = APIRouter(tags=["operations"])


@health.get("/healthz")
async def healthz(request: Request) -> dict[str, str]:
    """The process is up."""
    return {"status": "ok", "version": request.app.version}


@health.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """The database answers."""
    ready = get_database(request).ready()
    return JSONResponse({"status": "ready" if ready else "database away"}, status_code=200 if ready else 503)


def create_judge(settings: Settings) -> FastAPI:
    """The routes that take long, on the database that the service has open: what a worker of `judge.py` runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.database = Database(settings.resolved_database_url, attached=True)
        app.state.blobs = BlobStore(settings.resolved_artifacts_url, settings.data_dir)
        yield
        app.state.database.close()

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.state.settings = settings
    errors.install(app)
    for router in (
        evaluation.router,
        evaluation_reviews.router,
        evaluation_datasets.router,
        evaluation_quality.router,
        forgetting.router,
        forgetting_stages.router,
    ):
        app.include_router(router)
    return app
