"""Suites and predictions as files of rows: Parquet or JSON lines, read in pieces, each row checked.

What is wrong with a row is said with its number in the file, counted from 1, and its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Generic, ParamSpec, TypeVar

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from service.errors import Invalid, TooLarge
from service.store import parquet
from service.store.blobs import BlobStore

JSON_LINES = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
TYPES = (JSON_LINES, PARQUET)
MAX_LINE_BYTES = 64 * 2**20

Row = TypeVar("Row")
Given = ParamSpec("Given")
Result = TypeVar("Result")


class UnknownFileType(Invalid):
    code = "unknown_file_type"


class FileUnreadable(Invalid):
    """`details.row` is the row at fault, where it is known."""

    code = "file_unreadable"


class RowInvalid(Invalid):
    """`details.row` is the row at fault, `details.item` its id, `details.field` what of it."""

    code = "row_invalid"


@dataclass(frozen=True)
class Rows(Generic[Row]):
    """A piece of a set as it comes in. `numbers`: the rows' own in their file; None where there is no file."""

    rows: Sequence[Row]
    numbers: Sequence[int] | None = None

    def fault(self, error: type[Invalid], index: int, item_id: str, what: str) -> Invalid:
        """The refusal of the row at `index`: `what` goes on after the item's name."""
        if self.numbers is None:
            return error(f"Item '{item_id}' {what}.", details={"item": item_id})
        row = self.numbers[index]
        return error(f"Row {row:,}: item '{item_id}' {what}.", details={"item": item_id, "row": row})


def pieces(rows: Sequence[Row]) -> Iterator[Rows[Row]]:
    """What came in one JSON body, piece by piece like the rest."""
    for start in range(0, len(rows), parquet.ROWS):
        yield Rows(rows[start : start + parquet.ROWS])


def file_type(content_type: str) -> str:
    """`JSON_LINES` or `PARQUET`; anything else is refused."""
    name = content_type.partition(";")[0].strip().lower()
    if name not in TYPES:
        raise UnknownFileType(f"'{name}' is no type of file that is read here. Content-Type: {' or '.join(TYPES)}.")
    return name


async def spooled(request: Request, blobs: BlobStore, limit: int) -> IO[bytes]:
    """The request's body in a nameless file. A cut upload leaves nothing."""
    too_large = TooLarge(f"The file is larger than the limit of {limit:,} bytes (TUNESCOPE_MAX_EVALUATION_FILE_BYTES).")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    size, refused = 0, None
    file = blobs.scratch_file()
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large
            # Of a full disk the caller is told after the last byte: who still sends hears no answer.
            if refused is None:
                try:
                    file.write(piece)
                except OSError as error:
                    refused = error
        if refused is not None:
            raise refused
        file.seek(0)
    except BaseException:
        with suppress(OSError):
            file.close()
        raise
    return file


def checked(file: IO[bytes], content_type: str, adapter: TypeAdapter[list[Row]]) -> Iterator[Rows[Row]]:
    """The rows of a file of `file_type` that are what `adapter` describes; refused at the first that is not."""
    raw = _parquet_rows(file) if content_type == PARQUET else _json_lines(file)
    for piece in raw:
        try:
            yield Rows(adapter.validate_python(piece.rows), piece.numbers)
        except ValidationError as error:
            raise _row_fault(error, piece) from None


def _row_fault(error: ValidationError, piece: Rows[Any]) -> RowInvalid:
    first = error.errors(include_url=False, include_context=False)[0]
    index, *field = first["loc"]
    assert isinstance(index, int) and piece.numbers is not None  # noqa: PT018
    row = piece.rows[index]
    item = row.get("id") if isinstance(row, dict) else None
    named = f" (item '{str(item)[:500]}')" if isinstance(item, str | int) else ""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).lstrip(".")
    number = piece.numbers[index]
    return RowInvalid(
        f"Row {number:,}{named}: {where or 'the row'}: {first['msg']}.",
        details={"row": number, "item": item if isinstance(item, str) else None, "field": where or None},
    )


def _json_lines(file: IO[bytes]) -> Iterator[Rows[Any]]:
    rows: list[Any] = []
    numbers: list[int] = []
    size = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise FileUnreadable(f"Row {number:,} is longer than {MAX_LINE_BYTES:,} bytes.", details={"row": number})
        if line.isspace():
            continue
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            raise FileUnreadable(
                f"Row {number:,} is not JSON ({error}): write one object a line.", details={"row": number}
            ) from None
        numbers.append(number)
        size += len(line)
        if len(rows) == parquet.ROWS or size > parquet.PIECE_BYTES:
            yield Rows(rows, numbers)
            rows, numbers, size = [], [], 0
    if rows:
        yield Rows(rows, numbers)


def _parquet_rows(file: IO[bytes]) -> Iterator[Rows[Any]]:
    import pyarrow as pa

    start = 1
    try:
        for table in parquet.Reader(file).pieces():
            yield Rows(table.to_pylist(), range(start, start + len(table)))
            start += len(table)
    # Also: what a damaged file makes of texts and sizes.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # this machine's disk, not the file
        cause = str(error).splitlines()[0]
        raise FileUnreadable(f"The file cannot be read as Parquet from row {start:,} on: {cause}.") from None


_scoring = CapacityLimiter(1)


async def one_at_a_time(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Do the work in a thread, after the file before has been done: memory is that of one file."""
    return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=_scoring)
