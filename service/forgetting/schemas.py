"""What policies and audits look like on the wire."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.shapes import Reply
from service.store.tables import Policy

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f]+$")]
Reason = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
LATEST = 253_402_300_800  # the year 10,000, which no date can show


class ProtectedTask(BaseModel):
    """One suite that must not get worse by `margin` or more."""

    model_config = ConfigDict(extra="forbid")
    suite: Name = Field(description="The name of a suite; before and after must have run the same version of it.")
    metric: str | None = Field(None, description="Absent: the suite's primary metric.")
    margin: float = Field(
        gt=0,
        lt=1,
        description="The loss that is too much, in the metric's unit: 0.02 is two points of accuracy. Where lower is "
        "better, the rise that is too much: 0.02 of log_loss is 0.02 nats.",
    )
    direction: Literal["higher", "lower"] | None = Field(
        None,
        description="Which way the metric is better; absent: as the named metric is, and higher where none is named.",
    )
    options: int | None = Field(
        None, ge=2, description="Answers an item offers, for the adjustment for chance; null: free text, none."
    )
    minimum_n: int = Field(30, ge=1, description="With fewer items the task is inconclusive.")


class PolicyCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    alpha: float = Field(0.05, gt=0, le=0.5, description="Level of the one-sided bound and of the tests (Holm).")
    require_aa: bool = Field(
        False, description="Every task needs a second run of the base (`aa`), whose flips are the noise floor."
    )
    protected: list[ProtectedTask] = Field(min_length=1)


class PolicyBody(Reply):
    alpha: float
    require_aa: bool = False
    protected: list[ProtectedTask]


class PolicyOut(Reply):
    id: str
    name: str
    version: int
    hash: str
    body: PolicyBody
    created_at: float

    @classmethod
    def of(cls, policy: Policy) -> PolicyOut:
        return cls.model_validate(policy.model_dump())


class PolicyPage(Reply):
    items: list[PolicyOut]
    next_cursor: str | None


class Estimate(BaseModel):
    """A number with its interval; null where too few texts allow one."""

    model_config = ConfigDict(extra="forbid")
    value: Finite
    interval: tuple[Finite, Finite] | None = None


class Drift(BaseModel):
    """How far a fine-tune moved on general text, per token; as `tunescope drift` and `tunescope train` measure it.

    A warning, never part of the verdict. Intervals: bootstrap over texts.
    """

    model_config = ConfigDict(extra="forbid")
    delta_nll: Estimate = Field(description="Negative log-likelihood per token, tuned less base, in nats.")
    perplexity_ratio: Estimate = Field(description="exp(delta_nll): tuned over base.")
    kl: Estimate = Field(description="Mean of KL(base ‖ tuned) of the next token's distribution, in nats.")
    n_tokens: int = Field(ge=1, description="Tokens predicted: all but the first of each text.")
    n_texts: int = Field(ge=1)
    text_hash: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the texts.")
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int | None = Field(None, ge=1)
    seed: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Drift:
        for name in ("delta_nll", "perplexity_ratio", "kl"):
            one: Estimate = getattr(self, name)
            if one.interval is not None and one.interval[0] > one.interval[1]:
                raise ValueError(f"the interval of {name} is upside down")
        if self.kl.value < -1e-6:
            raise ValueError(f"kl is {self.kl.value}, and no divergence is below 0")
        if abs(self.delta_nll.value) < 700 and not math.isclose(
            self.perplexity_ratio.value, math.exp(self.delta_nll.value), rel_tol=1e-3
        ):
            raise ValueError(f"perplexity_ratio {self.perplexity_ratio.value} is not exp(delta_nll)")
        return self


class AuditCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    policy_id: str | None = None
    policy: Name | None = Field(
        None, description="Instead of `policy_id`: a policy's name, its newest version, or `name@version`."
    )
    before: list[str] = Field(min_length=1, description="Ids of the base model's evaluations.")
    after: list[str] = Field(min_length=1, description="Ids of the tuned model's evaluations.")
    aa: list[str] = Field([], description="Ids of a second run of the base (A/A): what it flips is the noise floor.")
    drift: Drift | None = Field(None, description="Drift on general text: shown as a warning, not a gate.")
    run_id: str | None = Field(None, description="The run that tuned; absent: the run all `after` evaluations name.")
    before_version_id: str | None = None
    after_version_id: str | None = None

    @model_validator(mode="after")
    def _one_policy(self) -> AuditCreate:
        if (self.policy_id is None) == (self.policy is None):
            raise ValueError("give policy_id or policy, one of the two")
        return self


class GroupResult(Reply):
    group: str
    n: int
    before: float | None
    after: float | None
    lost: int
    gained: int
    interval: tuple[float, float] | None = Field(
        None, description="Of the group's change, two-sided at 1 - alpha; null where it cannot be told."
    )


class FloorResult(Reply):
    """The base against itself (A/A), and what was lost beyond it: what to call forgetting, never the verdict."""

    n10: int = Field(description="Items the second run of the base lost against the first.")
    n01: int = Field(description="Items it gained.")
    share: float = Field(description="The floor: n10 / n.")
    above: float = Field(description="F less the floor.")
    interval: tuple[float, float] | None = Field(description="Of `above`; two-sided.")
    p_value: float | None = Field(description="Exact McNemar over the items lost to one of the two alone.")
    p_adjusted: float | None = Field(description="Holm over the tasks.")
    test: str | None
    p_base: float = Field(description="That the two runs of the base score alike.")
    called: bool = Field(description="Is it called forgetting: is it above the floor, and significantly so?")
    evaluation_id: str


class Compared(Reply):
    """One aspect of how the answers were made, before and after."""

    aspect: str = Field(description="prompt, generation, few-shot, batch size, precision, or another setting's name.")
    before: str | None = Field(description="Null: not recorded.")
    after: str | None
    state: Literal["equal", "differs", "not recorded"]
    invalidates: bool = Field(description="A difference here makes the task INVALID.")


class TaskResult(Reply):
    """One protected task. `F`, `BT`, `F_chance`, `F_true`: item forgetting after arXiv 2510.17776."""

    suite: str
    metric: str | None
    direction: Literal["higher", "lower"] = Field("higher", description="Which way the metric is better.")
    n: int = 0
    before: float | None = None
    after: float | None = None
    difference: float | None = Field(
        None, description="after − before; before − after where lower is better, so that negative is worse."
    )
    interval: tuple[float, float] | None = None
    lower_bound: float | None = Field(
        None, description="One-sided lower bound of the difference at the policy's alpha."
    )
    margin: float
    lost: int = 0
    gained: int = 0
    p_value: float | None = None
    p_adjusted: float | None = Field(None, description="Holm over the protected tasks.")
    test: str | None = None
    F: float | None = None
    BT: float | None = None
    F_chance: float | None = None
    F_true: float | None = None
    floor: FloorResult | None = Field(None, description="Where the base was run twice.")
    unparsed_before: int
    unparsed_after: int
    missing_before: int = Field(0, description="Items without any output; they count as wrong.")
    missing_after: int = 0
    unmatched_before: int = Field(0, description="Items asked before and not, or otherwise, after.")
    unmatched_after: int = 0
    compared: list[Compared] = Field([], description="How the answers were made, before and after.")
    n_needed: int | None = Field(None, description="Items that would settle an inconclusive task.")
    verdict: Verdict
    reason: str | None
    by_group: list[GroupResult] = Field([], description="The group that lost most first.")
    before_evaluation_id: str | None
    after_evaluation_id: str | None


class Advice(Reply):
    text: str
    evidence: str = Field(description="What this run did, in its own numbers.")


class AuditResult(Reply):
    """What was computed; stored as it is, under the audit's hash."""

    sentence: str
    tasks: list[TaskResult] = Field(description="Worst first.")
    problems: list[str] = Field(description="Why the audit, or a task of it, is INVALID.")
    notes: list[str] = Field(description="Differences that do not invalidate but a reader should know.")
    advice: list[Advice]
    drift: Drift | None = None
    inputs: dict[str, Any] = Field(description="The hashes of everything that went in.")


