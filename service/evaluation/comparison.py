"""Candidate against baseline on the same items: the verdict card, its sentence, and the items that flipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

import numpy as np
from sqlmodel import Session

from service.errors import Conflict, Invalid
from service.evaluation.schemas import ComparisonItem, ComparisonItemPage, EvaluationOut, VerdictCard
from service.evaluation.suites import metric_of
from service.measure.comparison import Comparison, compare, item_changes
from service.measure.metrics import METRICS, Metric
from service.measure.metrics.human import HumanShare
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite


class SuitesDiffer(Conflict):
    code = "suites_differ"


class NoItemScores(Invalid):
    code = "no_item_scores"


_WHY = {
    "no_variation": "both give the same answers",
    "too_few_items": "there are too few items",
    "undefined": "the metric has no value on one side",
    "undefined_resamples": "the metric has no value on many resamples",
    "test_disagrees": "the interval excludes no difference, the test does not",
}


def same_suite(session: Session, baseline: Evaluation, candidate: Evaluation) -> Suite:
    """The suite both ran on; refused where they are of different content."""
    by_id = evaluations.suites_of(session, [baseline, candidate])
    one, other = by_id[baseline.suite_id], by_id[candidate.suite_id]
    if one.hash != other.hash:
        raise SuitesDiffer(
            f"The baseline ran on '{one.name}' version {one.version}, the candidate on '{other.name}' version "
            f"{other.version}: only answers to the same items can be compared. Run both on one version.",
            details={"baseline_suite_id": one.id, "candidate_suite_id": other.id},
        )
    return one


def verdict_card(
    session: Session,
    blobs: BlobStore,
    baseline: Evaluation,
    candidate: Evaluation,
    *,
    metric: str | None,
    margin: float,
    confidence: float,
) -> VerdictCard:
    suite = same_suite(session, baseline, candidate)
    name = metric_of(suite, metric)
    before, after = (
        evaluations.statistics(answers, name)
        for answers in evaluations.read_pair(blobs, baseline, candidate, ["id"], [name])
    )
    clusters = suites.clusters(suites.read_items(blobs, suite, ["id", "group"]))
    result = compare(METRICS[name], before, after, margin=margin, confidence=confidence, groups=clusters)
    before_name, after_name = names(session, baseline, candidate)
    return VerdictCard(
        **asdict(result),
        sentence=sentence(result, METRICS[name], baseline=before_name, candidate=after_name, suite=suite.name),
        baseline=EvaluationOut.of(baseline, suite),
        candidate=EvaluationOut.of(candidate, suite),
    )


def sentence(result: Comparison, metric: Metric, *, baseline: str, candidate: str, suite: str) -> str:
    """The verdict in plain words; proportions in points of 100."""
    amount = _Amount(result, metric)
    if result.verdict in ("better", "worse") and result.difference is not None and result.interval is not None:
        sign = 1 if result.difference > 0 else -1
        size = amount.with_interval(result.difference * sign, result.interval[::sign], sign)
        return f"{candidate} is {result.verdict} than {baseline} on {suite} by {size}."
    size = amount.with_interval(result.difference, result.interval)
    if result.verdict == "equivalent":
        within = amount.of(result.margin)
        return f"{candidate} and {baseline} are equivalent on {suite} within ± {within}: difference {size}."
    needed = "" if result.n_needed is None else f"; about {result.n_needed:,} items would settle it"
    test = f", p = {result.p_value:.2g}" if result.reason == "test_disagrees" else ""
    why = f" ({_WHY[result.reason]}{test})" if result.reason in _WHY else ""
    return f"{candidate} cannot be told apart from {baseline} on {suite}: difference {size}{why}{needed}."


class _Amount:
    """Numbers of a comparison in words."""

    def __init__(self, result: Comparison, metric: Metric) -> None:
        self.scale, self.unit, self.digits = 100.0, "points", 1
        if metric.kind != "proportion" and not isinstance(metric, HumanShare):
            largest = max(abs(result.baseline_value or 0.0), abs(result.candidate_value or 0.0))
            self.scale, self.unit, self.digits = 1.0, metric.name, 3 if largest <= 1 else 1

    def of(self, value: float) -> str:
        return f"{self._number(value)} {self.unit}"

    def with_interval(self, value: float | None, interval: tuple[float, ...] | None, sign: int = 1) -> str:
        if value is None:
            return "unknown"
        bounds = "" if interval is None else f" [{', '.join(self._number(bound * sign) for bound in interval)}]"
        return f"{self.of(value)}{bounds}"

    def _number(self, value: float) -> str:
        # Adding 0.0 turns a rounded −0.0 into 0.0.
        return f"{round(value * self.scale, self.digits) + 0.0:.{self.digits}f}"


def changed_items(
    session: Session,
    blobs: BlobStore,
    baseline: Evaluation,
    candidate: Evaluation,
    *,
    kind: Literal["lost", "gained"],
    metric: str | None,
    limit: int,
    cursor: str | None,
) -> ComparisonItemPage:
    """Items the candidate lost or gained, the largest change first."""
    suite = same_suite(session, baseline, candidate)
    name = metric_of(suite, metric)
    pair = evaluations.read_pair(blobs, baseline, candidate, ["id", "output"], [name])
    changes = item_changes(METRICS[name], *(evaluations.statistics(answers, name) for answers in pair))
    if changes is None:
        raise NoItemScores(f"The metric '{name}' scores the set, not single items: no item is lost or gained by it.")
    worst = changes if kind == "lost" else -changes
    order = np.argsort(worst, kind="stable")
    rows, next_cursor = parquet.page(order[: np.count_nonzero(worst < 0)], limit, cursor)
    found = suites.read_items(blobs, suite).take(rows).to_pylist()
    outputs = (answers.column("output").take(rows).to_pylist() for answers in pair)
    return ComparisonItemPage(
        items=[
            ComparisonItem.model_validate({**item, "baseline_output": before, "candidate_output": after})
            for item, before, after in zip(found, *outputs, strict=True)
        ],
        next_cursor=next_cursor,
    )


def names(session: Session, baseline: Evaluation, candidate: Evaluation) -> tuple[str, str]:
    """What a person calls the two, told apart."""
    one, other = evaluations.subject(session, baseline), evaluations.subject(session, candidate)
    if one != other:
        return one, other
    if baseline.step != candidate.step:
        return f"{one} (step {baseline.step})", f"{other} (step {candidate.step})"
    return f"{one} ({baseline.id[-6:]})", f"{other} ({candidate.id[-6:]})"
