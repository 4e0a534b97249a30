"""What the tables share: ids and column types."""

from __future__ import annotations

import os
import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, text


def new_id() -> str:
    """A UUIDv7 as 32 hex digits: unique, and sorted by the millisecond it was made in."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
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
    where = text(SHORT_VALUE)
    return Index(name, "key", "value", "run_id", sqlite_where=where, postgresql_where=where)


def json_column(nullable: bool = True) -> Column[Any]:
    return Column(JSON, nullable=nullable)
