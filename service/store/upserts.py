"""INSERT … ON CONFLICT for both databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel


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
    target = table.__table__  # type: ignore[attr-defined]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(target)
    changes = {name: statement.excluded[name] for name in replace}
    changes |= {name: target.c[name] + statement.excluded[name] for name in add}
    keys = [column.name for column in target.primary_key]
    session.connection().execute(statement.on_conflict_do_update(index_elements=keys, set_=changes), list(rows))
