"""Reviews: a row each with its tasks, a Parquet file of what reviewers see, and judgements that are only ever added.

Whoever hands out a task or takes a judgement locks the review's row first: what follows sees all that others did, on
any number of replicas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy import ColumnElement, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from service.errors import NotFound
from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.tables import Judgement, Review, ReviewLease, ReviewTask
from service.store.upserts import upsert

if TYPE_CHECKING:
    import pyarrow as pa

WITHDRAWN, SKIP = "withdrawn", "skip"


class ReviewNotFound(NotFound):
    code = "review_not_found"


@dataclass(frozen=True)
class Progress:
    """Judgements asked for, and those there are of them (more than were asked of a task do not count).

    `said`: everything that was ever said, also what no longer stands.
    """

    wanted: int
    done: int
    reviewers: int
    said: int


def add(session: Session, review: Review, tasks: Sequence[Mapping[str, Any]]) -> tuple[Review, bool]:
    """Store the review with its tasks; the same content again answers with the one there is."""
    stored, new = records.add_version(session, review)
    if new:
        session.flush()
        rows = [{"review_id": stored.id, "judged": 0, **task} for task in tasks]
        session.connection().execute(sql.insert(ReviewTask), rows)
    return stored, new


def existing(session: Session, review_id: str, *, lock: bool = False) -> Review:
    review = session.get(Review, review_id, with_for_update=lock)
    if review is None:
        raise ReviewNotFound(f"There is no review '{review_id}'. GET /api/v1/reviews lists them.")
    return review


def page(
    session: Session, *, suite_id: str | None, is_open: bool | None, limit: int, cursor: str | None
) -> tuple[Sequence[Review], str | None]:
    query = select(Review)
    if suite_id is not None:
        query = query.where(Review.suite_id == suite_id)
    if is_open is not None:
        closed = col(Review.closed_at).is_not(None)
        query = query.where(~closed if is_open else closed)
    return records.page(session, query, col(Review.id), limit, cursor)


def progress(session: Session, review_ids: Sequence[str]) -> dict[str, Progress]:
    done = sql.case((col(ReviewTask.judged) < col(ReviewTask.wanted), ReviewTask.judged), else_=ReviewTask.wanted)
    owner = col(ReviewTask.review_id)
    counted = sql.select(owner, func.sum(ReviewTask.wanted), func.sum(done)).where(owner.in_(review_ids))
    said = sql.select(
        col(Judgement.review_id), func.count(col(Judgement.reviewer).distinct()), func.count(col(Judgement.number))
    )
    said = said.where(col(Judgement.review_id).in_(review_ids)).group_by(col(Judgement.review_id))
    connection = session.connection()
    heard = {review_id: (int(people), int(words)) for review_id, people, words in connection.execute(said)}
    return {
        review_id: Progress(int(wanted), int(judged), *heard.get(review_id, (0, 0)))
        for review_id, wanted, judged in connection.execute(counted.group_by(owner))
    }


# --- what reviewers see ---


def items_table(items: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Items with `outputs`, one for each evaluation, and `parsed`, as the evaluations have them."""
    import pyarrow as pa

    text = pa.string()
    schema = pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("input", text, nullable=False),
            pa.field("label", text),
            pa.field("references", pa.list_(text), nullable=False),
            pa.field("group", text),
            pa.field("tags", pa.list_(text), nullable=False),
            pa.field("outputs", pa.list_(text), nullable=False),
        ]
    )
    return pa.Table.from_pylist(list(items), schema=schema)


def write_items(blobs: BlobStore, items: Sequence[Mapping[str, Any]]) -> str:
    return parquet.write(blobs, items_table(items))


def read_items(blobs: BlobStore, review: Review, columns: Sequence[str] | None = None) -> pa.Table:
    return parquet.read(blobs, review.items_sha256, columns)


# --- the queue ---


def tasks(session: Session, review_id: str) -> Sequence[ReviewTask]:
    query = select(ReviewTask).where(ReviewTask.review_id == review_id).order_by(col(ReviewTask.place))
    return session.exec(query).all()


def task(session: Session, review_id: str, place: int) -> ReviewTask | None:
    return session.get(ReviewTask, (review_id, place))


def next_task(session: Session, review_id: str, reviewer: str, now: float) -> ReviewTask | None:
    """The task that fewest have judged or have in hand, among those that this reviewer has said nothing of."""
    held = _held(review_id, reviewer, now)
    taken = col(ReviewTask.judged) + func.coalesce(held.c.n, 0)
    query = (
        select(ReviewTask)
        .join(held, held.c.place == col(ReviewTask.place), isouter=True)
        .where(*_open_to(review_id, reviewer), taken < ReviewTask.wanted)
        .order_by(taken, col(ReviewTask.place))
        .limit(1)
    )
    return session.exec(query).first()


def left(session: Session, review_id: str, reviewer: str, now: float) -> tuple[int, int]:
    """How many tasks this reviewer may still get, and how many of these others have in hand just now."""
    held = _held(review_id, reviewer, now)
    reserved = sql.case((col(ReviewTask.judged) + func.coalesce(held.c.n, 0) >= ReviewTask.wanted, 1), else_=0)
    query = (
        sql.select(func.count(), func.coalesce(func.sum(reserved), 0))
        .select_from(ReviewTask)
        .join(held, held.c.place == col(ReviewTask.place), isouter=True)
        .where(*_open_to(review_id, reviewer), col(ReviewTask.judged) < ReviewTask.wanted)
    )
    n_left, n_reserved = session.connection().execute(query).one()
    return int(n_left), int(n_reserved)


