"""Every table of the record, and nothing but tables.

Ids that leave the service are time-ordered text (`new_id`); instants are Unix seconds (UTC, float).
Bulk never sits in a row: metric points are packed chunks, items and predictions are Parquet files in
the artifact store, named by their SHA-256.
"""

from __future__ import annotations

import os
import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel


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


def json_column(nullable: bool = True) -> Column[Any]:
    return Column(JSON, nullable=nullable)


# --- tracking: runs come in ---------------------------------------------------------------------------


class Project(SQLModel, table=True):
    __tablename__ = "project"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    created_at: float


class Run(SQLModel, table=True):
    """One training or evaluation run. `status`: running, finished, failed, crashed (a run without a
    heartbeat is reported as silent when it is read; silence is not stored)."""

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_project_id_id", "project_id", "id"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    status: str = "running"
    group_name: str | None = Field(default=None, index=True)
    parent_run_id: str | None = Field(default=None, index=True)
    notes: str | None = Field(default=None, sa_column=Column(Text))
    config: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    environment: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    data_hash: str | None = None
    created_at: float
    heartbeat_at: float
    finished_at: float | None = None
    exit_code: int | None = None
    error: str | None = Field(default=None, sa_column=Column(Text))
    points_stored: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    points_sent: int | None = Field(default=None, sa_column=Column(BigInteger))
    deleted_at: float | None = None


class Param(SQLModel, table=True):
    """One leaf of a run's config, flattened with dots: what search and comparison read."""

    __tablename__ = "param"
    __table_args__ = (Index("ix_param_key_number", "key", "number"),)
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))
    number: float | None = None


