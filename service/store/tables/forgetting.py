"""Before and after: policies, audits, waivers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, new_id


class Policy(SQLModel, table=True):
    """What may be lost, written down before the result is seen. Never changed: a change is a version."""

    __tablename__ = "policy"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "hash"))
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    version: int
    hash: str
    body: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    created_at: float


class Audit(SQLModel, table=True):
    """A verdict under a policy, with everything it was computed from. Written once."""

    __tablename__ = "audit"
    id: str = Field(default_factory=new_id, primary_key=True)
    policy_id: str = Field(foreign_key="policy.id")
    policy_hash: str
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    before_version_id: str | None = Field(default=None, foreign_key="model_version.id")
    after_version_id: str | None = Field(default=None, foreign_key="model_version.id", index=True)
    verdict: str
    result: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    hash: str
    created_at: float


class AuditEvaluation(SQLModel, table=True):
    """An evaluation that an audit rests on, and its side (before, after): it is kept as long as the audit."""

    __tablename__ = "audit_evaluation"
    audit_id: str = Field(primary_key=True, foreign_key="audit.id")
    side: str = Field(primary_key=True)
    evaluation_id: str = Field(primary_key=True, foreign_key="evaluation.id", index=True)


class Waiver(SQLModel, table=True):
    """Who takes responsibility for an audit's finding, why and until when; or, with `revokes`, who takes that back.

    Written once, either of them: an audit's waivers are a ledger.
    """

    __tablename__ = "waiver"
    id: str = Field(default_factory=new_id, primary_key=True)
    audit_id: str = Field(foreign_key="audit.id", index=True)
    revokes: str | None = Field(default=None, foreign_key="waiver.id", unique=True)
    suite: str | None = None
    who: str
    why: str = Field(sa_column=Column(Text, nullable=False))
    # The API key it was written with.
    written_by: str
    until: float | None = None
    created_at: float
