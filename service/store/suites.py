"""Suites: a row a version, its items in a Parquet file in the order they were given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
from sqlmodel import Session, col, select

from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.tables import Suite

if TYPE_CHECKING:
    import pyarrow as pa


def content_hash(task_type: str, definition: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of what a suite asks: its definition and its items by id, whatever order they came in."""
    head = json.dumps({"task_type": task_type, **definition}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    digest = hashlib.sha256(head.encode())
    for item in sorted(items, key=itemgetter("id")):
        digest.update(b"\n" + orjson.dumps(item, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def add(session: Session, suite: Suite) -> tuple[Suite, bool]:
    return records.add_version(session, suite)


def get(session: Session, suite_id: str) -> Suite | None:
    return session.get(Suite, suite_id)


def page(session: Session, *, name: str | None, limit: int, cursor: str | None) -> tuple[Sequence[Suite], str | None]:
    query = select(Suite)
    if name is not None:
        query = query.where(col(Suite.name) == name)
    return records.page(session, query, col(Suite.id), limit, cursor)


def items_table(items: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    text = pa.string()
    schema = pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("input", text, nullable=False),
            pa.field("label", text),
            pa.field("references", pa.list_(text), nullable=False),
            pa.field("group", text),
            pa.field("tags", pa.list_(text), nullable=False),
        ]
    )
    return pa.Table.from_pylist(list(items), schema=schema)


def write_items(blobs: BlobStore, items: pa.Table) -> str:
    return parquet.write(blobs, items)


def read_items(blobs: BlobStore, suite: Suite, columns: Sequence[str] | None = None) -> pa.Table:
    return parquet.read(blobs, suite.items_sha256, columns)


def clusters(items: pa.Table) -> list[str] | None:
    """The groups of the items (columns id and group) as clusters for tests and intervals, or None.

    Many groups are sampled clusters (documents, users). Fewer than 30 are categories, fixed by whoever made the suite:
    a cluster-robust error from so few is not to be trusted, and resampling categories would ask another question.
    An item without a group is a cluster of its own.
    """
    import pyarrow.compute as pc

    groups = items.column("group")
    n_groups = pc.count_distinct(groups, mode="only_valid").as_py()
    if not 30 <= n_groups < len(groups) - groups.null_count:
        return None
    ids = items.column("id").to_pylist()
    return [
        f"item:{own}" if group is None else f"group:{group}" for own, group in zip(ids, groups.to_pylist(), strict=True)
    ]
