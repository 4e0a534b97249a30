"""What experiments look like on the wire, and which plans are possible at all."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.addresses import literal, permitted
from service.experiments.assignment import HOLDOUT, MOST_UNIT_CHARACTERS
from service.experiments.rollup import BINARY_OUTCOMES, BUILT_IN, CROSSED, QUANTILES, UNITS, By, Kind
from service.shapes import Reply

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
# The text that identifies a unit or a request; PostgreSQL stores no NUL.
Identifier = Annotated[str, Field(min_length=1, max_length=MOST_UNIT_CHARACTERS, pattern=r"^[^\x00]+$")]
Scalar = str | bool | int | float
# The arm that a caller reports: one of the variants, or that the unit is held out.
ReportedArm = Key | Annotated[str, Field(pattern=rf"^{re.escape(HOLDOUT)}$")]

RESERVED_KEYS = {"snapshot"}
Status = Literal["draft", "running", "paused", "stopped", "decided"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- upstreams ----------------------------------------------------------------------------------------


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http(s) URL such as http://localhost:8001/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not carry a user, a password, a query or a fragment; give the key as api_key_ref")
    address = literal(parts.hostname)
    if address is not None and not permitted(address, private=True):
        raise ValueError(f"{address} is no address of a model: link-local, multicast, reserved, or a cloud's metadata")
    return url.rstrip("/")


def _key_reference(reference: str) -> str:
    kind, _, place = reference.partition(":")
    if kind not in {"env", "file"} or not place:
        raise ValueError("must be env:NAME or file:/path; keys themselves are never stored")
    return reference


class UpstreamSpec(Strict):
    name: Key
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(description="Up to and including /v1.")
    model: Name = Field(description="The model's name at the upstream.")
    api_key_ref: Annotated[str, AfterValidator(_key_reference)] | None = Field(
        None, description="env:NAME or file:/path; the key itself is never stored or returned."
    )
    input_price: Number | None = Field(None, ge=0, description="USD per 1M prompt tokens.")
    output_price: Number | None = Field(None, ge=0, description="USD per 1M completion tokens.")
    price_version: str | None = Field(None, max_length=64, description="Which price list the prices are from.")


class UpstreamView(UpstreamSpec):
    created_at: float
    problem: str | None = Field(description="Why it cannot be called now: its key reference leads nowhere.")


class UpstreamList(Reply):
    items: list[UpstreamView]
    next_cursor: str | None = None


# --- plans --------------------------------------------------------------------------------------------


class VariantSpec(Strict):
    key: Key
    weight: Number = Field(
        ge=0, description="Share of the traffic, relative to the other variants: weights need not add up to 1."
    )
    upstream: str | None = None
    model_version_id: str | None = None
    value: Any = Field(None, description="What a client that asks for this variant is given.")


class MetricSpec(Strict):
    """A declared metric. Built-in ones are recorded anyway; declaring one gives it a role and a margin."""

    name: Key
    kind: Kind = "real"
    role: Literal["primary", "secondary", "guardrail"] = "secondary"
    direction: Literal["higher", "lower"] | None = Field(None, description="Absent: what the built-in metric says.")
    margin: Number | None = Field(None, gt=0, description="How much worse is still not worse, in the metric's unit.")
    by: By = "request"
    numerator: Key | None = Field(None, description="Of a ratio: the outcome on top.")
    denominator: Key | None = Field(None, description="Of a ratio: the outcome below.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.name in (UNITS, CROSSED):
            raise ValueError(f"'{self.name}' is counted for every experiment: choose another name")
        if self.kind == "ratio" and self.name not in BUILT_IN and not (self.numerator and self.denominator):
            raise ValueError(f"the ratio '{self.name}' needs a numerator and a denominator")
        if self.direction is None:
            self.direction = "lower" if self.name in QUANTILES else BUILT_IN.get(self.name, "higher")
        return self


class Range(Strict):
    """A targeting condition: a number from `min` to `max`, both included."""

    min: Number | None = None
    max: Number | None = None


Targeting = dict[Name, Range | list[Scalar] | Scalar]


class Namespace(Strict):
    """Experiments in disjoint ranges of one namespace never share a unit."""

    name: Key
    start: Number = Field(ge=0, le=1)
    end: Number = Field(ge=0, le=1)


class Bandit(Strict):
    """The shares of the arms follow what is seen: an arm gets what its chance of being the best is (Thompson)."""

    metric: Key | None = Field(None, description="A binary one. Absent: the first primary metric.")
    every_seconds: Number = Field(3600, ge=1, le=1e9, description="That the shares stay at least.")
    floor: Number = Field(0.05, gt=0, le=0.5, description="The least share of an arm.")
    prior: tuple[Annotated[float, Field(gt=0, le=1e6)], Annotated[float, Field(gt=0, le=1e6)]] = Field(
        (1.0, 1.0), description="Successes and failures that each arm begins with: Beta's parameters."
    )


class NewExperiment(Strict):
    key: Key
    name: Name | None = None
    variants: list[VariantSpec] = Field(min_length=2, max_length=20, description="The first is the control.")
    coverage: Number = Field(1.0, ge=0, le=1, description="Share of each arm's traffic that takes part.")
    targeting: Targeting = Field(
        default_factory=dict, description="Attribute -> value, list of values, or {min, max}; all must hold."
    )
    forced: dict[Identifier, Key] = Field(default_factory=dict, description="Testers: unit -> variant, not counted.")
    namespace: Namespace | None = None
    metrics: list[MetricSpec] = Field(default_factory=list)
    alpha: Number = Field(0.05, gt=0, lt=0.5)
    analysis: Literal["always_valid", "fixed"] = "always_valid"
    minimum_units: int = Field(100, ge=2, description="Units an arm needs before anything is concluded.")
    expected_units: int | None = Field(None, ge=2, description="Units planned for, over all arms.")
    fallback_upstream: str | None = None
    store_content: bool = Field(False, description="Keep prompts and answers.")
    sticky: bool = Field(
        False, description="A unit keeps the arm it came in by when weights change, and counts in that phase."
    )
    covariate_days: Number | None = Field(
        None,
        gt=0,
        le=365,
        description="CUPED: take out of the declared metrics what a unit's calls in so many days before its exposure "
        "explain. They are known where callers name the unit to the gateway, in this or no experiment.",
    )
    bandit: Bandit | None = Field(None, description="Let the shares follow the results; units keep their arm.")
    hypothesis: str | None = None
    salt: Identifier | None = Field(None, description="Absent: made up. Given: to keep another system's assignment.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        keys = [variant.key for variant in self.variants]
        if self.key in RESERVED_KEYS:
            raise ValueError(f"'{self.key}' is a route of the service: choose another key")
        if len(set(keys)) < len(keys):
            raise ValueError("two variants have the same key")
        if sum(variant.weight for variant in self.variants) <= 0:
            raise ValueError("the weights add up to 0: nobody would be assigned")
        check_forced(self.forced, keys)
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("two metrics have the same name")
        if not any(metric.role == "primary" for metric in self.metrics):
            if "satisfaction" in names:
                raise ValueError("no metric is primary: give one the role 'primary'")
            self.metrics = [MetricSpec(name="satisfaction", kind="binary", role="primary"), *self.metrics]
        if self.bandit is not None:
            check_bandit(self.bandit, self)
        return self


def check_bandit(bandit: Bandit, plan: NewExperiment) -> None:
    primary = [metric for metric in plan.metrics if metric.role == "primary"]
    bandit.metric = bandit.metric or primary[0].name
    found = next((metric for metric in plan.metrics if metric.name == bandit.metric), None)
    if found is None or (found.kind != "binary" and found.name not in BINARY_OUTCOMES):
        raise ValueError(f"a bandit follows a binary metric of the plan, '{bandit.metric}' is none")
    if found.direction == "lower":
        raise ValueError(f"a bandit follows a metric of which more is better, of '{bandit.metric}' less is")
    if len(plan.variants) * bandit.floor > 1:
        raise ValueError(f"{len(plan.variants)} arms of at least {bandit.floor:g} each are more than there is")
    if plan.covariate_days is not None or plan.analysis == "fixed":
        raise ValueError("a bandit is read by the always-valid analysis, and without covariate_days")
    if any(variant.weight <= 0 for variant in plan.variants):
        raise ValueError("every arm of a bandit needs a weight above 0 to begin with")


def check_forced(forced: dict[str, str], keys: list[str]) -> None:
    unknown = sorted(set(forced.values()) - set(keys))
    if unknown:
        raise ValueError(f"forced into unknown variants: {', '.join(unknown)}")


class ExperimentEdit(Strict):
    """What may change. New weights, targeting or namespace after the start begin a new phase."""

    name: Name | None = None
    hypothesis: str | None = None
    weights: dict[Key, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    upstreams: dict[Key, Key] | None = Field(None, description="Of a draft: variant -> the upstream it is to name.")
    coverage: Number | None = Field(None, ge=0, le=1)
    targeting: Targeting | None = None
    forced: dict[Identifier, Key] | None = None


class RolloutPlan(Strict):
    """The winner reaches everybody by steps; harm on the primary metric or a guardrail gives the control back."""

    steps: list[Number] = Field(
        [0.05, 0.2, 0.5, 1.0], min_length=1, max_length=50, description="Shares that get the winner; the last is 1."
    )
    hold_seconds: Number = Field(3600, ge=0, le=1e9, description="That each step lasts at least.")
    minimum_units: int | None = Field(
        None, ge=2, le=10**12, description="Units that each arm needs at a step. Absent: the plan's minimum_units."
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.steps[0] <= 0 or self.steps[-1] != 1 or any(a >= b for a, b in pairwise(self.steps)):
            raise ValueError("steps must rise from above 0 to 1, such as [0.05, 0.2, 0.5, 1]")
        return self


class RolloutView(RolloutPlan):
    state: Literal["rolling", "halted", "done"]
    step: int = Field(description="Index into steps.")
    share: float = Field(description="Of the traffic, that gets the winner; of a halted one, that had it.")
    step_started_at: float
    checked_at: float | None = Field(description="When the guardrails were looked at last.")
    waiting_for: str | None = Field(description="What keeps the next step from being taken.")
    reason: str | None = Field(description="Why it was halted.")


class Halt(Strict):
    reason: str = Field(min_length=1, max_length=10_000)


class Decide(Strict):
    winner: Key
    reason: str = Field(min_length=1)
    rollout: RolloutPlan | None = Field(None, description="Absent: everybody gets the winner at once.")


class Decision(Reply):
    winner: str
    reason: str
    actor: str
    at: float
    verdict: str = Field(description="The readout's verdict when it was decided.")
    sentence: str


class ExperimentView(Reply):
    id: str
    key: str
    name: str
    status: Status
    salt: str
    hash_version: int
    phase: int
    variants: list[VariantSpec]
    coverage: float
    targeting: Targeting
    forced: dict[str, str]
    namespace: Namespace | None
    metrics: list[MetricSpec]
    alpha: float
    analysis: Literal["always_valid", "fixed"]
    minimum_units: int
    expected_units: int | None
    fallback_upstream: str | None
    store_content: bool
    sticky: bool = False
    covariate_days: float | None = None
    bandit: Bandit | None = None
    holdout: float = Field(0.0, description="Share of all units that was held out when it was made.")
    shares: dict[str, float] = Field(description="Of each arm, now: the weights, or what a bandit has made of them.")
    hypothesis: str | None
    created_at: float
    started_at: float | None
    phase_started_at: float | None
    stopped_at: float | None
    decision: Decision | None
    rollout: RolloutView | None


class ExperimentList(Reply):
    items: list[ExperimentView]
    next_cursor: str | None


class ChangeView(Reply):
    at: float
    actor: str
    action: str
    details: dict[str, Any]


class ChangeList(Reply):
    items: list[ChangeView]
    next_cursor: str | None = None


# --- events -------------------------------------------------------------------------------------------


class OutcomeIn(Strict):
    type: Literal["outcome"]
    request_id: Identifier
    metric: Key
    value: Number
    at: Number | None = None


class ExposureIn(Strict):
    type: Literal["exposure"]
    experiment: Key
    unit_id: Identifier
    variant: ReportedArm
    phase: int | None = Field(None, ge=1, description="Absent: the experiment's phase now.")
    at: Number | None = None


class RequestIn(Strict):
    """A call made outside the gateway, so that its outcomes have an experiment and a unit to go to."""

    type: Literal["request"]
    request_id: Identifier
    experiment: Key
    unit_id: Identifier
    variant: ReportedArm
    phase: int | None = Field(None, ge=1)
    status: int = Field(200, ge=100, le=599)
    error: str | None = Field(None, max_length=200)
    latency: Number | None = Field(None, ge=0, description="Seconds.")
    first_token: Number | None = Field(None, ge=0, description="Seconds.")
    input_tokens: int | None = Field(None, ge=0)
    output_tokens: int | None = Field(None, ge=0)
    cost: Number | None = Field(None, ge=0, description="USD.")
    at: Number | None = None


class Events(Strict):
    events: list[Annotated[OutcomeIn | ExposureIn | RequestIn, Field(discriminator="type")]] = Field(max_length=10_000)


class EventsAccepted(Reply):
    accepted: int
    duplicates: int