def _held(review_id: str, reviewer: str, now: float) -> sql.Subquery:
    """Tasks that others have in hand: place and by how many."""
    return (
        sql.select(col(ReviewLease.place), func.count().label("n"))
        .where(col(ReviewLease.review_id) == review_id, col(ReviewLease.reviewer) != reviewer)
        .where(col(ReviewLease.expires_at) > now)
        .group_by(col(ReviewLease.place))
        .subquery()
    )


def _open_to(review_id: str, reviewer: str) -> list[ColumnElement[bool]]:
    answered = (
        sql.select(col(Judgement.number))
        .where(*_standing(review_id), col(Judgement.reviewer) == reviewer)
        .where(col(Judgement.place) == col(ReviewTask.place), col(Judgement.answer) != WITHDRAWN)
    )
    return [col(ReviewTask.review_id) == review_id, ~answered.exists()]


def _standing(review_id: str) -> list[ColumnElement[bool]]:
    """Judgements that no later one of the same reviewer on the same task supersedes."""
    later = aliased(Judgement)
    superseded = sql.select(col(later.number)).where(
        col(later.review_id) == review_id,
        col(later.reviewer) == col(Judgement.reviewer),
        col(later.place) == col(Judgement.place),
        col(later.number) > col(Judgement.number),
    )
    return [col(Judgement.review_id) == review_id, ~superseded.exists()]


def lease(session: Session, review_id: str, reviewer: str) -> ReviewLease | None:
    return session.get(ReviewLease, (review_id, reviewer))


def hold(session: Session, review_id: str, reviewer: str, place: int, since: float, expires_at: float) -> None:
    """Reserve a task for a reviewer, in place of the one held before."""
    row = {"review_id": review_id, "reviewer": reviewer, "place": place, "since": since, "expires_at": expires_at}
    upsert(session, ReviewLease, [row], replace=["place", "since", "expires_at"])


def release(session: Session, review_id: str, reviewer: str) -> None:
    own = (col(ReviewLease.review_id) == review_id, col(ReviewLease.reviewer) == reviewer)
    session.connection().execute(sql.delete(ReviewLease).where(*own))


# --- what was said ---


def judgement(session: Session, review_id: str, judgement_id: str) -> Judgement | None:
    query = select(Judgement).where(Judgement.review_id == review_id, Judgement.id == judgement_id)
    return session.exec(query).first()


def standing(session: Session, review_id: str) -> Sequence[Judgement]:
    """What every reviewer says of every task now, skips included, in the order it was said."""
    query = select(Judgement).where(*_standing(review_id), col(Judgement.answer) != WITHDRAWN)
    return session.exec(query.order_by(col(Judgement.number))).all()


def last_standing(session: Session, review_id: str, reviewer: str, place: int | None = None) -> Judgement | None:
    """The newest word of a reviewer that stands (on one task, or on any)."""
    query = select(Judgement).where(*_standing(review_id), Judgement.reviewer == reviewer)
    query = query.where(Judgement.answer != WITHDRAWN) if place is None else query.where(Judgement.place == place)
    return session.exec(query.order_by(col(Judgement.number).desc()).limit(1)).first()


def n_standing(session: Session, review_id: str, reviewer: str) -> int:
    """On how many tasks a reviewer's word stands."""
    own = (*_standing(review_id), col(Judgement.reviewer) == reviewer, col(Judgement.answer) != WITHDRAWN)
    return int(session.connection().execute(sql.select(func.count()).select_from(Judgement).where(*own)).scalar_one())


def last_number(session: Session, review_id: str) -> int:
    query = select(func.max(Judgement.number)).where(Judgement.review_id == review_id)
    return session.exec(query).one() or 0


def record(session: Session, said: Judgement) -> Judgement:
    """Add a judgement as the review's next. The review is locked, so that numbers and counts are right."""
    before = last_standing(session, said.review_id, said.reviewer, said.place)
    said.number = last_number(session, said.review_id) + 1
    said.supersedes = None if before is None else before.number
    session.add(said)
    change = _counts(said) - (0 if before is None else _counts(before))
    if change:
        own = (col(ReviewTask.review_id) == said.review_id, col(ReviewTask.place) == said.place)
        session.connection().execute(sql.update(ReviewTask).where(*own).values(judged=ReviewTask.judged + change))
    session.flush()
    return said


def _counts(said: Judgement) -> int:
    return 0 if said.answer in (WITHDRAWN, SKIP) else 1


def page_judgements(session: Session, review_id: str, limit: int, after: int) -> tuple[Sequence[Judgement], int | None]:
    """Everything that was said, also what no longer stands, in order, and where to go on."""
    query = select(Judgement).where(Judgement.review_id == review_id, Judgement.number > after)
    rows = session.exec(query.order_by(col(Judgement.number)).limit(limit + 1)).all()
    return rows[:limit], rows[limit - 1].number if len(rows) > limit else None
