"""Alembic's entry: runs on the connection that `migrate.upgrade` hands over."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlmodel import AutoString, SQLModel

from service.store import tables  # noqa: F401  (registers every table)


def render(kind: str, item: Any, _: Any) -> Any:
    """SQLModel's text type is a plain string to a migration."""
    return "sa.String()" if kind == "type" and isinstance(item, AutoString) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=render,
)
with context.begin_transaction():
    context.run_migrations()
