"""What people said, as scores with intervals and verdicts like any others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from service.evaluation import review_votes, reviews
from service.evaluation.comparison import names
from service.evaluation.comparison_schemas import CandidateCard
from service.evaluation.review_schemas import (
    HumanScore,
    HumanSlice,
    ItemJudgement,
    ReviewedItem,
    ReviewedItemPage,
    ReviewResult,
    StrengthOut,
)
from service.evaluation.review_votes import Votes
from service.evaluation.schemas import EvaluationOut
from service.evaluation.wording import sentence
from service.measure.comparison import adjusted, compare
from service.measure.judgement import bradley_terry, win_rate
from service.measure.metric import MEASURE_VERSION, FloatArray, Metric
from service.measure.metrics.human import HUMAN_GOOD, HUMAN_GOOD_MEAN, HUMAN_WINS, HUMAN_WINS_MEAN
from service.measure.score import score
from service.store import evaluations, parquet, suites
from service.store import reviews as store
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Review, Suite

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 0
WIN_RATE = "human_win_rate"
NONE = "(none)"
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """A review with what stands in it, its items (id and group), and the evaluations with their names."""

    votes: Votes
    items: pa.Table
    suite: Suite
    evaluations: list[Evaluation]
    subjects: list[str]

    def clusters(self, rows: Rows) -> Rows | None:
        return suites.clusters(self.items.take(rows))

    def groups(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """Rows by group of the suite; nothing when there are no groups."""
        labels = [self.items.column("group")[int(row)].as_py() for row in rows]
        if any(label is not None for label in labels):
            for label in sorted(set(labels), key=lambda one: (one is None, one or "")):
                yield NONE if label is None else label, rows[[one == label for one in labels]]


def count(session: Session, blobs: BlobStore, review: Review) -> Counted:
    votes = review_votes.read(session, review)
    found = [evaluations.existing(session, one) for one in votes.ids]
    suite = evaluations.suites_by_id(session, {review.suite_id})[review.suite_id]
    called = [evaluations.subject(session, one) for one in found]
    subjects = [
        name if called.count(name) == 1 else f"{name} ({one.id[-6:]})" for name, one in zip(called, found, strict=True)
    ]
    items = store.read_items(blobs, review, ["id", "group"])
    return Counted(votes, items, suite, found, subjects)


def result(session: Session, blobs: BlobStore, review: Review, *, margin: float, confidence: float) -> ReviewResult:
    counted = count(session, blobs, review)
    votes = counted.votes
    rating = review.kind == "rating"
    scores, slices = _rated(counted, confidence) if rating else _won(counted, confidence)
    slices.sort(key=lambda one: (math.inf if one.value is None else one.value, one.slice))
    rows = rated_rows(votes) if rating else np.empty(0, np.int64)
    judged = np.sum([votes.good(place)[1] for place in range(len(votes.ids))], axis=0) if rating else np.zeros(0)
    return ReviewResult(
        review=reviews.shown(session, [review])[0],
        final=review.closed_at is not None,
        scores=scores,
        verdicts=list(_verdicts(session, counted, margin, confidence)),
        strengths=[] if rating else _strengths(counted, confidence),
        agreement=review_votes.agreement(votes),
        reviewers=review_votes.by_reviewer(votes),
        slices=slices,
        reasons=review_votes.reasons(votes),
        position=review_votes.position(votes),
        n_identical=sum(task.wanted == 0 for task in votes.tasks.values()),
        n_left_out=int(np.count_nonzero(judged)) - len(rows),
    )


# --- ratings ---


def rated_rows(votes: Votes) -> Rows:
    """Items that were rated for every evaluation: what can be compared item by item."""
    judged = [votes.good(place)[1] > 0 for place in range(len(votes.ids))]
    return np.flatnonzero(np.all(judged, axis=0))


def ratings(votes: Votes, rows: Rows) -> tuple[Metric, list[FloatArray]]:
    """The metric that fits, and for each evaluation the statistics (n, 1) of these items."""
    counts = [tuple(part[rows] for part in votes.good(place)) for place in range(len(votes.ids))]
    several = any((judged > 1).any() for _, judged in counts)
    return HUMAN_GOOD_MEAN if several else HUMAN_GOOD, [(good / judged)[:, None] for good, judged in counts]


def _rated(counted: Counted, confidence: float) -> tuple[list[HumanScore], list[HumanSlice]]:
    votes, rows = counted.votes, rated_rows(counted.votes)
    metric, statistics = ratings(votes, rows)
    scores, slices = [], []
    for place, values in enumerate(statistics):
        found = score(metric, values, confidence=confidence, seed=SEED)
        owner = {"evaluation_id": votes.ids[place], "evaluation": counted.subjects[place]}
        scores.append(HumanScore(**asdict(found), **owner, judgements=int(votes.good(place)[1][rows].sum())))
        for label, members in counted.groups(rows):
            part = score(metric, values[np.searchsorted(rows, members)], confidence=confidence, seed=SEED)
            slices.append(_slice(votes.ids[place], label, part.n, part.value, part.interval, part.reason))
    return scores, slices


def _slice(
    evaluation_id: str, label: str, n: int, value: float | None, interval: Any, reason: str | None
) -> HumanSlice:
    return HumanSlice(evaluation_id=evaluation_id, slice=label, n=n, value=value, interval=interval, reason=reason)


# --- pairs ---


def _won(counted: Counted, confidence: float) -> tuple[list[HumanScore], list[HumanSlice]]:
    votes = counted.votes
    scores, slices = [], []
    for place, evaluation_id in enumerate(votes.ids):
        counts = votes.wins(place)
        rows = np.flatnonzero(counts.sum(axis=1))
        rate, method = _win_rate(counted, counts, rows, confidence)
        scores.append(
            HumanScore(
                name=WIN_RATE,
                value=rate.value,
                interval=rate.interval,
                confidence=confidence,
                n=len(rows),
                n_missing=0,
                method=method if rate.interval else None,
                seed=None,
                signature=f"{WIN_RATE}|ties:half|measure:{MEASURE_VERSION}",
                reason="no_items" if not len(rows) else rate.reason,
                higher_is_better=True,
                evaluation_id=evaluation_id,
                evaluation=counted.subjects[place],
                judgements=rate.n,
            )
        )
        for label, members in counted.groups(rows):
            part, _ = _win_rate(counted, counts, members, confidence)
            slices.append(_slice(evaluation_id, label, len(members), part.value, part.interval, part.reason))
    return scores, slices


def _win_rate(counted: Counted, counts: FloatArray, rows: Rows, confidence: float) -> tuple[Any, str]:
    """The win rate on these items; items judged more than once, and clusters, count as what they are."""
    wins, losses, ties = (column.tolist() for column in counts[rows].astype(np.int64).T)
    clusters = counted.clusters(rows) if len(rows) else None
    groups: Sequence[int] | None = None if clusters is None else clusters.tolist()
    if groups is None and (counts[rows].sum(axis=1) > 1).any():
        groups = rows.tolist()
    rate = win_rate(wins, losses, ties, groups, confidence=confidence)
    return rate, "tango" if groups is None else "tango by item"


def _strengths(counted: Counted, confidence: float) -> list[StrengthOut]:
    ids = counted.votes.ids
    fought = [(ids[first], ids[second], worth) for _, first, second, worth in counted.votes.outcomes()]
    return [
        StrengthOut(
            evaluation_id=one.name,
            evaluation=subject,
            strength=one.strength,
            interval=one.interval,
            n=one.n,
            reason=one.reason,
        )
        for one, subject in zip(bradley_terry(ids, fought, SEED, confidence=confidence), counted.subjects, strict=True)
    ]


# --- verdicts ---


def _verdicts(session: Session, counted: Counted, margin: float, confidence: float) -> Iterator[CandidateCard]:
    """One for each pair of evaluations; they are shown together, so they go by p-values after Holm."""
    sides = _rating_sides if counted.votes.review.kind == "rating" else _pair_sides
    judged = [side for side in sides(counted) if len(side[3])]
    alone = [
        compare(
            metric,
            before,
            after,
            margin=margin,
            confidence=confidence,
            groups=counted.clusters(rows),
            seed=SEED,
        )
        for _, _, metric, rows, before, after in judged
    ]
    for (baseline, candidate, metric, *_), (found, p_adjusted) in zip(judged, adjusted(alone), strict=True):
        if metric is HUMAN_WINS and found.test == "mcnemar":
            found = replace(found, test="exact sign test")  # of what was won and lost: the same test by its name here
        one, other = counted.evaluations[baseline], counted.evaluations[candidate]
        own, theirs = names(session, one, other)
        place = f"{counted.suite.name} ({counted.votes.review.name})"
        yield CandidateCard(
            **asdict(found),
            p_adjusted=p_adjusted,
            sentence=sentence(found, metric, baseline=own, candidate=theirs, suite=place),
            baseline=EvaluationOut.of(one, counted.suite),
            candidate=EvaluationOut.of(other, counted.suite),
        )


Sides = Iterator[tuple[int, int, Metric, Rows, FloatArray, FloatArray]]


def _rating_sides(counted: Counted) -> Sides:
    votes, rows = counted.votes, rated_rows(counted.votes)
    metric, statistics = ratings(votes, rows)
    baseline = votes.review.definition["baseline"]
    place = 0 if baseline is None else votes.ids.index(baseline)
    for other, values in enumerate(statistics):
        if other != place:
            yield place, other, metric, rows, statistics[place], values


def _pair_sides(counted: Counted) -> Sides:
    """Each pair that was judged: an item's points, a tie half a point for each, shared between the two."""
    votes = counted.votes
    pairs = {(task.first, task.second) for task in votes.tasks.values() if task.second is not None}
    for baseline, candidate in sorted(pairs):
        counts = votes.wins(candidate, against=baseline)
        rows = np.flatnonzero(counts.sum(axis=1))
        total = counts[rows].sum(axis=1)
        share = ((counts[rows, 0] + counts[rows, 2] / 2) / total)[:, None]
        metric = HUMAN_WINS_MEAN if (total > 1).any() else HUMAN_WINS
        yield baseline, candidate, metric, rows, 1 - share, share


