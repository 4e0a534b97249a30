"""Candidates against a baseline on the same items: verdict cards, and the items that flipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from service.errors import Conflict, Invalid
from service.evaluation import wording
from service.evaluation.comparison_schemas import (
    CandidateCard,
    ComparisonItem,
    ComparisonItemPage,
    ConfigurationCard,
    SeveralCard,
    VerdictCard,
)
from service.evaluation.schemas import EvaluationOut
from service.evaluation.suites import metric_of
from service.measure.comparison import Comparison, CorpusTest, adjusted, compare, item_changes
from service.measure.configurations import Spread, compare_configurations
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.metrics.likelihood import Likelihood
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite


class SuitesDiffer(Conflict):
    code = "suites_differ"


class NotComparable(Conflict):
    code = "not_comparable"


class NoItemScores(Invalid):
    code = "no_item_scores"


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
    test: CorpusTest,
) -> VerdictCard:
    suite = same_suite(session, baseline, candidate)
    name = metric_of(suite, metric)
    result = _compared(blobs, suite, baseline, candidate, name, margin, confidence, test)
    return VerdictCard.model_validate(_card(session, suite, baseline, candidate, result))


def several(
    session: Session,
    blobs: BlobStore,
    baseline: Evaluation,
    candidates: Sequence[Evaluation],
    *,
    metric: str | None,
    margin: float,
    confidence: float,
    test: CorpusTest,
) -> SeveralCard:
    """Each candidate against the baseline; the verdicts go by p-values after Holm."""
    on = [same_suite(session, baseline, candidate) for candidate in candidates]
    name = metric_of(on[0], metric)
    found = [_compared(blobs, on[0], baseline, candidate, name, margin, confidence, test) for candidate in candidates]
    cards = [
        CandidateCard.model_validate({**_card(session, on[0], baseline, candidate, result), "p_adjusted": p_value})
        for candidate, (result, p_value) in zip(candidates, adjusted(found), strict=True)
    ]
    return SeveralCard(metric=name, baseline=EvaluationOut.of(baseline, on[0]), items=cards)


def configurations(
    session: Session,
    blobs: BlobStore,
    baseline: Sequence[Evaluation],
    candidate: Sequence[Evaluation],
    *,
    metric: str | None,
    margin: float,
    confidence: float,
) -> ConfigurationCard:
    """Two configurations, each by its runs with several seeds."""
    first = baseline[0]
    suite = same_suite(session, first, first)
    for other in (*baseline, *candidate):
        same_suite(session, first, other)
    name = metric_of(suite, metric)

    def statistics(runs: Sequence[Evaluation]) -> Iterator[FloatArray]:
        for one in runs:
            with evaluations.Pair(blobs, first, one) as pair:
                found = pair.second(name)
                both = _scored_by_both(name, pair.first(name), found)
                if both is not None and not both.all():
                    raise NotComparable(
                        f"{np.count_nonzero(~both):,} texts have no likelihood in some of the evaluations: they would "
                        "be left out of those alone. Evaluate the models on all of them."
                    )
                yield found

    clusters = suites.clusters(suites.read_items(blobs, suite, ["group"]))
    sides = (statistics(baseline), statistics(candidate))
    result = compare_configurations(METRICS[name], *sides, margin=margin, confidence=confidence, groups=clusters)
    before_names, after_names = ([evaluations.subject(session, one) for one in runs] for runs in (baseline, candidate))
    said = wording.of_configurations(
        result, METRICS[name], baseline=before_names, candidate=after_names, suite=suite.name
    )
    return ConfigurationCard.model_validate(
        {
            **asdict(result),
            "sentence": said,
            "baseline": _spread(result.baseline, before_names, baseline, suite),
            "candidate": _spread(result.candidate, after_names, candidate, suite),
        }
    )


def _spread(spread: Spread, names: list[str], runs: Sequence[Evaluation], suite: Suite) -> dict[str, Any]:
    return {**asdict(spread), "names": names, "evaluations": [EvaluationOut.of(one, suite) for one in runs]}


def _compared(
    blobs: BlobStore,
    suite: Suite,
    baseline: Evaluation,
    candidate: Evaluation,
    metric: str,
    margin: float,
    confidence: float,
    test: CorpusTest,
) -> Comparison:
    with evaluations.Pair(blobs, baseline, candidate) as pair:
        before, after = pair.first(metric), pair.second(metric)
    clusters = suites.clusters(suites.read_items(blobs, suite, ["group"]))
    both = _scored_by_both(metric, before, after)
    if both is not None:
        before, after = before[both], after[both]
        clusters = None if clusters is None else clusters[both]
    return compare(METRICS[metric], before, after, margin=margin, confidence=confidence, groups=clusters, test=test)


def _scored_by_both(metric: str, before: FloatArray, after: FloatArray) -> NDArray[np.bool_] | None:
    """Of likelihoods, the texts that both models scored: the others count for neither. None: all items count.

    Raises:
        NotComparable: a text was scored in other tokens or bytes by one than by the other, or none by both.
    """
    one = METRICS[metric]
    if not isinstance(one, Likelihood):
        return None
    both: NDArray[np.bool_] = (before[:, 1] > 0) & (after[:, 1] > 0)
    if not both.any():
        raise NotComparable("There is no text that both models scored.")
    differing = np.count_nonzero(before[both, 1] != after[both, 1])
    if differing:
        advice = "compare by bits_per_byte" if one.per == "token" else "send the `n_bytes` of the same texts"
        raise NotComparable(
            f"'{metric}' cannot compare the two: they scored {differing:,} of {np.count_nonzero(both):,} texts in "
            f"different numbers of {one.per}s. A likelihood per {one.per} is of one unit: {advice}."
        )
    return both


def _card(
    session: Session, suite: Suite, baseline: Evaluation, candidate: Evaluation, result: Comparison
) -> dict[str, Any]:
    before, after = names(session, baseline, candidate)
    said = wording.sentence(result, METRICS[result.metric], baseline=before, candidate=after, suite=suite.name)
    return {
        **asdict(result),
        "sentence": said,
        "baseline": EvaluationOut.of(baseline, suite),
        "candidate": EvaluationOut.of(candidate, suite),
    }


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
    with evaluations.Pair(blobs, baseline, candidate) as pair, suites.items(blobs, suite) as items:
        changes = item_changes(METRICS[name], pair.first(name), pair.second(name))
        if changes is None:
            raise NoItemScores(f"The metric '{name}' scores the set, not single items: none is lost or gained by it.")
        worst = changes if kind == "lost" else -changes
        order = np.argsort(worst, kind="stable")
        rows, next_cursor = parquet.page(order[: np.count_nonzero(worst < 0)], limit, cursor)
        found, outputs = items.take(rows).to_pylist(), pair.outputs(rows)
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
