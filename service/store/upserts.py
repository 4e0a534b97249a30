"""INSERT … ON CONFLICT for both databases."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import Table
from sqlmodel import Session, SQLModel


def insert(table: Table, dialect: str) -> Any:
    """An INSERT that can say what to do on a conflict. PostgreSQL's takes 40 ms to import: who speaks it, pays."""
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


def upserting(table: Table, dialect: str, *, replace: Sequence[str] = (), add: Sequence[str] = ()) -> Any:
    """An INSERT that, where the primary key exists, replaces these columns and adds to those."""
    statement = insert(table, dialect)
    changes = {name: statement.excluded[name] for name in replace}
    changes |= {name: table.c[name] + statement.excluded[name] for name in add}
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)


def upsert(
    session: Session,
    table: type[SQLModel],
    rows: Sequence[dict[str, Any]],
    *,
    replace: Sequence[str] = (),
    add: Sequence[str] = (),
) -> None:
    """Insert `rows`; where the primary key exists, `replace` these columns and `add` to those."""
    if not rows:
        return
    target: Table = table.__table__  # type: ignore[attr-defined]
    statement = upserting(target, session.get_bind().dialect.name, replace=replace, add=add)
    session.connection().execute(statement, list(rows))
