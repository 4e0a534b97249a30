"""Artifacts with versions: what runs keep under one name, what they made of it and what they used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, new_id


class ArtifactCollection(SQLModel, table=True):
    """The versions of one artifact of a project."""

    __tablename__ = "artifact_collection"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    kind: str = "file"
    created_at: float


class ArtifactVersion(SQLModel, table=True):
    """What an artifact held when a run logged it. `digest` is of the paths and hashes of its files: a run that logs
    what the newest version holds makes no new one."""

    __tablename__ = "artifact_version"
    __table_args__ = (UniqueConstraint("collection_id", "version"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    collection_id: str = Field(foreign_key="artifact_collection.id")
    version: int
    run_id: str = Field(foreign_key="run.id", index=True)
    digest: str
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    n_files: int
    about: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    created_at: float


class ArtifactVersionFile(SQLModel, table=True):
    """A file of a version; the bytes are stored once under their SHA-256."""

    __tablename__ = "artifact_version_file"
    version_id: str = Field(primary_key=True, foreign_key="artifact_version.id")
    path: str = Field(primary_key=True)
    sha256: str = Field(index=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))


class ArtifactAlias(SQLModel, table=True):
    __tablename__ = "artifact_alias"
    collection_id: str = Field(primary_key=True, foreign_key="artifact_collection.id")
    alias: str = Field(primary_key=True)
    version_id: str = Field(foreign_key="artifact_version.id", index=True)


class ArtifactUse(SQLModel, table=True):
    """A run used a version (`input`) or logged it (`output`)."""

    __tablename__ = "artifact_use"
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    version_id: str = Field(primary_key=True, foreign_key="artifact_version.id", index=True)
    role: str = Field(primary_key=True)
    created_at: float
