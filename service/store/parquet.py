"""Arrow tables as Parquet files in the artifact store, named by their SHA-256.

Files are written and read in pieces of `ROWS` rows (row groups), so that a table of any length takes the memory of
one piece. pyarrow is imported where a table is read or written, here and in the features: it costs 30 MB and 0.2 s,
and a service that only takes in metrics and routes traffic does without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import Invalid
from service.store.blobs import BlobStore

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000
PIECE_BYTES = 16 << 20
BUFFER_BYTES = 1 << 20


class BadCursor(Invalid):
    code = "bad_cursor"


class Writer:
    """A table written piece by piece, to a nameless file first: stored whole by `store`, or not at all."""

    def __init__(self, blobs: BlobStore, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._blobs = blobs
        self._file = blobs.scratch_file()
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")

    def write(self, piece: pa.Table) -> None:
        self._writer.write_table(piece, row_group_size=ROWS)

    def read_back(self) -> Reader:
        """What has been written, before it is stored; nothing can be added after."""
        self._writer.close()
        return Reader(self._file)

    def store(self) -> str:
        """Store the table, return the file's SHA-256."""
        self._writer.close()
        return self._blobs.put_file(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where a piece was refused (a full disk), the footer is too: what counts is the first refusal.
        with suppress(OSError) if kind is not None else nullcontext():
            self._writer.close()
        self._writer.is_open = False
        self._file.close()


class Reader:
    """A table read piece by piece, or single rows of it. As a context manager it closes the file."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow.parquet as pq

        self._handle = file
        # Page by page, never a whole column of a row group ahead.
        self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def names(self) -> list[str]:
        """Of its columns; an older file may have fewer."""
        return list(self._file.schema_arrow.names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Consecutive tables of up to `ROWS` rows, fewer where rows are long; columns not named are not decoded."""
        import pyarrow as pa

        about = self._file.metadata
        groups = [about.row_group(group) for group in range(about.num_row_groups)]
        longest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
        rows = max(1, min(ROWS, PIECE_BYTES // max(longest, 1)))
        for batch in self._file.iter_batches(batch_size=rows, columns=None if columns is None else list(columns)):
            yield pa.Table.from_batches([batch])

    def whole(self, columns: Sequence[str] | None = None) -> pa.Table:
        return self._file.read(columns=None if columns is None else list(columns))

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at these places, in the order asked for; only the row groups they lie in are read."""
        import pyarrow as pa

        wanted = None if columns is None else list(columns)
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        ends = np.cumsum(sizes)
        order = np.argsort(rows, kind="stable")
        groups = np.searchsorted(ends, rows[order], side="right")
        found = []
        for group in np.unique(groups):
            table = self._file.read_row_group(int(group), columns=wanted)
            found.append(table.take(rows[order][groups == group] - (ends[group] - sizes[group])))
        if not found:
            return self._file.schema_arrow.empty_table().select(wanted or self._file.schema_arrow.names)
        return pa.concat_tables(found).take(np.argsort(order, kind="stable"))


def side_by_side(
    first: Reader, first_columns: Sequence[str], second: Reader, second_columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Pieces of two tables of equal length, row by row, with the named columns of both."""
    import pyarrow as pa

    theirs, left = second.pieces(second_columns), None
    for ours in first.pieces(first_columns):
        parts: list[pa.Table] = [] if left is None else [left]
        while sum(len(part) for part in parts) < len(ours):
            parts.append(next(theirs))
        joined = pa.concat_tables(parts)
        beside, left = joined.slice(0, len(ours)), joined.slice(len(ours))
        for name in second_columns:
            ours = ours.append_column(name, beside.column(name))
        yield ours


def write(blobs: BlobStore, table: pa.Table) -> str:
    """Store a table that is in memory, return the file's SHA-256."""
    with Writer(blobs, table.schema) as writer:
        writer.write(table)
        return writer.store()


def stored(blobs: BlobStore, sha256: str) -> Reader:
    return Reader(blobs.open(sha256))


def read(blobs: BlobStore, sha256: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table, or only the named columns of it (the others are not decoded)."""
    with stored(blobs, sha256) as reader:
        return reader.whole(columns)


def page(rows: NDArray[np.int64], limit: int, cursor: str | None) -> tuple[NDArray[np.int64], str | None]:
    """`limit` of the chosen rows from `cursor` on, and the next cursor. Files never change, so a place is a cursor."""
    start = place(cursor)
    end = start + limit
    return rows[start:end], str(end) if end < len(rows) else None


def place(cursor: str | None) -> int:
    """Where a page begins."""
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise BadCursor(f"'{cursor}' is no cursor of this list: give back `next_cursor` as it came.")
    return int(cursor)
