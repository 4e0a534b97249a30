"""Data sets by their rows, in Parquet files like a suite's items; and reports about either."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlmodel import Session, col, select

from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.tables import QualityReport, RowSet, Run, Suite
from service.store.upserts import upsert

if TYPE_CHECKING:
    import pyarrow as pa

RUNS = 100


def add(session: Session, row_set: RowSet) -> tuple[RowSet, bool]:
    return records.add_version(session, row_set)


def get(session: Session, row_set_id: str) -> RowSet | None:
    return session.get(RowSet, row_set_id)


def page(
    session: Session, *, name: str | None, data_hash: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[RowSet], str | None]:
    query = select(RowSet)
    for column, value in ((col(RowSet.name), name), (col(RowSet.data_hash), data_hash)):
        if value is not None:
            query = query.where(column == value)
    return records.page(session, query, col(RowSet.id), limit, cursor)


def trained_on(session: Session, data_hash: str | None) -> list[Run]:
    """The newest runs that were trained on this data, `RUNS` at most."""
    if data_hash is None:
        return []
    query = select(Run).where(col(Run.data_hash) == data_hash, col(Run.deleted_at).is_(None))
    return list(session.exec(query.order_by(col(Run.id).desc()).limit(RUNS)).all())


def read_items(blobs: BlobStore, items: RowSet | Suite, columns: Sequence[str] | None = None) -> pa.Table:
    return parquet.read(blobs, items.items_sha256, columns)


def report(session: Session, key: str) -> str | None:
    """The SHA-256 of the report under this key, if there is one."""
    found = session.get(QualityReport, key)
    return None if found is None else found.report_sha256


def keep_report(session: Session, key: str, sha256: str) -> None:
    row = {"key": key, "report_sha256": sha256, "created_at": time.time()}
    upsert(session, QualityReport, [row], replace=["report_sha256", "created_at"])
