"""Data sets come in as lines of JSON, an item a line: checked line by line, hashed, never changed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.evaluation.schemas import SuiteItem
from service.evaluation.suites import normal
from service.store import parquet, row_sets, suites
from service.store.blobs import BlobStore
from service.store.tables import RowSet, Suite

if TYPE_CHECKING:
    import pyarrow as pa

LINES = 20_000  # turned into Arrow at a time

_ITEM = TypeAdapter(SuiteItem)


class DatasetNotFound(NotFound):
    code = "dataset_not_found"


class ItemSetNotFound(NotFound):
    code = "item_set_not_found"


class DatasetInvalid(Invalid):
    """`details.line` is the line at fault, from 1."""

    code = "dataset_invalid"


def build(lines: IO[bytes], blobs: BlobStore, *, name: str, source: str | None, data_hash: str | None) -> RowSet:
    """The checked data set with its items stored, ready for `row_sets.add`. No session: this may take long."""
    import pyarrow as pa

    digest = hashlib.sha256()
    tables: list[pa.Table] = []
    part: list[dict[str, Any]] = []
    for item in _items(lines):
        digest.update(orjson.dumps(item, option=orjson.OPT_SORT_KEYS) + b"\n")
        part.append(item)
        if len(part) == LINES:
            tables.append(suites.items_table(part))
            part = []
    if part:
        tables.append(suites.items_table(part))
    if not tables:
        raise DatasetInvalid("The data set is empty: send at least one line, a JSON object with `id` and `input`.")
    table = pa.concat_tables(tables)
    return RowSet(
        name=name,
        version=0,
        hash=digest.hexdigest(),
        data_hash=data_hash,
        source=source,
        n_items=len(table),
        items_sha256=parquet.write(blobs, table),
        created_at=time.time(),
    )


def _items(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = _ITEM.validate_json(line)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = "".join(f".{part}" for part in fault["loc"]).lstrip(".")
            what = f"{where}: {fault['msg']}" if where else fault["msg"]
            raise DatasetInvalid(f"Line {number}: {what}.", details={"line": number}) from None
        if item["id"] in seen:
            raise DatasetInvalid(
                f"Line {number}: the id '{item['id']}' comes twice: ids are unique in a data set.",
                details={"line": number, "item": item["id"]},
            )
        seen.add(item["id"])
        yield normal(item)


def existing(session: Session, dataset_id: str) -> RowSet:
    found = row_sets.get(session, dataset_id)
    if found is None:
        raise DatasetNotFound(f"There is no data set '{dataset_id}'. GET /api/v1/datasets lists them.")
    return found


def item_set(session: Session, set_id: str) -> RowSet | Suite:
    """The data set or the suite of this id."""
    found = row_sets.get(session, set_id) or suites.get(session, set_id)
    if found is None:
        raise ItemSetNotFound(
            f"There is no data set and no suite '{set_id}'. GET /api/v1/datasets and /api/v1/suites list them."
        )
    return found
