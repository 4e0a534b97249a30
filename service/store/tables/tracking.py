"""Runs come in: projects, runs, their config, series, artifacts and alerts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import big_key, json_column, new_id, partial_index, text_index

LIVE_RUNS = "ix_run_live"  # answers whether a run is of a project and not in the bin, without its row


class Project(SQLModel, table=True):
    __tablename__ = "project"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    artifact_location: str | None = None
    created_at: float
    updated_at: float
    deleted_at: float | None = None


class ProjectTag(SQLModel, table=True):
    __tablename__ = "project_tag"
    project_id: int = Field(primary_key=True, foreign_key="project.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class Run(SQLModel, table=True):
    """One training or evaluation run. `status`: scheduled, running, finished, failed, crashed, killed (a
    run without a heartbeat is reported as silent when it is read; silence is not stored). `patience`: seconds that it
    may be quiet beyond the service's limit before that, for clients that send no heartbeat."""

    __tablename__ = "run"
    # Few of all runs are running, and few are in the bin: what keeps an eye on those reads no others.
    __table_args__ = (
        Index(LIVE_RUNS, "project_id", "id", "deleted_at"),
        Index("ix_run_project_id_created_at", "project_id", "created_at", "id"),
        Index("ix_run_status", "status"),
        # The heartbeat of a run that is over moves no more.
        partial_index("ix_run_over", "project_id", "heartbeat_at", where="status <> 'running'"),
        partial_index("ix_run_bin", "deleted_at", "id", where="deleted_at IS NOT NULL"),
    )
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    name: str
    status: str = "running"
    group_name: str | None = Field(default=None, index=True)
    parent_run_id: str | None = Field(default=None, index=True)
    notes: str | None = Field(default=None, sa_column=Column(Text))
    config: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    environment: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    data_hash: str | None = Field(default=None, index=True)
    created_at: float
    heartbeat_at: float
    patience: float = Field(default=0.0, sa_column=Column(Float, nullable=False, server_default="0"))
    finished_at: float | None = None
    exit_code: int | None = None
    error: str | None = Field(default=None, sa_column=Column(Text))
    points_stored: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    points_sent: int | None = Field(default=None, sa_column=Column(BigInteger))
    deleted_at: float | None = None


class Param(SQLModel, table=True):
    """One leaf of a run's config, flattened with dots: what search and comparison read."""

    __tablename__ = "param"
    __table_args__ = (Index("ix_param_key_number", "key", "number", "run_id"), text_index("ix_param_key_value"))
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))
    number: float | None = None


class Tag(SQLModel, table=True):
    __tablename__ = "tag"
    __table_args__ = (text_index("ix_tag_key_value"),)
    run_id: str = Field(primary_key=True, foreign_key="run.id")
    key: str = Field(primary_key=True)
    value: str = Field(sa_column=Column(Text, nullable=False))


class Series(SQLModel, table=True):
    """The summary of one metric of one process of a run; its points are in `Chunk`. Extremes and sum are over finite
    values. Rank 0 speaks for the run: what shows a run's metrics without naming a rank reads that."""

    __tablename__ = "series"
    __table_args__ = (
        # The rank comes before the key, and before the value: what asks for rank 0 walks past no other.
        UniqueConstraint("run_id", "rank", "key"),
        Index("ix_series_key_last", "key", "rank", "last", "run_id"),
        # Only what waits to be merged is in it: an append touches it seldom.
        partial_index("ix_series_unmerged", "open_chunks", where="open_chunks >= 2"),
    )
    id: int | None = Field(default=None, sa_column=big_key())
    run_id: str = Field(foreign_key="run.id")
    rank: int = 0
    key: str
    count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    finite_count: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    first_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    last_step: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_time: float
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
    # How often chunks were joined: a reader who comes back knows by it whether they are the ones it has seen.
    joins: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))


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
    # Before the payload: SQLite reads a row up to the last column that is asked for. See `overview.py`.
    overview: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class ConsoleChunk(SQLModel, table=True):
    """Console lines of one process of a run, in order of arrival: see `console.py` for the layout."""

    __tablename__ = "console_chunk"
    __table_args__ = (Index("ix_console_chunk_run_id", "run_id", "id"),)
    id: int | None = Field(default=None, sa_column=big_key())
    run_id: str = Field(foreign_key="run.id")
    rank: int = 0
    count: int
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


class Media(SQLModel, table=True):
    """An image, a table, a histogram, … of a run at a step; the bytes are stored once under their SHA-256.

    A place (key, step, rank, position in the gallery) holds what was logged there last; `id` changes with it, so that
    an id names the same bytes for ever."""

    __tablename__ = "media"
    __table_args__ = (UniqueConstraint("run_id", "key", "step", "rank", "position"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    key: str
    step: int = Field(sa_column=Column(BigInteger, nullable=False))
    rank: int = 0
    position: int = 0
    time: float
    kind: str
    content_type: str
    sha256: str = Field(index=True)
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    caption: str | None = Field(default=None, sa_column=Column(Text))
    details: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())


class Alert(SQLModel, table=True):
    """What a rule found in a run's metrics as they came in: one row a run, rule and metric, and its evidence."""

    __tablename__ = "alert"
    __table_args__ = (UniqueConstraint("run_id", "rule", "key"), Index("ix_alert_project_id", "project_id", "id"))
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: int = Field(foreign_key="project.id")
    run_id: str = Field(foreign_key="run.id")
    rule: str
    key: str
    severity: str
    message: str = Field(sa_column=Column(Text, nullable=False))
    evidence: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    step: int | None = Field(default=None, sa_column=Column(BigInteger))
    created_at: float
    # Set when the run no longer shows it; an alert is kept, not deleted.
    resolved_at: float | None = None


class Webhook(SQLModel, table=True):
    """Where alerts are sent. The signing secret is never stored: `secret_ref` names where it is (`env:`, `file:`)."""

    __tablename__ = "webhook"
    id: str = Field(default_factory=new_id, primary_key=True)
    url: str = Field(sa_column=Column(Text, nullable=False))
    project_id: int | None = Field(default=None, foreign_key="project.id")
    secret_ref: str | None = None
    created_at: float


class Delivery(SQLModel, table=True):
    """One event of an alert owed to one webhook, until it is delivered or given up. No restart loses it.

    The event may happen again: `created_at` says which time is meant."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_due", "done", "next_attempt_at"),)
    webhook_id: str = Field(primary_key=True, foreign_key="webhook.id")
    alert_id: str = Field(primary_key=True, foreign_key="alert.id", index=True)
    event: str = Field(primary_key=True)
    created_at: float
    attempts: int = 0
    next_attempt_at: float
    done: bool = False
    last_error: str | None = Field(default=None, sa_column=Column(Text))
