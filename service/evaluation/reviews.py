"""People judge outputs: what they are shown, who gets what next, and what they say. Blind until it is counted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sqlmodel import Session

from service.errors import Conflict, Invalid, NotFound, TooLarge
from service.evaluation import review_sample
from service.evaluation.comparison import same_suite
from service.evaluation.review_schemas import (
    SKIP_REASONS,
    JudgementCreate,
    NextTaskOut,
    ReviewCreate,
    ReviewerProgress,
    ReviewOut,
    ReviewTaskOut,
    Shown,
    Undo,
)
from service.store import evaluations, parquet, reviews, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Judgement, Review, ReviewTask, Suite

if TYPE_CHECKING:
    import pyarrow as pa

MAX_TASKS = 20_000
LEASE_SECONDS = 600.0
_ANSWERS = {"rating": ("good", "bad", "skip"), "pairwise": ("A", "B", "tie", "skip")}

Tasks = list[dict[str, Any]]


class ReviewInvalid(Invalid):
    code = "review_invalid"


class ReviewTooLarge(TooLarge):
    code = "review_too_large"


class ReviewClosed(Conflict):
    code = "review_closed"


class TaskNotFound(NotFound):
    code = "review_task_not_found"


class JudgementInvalid(Invalid):
    code = "judgement_invalid"


class JudgementDiffers(Conflict):
    code = "judgement_differs"


class NothingToUndo(Conflict):
    code = "nothing_to_undo"


# --- made ---


def judged_evaluations(session: Session, wanted: ReviewCreate) -> tuple[list[Evaluation], Suite]:
    """The evaluations of a review, and the suite that all of them answered."""
    if len(set(wanted.evaluations)) < len(wanted.evaluations):
        raise ReviewInvalid("An evaluation is named twice in `evaluations`.")
    if wanted.kind == "pairwise" and len(wanted.evaluations) < 2:
        raise ReviewInvalid("A pairwise review compares two evaluations or more: name them in `evaluations`.")
    if wanted.baseline is not None and wanted.baseline not in wanted.evaluations:
        raise ReviewInvalid(f"The baseline '{wanted.baseline}' is not among the review's evaluations.")
    if len(set(wanted.reasons)) < len(wanted.reasons):
        raise ReviewInvalid("A tag is named twice in `reasons`.")
    found = [evaluations.existing(session, one) for one in wanted.evaluations]
    for one in found[1:]:
        same_suite(session, found[0], one)
    return found, evaluations.suites_of(session, found)[found[0].suite_id]


def build(
    wanted: ReviewCreate, found: Sequence[Evaluation], suite: Suite, blobs: BlobStore, created_by: str
) -> tuple[Review, Tasks]:
    """The review with what its reviewers see stored, and its tasks, ready for `reviews.add`. No session: it reads."""
    items = suites.read_items(blobs, suite)
    answers = [_in_order(parquet.read(blobs, one.items_sha256, ["id", "output", "correct"]), items) for one in found]
    rows = _drawn(wanted, items, answers)
    outputs = list(zip(*(table.column("output").take(rows).to_pylist() for table in answers), strict=True))
    sides: list[tuple[int, int | None]] = [(place, None) for place in range(len(found))]
    if wanted.kind == "pairwise":
        baseline = None if wanted.baseline is None else wanted.evaluations.index(wanted.baseline)
        sides = cast(list[tuple[int, int | None]], review_sample.pairs(len(found), baseline))
    if len(rows) * len(sides) > MAX_TASKS:
        raise ReviewTooLarge(
            f"{len(rows):,} items make {len(rows) * len(sides):,} tasks, more than {MAX_TASKS:,}: "
            "draw fewer items (`sample.n`), or compare with a `baseline`."
        )
    tasks = review_sample.tasks(outputs, sides, wanted.overlap, wanted.sample.seed)
    if not any(task["wanted"] for task in tasks):
        raise ReviewInvalid("All outputs of the sample are the same in both evaluations: there is nothing to judge.")
    shown = [
        {**item, "outputs": list(texts)} for item, texts in zip(items.take(rows).to_pylist(), outputs, strict=True)
    ]
    definition = wanted.model_dump(exclude={"name", "kind"})
    review = Review(
        name=wanted.name,
        version=0,
        hash=_hash(wanted.kind, definition, suite, found),
        kind=wanted.kind,
        suite_id=suite.id,
        definition=definition,
        items_sha256=reviews.write_items(blobs, shown),
        n_items=len(rows),
        n_tasks=len(tasks),
        created_by=created_by,
        created_at=time.time(),
    )
    return review, tasks


def _in_order(answers: pa.Table, items: pa.Table) -> pa.Table:
    """Answers in the order of the items: two versions of the same content may be ordered differently."""
    import pyarrow.compute as pc

    return answers.take(pc.index_in(items.column("id"), value_set=answers.column("id")))


def _drawn(wanted: ReviewCreate, items: pa.Table, answers: Sequence[pa.Table]) -> review_sample.Rows:
    candidates = np.arange(len(items))
    if wanted.sample.only != "all":
        right = [table.column("correct").to_pylist() for table in answers]
        if any(None in one for one in right):
            raise ReviewInvalid(
                f"`sample.only` is '{wanted.sample.only}', but no metric of the suite says right or wrong of each item."
            )
        n_right = np.array(right, dtype=np.int64).sum(axis=0)
        keep = n_right < len(answers)
        if wanted.sample.only == "flipped":
            keep &= n_right > 0
        candidates = np.flatnonzero(keep)
    if not len(candidates):
        raise ReviewInvalid(f"No item of the suite is '{wanted.sample.only}' in these evaluations.")
    groups = items.column("group").take(candidates).to_pylist() if wanted.sample.stratified else None
    return review_sample.draw(candidates, wanted.sample.n, wanted.sample.seed, groups)


def _hash(kind: str, definition: dict[str, Any], suite: Suite, found: Sequence[Evaluation]) -> str:
    content = {"kind": kind, **definition, "suite": suite.hash, "answers": [one.prediction_hash for one in found]}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def shown(session: Session, found: Sequence[Review]) -> list[ReviewOut]:
    """Reviews as they go over the wire."""
    by_id = evaluations.suites_by_id(session, {review.suite_id for review in found})
    progress = reviews.progress(session, [review.id for review in found])
    return [ReviewOut.of(review, by_id[review.suite_id], progress[review.id]) for review in found]


# --- judged ---


def next_task(session: Session, blobs: BlobStore, review_id: str, reviewer: str) -> NextTaskOut:
    """The task the reviewer has in hand, else the next one, reserved for a while."""
    review, now = reviews.existing(session, review_id, lock=True), time.time()
    task, since = None, now
    held = reviews.lease(session, review_id, reviewer)
    if review.closed_at is None:
        if held is not None and held.expires_at > now:
            task, since = reviews.task(session, review_id, held.place), held.since
        else:
            task = reviews.next_task(session, review_id, reviewer, now)
    if task is not None:
        reviews.hold(session, review_id, reviewer, task.place, since, now + LEASE_SECONDS)
    left, reserved = reviews.left(session, review_id, reviewer, now)
    reason = None if task is not None else "closed" if review.closed_at else "reserved" if left else "done"
    return NextTaskOut(
        task=None if task is None else _blind(review, task, reviewer, blobs),
        reason=cast(Any, reason),
        reviewer=reviewer,
        expires_at=None if task is None else now + LEASE_SECONDS,
        progress=ReviewerProgress(
            judged=reviews.n_standing(session, review_id, reviewer), left=left, reserved=reserved
        ),
    )


def _blind(review: Review, task: ReviewTask, reviewer: str, blobs: BlobStore) -> ReviewTaskOut:
    item = reviews.read_items(blobs, review).slice(task.row, 1).to_pylist()[0]
    places = [task.first] if task.second is None else [task.first, task.second]
    if task.second is not None and review_sample.is_swapped(review.id, task.place, reviewer):
        places.reverse()
    outputs = [Shown(label=cast(Any, "AB"[side]), text=item["outputs"][place]) for side, place in enumerate(places)]
    kept = {name: item[name] for name in ("input", "label", "references", "group")}
    return ReviewTaskOut(task=task.place, outputs=outputs, **kept)


def judge(
    session: Session, review_id: str, wanted: JudgementCreate, reviewer: str, sent_by: str
) -> tuple[Judgement, bool]:
    """Add what a reviewer says. The same id with the same content is stored once; returns also whether it is new."""
    review, now = reviews.existing(session, review_id, lock=True), time.time()
    swapped = review.kind == "pairwise" and review_sample.is_swapped(review_id, wanted.task, reviewer)
    said = Judgement(
        review_id=review_id,
        number=0,
        id=wanted.id,
        place=wanted.task,
        reviewer=reviewer,
        answer=_unblinded(wanted.answer, swapped),
        swapped=swapped,
        reasons=wanted.reasons,
        comment=wanted.comment,
        seconds=None,
        sent_by=sent_by,
        created_at=now,
    )
    if (before := reviews.judgement(session, review_id, wanted.id)) is not None:
        return _same(before, said), False
    _check(session, review, wanted)
    held = reviews.lease(session, review_id, reviewer)
    if held is not None and held.place == wanted.task:
        said.seconds = now - held.since if held.expires_at > now else None
        reviews.release(session, review_id, reviewer)
    return reviews.record(session, said), True


def undo(session: Session, review_id: str, wanted: Undo, reviewer: str, sent_by: str) -> tuple[Judgement, bool]:
    """Withdraw the reviewer's newest judgement that stands, and put its task into the reviewer's hand again."""
    review, now = reviews.existing(session, review_id, lock=True), time.time()
    if (before := reviews.judgement(session, review_id, wanted.id)) is not None:
        if before.answer != reviews.WITHDRAWN or before.reviewer != reviewer:
            raise _differs(wanted.id)
        return before, False
    _check_open(review)
    last = reviews.last_standing(session, review_id, reviewer)
    if last is None:
        raise NothingToUndo(f"{reviewer} has no judgement in this review to withdraw.")
    withdrawn = Judgement(
        review_id=review_id,
        number=0,
        id=wanted.id,
        place=last.place,
        reviewer=reviewer,
        answer=reviews.WITHDRAWN,
        swapped=last.swapped,
        reasons=[],
        sent_by=sent_by,
        created_at=now,
    )
    reviews.hold(session, review_id, reviewer, last.place, now, now + LEASE_SECONDS)
    return reviews.record(session, withdrawn), True


def _unblinded(answer: str, swapped: bool) -> str:
    first, second = ("B", "A") if swapped else ("A", "B")
    return {first: "first", second: "second"}.get(answer, answer)


def _check_open(review: Review) -> None:
    if review.closed_at is not None:
        raise ReviewClosed(f"The review '{review.name}' is closed: nothing is judged any more.")


def _check(session: Session, review: Review, wanted: JudgementCreate) -> None:
    _check_open(review)
    task = reviews.task(session, review.id, wanted.task)
    if task is None or task.wanted == 0:
        raise TaskNotFound(f"The review '{review.name}' asks nothing as task {wanted.task}. POST …/next gives tasks.")
    if wanted.answer not in _ANSWERS[review.kind]:
        known = ", ".join(_ANSWERS[review.kind])
        raise JudgementInvalid(f"A {review.kind} review is answered with {known}, not '{wanted.answer}'.")
    skipping = wanted.answer == reviews.SKIP
    allowed = [*review.definition["reasons"], *(SKIP_REASONS if skipping else ())]
    for reason in wanted.reasons:
        if reason not in allowed:
            raise JudgementInvalid(f"'{reason}' is no reason of this review. It has: {', '.join(allowed) or 'none'}.")
    if skipping and not wanted.reasons and not (wanted.comment or "").strip():
        raise JudgementInvalid(f"Say why this is skipped: a reason ({', '.join(allowed)}) or a comment.")


def _same(before: Judgement, said: Judgement) -> Judgement:
    for name in ("place", "reviewer", "answer", "reasons", "comment"):
        if getattr(before, name) != getattr(said, name):
            raise _differs(said.id)
    return before


def _differs(judgement_id: str) -> JudgementDiffers:
    return JudgementDiffers(f"Another judgement has the id '{judgement_id}': make a new id for each.")