class Tag(SQLModel, table=True):
    __tablename__ = "tag"
    __table_args__ = (Index("ix_tag_key", "key"),)
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class Series(SQLModel, table=True):
    """The summary of one metric of one run; its points are in `Chunk`. Extremes and sum are over finite values."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("run_id", "key"),
        Index("ix_series_key_last", "key", "last"),
    )
    id: int | None = Field(default=None, sa_column=big_key())
    run_id: str = Field(foreign_key="run.id")
    key: str
    count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    first_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_time: float
    last: float | None = None
    min: float | None = None
    max: float | None = None
    sum: float = 0.0
    min_step: int | None = Field(default=None, sa_column=Column(BigInteger))
    max_step: int | None = Field(default=None, sa_column=Column(BigInteger))
    # NaN and infinities do not sort in SQL; they are named here ("NaN", "Infinity", …) and null above.
    last_special: str | None = None
    # A step that goes back opens a new segment; chunks not yet merged are counted to know when to merge.
    segment: int = 0
    open_chunks: int = 0


class Chunk(SQLModel, table=True):
    """Packed points of one series: see `series.py` for the layout."""

    __tablename__ = "chunk"
    __table_args__ = (Index("ix_chunk_series", "series_id", "id"),)
    id: int | None = Field(default=None, sa_column=big_key())
    series_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    segment: int = 0
    count: int
    first_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Writer(SQLModel, table=True):
    """The highest batch applied for each (run, writer): what makes a resent batch harmless."""

    __tablename__ = "writer"
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    writer: str = Field(primary_key=True)
    last_batch: int = Field(sa_column=Column(BigInteger, nullable=False))


class Artifact(SQLModel, table=True):
    """A named file of a run; the bytes are stored once under their SHA-256."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("run_id", "path"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    path: str
    kind: str = "file"
    sha256: str = Field(index=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: float


class ModelVersion(SQLModel, table=True):
    """A version of a registered model: where its weights are and which run made it."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(index=True)
    version: int
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    base_version_id: str | None = Field(default=None, foreign_key="model_version.id")
    source: str | None = Field(default=None, sa_column=Column(Text))
    method: str | None = None
    description: str | None = Field(default=None, sa_column=Column(Text))
    created_at: float


class ModelAlias(SQLModel, table=True):
    __tablename__ = "model_alias"
    name: str = Field(primary_key=True)
    alias: str = Field(primary_key=True)
    model_version_id: str = Field(foreign_key="model_version.id")


# --- evaluation: runs are judged ----------------------------------------------------------------------


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


class Evaluation(SQLModel, table=True):
    """The predictions of one model on one suite version, with their scores."""

    __tablename__ = "evaluation"
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


# --- forgetting: before and after ---------------------------------------------------------------------


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


# --- experiments: models meet users -------------------------------------------------------------------


class Upstream(SQLModel, table=True):
    """A model endpoint the gateway may call. The key itself is never stored: `api_key_ref` names an
    environment variable (`env:NAME`) or a file (`file:/path`)."""

    __tablename__ = "upstream"
    name: str = Field(primary_key=True)
    base_url: str
    model: str
    api_key_ref: str | None = None
    input_price: float | None = None
    output_price: float | None = None
    price_version: str | None = None
    created_at: float


class Experiment(SQLModel, table=True):
    """An A/B test. `plan` holds variants, metrics, targeting and analysis choices of the phase."""

    __tablename__ = "experiment"
    id: str = Field(default_factory=new_id, primary_key=True)
    key: str = Field(unique=True)
    name: str
    status: str = "draft"
    salt: str
    hash_version: int = 2
    phase: int = 1
    plan: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    created_at: float
    started_at: float | None = None
    phase_started_at: float | None = None
    stopped_at: float | None = None
    decision: dict[str, Any] | None = Field(default=None, sa_column=json_column())


class ExperimentChange(SQLModel, table=True):
    """The audit log of an experiment: who did what, when."""

    __tablename__ = "experiment_change"
    id: int | None = Field(default=None, sa_column=big_key())
    experiment_id: str = Field(foreign_key="experiment.id", index=True)
    at: float
    actor: str
    action: str
    details: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())


class Exposure(SQLModel, table=True):
    """The first time a unit met an experiment in a phase; the first wins."""

    __tablename__ = "exposure"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    variant: str
    at: float
    # A unit seen in a second arm is counted, never moved.
    crossed: bool = False


class GatewayRequest(SQLModel, table=True):
    """One proxied or reported call, by assigned arm. Unknown usage or price is null, never 0. Calls outside
    every experiment, without a unit or forced into an arm are kept for their cost, but not counted."""

    __tablename__ = "gateway_request"
    __table_args__ = (Index("ix_gateway_request_unit", "experiment_id", "phase", "unit_id"),)
    request_id: str = Field(primary_key=True)
    experiment_id: str | None = None
    phase: int | None = None
    unit_id: str | None = None
    variant: str | None = None
    counted: bool = True
    upstream: str | None = None
    at: float
    status: int
    error: str | None = None
    fell_back: bool = False
    streamed: bool = False
    latency: float | None = Field(default=None, sa_column=Column(Float))
    first_token: float | None = Field(default=None, sa_column=Column(Float))
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = Field(default=None, sa_column=Column(Float))
    price_version: str | None = None


class GatewayContent(SQLModel, table=True):
    """What was asked and answered, only where the experiment asks for it (`store_content`)."""

    __tablename__ = "gateway_content"
    request_id: str = Field(primary_key=True)
    messages: Any = Field(default=None, sa_column=json_column())
    answer: str | None = Field(default=None, sa_column=Column(Text))


class Outcome(SQLModel, table=True):
    """What became of a request; may arrive before the request's own row."""

    __tablename__ = "outcome"
    request_id: str = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    value: float
    at: float


class UnitRollup(SQLModel, table=True):
    """Per unit and metric: the denominator (mostly: how many values) and their sum."""

    __tablename__ = "unit_rollup"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    variant: str
    count: float
    sum: float


class ArmSum(SQLModel, table=True):
    """What the units of an arm add up to, as increments by stretch of time: the sum over all stretches
    is the readout of now, the sum up to one of them the readout as it stood then."""

    __tablename__ = "arm_sum"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    bucket: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    n: int = Field(sa_column=Column(BigInteger, nullable=False))
    sum_x: float
    sum_y: float
    sum_xx: float
    sum_yy: float
    sum_xy: float


class LatencyBin(SQLModel, table=True):
    """A histogram with bins 2 % wide, from which any quantile is read within 1 %."""

    __tablename__ = "latency_bin"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    bin: int = Field(primary_key=True)
    count: int = Field(sa_column=Column(BigInteger, nullable=False))


class ApiKey(SQLModel, table=True):
    __tablename__ = "api_key"
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    key_hash: str = Field(unique=True)
    scopes: list[str] = Field(default_factory=list, sa_column=json_column())
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
