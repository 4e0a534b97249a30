"""What reviews, their tasks, judgements and results look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.evaluation.comparison_schemas import CandidateCard
from service.evaluation.schemas import Name, ScoreOut, SuiteRef, Text
from service.shapes import Reply
from service.store.reviews import Progress
from service.store.tables import Judgement, Review, Suite

Kind = Literal["rating", "pairwise"]
Answer = Literal["good", "bad", "A", "B", "tie", "skip"]
Tag = Annotated[str, Field(min_length=1, max_length=60)]
Reviewer = Annotated[
    str | None,
    Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$", description="Absent: the API key's name."),
]
JudgementId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Made by the client: sent again, it is stored once.",
    ),
]
SKIP_REASONS = ("cannot tell", "not my field", "item is broken")


class Sample(BaseModel):
    """Which items people see."""

    model_config = ConfigDict(extra="forbid")
    n: int | None = Field(100, ge=1, le=20_000, description="Null: all of them.")
    seed: int = Field(0, ge=0, lt=2**31)
    stratified: bool = Field(True, description="Draw the suite's groups in proportion to their size.")
    only: Literal["all", "wrong", "flipped"] = Field(
        "all",
        description="wrong: items that one of the evaluations has wrong. flipped: right in one, wrong in another. "
        "Such a sample says nothing of the whole suite.",
    )


class ReviewCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[Name, Field(max_length=200)]
    kind: Kind
    evaluations: list[str] = Field(
        min_length=1, max_length=20, description="Evaluation ids, all of one suite version; pairwise: two or more."
    )
    baseline: str | None = Field(
        None, description="One of them. Pairwise: only pairs with it (absent: all pairs). Rating: what verdicts are "
        "against (absent: the first).",
    )  # fmt: skip
    sample: Sample = Field(default_factory=Sample)
    overlap: int = Field(1, ge=1, le=20, description="How many reviewers judge each item.")
    instructions: Annotated[Text, Field(max_length=10_000)] | None = None
    reasons: list[Tag] = Field(default_factory=list, max_length=9, description="Tags reviewers may give.")


class ReviewProgress(Reply):
    wanted: int = Field(description="Judgements asked for.")
    done: int
    reviewers: int
    said: int = Field(description="Everything that was ever said, also what was superseded or withdrawn.")


class ReviewOut(Reply):
    id: str
    name: str
    version: int
    hash: str = Field(description="SHA-256 of the definition, the suite and the answers.")
    kind: Kind
    suite_id: str
    suite: SuiteRef
    definition: dict[str, Any] = Field(
        description="evaluations, baseline, sample, overlap, instructions, reasons: frozen."
    )
    n_items: int
    n_tasks: int = Field(description="Outputs, or pairs of outputs; pairs of the same text count and are not asked.")
    progress: ReviewProgress
    created_by: str
    created_at: float
    closed_at: float | None
    outcome: dict[str, Any] | None = Field(
        description="Of a closed rating review: `suite_id`, and `evaluations`, from each evaluation that was rated to "
        "the one that holds what people said. Null where no item was rated for all of them."
    )

    @classmethod
    def of(cls, review: Review, suite: Suite, progress: Progress) -> ReviewOut:
        row = review.model_dump(exclude={"items_sha256"})
        named = suite.model_dump(include=set(SuiteRef.model_fields))
        return cls.model_validate({**row, "suite": named, "progress": vars(progress)})


class ReviewPage(Reply):
    items: list[ReviewOut]
    next_cursor: str | None


class NextTask(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reviewer: Reviewer = None


class Shown(Reply):
    label: Literal["A", "B"]
    text: str | None = Field(description="Null: the model gave nothing.")


class ReviewTaskOut(Reply):
    """What a reviewer sees. Which model gave which output is not in it."""

    task: int
    input: str
    label: str | None
    references: list[str]
    group: str | None
    outputs: list[Shown]


class ReviewerProgress(Reply):
    judged: int = Field(description="By this reviewer, skips included.")
    left: int = Field(description="What this reviewer may still be given.")
    reserved: int = Field(description="Of these, how many others have in hand just now.")


class NextTaskOut(Reply):
    task: ReviewTaskOut | None
    reason: Literal["done", "reserved", "closed"] | None = Field(
        description="Why there is none: all is judged, others have the rest in hand, or the review is closed."
    )
    reviewer: str
    expires_at: float | None = Field(description="Until then no other reviewer gets this task in your place.")
    progress: ReviewerProgress


class JudgementCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: JudgementId
    task: int = Field(ge=0, lt=2**31)
    answer: Answer = Field(description="Rating: good, bad. Pairwise: A, B, tie, as shown. Either: skip.")
    reasons: list[Tag] = Field(default_factory=list, max_length=12, description="A skip needs one, or a comment.")
    comment: Annotated[Text, Field(max_length=5_000)] | None = None
    reviewer: Reviewer = None


class Undo(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: JudgementId
    reviewer: Reviewer = None


class JudgementOut(Reply):
    number: int = Field(description="The review's own count; a later one supersedes.")
    id: str
    task: int
    reviewer: str
    answer: Answer | Literal["withdrawn"] = Field(description="As the reviewer gave it.")
    reasons: list[str]
    comment: str | None
    seconds: float | None = Field(description="From being given the task to judging it.")
    supersedes: int | None
    sent_by: str
    created_at: float

    @classmethod
    def of(cls, said: Judgement) -> JudgementOut:
        sides = ("B", "A") if said.swapped else ("A", "B")
        answer = {"first": sides[0], "second": sides[1]}.get(said.answer, said.answer)
        return cls.model_validate({**said.model_dump(), "task": said.place, "answer": answer})


class JudgementPage(Reply):
    items: list[JudgementOut]
    next_cursor: str | None


class HumanScore(ScoreOut):
    evaluation_id: str
    evaluation: str = Field(description="What a person calls it.")
    judgements: int


class HumanSlice(Reply):
    evaluation_id: str
    slice: str
    n: int
    value: float | None
    interval: tuple[float, float] | None
    reason: str | None


class StrengthOut(Reply):
    evaluation_id: str
    evaluation: str
    strength: float | None = Field(description="Bradley-Terry, log-odds; the strengths add up to 0.")
    interval: tuple[float, float] | None
    n: int
    reason: str | None


class Agreement(Reply):
    method: Literal["cohen_kappa", "krippendorff_alpha"] | None
    value: float | None
    observed: float | None = Field(description="Share of pairs of judgements of the same task that agree.")
    n_overlap: int = Field(description="Tasks that two reviewers or more judged.")
    n_reviewers: int
    reason: Literal["no_overlap", "one_category"] | None


class ReviewerOut(Reply):
    reviewer: str
    judged: int
    skipped: int
    answers: dict[str, int] = Field(description="good, bad; or A, B, tie as shown: left and right should be even.")
    agrees: float | None = Field(description="Share of agreement with others on the same tasks.")
    seconds: float | None = Field(description="Median.")


class ReasonCount(Reply):
    reason: str
    answer: str
    evaluation_id: str | None
    n: int


class Position(Reply):
    a: int
    b: int
    p_value: float = Field(description="Exact binomial: small where the side an output is shown on sways judgement.")


class ReviewResult(Reply):
    """What people said. Of an open review it is what they said so far: who stops on seeing it fools himself."""

    review: ReviewOut
    final: bool
    scores: list[HumanScore] = Field(
        description="Rating: the share called good, over items rated for every evaluation. Pairwise: the share won."
    )
    verdicts: list[CandidateCard] = Field(
        description="Each pair that was judged, or each evaluation against the baseline; by p-values after Holm."
    )
    strengths: list[StrengthOut] = Field(description="Pairwise only.")
    agreement: Agreement
    reviewers: list[ReviewerOut]
    slices: list[HumanSlice] = Field(description="By group of the suite, worst first.")
    reasons: list[ReasonCount] = Field(description="Most frequent first.")
    position: Position | None = Field(description="Pairwise only.")
    n_identical: int = Field(description="Pairs of the same text: ties that nobody was asked about.")
    n_left_out: int = Field(description="Rating: items rated, but not for every evaluation.")


class ItemJudgement(Reply):
    reviewer: str
    answer: str = Field(description="good, bad, tie, skip, or `preferred`: then `evaluation_id` says which.")
    evaluation_id: str | None
    against_id: str | None = Field(description="Pairwise: the other one.")
    reasons: list[str]
    comment: str | None


class ReviewedItem(Reply):
    id: str
    input: str
    label: str | None
    references: list[str]
    group: str | None
    outputs: dict[str, str | None] = Field(description="By evaluation id.")
    judgements: list[ItemJudgement]


class ReviewedItemPage(Reply):
    items: list[ReviewedItem]
    next_cursor: str | None
