"""Arrow tables as Parquet files in the artifact store, named by their SHA-256.

pyarrow is imported where a table is read or written, here and in the features: it costs 30 MB and 0.2 s, and a
service that only takes in metrics and routes traffic does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.errors import Invalid
from service.store.blobs import BlobStore

if TYPE_CHECKING:
    import pyarrow as pa


class BadCursor(Invalid):
    code = "bad_cursor"


def write(blobs: BlobStore, table: pa.Table) -> str:
    """Store `table`, return the file's SHA-256."""
    import pyarrow.parquet as pq

    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return blobs.put(buffer.getvalue())


def read(blobs: BlobStore, sha256: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table, or only the named columns of it (the others are not decoded)."""
    import pyarrow.parquet as pq

    with blobs.open(sha256) as handle:
        return pq.ParquetFile(handle).read(columns=None if columns is None else list(columns))


def page(rows: NDArray[np.int64], limit: int, cursor: str | None) -> tuple[NDArray[np.int64], str | None]:
    """`limit` of the chosen rows from `cursor` on, and the next cursor. Files never change, so a place is a cursor."""
    start = 0
    if cursor is not None:
        if not cursor.isascii() or not cursor.isdigit():
            raise BadCursor(f"'{cursor}' is no cursor of this list: give back `next_cursor` as it came.")
        start = int(cursor)
    end = start + limit
    return rows[start:end], str(end) if end < len(rows) else None
