"""What the tables share: ids and column types."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, text


class _Randomness:
    """The system's random bytes, asked for some hundred ids at a time: asking lets go of the interpreter, and whoever
    answers a request then waits for the threads that write."""

    def __init__(self) -> None:
        self.forget()
        # A child must not hand out what its parent does.
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._bytes, self._used = b"", 0

    def take(self, n: int) -> bytes:
        with self._lock:
            if self._used + n > len(self._bytes):
                self._bytes, self._used = os.urandom(256 * n), 0
            self._used += n
            return self._bytes[self._used - n : self._used]


_randomness = _Randomness()


def new_id() -> str:
    """A UUIDv7 as 32 hex digits: unique, and sorted by the millisecond it was made in."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(_randomness.take(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random >> 68) << 64
    value |= 0b10 << 62 | random & ((1 << 62) - 1)
    return f"{value:032x}"


def big_key() -> Column[int]:
    """An auto-incrementing 64-bit key (SQLite only auto-increments a plain INTEGER)."""
    return Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


# Text that searches compare whole is indexed up to this length: PostgreSQL refuses longer index entries, and nobody
# types more. A query has to say the same condition for its index to serve.
INDEXED_TEXT = 500
SHORT_VALUE = f"length(value) <= {INDEXED_TEXT}"


def text_index(name: str) -> Index:
    """Finds the runs whose `key` has this `value`, from the index alone."""
    return partial_index(name, "key", "value", "run_id", where=SHORT_VALUE)


def partial_index(name: str, *columns: str, where: str) -> Index:
    """An index of the rows `where` this holds."""
    return Index(name, *columns, sqlite_where=text(where))


def for_postgresql(metadata: MetaData) -> None:
    """Tell the indexes that are partial on SQLite to be so on PostgreSQL. Not said with the index: to name an option
    of PostgreSQL's imports all of its dialect, which a start on SQLite should not wait for."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if (where := index.dialect_options["sqlite"]["where"]) is not None:
                index.dialect_kwargs["postgresql_where"] = where


def json_column(nullable: bool = True) -> Column[Any]:
    return Column(JSON, nullable=nullable)