# --- the items behind it ---


def judged_items(
    session: Session, blobs: BlobStore, review: Review, *, only: str, limit: int, cursor: str | None
) -> ReviewedItemPage:
    """Items with what each reviewer said of them, un-blinded: those that were judged, disagreed on, or skipped."""
    votes = review_votes.read(session, review)
    by_row: dict[int, list[ItemJudgement]] = {}
    answers: dict[int, set[str]] = {}
    disputed: set[int] = set()
    skipped = {votes.tasks[one.place].row for one in votes.skipped}
    for one in sorted((*votes.said, *votes.skipped), key=lambda said: (said.place, said.number)):
        task = votes.tasks[one.place]
        about, answer = review_votes.whom(votes, one)
        against = None
        if task.second is not None:
            against = votes.ids[task.first if about == votes.ids[task.second] else task.second]
        by_row.setdefault(task.row, []).append(
            ItemJudgement(
                reviewer=one.reviewer,
                answer=answer,
                evaluation_id=about or votes.ids[task.first],
                against_id=against,
                reasons=one.reasons,
                comment=one.comment,
            )
        )
        if one.answer != store.SKIP:
            answers.setdefault(one.place, set()).add(one.answer)
            if len(answers[one.place]) > 1:
                disputed.add(task.row)
    wanted = {"all": set(by_row), "disagreed": disputed, "skipped": skipped}[only]
    rows, next_cursor = parquet.page(np.array(sorted(wanted), dtype=np.int64), limit, cursor)
    items = store.read_items(blobs, review).take(rows).to_pylist()
    return ReviewedItemPage(
        items=[
            ReviewedItem(
                **{name: item[name] for name in ("id", "input", "label", "references", "group")},
                outputs=dict(zip(votes.ids, item["outputs"], strict=True)),
                judgements=by_row[int(row)],
            )
            for row, item in zip(rows, items, strict=True)
        ],
        next_cursor=next_cursor,
    )
