"""MLflow's face: runs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.direct import DirectRoute
from service.tracking.ingest import Ingest
from service.tracking.mlflow import messages, runs, show, wire

router = APIRouter(prefix="/api/2.0/mlflow", include_in_schema=False)
direct = APIRouter(prefix="/api/2.0/mlflow", include_in_schema=False, route_class=DirectRoute)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]


def _ingest(request: Request) -> Ingest:
    return cast(Ingest, request.app.state.ingest)


_create = wire.reader(messages.CreateRun)
_log_batch = wire.reader(messages.LogBatch)
_log_metric = wire.reader(messages.LogMetric)
_set_key = wire.reader(messages.SetKey)
GetRun = Annotated[wire.RunRequest, wire.message(wire.RunRequest)]


@router.get("/runs/get", dependencies=READ)
def get(given: GetRun, session: ReadSession) -> Response:
    return wire.answer({"run": runs.shown(session, [runs.get(session, given.run_id)])[0]})


@router.post("/runs/update", dependencies=WRITE)
def update(
    given: Annotated[messages.UpdateRun, wire.message(messages.UpdateRun)], session: WriteSession, request: Request
) -> Response:
    if runs.update(session, given):
        _ingest(request).settle(given.run_id)
    session.flush()
    return wire.answer({"run_info": show.run_info(runs.get(session, given.run_id))})


@router.post("/runs/delete", dependencies=WRITE)
def delete(given: GetRun, session: WriteSession) -> Response:
    runs.bin_or_restore(session, given.run_id, binned=True)
    return wire.answer()


@router.post("/runs/restore", dependencies=WRITE)
def restore(given: GetRun, session: WriteSession) -> Response:
    runs.bin_or_restore(session, given.run_id, binned=False)
    return wire.answer()


# What trainers log goes through the one writer: many calls at once are one transaction.


@direct.post("/runs/create", dependencies=WRITE)
async def create(request: Request) -> Response:
    given = await _create(request)
    return wire.answer({"run": await _ingest(request).write(lambda session: runs.create(session, given))})


@direct.post("/runs/log-batch", dependencies=WRITE)
async def log_batch(request: Request) -> Response:
    given, ingest = await _log_batch(request), _ingest(request)
    append = partial(ingest.append, ordered=False)
    await ingest.write(
        lambda session: runs.apply_batch(session, append, given.run_id, given.metrics, given.params, given.tags)
    )
    return wire.answer()


@direct.post("/runs/log-metric", dependencies=WRITE)
async def log_metric(request: Request) -> Response:
    given, ingest = await _log_metric(request), _ingest(request)
    append = partial(ingest.append, ordered=False)
    await ingest.write(lambda session: runs.log_metric(session, append, given.run_id, given.metric))
    return wire.answer()


@direct.post("/runs/log-parameter", dependencies=WRITE)
async def log_param(request: Request) -> Response:
    given = await _set_key(request)
    param = messages.KeyValue(given.key, given.value)
    await _ingest(request).write(lambda session: runs.log_param(session, given.run_id, param))
    return wire.answer()


@direct.post("/runs/set-tag", dependencies=WRITE)
async def set_tag(request: Request) -> Response:
    given = await _set_key(request)
    tag = messages.KeyValue(given.key, given.value)
    await _ingest(request).write(lambda session: runs.set_tag(session, given.run_id, tag))
    return wire.answer()


@router.post("/runs/delete-tag", dependencies=WRITE)
def delete_tag(
    given: Annotated[messages.DeleteKey, wire.message(messages.DeleteKey)], session: WriteSession
) -> Response:
    runs.delete_tag(session, given.run_id, given.key)
    return wire.answer()


@router.post("/runs/log-inputs", dependencies=WRITE)
def log_inputs(
    given: Annotated[messages.LogInputs, wire.message(messages.LogInputs)], session: WriteSession
) -> Response:
    runs.log_inputs(session, given)
    return wire.answer()


@router.post("/runs/log-model", dependencies=WRITE)
def log_model(given: Annotated[messages.LogModel, wire.message(messages.LogModel)], session: WriteSession) -> Response:
    runs.log_model(session, given.run_id, given.model_json)
    return wire.answer()


@router.post("/runs/search", dependencies=READ)
def search(given: Annotated[messages.SearchRuns, wire.message(messages.SearchRuns)], session: ReadSession) -> Response:
    found, following = runs.search(session, given)
    return wire.answer({"runs": found or None, "next_page_token": following})
