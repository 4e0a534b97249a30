"""The native tracking API: projects, runs and metrics."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlmodel import Session

from service.auth import require
from service.dependencies import ReadSession, ServiceDatabase, ServiceSettings, WriteSession, get_settings
from service.direct import DirectRoute
from service.errors import TooLarge
from service.store import console
from service.store import runs as run_store
from service.store import series as series_store
from service.tracking import history, ingest, links, runs
from service.tracking.schemas import (
    BatchReceipt,
    ConsoleLine,
    ConsolePage,
    History,
    ProjectList,
    ProjectOut,
    Rank,
    RunCreate,
    RunOut,
    RunPage,
    RunUpdate,
    SeriesList,
)

router = APIRouter(prefix="/api/v1")
direct = APIRouter(prefix="/api/v1", route_class=DirectRoute)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
AT_ONCE = 100_000  # points; a longer answer is sent as it is read
ARROW = "application/vnd.apache.arrow.stream"


def _json(body: object, status: int = 200) -> Response:
    """Runs are built in their wire shape; validating thousands of summaries again would cost more than reading them."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


@router.get("/projects", tags=["runs"], dependencies=READ)
def list_projects(session: ReadSession) -> ProjectList:
    """All projects, by name."""
    found = run_store.projects(session)
    return ProjectList(items=[ProjectOut.model_validate(p, from_attributes=True) for p in found])


@router.post("/runs", tags=["runs"], dependencies=WRITE, status_code=201, response_model=RunOut)
async def create_run(given: RunCreate, request: Request, settings: ServiceSettings) -> Response:
    """Start a run, or continue one (`resume`)."""

    def job(session: Session) -> dict[str, object]:
        return runs.create(session, given, settings.silent_after_seconds)

    return _json(await request.app.state.ingest.write(job), 201)


