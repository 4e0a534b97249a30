"""What went into a run and came out of it, as MLflow clients record it: data sets, logged models."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import big_key, json_column, new_id


class Dataset(SQLModel, table=True):
    """A data set by name and digest within a project; `source` says where it can be read again."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("project_id", "name", "digest"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    digest: str
    source_type: str
    source: str = Field(sa_column=Column(Text, nullable=False))
    # `schema` would hide a method of SQLModel.
    columns: str | None = Field(default=None, sa_column=Column("schema", Text))
    profile: str | None = Field(default=None, sa_column=Column(Text))
    created_at: float


class RunDataset(SQLModel, table=True):
    """A run read a data set; its tags say as what (`mlflow.data.context`: training, evaluation, …)."""

    __tablename__ = "run_dataset"
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    dataset_id: str = Field(primary_key=True, foreign_key="dataset.id", index=True)
    tags: dict[str, str] = Field(default_factory=dict, sa_column=json_column())
    created_at: float


class LoggedModel(SQLModel, table=True):
    """A model a run saved, before anyone registers it: parameters, tags, metrics and files of its own."""

    __tablename__ = "logged_model"
    __table_args__ = (Index("ix_logged_model_project_id_created_at", "project_id", "created_at"),)
    id: str = Field(primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    model_type: str | None = None
    status: str = "PENDING"
    status_message: str | None = None
    params: dict[str, str] = Field(default_factory=dict, sa_column=json_column())
    tags: dict[str, str] = Field(default_factory=dict, sa_column=json_column())
    created_at: float
    updated_at: float
    deleted_at: float | None = None


class LoggedModelMetric(SQLModel, table=True):
    """A metric value that names the model (and maybe the data set) it was measured on."""

    __tablename__ = "logged_model_metric"
    __table_args__ = (Index("ix_logged_model_metric_model_id_key", "model_id", "key"),)
    id: int | None = Field(default=None, sa_column=big_key())
    model_id: str = Field(foreign_key="logged_model.id")
    run_id: str = Field(foreign_key="run.id", index=True)
    key: str
    value: float | None = None
    # NaN and infinities by name; `value` is null then.
    special: str | None = None
    step: int = Field(sa_column=Column(BigInteger, nullable=False))
    time: float
    dataset_name: str | None = None
    dataset_digest: str | None = None


class RunModel(SQLModel, table=True):
    """A run used a logged model (`input`) or made it (`output`, at a step)."""

    __tablename__ = "run_model"
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    logged_model_id: str = Field(primary_key=True, foreign_key="logged_model.id", index=True)
    role: str = Field(primary_key=True)
    step: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class LoggedModelFile(SQLModel, table=True):
    """A file of a logged model; the bytes are stored once under their SHA-256."""

    __tablename__ = "logged_model_file"
    logged_model_id: str = Field(primary_key=True, foreign_key="logged_model.id")
    path: str = Field(primary_key=True)
    sha256: str = Field(index=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: float
