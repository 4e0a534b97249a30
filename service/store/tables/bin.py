"""What is on its way out for good."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Purge(SQLModel, table=True):
    """A run or project (`kind`) that is being deleted for good: it cannot come back, and a restart goes on with it."""

    __tablename__ = "purge"
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    asked_at: float


class OrphanBlob(SQLModel, table=True):
    """A file of the artifact store that a purged row named: removed once no row names it any more."""

    __tablename__ = "orphan_blob"
    sha256: str = Field(primary_key=True)
    since: float = Field(index=True)
