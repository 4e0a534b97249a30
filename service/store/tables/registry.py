"""The model registry: named models, their versions and aliases."""

from __future__ import annotations

from sqlalchemy import Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import new_id


class RegisteredModel(SQLModel, table=True):
    __tablename__ = "registered_model"
    name: str = Field(primary_key=True)
    description: str | None = Field(default=None, sa_column=Column(Text))
    created_at: float
    updated_at: float


class RegisteredModelTag(SQLModel, table=True):
    __tablename__ = "registered_model_tag"
    name: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class ModelVersion(SQLModel, table=True):
    """A version of a registered model: where its weights are and which run made it."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(index=True)
    version: int
    # No foreign key: MLflow clients may register a run of another tracking server (then `run_link` says where it is).
    run_id: str | None = Field(default=None, index=True)
    run_link: str | None = Field(default=None, sa_column=Column(Text))
    base_version_id: str | None = Field(default=None, foreign_key="model_version.id")
    # `source` is as given and may name a logged model or another version; `location` is where the files were then.
    source: str | None = Field(default=None, sa_column=Column(Text))
    location: str | None = Field(default=None, sa_column=Column(Text))
    method: str | None = None
    description: str | None = Field(default=None, sa_column=Column(Text))
    # What MLflow's registry keeps besides: the model logged with it, a stage, a state of readiness.
    logged_model_id: str | None = None
    stage: str = "None"
    status: str = "READY"
    status_message: str | None = None
    user: str | None = None
    created_at: float
    updated_at: float
    # Its evaluations and audits still name it, so a deleted version is hidden, not removed.
    deleted_at: float | None = None


class ModelAlias(SQLModel, table=True):
    __tablename__ = "model_alias"
    name: str = Field(primary_key=True)
    alias: str = Field(primary_key=True)
    model_version_id: str = Field(foreign_key="model_version.id")


class ModelVersionTag(SQLModel, table=True):
    __tablename__ = "model_version_tag"
    model_version_id: str = Field(primary_key=True, foreign_key="model_version.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))