class WaiverCreate(BaseModel):
    """Somebody takes responsibility for what an audit found, for a time. The verdict stays what it is."""

    model_config = ConfigDict(extra="forbid")
    who: Name
    why: Reason
    until: float = Field(gt=0, lt=LATEST, description="Unix seconds: from then on the waiver is expired.")
    suite: Name | None = Field(None, description="The one task that is waived; absent: all of the audit.")


class WaiverRevoke(BaseModel):
    model_config = ConfigDict(extra="forbid")
    who: Name
    why: Reason


class Revocation(Reply):
    who: str
    why: str
    by: str
    at: float


class WaiverOut(Reply):
    id: str
    audit_id: str
    suite: str | None = Field(description="Null: all of the audit.")
    who: str
    why: str
    by: str = Field(description="The API key it was written with.")
    until: float
    created_at: float
    state: Literal["valid", "expired", "revoked"] = Field(description="Now; what is revoked stays so.")
    revoked: Revocation | None


class WaiverPage(Reply):
    items: list[WaiverOut] = Field(description="Newest first, expired and revoked ones too.")
    next_cursor: None = None


class Gate(Reply):
    """What a pipeline needs: may it ship?"""

    audit_id: str
    verdict: Verdict
    sentence: str
    waived: bool
    exit_code: int = Field(description="0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID; 0 too when waivers are accepted.")
    hash: str


class AuditOut(AuditResult):
    id: str
    policy: PolicyOut
    verdict: Verdict
    exit_code: int = Field(description="0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID.")
    waivers: list[WaiverOut] = Field(description="Newest first. They change neither verdict nor record.")
    waived: bool = Field(description="Every task that did not pass has a valid waiver now.")
    hash: str
    intact: bool = Field(description="False when the stored record no longer matches its hash.")
    run_id: str | None
    before_version_id: str | None
    after_version_id: str | None
    created_at: float


class AuditPage(Reply):
    items: list[AuditOut]
    next_cursor: str | None


class ChangedItem(Reply):
    """An item whose answer was lost or gained, with both outputs."""

    suite: str
    id: str
    input: str
    references: list[str]
    label: str | None
    before_output: str | None
    after_output: str | None
    group: str | None
    tags: list[str]


class ChangedItemPage(Reply):
    items: list[ChangedItem]
    next_cursor: str | None
