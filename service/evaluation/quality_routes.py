"""The quality API: what a suite or data set is like, which labels are probably wrong, what leaks from train to test."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase
from service.evaluation import datasets, leakage, noise, quality, reports
from service.evaluation import suites as suite_rules
from service.evaluation.quality_schemas import LabelNoiseOut, Leakage, Quality
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.tables import RowSet, Suite

router = APIRouter(prefix="/api/v1", tags=["quality"], dependencies=[Depends(require("read"))])

Threshold = Annotated[
    float, Query(ge=0.5, le=1, description="Least Jaccard similarity of near-duplicates (five-character substrings).")
]


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _quality(database: Database, blobs: BlobStore, items: RowSet | Suite, threshold: float) -> Response:
    about = ("quality", items.name, items.version, items.items_sha256, threshold)
    return _json(reports.kept(database, blobs, lambda: quality.report(items, blobs, threshold), *about))


@router.get("/suites/{suite_id}/quality", response_model=Quality)
def get_suite_quality(suite_id: str, database: ServiceDatabase, blobs: Blobs, threshold: Threshold = 0.8) -> Response:
    """Balance, lengths, duplicates, near-duplicates and coverage of a suite, with what to look at first."""
    with database.read() as session:
        suite = suite_rules.existing(session, suite_id)
    return _quality(database, blobs, suite, threshold)


@router.get("/datasets/{dataset_id}/quality", response_model=Quality)
def get_dataset_quality(
    dataset_id: str, database: ServiceDatabase, blobs: Blobs, threshold: Threshold = 0.8
) -> Response:
    """Balance, lengths, duplicates, near-duplicates and coverage of a data set, with what to look at first."""
    with database.read() as session:
        found = datasets.existing(session, dataset_id)
    return _quality(database, blobs, found, threshold)


@router.get("/suites/{suite_id}/label-noise")
def get_suite_label_noise(suite_id: str, session: ReadSession, blobs: Blobs) -> LabelNoiseOut:
    """Items whose label the models that answered the suite doubt: by confident learning where their answers carry the
    probability of every label (`label_scores`), else where most of them confidently answer otherwise. Of multi-label
    items each label is judged by itself, with `label_scores` from 0 to 1 that need not add up to 1."""
    return noise.by_evaluations(session, suite_rules.existing(session, suite_id), blobs)


@router.get("/datasets/{dataset_id}/label-noise", response_model=LabelNoiseOut)
def get_dataset_label_noise(dataset_id: str, database: ServiceDatabase, blobs: Blobs) -> Response:
    """Items that a model which learns from the others of the set would label otherwise (confident learning)."""
    with database.read() as session:
        found = datasets.existing(session, dataset_id)
    make = lambda: noise.by_cross_validation(found, blobs)  # noqa: E731
    return _json(reports.kept(database, blobs, make, "label_noise", found.items_sha256))


@router.get("/leakage", response_model=Leakage)
def get_leakage(
    database: ServiceDatabase,
    blobs: Blobs,
    train: Annotated[str, Query(description="Id of a data set or suite.")],
    test: Annotated[str, Query(description="Id of a data set or suite.")],
    threshold: Threshold = 0.8,
) -> Response:
    """Test items that training has seen, exactly or nearly; and do labels and lengths of the two sets differ?"""
    with database.read() as session:
        own, held_out = (datasets.item_set(session, one) for one in (train, test))
    about = ("leakage", *((one.id, one.items_sha256) for one in (own, held_out)), threshold)
    return _json(reports.kept(database, blobs, lambda: leakage.leakage(own, held_out, blobs, threshold), *about))
