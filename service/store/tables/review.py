"""People judge outputs: reviews, their tasks, who has which in hand, and what was said."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, new_id


class Review(SQLModel, table=True):
    """What is put before people, drawn once and never changed: a change is a version. Only closing it is written later.

    `definition`: evaluations, baseline, sample, overlap, instructions, reasons. `items_sha256`: what reviewers see.
    `outcome`: the suite and evaluations that a closed rating review left, if any.
    """

    __tablename__ = "review"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "hash"))
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    version: int
    hash: str
    kind: str
    suite_id: str = Field(foreign_key="suite.id", index=True)
    definition: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    items_sha256: str
    n_items: int
    n_tasks: int
    created_by: str
    created_at: float
    closed_at: float | None = None
    outcome: dict[str, Any] | None = Field(default=None, sa_column=json_column())


class ReviewTask(SQLModel, table=True):
    """One output, or two, of one item. `place` is its turn, `row` the item's in the review's file; `first` and
    `second` are places among the definition's evaluations. `judged` counts the reviewers whose word stands; `wanted`
    is 0 where there is nothing to ask: both outputs are the same."""

    __tablename__ = "review_task"
    review_id: str = Field(foreign_key="review.id", primary_key=True)
    place: int = Field(primary_key=True)
    row: int
    first: int
    second: int | None = None
    wanted: int
    judged: int = 0


class ReviewLease(SQLModel, table=True):
    """The task a reviewer has in hand, kept from others until then."""

    __tablename__ = "review_lease"
    review_id: str = Field(foreign_key="review.id", primary_key=True)
    reviewer: str = Field(primary_key=True)
    place: int
    since: float
    expires_at: float


class Judgement(SQLModel, table=True):
    """What a reviewer said of a task. Only ever added: the newest of a reviewer on a task stands.

    `id` is the client's. `answer`: good, bad; first, tie, second; skip; withdrawn. `swapped`: the second was on the
    left, as A.
    """

    __tablename__ = "judgement"
    __table_args__ = (
        UniqueConstraint("review_id", "id"),
        Index("ix_judgement_standing", "review_id", "reviewer", "place", "number"),
    )
    review_id: str = Field(foreign_key="review.id", primary_key=True)
    number: int = Field(primary_key=True)
    id: str
    place: int
    reviewer: str
    answer: str
    swapped: bool = False
    reasons: list[str] = Field(default_factory=list, sa_column=json_column())
    comment: str | None = None
    seconds: float | None = None
    supersedes: int | None = None
    sent_by: str
    created_at: float