@router.get("/runs", tags=["runs"], dependencies=READ, response_model=RunPage)
def find_runs(
    session: ReadSession,
    settings: ServiceSettings,
    database: ServiceDatabase,
    project: str | None = None,
    q: Annotated[
        str, Query(description="A condition in the search language, e.g. `metrics.f1 > 0.8 and tags.team = nlp`.")
    ] = "",
    order_by: Annotated[
        str, Query(description="A field and asc or desc, e.g. `metrics.f1 desc`; default: newest first.")
    ] = "",
    metric: Annotated[list[str] | None, Query(description="Only these metrics' summaries; absent: all.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    """Find runs. A wrong query answers 400 with the place and what was expected there."""
    page = runs.find(
        session,
        project=project,
        query=q,
        order_by=order_by,
        limit=limit,
        cursor=cursor,
        metrics=metric,
        silent_after=settings.silent_after_seconds,
        summaries=database.summaries,
    )
    return _json(page)


@router.get("/runs/{run_id}", tags=["runs"], dependencies=READ, response_model=RunOut)
def get_run(run_id: str, session: ReadSession, settings: ServiceSettings) -> Response:
    """One run with its config, environment and metric summaries."""
    return _json(runs.show(session, [runs.get(session, run_id)], settings.silent_after_seconds)[0])


@router.patch("/runs/{run_id}", tags=["runs"], dependencies=WRITE, response_model=RunOut)
def update_run(
    run_id: str, given: RunUpdate, request: Request, session: WriteSession, settings: ServiceSettings
) -> Response:
    """Change what is sent; everything else stays."""
    run = runs.change(session, runs.get(session, run_id), given)
    if run.finished_at is not None:
        request.app.state.ingest.settle(run_id)
    return _json(runs.show(session, [run], settings.silent_after_seconds)[0])


@router.get("/runs/{run_id}/links", tags=["runs"], dependencies=READ)
def get_run_links(run_id: str, session: ReadSession) -> links.RunLinks:
    """What came of the run: model versions, evaluations, audits, and the experiments they serve in."""
    return links.of_run(session, runs.get(session, run_id).id)


@direct.post(
    "/runs/{run_id}/batches",
    tags=["metrics"],
    dependencies=WRITE,
    response_model=BatchReceipt,
    openapi_extra={
        "parameters": [{"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"application/msgpack": {}, "application/json": {"schema": {"type": "object"}}},
        },
    },
)
async def store_batch(request: Request) -> Response:
    """Store a numbered batch: `{writer, batch, rank, metrics: [{key, step, time, value}], console: [[time, stream,
    text]]}`.

    `rank` says which process of the run logged it (absent: 0, which speaks for the run); `refused`, how many points
    of the writer were not taken since its last batch. Answered once it is committed. A batch sent again is dropped;
    one that skips a number is refused.
    """
    body = await _body(request, get_settings(request).max_body_bytes)
    batch, columns = ingest.decode(body, request.headers.get("content-type", ""))
    receipt: BatchReceipt = await request.app.state.ingest.store(request.path_params["run_id"], batch, columns)
    return _json(receipt.model_dump())


@router.get("/runs/{run_id}/series", tags=["metrics"], dependencies=READ, response_model=SeriesList)
def list_series(run_id: str, session: ReadSession) -> Response:
    """Every series of a run with its summary, of every rank."""
    return _json({"items": series_store.by_rank(session, runs.get(session, run_id).id), "next_cursor": None})


@router.get("/runs/{run_id}/console", tags=["runs"], dependencies=READ)
def read_console(
    run_id: str,
    session: ReadSession,
    after: Annotated[int | None, Query(ge=0, description="A cursor, 0 for the beginning; absent: the end.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Lines; with `after`, whole chunks of them.")] = 1000,
    rank: Annotated[Rank, Query(description="The process that printed them.")] = "all",
) -> ConsolePage:
    """What the run printed: the last lines, or those after a cursor."""
    owner = runs.get(session, run_id).id
    if after is None:
        page = console.tail(session, owner, limit=limit, rank=_rank(rank))
    else:
        page = console.read(session, owner, after=after, limit=limit, rank=_rank(rank))
    items = [
        ConsoleLine.model_construct(time=one.line.time, stream=one.line.stream, rank=one.rank, text=one.line.text)
        for one in page.lines
    ]
    return ConsolePage.model_construct(items=items, cursor=page.cursor, more=page.more)


def _rank(asked: Rank) -> int | None:
    return None if asked == "all" else asked


async def _body(request: Request, limit: int) -> bytes:
    if int(request.headers.get("content-length") or 0) > limit:
        raise TooLarge(f"The body is larger than the limit of {limit:,} bytes (TUNESCOPE_MAX_BODY_BYTES).")
    return await request.body()


@router.get("/metrics", tags=["metrics"], dependencies=READ, response_model=History)
def read_metrics(
    request: Request,
    session: ReadSession,
    database: ServiceDatabase,
    run_id: Annotated[list[str], Query(min_length=1, max_length=1000)],
    key: Annotated[list[str] | None, Query(description="Absent: all metrics of the runs.")] = None,
    max_points: Annotated[
        int | None, Query(ge=2, le=20_000, description="Pixels of the chart; absent: every point.")
    ] = None,
    after: Annotated[str | None, Query(description="A cursor: only points that arrived since.")] = None,
    whole: Annotated[bool, Query(description="Also the points that a resumed run replaced, all segments.")] = False,
    rank: Annotated[Rank, Query(description="The process of a run; `all`: a series for each.")] = 0,
) -> Response:
    """Points of several runs, of any length: JSON, or an Arrow stream with
    `Accept: application/vnd.apache.arrow.stream`."""
    asked = history.ask(session, run_id, key, max_points, after, whole, _rank(rank))
    arrow = ARROW in request.headers.get("accept", "")
    answer, kind = (history.as_arrow, ARROW) if arrow else (history.as_json, "application/json")
    if asked.points <= AT_ONCE:
        return Response(b"".join(answer(lambda: session, asked)), media_type=kind)
    return StreamingResponse(history.streamed(database, partial(answer, asked=asked)), media_type=kind)
