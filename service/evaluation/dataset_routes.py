"""The data set API: rows that models are trained on, in the shape of a suite's items."""

from __future__ import annotations

import tempfile
from typing import IO, Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings
from service.errors import TooLarge
from service.evaluation import datasets, splitting
from service.evaluation.quality_schemas import (
    DatasetDetail,
    DatasetItemPage,
    DatasetOut,
    DatasetPage,
    SplitOut,
    TrainedRun,
)
from service.evaluation.schemas import Name, SuiteItemOut
from service.store import parquet, row_sets
from service.store.database import Database
from service.store.tables import RowSet

router = APIRouter(prefix="/api/v1/datasets", tags=["datasets"])
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
MEMORY = 8 * 2**20  # of an upload; the rest of it waits in a file

Limit = Annotated[int, Query(ge=1, le=1000)]
LINES = {
    "requestBody": {
        "required": True,
        "description": "Lines of JSON, an item a line: `id`, `input`, and `label` or `references`, `group`, `tags`.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("", dependencies=WRITE, status_code=201, openapi_extra=LINES)
async def create_dataset(
    request: Request,
    response: Response,
    name: Annotated[Name, Query()],
    database: ServiceDatabase,
    blobs: Blobs,
    settings: ServiceSettings,
    source: Annotated[str | None, Query(max_length=1000, description="The file's name.")] = None,
    data_hash: Annotated[
        str | None, Query(max_length=200, description="What runs trained on the whole file have as `data_hash`.")
    ] = None,
) -> DatasetOut:
    """Store a data set. The same rows again answer 200 with the version there is; a change is the next version."""
    with tempfile.SpooledTemporaryFile(MEMORY) as lines:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_body_bytes:
                limit = f"{settings.max_body_bytes:,} bytes (TUNESCOPE_MAX_BODY_BYTES)"
                raise TooLarge(f"The data set is larger than the limit of {limit}.")
            lines.write(chunk)
        lines.seek(0)

        def build(lines: IO[bytes]) -> RowSet:
            return datasets.build(lines, blobs, name=name, source=source, data_hash=data_hash)

        built = await run_in_threadpool(build, lines)
    stored, new = await run_in_threadpool(_store, database, built)
    response.status_code = 201 if new else 200
    return stored


def _store(database: Database, built: RowSet) -> tuple[DatasetOut, bool]:
    with database.write() as session:
        row_set, new = row_sets.add(session, built)
        return DatasetOut.of(row_set), new


@router.get("", dependencies=READ)
def list_datasets(
    session: ReadSession,
    name: str | None = None,
    data_hash: Annotated[str | None, Query(description="As a run has it: what it was trained on.")] = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> DatasetPage:
    """Data sets, newest first; every version is one."""
    found, next_cursor = row_sets.page(session, name=name, data_hash=data_hash, limit=limit, cursor=cursor)
    return DatasetPage(items=[DatasetOut.of(one) for one in found], next_cursor=next_cursor)


@router.get("/{dataset_id}", dependencies=READ)
def get_dataset(dataset_id: str, session: ReadSession) -> DatasetDetail:
    """One data set version, and the runs that were trained on it."""
    found = datasets.existing(session, dataset_id)
    runs = [TrainedRun.of(run) for run in row_sets.trained_on(session, found.data_hash)]
    return DatasetDetail(**DatasetOut.of(found).model_dump(), runs=runs)


@router.get("/{dataset_id}/items", dependencies=READ)
def list_dataset_items(
    dataset_id: str, session: ReadSession, blobs: Blobs, limit: Limit = 100, cursor: str | None = None
) -> DatasetItemPage:
    """The items of a data set, in the order of the file."""
    found = datasets.existing(session, dataset_id)
    rows, next_cursor = parquet.page(np.arange(found.n_items), limit, cursor)
    items = row_sets.read_items(blobs, found).take(rows).to_pylist()
    return DatasetItemPage(items=[SuiteItemOut.model_validate(item) for item in items], next_cursor=next_cursor)


@router.get("/{dataset_id}/split", dependencies=READ)
def split_dataset(
    dataset_id: str,
    session: ReadSession,
    blobs: Blobs,
    seed: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    stratify: Annotated[bool, Query(description="Every part has each label in the same share.")] = False,
    folds: Annotated[int | None, Query(ge=2, le=100, description="So many parts of equal size.")] = None,
    shares: Annotated[
        str | None,
        Query(
            max_length=100,
            description="As 70/15/15 or 80/20; absent: 70/15/15 up to 5,000 items, 80/10/10 from 10,000.",
        ),
    ] = None,
    near_duplicates: Annotated[
        float | None, Query(ge=0.5, le=1, description="Keep texts of at least this similarity together.")
    ] = None,
) -> SplitOut:
    """Which item goes where. The same items, seed and options give the same answer, in whatever order the items are.

    Items of one group, and items with the same text, stay together."""
    found = datasets.existing(session, dataset_id)
    return splitting.split(
        found, blobs, seed=seed, stratify=stratify, folds=folds, shares=shares, near_duplicates=near_duplicates
    )
