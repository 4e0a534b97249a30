"""Runs are judged: suites, evaluations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, new_id


class Suite(SQLModel, table=True):
    """A versioned evaluation set. `definition`: template, parser, metrics, labels, primary metric."""

    __tablename__ = "suite"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "hash"))
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(index=True)
    version: int
    hash: str
    task_type: str
    n_items: int
    definition: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    items_sha256: str
    created_at: float


class RowSet(SQLModel, table=True):
    """A data set by its rows: what models are trained on, in the shape of a suite's items. `data_hash` is what runs
    that were trained on the whole file have."""

    __tablename__ = "row_set"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "hash"))
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(index=True)
    version: int
    hash: str
    data_hash: str | None = Field(default=None, index=True)
    source: str | None = None
    n_items: int
    items_sha256: str
    created_at: float


class QualityReport(SQLModel, table=True):
    """What was found out about items, kept under the hash of the items and of what was asked."""

    __tablename__ = "quality_report"
    key: str = Field(primary_key=True)
    report_sha256: str
    created_at: float


class Evaluation(SQLModel, table=True):
    """The predictions of one model on one suite version, with their scores."""

    __tablename__ = "evaluation"
    __table_args__ = (Index("ix_evaluation_created_at", "created_at", "id"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    suite_id: str = Field(foreign_key="suite.id", index=True)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    model_version_id: str | None = Field(default=None, foreign_key="model_version.id", index=True)
    step: int | None = Field(default=None, sa_column=Column(BigInteger))
    name: str | None = None
    n: int
    n_missing: int = 0
    n_unparsed: int = 0
    scores: list[dict[str, Any]] = Field(default_factory=list, sa_column=json_column())
    settings: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    prediction_hash: str
    items_sha256: str
    created_at: float
