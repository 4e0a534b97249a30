"""Suites: a row a version, its items in a Parquet file in the order they were given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlmodel import Session, col, select

from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.spool import Digests, Ids, RowFile, digests
from service.store.tables import Suite

if TYPE_CHECKING:
    import pyarrow as pa


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
    """A row an item. Only a multi-label item has `labels`: to the others' hash they add nothing."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(items), schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("input", text, nullable=False),
            pa.field("label", text),
            pa.field("references", pa.list_(text), nullable=False),
            pa.field("group", text),
            pa.field("tags", pa.list_(text), nullable=False),
            pa.field("labels", pa.list_(text)),
        ]
    )


class NewItems:
    """The items of a suite on their way in: added piece by piece in its order, then stored whole.

    In memory are 40 bytes an item, and the ids once while the hash is made.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._parquet = parquet.Writer(blobs, _schema())
        self._rows = RowFile(blobs.scratch_file())
        self._digests: list[Digests] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)
        self._parquet.__exit__(kind, error, trace)

    def add(self, items: Sequence[Mapping[str, Any]], table: pa.Table) -> None:
        """`table` is `items_table(items)`."""
        self._parquet.write(table)
        self._rows.add(orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in items)
        self._digests.append(digests(item["id"] for item in items))

    def repeated(self) -> tuple[str, int, int] | None:
        """The first id that comes twice, and where, counted from 0: (id, earlier, later)."""
        found = Ids(self._digests).first_repeated()
        return None if found is None else (str(orjson.loads(next(self._rows.read([found[1]])))["id"]), *found)

    def store(self, task_type: str, definition: Mapping[str, Any]) -> tuple[str, str]:
        """Store the items; (the suite's hash, the SHA-256 of their file).

        The hash is SHA-256 of what a suite asks: its definition and its items by id, whatever order they came in.
        """
        head = json.dumps({"task_type": task_type, **definition}, sort_keys=True, ensure_ascii=False, allow_nan=False)
        digest = hashlib.sha256(head.encode())
        order = by_id(self._parquet.read_back().whole(["id"]).column("id"))
        for row in self._rows.read(order):
            digest.update(b"\n" + row)
        return digest.hexdigest(), self._parquet.store()


def by_id(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """The places of these ids in the order of their text, by code points."""
    import pyarrow.compute as pc

    return cast(NDArray[np.int64], pc.sort_indices(ids).to_numpy().astype(np.int64))


def items(blobs: BlobStore, suite: Suite) -> parquet.Reader:
    """The items, to be read piece by piece."""
    return parquet.stored(blobs, suite.items_sha256)


def read_items(blobs: BlobStore, suite: Suite, columns: Sequence[str] | None = None) -> pa.Table:
    return parquet.read(blobs, suite.items_sha256, columns)


def clusters(items: pa.Table) -> NDArray[np.int64] | None:
    """The groups of the items (column group) as numbered clusters for tests and intervals, or None.

    Many groups are sampled clusters (documents, users). Fewer than 30 are categories, fixed by whoever made the suite:
    a cluster-robust error from so few is not to be trusted, and resampling categories would ask another question.
    An item without a group is a cluster of its own.
    """
    import pyarrow.compute as pc

    groups = items.column("group")
    n_groups = pc.count_distinct(groups, mode="only_valid").as_py()
    if not 30 <= n_groups < len(groups) - groups.null_count:
        return None
    encoded = groups.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = codes < 0
    codes[alone] = n_groups + np.arange(np.count_nonzero(alone))
    return cast(NDArray[np.int64], codes)
