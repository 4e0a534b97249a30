"""What policies and audits look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.shapes import Reply
from service.store.tables import Policy

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f]+$")]


class ProtectedTask(BaseModel):
    """One suite that must not get worse by `margin` or more."""

    model_config = ConfigDict(extra="forbid")
    suite: Name = Field(description="The name of a suite; before and after must have run the same version of it.")
    metric: str | None = Field(None, description="Absent: the suite's primary metric.")
    margin: float = Field(gt=0, lt=1, description="The loss that is too much: 0.02 is two points of accuracy.")
    direction: Literal["higher"] = Field("higher", description="Higher is better; all metrics of the service are so.")
    options: int | None = Field(
        None, ge=2, description="Answers an item offers, for the adjustment for chance; null: free text, none."
    )
    minimum_n: int = Field(30, ge=1, description="With fewer items the task is inconclusive.")


class PolicyCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    alpha: float = Field(0.05, gt=0, le=0.5, description="Level of the one-sided bound and of the tests (Holm).")
    protected: list[ProtectedTask] = Field(min_length=1)


class PolicyBody(Reply):
    alpha: float
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


class AuditCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    policy_id: str
    before: list[str] = Field(min_length=1, description="Ids of the base model's evaluations.")
    after: list[str] = Field(min_length=1, description="Ids of the tuned model's evaluations.")
    run_id: str | None = Field(None, description="The run that tuned; absent: the run all `after` evaluations name.")
    before_version_id: str | None = None
    after_version_id: str | None = None


class GroupResult(Reply):
    group: str
    n: int
    before: float | None
    after: float | None
    lost: int
    gained: int


class TaskResult(Reply):
    """One protected task. `F`, `BT`, `F_chance`, `F_true`: item forgetting after arXiv 2510.17776."""

    suite: str
    metric: str | None
    n: int = 0
    before: float | None = None
    after: float | None = None
    difference: float | None = Field(None, description="after − before")
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
    unparsed_before: int
    unparsed_after: int
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
    inputs: dict[str, Any] = Field(description="The hashes of everything that went in.")


class AuditOut(AuditResult):
    id: str
    policy: PolicyOut
    verdict: Verdict
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
