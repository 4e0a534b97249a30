"""The review API: people judge outputs, blind, and what they say becomes a score like any other."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, WriteSession
from service.evaluation import review_closing as closing
from service.evaluation import review_results, reviews
from service.evaluation.review_schemas import (
    JudgementCreate,
    JudgementOut,
    JudgementPage,
    NextTask,
    NextTaskOut,
    ReviewCreate,
    ReviewedItemPage,
    ReviewOut,
    ReviewPage,
    ReviewResult,
    Undo,
)
from service.store import reviews as store

router = APIRouter(prefix="/api/v1/reviews", tags=["reviews"])
READ = [Depends(require("read"))]
Principal = Annotated[str, Depends(require("evaluate"))]

Limit = Annotated[int, Query(ge=1, le=1000)]
Confidence = Annotated[float, Query(gt=0, lt=1)]
Margin = Annotated[float, Query(ge=0, le=1, description="Shares within ± this do not matter: 0.05 is five points.")]
Status = Annotated[Literal["open", "closed"] | None, Query()]


@router.post("", status_code=201)
def create_review(
    wanted: ReviewCreate, database: ServiceDatabase, blobs: Blobs, principal: Principal, response: Response
) -> ReviewOut:
    """Put outputs before people: `rating` asks good or bad of each, `pairwise` which of two is better.

    The sample is drawn now and frozen. The same content again answers 200 with the review there is; a change is its
    next version.
    """
    with database.read() as session:
        found, suite = reviews.judged_evaluations(session, wanted)
    review, tasks = reviews.build(wanted, found, suite, blobs, principal)
    with database.write() as session:
        stored, new = store.add(session, review, tasks)
        response.status_code = 201 if new else 200
        return reviews.shown(session, [stored])[0]


@router.get("", dependencies=READ)
def list_reviews(
    session: ReadSession,
    suite_id: str | None = None,
    status: Status = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> ReviewPage:
    """Reviews, newest first; every version is one."""
    is_open = None if status is None else status == "open"
    found, next_cursor = store.page(session, suite_id=suite_id, is_open=is_open, limit=limit, cursor=cursor)
    return ReviewPage(items=reviews.shown(session, found), next_cursor=next_cursor)


@router.get("/{review_id}", dependencies=READ)
def get_review(review_id: str, session: ReadSession) -> ReviewOut:
    """One review, and how far it is."""
    return reviews.shown(session, [store.existing(session, review_id)])[0]


@router.post("/{review_id}/next")
def next_task(
    review_id: str, wanted: NextTask, session: WriteSession, blobs: Blobs, principal: Principal
) -> NextTaskOut:
    """The next task for a reviewer, blind. Asked again, it is the same one until it is judged or the time is up.

    No task comes twice to a reviewer. Those that fewest have judged come first, and two reviewers at once get
    different ones as long as there are.
    """
    return reviews.next_task(session, blobs, review_id, wanted.reviewer or principal)


@router.post("/{review_id}/judgements", status_code=201)
def judge(
    review_id: str, wanted: JudgementCreate, session: WriteSession, principal: Principal, response: Response
) -> JudgementOut:
    """Say what you think of a task. Another word on the same task supersedes the one before; both are kept."""
    said, new = reviews.judge(session, review_id, wanted, wanted.reviewer or principal, principal)
    response.status_code = 201 if new else 200
    return JudgementOut.of(said)


@router.post("/{review_id}/undo", status_code=201)
def undo(review_id: str, wanted: Undo, session: WriteSession, principal: Principal, response: Response) -> JudgementOut:
    """Withdraw the reviewer's last judgement; its task is the next one again."""
    said, new = reviews.undo(session, review_id, wanted, wanted.reviewer or principal, principal)
    response.status_code = 201 if new else 200
    return JudgementOut.of(said)


@router.get("/{review_id}/judgements", dependencies=READ)
def list_judgements(
    review_id: str,
    session: ReadSession,
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> JudgementPage:
    """Everything that was ever said, in order, also what was superseded or withdrawn."""
    store.existing(session, review_id)
    found, last = store.page_judgements(session, review_id, limit, cursor or 0)
    return JudgementPage(items=[JudgementOut.of(one) for one in found], next_cursor=None if last is None else str(last))


@router.get("/{review_id}/result", dependencies=READ)
def get_result(
    review_id: str, session: ReadSession, blobs: Blobs, margin: Margin = 0.0, confidence: Confidence = 0.95
) -> ReviewResult:
    """Scores with intervals, verdicts, strengths, agreement, and what each reviewer did; models by name."""
    review = store.existing(session, review_id)
    return review_results.result(session, blobs, review, margin=margin, confidence=confidence)


@router.get("/{review_id}/items", dependencies=READ)
def list_judged_items(
    review_id: str,
    session: ReadSession,
    blobs: Blobs,
    only: Literal["all", "disagreed", "skipped"] = "all",
    limit: Limit = 100,
    cursor: str | None = None,
) -> ReviewedItemPage:
    """The items behind the result with what each reviewer said, un-blinded."""
    review = store.existing(session, review_id)
    return review_results.judged_items(session, blobs, review, only=only, limit=limit, cursor=cursor)


@router.post("/{review_id}/close", dependencies=[Depends(require("evaluate"))])
def close_review(review_id: str, database: ServiceDatabase, blobs: Blobs) -> ReviewOut:
    """End a review: nothing is judged any more. A rating leaves a suite of its items and an evaluation for each that
    was rated, scored by people: they compare, slice and are audited like any other. Closing twice is closing once."""
    return closing.close(database, blobs, review_id)
