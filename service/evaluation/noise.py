"""Labels that are probably wrong: by the models that answered a suite, or by one that learns from a data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlmodel import Session

from service.evaluation import set_noise
from service.evaluation.judges import CANDIDATES, asked, mean_of, scores_of
from service.evaluation.quality_schemas import LabelNoiseOut, ModelAnswer, NoiseItem
from service.evaluation.shown import Columns
from service.measure import quality
from service.measure.class_scores import SUM_TOLERANCE
from service.measure.label_noise import FOLDS, NoiseCandidate, doubtful, label_noise
from service.measure.metric import FloatArray
from service.measure.splits import split
from service.measure.validation import MeasureError
from service.store import evaluations
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, RowSet, Suite

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERED, SCORED = ("parsed", "probability"), ("label_scores",)


@dataclass(frozen=True)
class _Judge:
    """An evaluation as it judges the labels of its suite, item by item in the suite's order."""

    name: str
    answers: list[str | None]
    sure: list[float | None]
    probabilities: FloatArray | None
    """Of every label, (n, L), NaN where an item has none; None where the answers carry none."""


def by_evaluations(session: Session, suite: Suite, blobs: BlobStore) -> LabelNoiseOut:
    """Items whose label the suite's evaluations doubt.

    Where answers carry `label_scores` that are probabilities, by confident learning over their mean
    (`measure.label_noise`); else those that most of the evaluations confidently answer alike (`measure.quality`).
    """
    models = asked(session, suite)
    names = [evaluations.subject(session, one) for one in models]
    columns = Columns.read(blobs, suite)
    n_labelled = sum(own is not None for own in columns.own_labels)
    reason = "no_labels" if not n_labelled else "no_evaluations" if not models else None
    if reason is not None:
        return LabelNoiseOut.nothing("evaluations", reason, names)
    if columns.several:
        return set_noise.by_evaluations(columns, names, models, blobs, suite.definition["labels"] or ())
    labels = sorted({label for label in columns.labels if label is not None} | set(suite.definition["labels"] or ()))
    judges = [_judge(name, one, blobs, labels) for name, one in zip(names, models, strict=True)]
    mean = mean_of([judge.probabilities for judge in judges if judge.probabilities is not None])
    if mean is None:
        voted = quality.disagreements(
            columns.labels, [judge.answers for judge in judges], [judge.sure for judge in judges]
        )
        found = [NoiseCandidate(one.item, one.label, one.suggested, None, one.probability) for one in voted]
        basis, judged = "answers", n_labelled
    else:
        try:
            learned = doubtful(mean, columns.labels, labels)
        except MeasureError as error:
            return LabelNoiseOut.nothing("evaluations", error.code, names)
        found, basis, judged = learned.candidates, "label_scores", learned.judged
    return LabelNoiseOut.model_validate(
        {
            "method": "evaluations",
            "basis": basis,
            "reason": None,
            "models": names,
            "judged": judged,
            "accuracy": None,
            "n_candidates": len(found),
            "candidates": [_shown(one, columns, judges) for one in found[:CANDIDATES]],
        }
    )


def _shown(one: NoiseCandidate, columns: Columns, judges: Sequence[_Judge]) -> NoiseItem:
    return NoiseItem(
        **columns.show(one.item).model_dump(),
        suggested=one.suggested,
        probability=one.probability,
        label_probability=one.label_probability,
        models=sum(judge.answers[one.item] == one.suggested for judge in judges),
        answers=[
            ModelAnswer(model=judge.name, answer=judge.answers[one.item], probability=judge.sure[one.item])
            for judge in judges
        ],
    )


def _judge(name: str, evaluation: Evaluation, blobs: BlobStore, labels: Sequence[str]) -> _Judge:
    with evaluations.answers(blobs, evaluation) as answers:
        table = answers.whole([*ANSWERED, *(column for column in SCORED if column in answers.names)])
    scores = table.column("label_scores").combine_chunks() if "label_scores" in table.column_names else None
    parsed, sure = (table.column(column).to_pylist() for column in ANSWERED)
    return _Judge(name, parsed, sure, None if scores is None else _probabilities(scores, labels))


def _probabilities(scores: pa.Array, labels: Sequence[str]) -> FloatArray | None:
    """(n, L) of a column of maps, NaN in rows without any; None where there are none, or some are no probabilities of
    these labels."""
    found = scores_of(scores, labels)
    if found is None:
        return None
    told = ~np.isnan(found).all(axis=1)
    given = np.nan_to_num(found[told])
    if (given < 0).any() or (np.abs(given.sum(axis=1) - 1) > SUM_TOLERANCE).any():
        return None
    found[told] = given
    return found


def by_cross_validation(items: RowSet | Suite, blobs: BlobStore) -> LabelNoiseOut:
    """Confident learning with a model of the set itself (`measure.label_noise`); copies of a text share a fold."""
    columns = Columns.read(blobs, items)
    labels: Sequence[str | None] = columns.labels
    units = quality.groups_of(columns.texts)
    n_units = int(units.max(initial=-1)) + 1
    if not any(own is not None for own in columns.own_labels):
        return LabelNoiseOut.nothing("cross_validation", "no_labels", [])
    if n_units < FOLDS:
        return LabelNoiseOut.nothing("cross_validation", "too_few_items", [])
    shares = [1 / FOLDS] * FOLDS
    names = [str(fold) for fold in range(FOLDS)]
    try:
        folds = split(columns.texts, units, None, names=names, shares=shares, seed=0).part
        if columns.several:
            return set_noise.by_cross_validation(columns, folds)
        found = label_noise(columns.texts, labels, folds)
    except MeasureError as error:
        return LabelNoiseOut.nothing("cross_validation", error.code, [])
    return LabelNoiseOut(
        method="cross_validation",
        reason=None,
        models=[],
        judged=found.judged,
        accuracy=found.accuracy,
        n_candidates=len(found.candidates),
        candidates=[
            NoiseItem(
                **columns.show(one.item).model_dump(),
                suggested=one.suggested,
                probability=one.probability,
                label_probability=one.label_probability,
                models=None,
                answers=[],
            )
            for one in found.candidates[:CANDIDATES]
        ],
    )
