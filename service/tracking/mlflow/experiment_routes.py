"""MLflow's face: experiments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from service.auth import require
from service.dependencies import ReadSession, WriteSession
from service.tracking.mlflow import experiments, messages, wire

router = APIRouter(prefix="/api/2.0/mlflow/experiments", include_in_schema=False)
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]

One = Annotated[messages.GetExperiment, wire.message(messages.GetExperiment)]
Search = Annotated[messages.SearchExperiments, wire.message(messages.SearchExperiments)]


@router.post("/create", dependencies=WRITE)
def create(
    given: Annotated[messages.CreateExperiment, wire.message(messages.CreateExperiment)], session: WriteSession
) -> Response:
    return wire.answer({"experiment_id": experiments.create(session, given)})


@router.get("/get", dependencies=READ)
def get(given: One, session: ReadSession) -> Response:
    found = experiments.get(session, given.experiment_id)
    return wire.answer({"experiment": experiments.shown(session, [found])[0]})


@router.get("/get-by-name", dependencies=READ)
def get_by_name(
    given: Annotated[messages.GetExperimentByName, wire.message(messages.GetExperimentByName)], session: ReadSession
) -> Response:
    found = experiments.by_name(session, given.experiment_name)
    return wire.answer({"experiment": experiments.shown(session, [found])[0]})


@router.api_route("/search", methods=["GET", "POST"], dependencies=READ)
def search(given: Search, session: ReadSession) -> Response:
    found, following = experiments.search(session, given)
    return wire.answer({"experiments": found or None, "next_page_token": following})


@router.post("/update", dependencies=WRITE)
def update(
    given: Annotated[messages.UpdateExperiment, wire.message(messages.UpdateExperiment)], session: WriteSession
) -> Response:
    experiments.rename(session, given.experiment_id, given.new_name)
    return wire.answer()


@router.post("/delete", dependencies=WRITE)
def delete(given: One, session: WriteSession) -> Response:
    experiments.bin_or_restore(session, given.experiment_id, binned=True)
    return wire.answer()


@router.post("/restore", dependencies=WRITE)
def restore(given: One, session: WriteSession) -> Response:
    experiments.bin_or_restore(session, given.experiment_id, binned=False)
    return wire.answer()


@router.post("/set-experiment-tag", dependencies=WRITE)
def set_tag(
    given: Annotated[messages.SetExperimentTag, wire.message(messages.SetExperimentTag)], session: WriteSession
) -> Response:
    experiments.set_tag(session, given.experiment_id, messages.KeyValue(given.key, given.value))
    return wire.answer()


@router.post("/delete-experiment-tag", dependencies=WRITE)
def delete_tag(
    given: Annotated[messages.DeleteExperimentTag, wire.message(messages.DeleteExperimentTag)], session: WriteSession
) -> Response:
    experiments.delete_tag(session, given.experiment_id, given.key)
    return wire.answer()


@router.post("/search-datasets", dependencies=READ)
def search_datasets(
    given: Annotated[messages.SearchDatasets, wire.message(messages.SearchDatasets)], session: ReadSession
) -> Response:
    return wire.answer({"dataset_summaries": experiments.datasets(session, given.experiment_ids) or None})
