"""Models meet users: upstreams, experiments, what was routed and what became of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Text
from sqlmodel import Field, SQLModel

from service.store.tables.columns import big_key, json_column, new_id


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
    # [{phase, weights, started_at}]: an old phase is judged by the weights it had.
    phases: list[dict[str, Any]] | None = Field(default=None, sa_column=json_column())
    # How the winner reaches everybody, and how far that is: see the rules of rollouts.
    rollout: dict[str, Any] | None = Field(default=None, sa_column=json_column())


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
    __table_args__ = (Index("ix_exposure_draw", "experiment_id", "phase", "variant", "draw"),)
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    variant: str
    at: float
    # A unit seen in a second arm is counted, never moved.
    crossed: bool = False
    # A number drawn by a hash of the unit: those with the smallest are a random sample of an arm's units.
    draw: int | None = None


class StickyUnit(SQLModel, table=True):
    """Where a unit belongs in an experiment whose units keep their arm: the phase it came in by."""

    __tablename__ = "sticky_unit"
    experiment_id: str = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    phase: int
    variant: str


class GatewayRequest(SQLModel, table=True):
    """One proxied or reported call, by assigned arm. Unknown usage or price is null, never 0. Calls outside
    every experiment, without a unit or forced into an arm are kept for their cost, but not counted."""

    __tablename__ = "gateway_request"
    __table_args__ = (
        Index("ix_gateway_request_unit", "experiment_id", "phase", "unit_id"),
        Index("ix_gateway_request_past", "unit_id", "at"),
        Index("ix_gateway_request_at", "at"),
    )
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
    __table_args__ = (Index("ix_outcome_at", "at"),)
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


class UnitBefore(SQLModel, table=True):
    """Like `UnitRollup`, of what a unit did before its exposure; units without a past have no row."""

    __tablename__ = "unit_before"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    count: float
    sum: float


class BeforeSum(SQLModel, table=True):
    """What (u, v), the pair (x, y) of before the exposure, add up to over an arm's units, alone and with (x, y)."""

    __tablename__ = "before_sum"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    sum_u: float
    sum_v: float
    sum_uu: float
    sum_vv: float
    sum_uv: float
    sum_xu: float
    sum_xv: float
    sum_yu: float
    sum_yv: float


class LatencyBin(SQLModel, table=True):
    """A histogram with bins 2 % wide, from which any quantile is read within 1 %."""

    __tablename__ = "latency_bin"
    experiment_id: str = Field(primary_key=True)
    phase: int = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    bin: int = Field(primary_key=True)
    count: int = Field(sa_column=Column(BigInteger, nullable=False))
