"""The judgements of a review as numbers: of each item, of each reviewer, of each pair. Pure, but for the reading."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np
from sqlmodel import Session

from service.evaluation.review_schemas import Agreement, Position, ReasonCount, ReviewerOut
from service.measure.judgement import cohen_kappa, krippendorff_alpha
from service.measure.metric import FloatArray
from service.measure.paired import mcnemar_exact
from service.store import reviews
from service.store.tables import Judgement, Review, ReviewTask

_ANSWERS = {"rating": ("good", "bad"), "pairwise": ("first", "tie", "second")}


@dataclass(frozen=True)
class Votes:
    """A review's tasks, and what stands of what was said of them (skips apart)."""

    review: Review
    tasks: dict[int, ReviewTask]
    said: list[Judgement]
    skipped: list[Judgement]

    @property
    def ids(self) -> list[str]:
        """The evaluations that were judged."""
        return list(self.review.definition["evaluations"])

    def good(self, evaluation: int) -> tuple[FloatArray, FloatArray]:
        """Rating: of each item how many called it good, and how many judged it."""
        counts = np.zeros((2, self.review.n_items))
        for one in self.said:
            task = self.tasks[one.place]
            if task.first == evaluation:
                counts[:, task.row] += one.answer == "good", 1
        return counts[0], counts[1]

    def outcomes(self) -> Iterator[tuple[int, int, int, float]]:
        """Pairwise: item, first, second, and what the first got of it: 1, 1/2 or 0. Same texts are a tie."""
        worth = {"first": 1.0, "tie": 0.5, "second": 0.0}
        for one in self.said:
            task = self.tasks[one.place]
            assert task.second is not None
            yield task.row, task.first, task.second, worth[one.answer]
        for task in self.tasks.values():
            if not task.wanted and task.second is not None:
                yield task.row, task.first, task.second, 0.5

    def wins(self, candidate: int, against: int | None = None) -> FloatArray:
        """Pairwise: of each item (wins, losses, ties) of the candidate, against one or all others: shape (items, 3)."""
        counts = np.zeros((self.review.n_items, 3))
        for row, first, second, worth in self.outcomes():
            other = second if first == candidate else first
            if candidate in (first, second) and against in (other, None):
                own = worth if first == candidate else 1 - worth
                counts[row, {1.0: 0, 0.0: 1}.get(own, 2)] += 1
        return counts


def read(session: Session, review: Review) -> Votes:
    tasks = {task.place: task for task in reviews.tasks(session, review.id)}
    standing = reviews.standing(session, review.id)
    said = [one for one in standing if one.answer != reviews.SKIP]
    return Votes(review, tasks, said, [one for one in standing if one.answer == reviews.SKIP])


def agreement(votes: Votes) -> Agreement:
    """Cohen's kappa of two reviewers, Krippendorff's alpha of more; null, with the reason, where nothing overlaps."""
    codes = {answer: code for code, answer in enumerate(_ANSWERS[votes.review.kind])}
    names = sorted({one.reviewer for one in votes.said})
    ratings = np.full((len(names), len(votes.tasks)), np.nan)
    for one in votes.said:
        ratings[names.index(one.reviewer), one.place] = codes[one.answer]
    shared = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    facts = {"n_overlap": shared.shape[1], "n_reviewers": len(names), "observed": _observed(votes.said)}
    if not shared.shape[1]:
        return Agreement(method=None, value=None, reason="no_overlap", **facts)
    if len(names) == 2:
        ours, theirs = ([None if np.isnan(code) else code for code in row.tolist()] for row in ratings)
        method, value = "cohen_kappa", cohen_kappa(ours, theirs)
    else:
        method, value = "krippendorff_alpha", krippendorff_alpha(ratings, "nominal")
    return Agreement(method=method, value=value, reason="one_category" if value is None else None, **facts)


def _observed(said: Sequence[Judgement], reviewer: str | None = None) -> float | None:
    """Share of pairs of judgements of one task that agree; of one reviewer: with the others."""
    by_task: dict[int, list[Judgement]] = defaultdict(list)
    for one in said:
        by_task[one.place].append(one)
    pairs = [
        one.answer == other.answer
        for group in by_task.values()
        for one, other in combinations(group, 2)
        if reviewer is None or reviewer in (one.reviewer, other.reviewer)
    ]
    return sum(pairs) / len(pairs) if pairs else None


def by_reviewer(votes: Votes) -> list[ReviewerOut]:
    found = []
    skipped = Counter(one.reviewer for one in votes.skipped)
    for name in sorted({one.reviewer for one in votes.said} | set(skipped)):
        own = [one for one in votes.said if one.reviewer == name]
        times = [one.seconds for one in own if one.seconds is not None]
        counted = Counter(map(_as_shown, own))
        known = ("good", "bad") if votes.review.kind == "rating" else ("A", "tie", "B")
        found.append(
            ReviewerOut(
                reviewer=name,
                judged=len(own),
                skipped=skipped[name],
                answers={answer: counted[answer] for answer in known},
                agrees=_observed(votes.said, name),
                seconds=median(times) if times else None,
            )
        )
    return found


def _as_shown(one: Judgement) -> str:
    sides = ("B", "A") if one.swapped else ("A", "B")
    return {"first": sides[0], "second": sides[1]}.get(one.answer, one.answer)


def position(votes: Votes) -> Position | None:
    """Was the side an output was shown on worth anything?"""
    if votes.review.kind != "pairwise":
        return None
    counted = Counter(map(_as_shown, votes.said))
    return Position(a=counted["A"], b=counted["B"], p_value=mcnemar_exact(counted["A"], counted["B"]))


def reasons(votes: Votes) -> list[ReasonCount]:
    """Why: tags by answer and, where it is about one output, by evaluation."""
    counted: Counter[tuple[str, str, str | None]] = Counter()
    for one in (*votes.said, *votes.skipped):
        about, answer = whom(votes, one)
        counted.update((reason, answer, about) for reason in one.reasons)
    return [
        ReasonCount(reason=reason, answer=answer, evaluation_id=about, n=n)
        for (reason, answer, about), n in counted.most_common()
    ]


def whom(votes: Votes, one: Judgement) -> tuple[str | None, str]:
    """(the evaluation a judgement is about, the answer): the one rated or preferred."""
    task = votes.tasks[one.place]
    if task.second is None:
        return votes.ids[task.first], one.answer
    if one.answer in ("first", "second"):
        return votes.ids[task.first if one.answer == "first" else task.second], "preferred"
    return None, one.answer
