"""Labels that are probably wrong: by the models that answered a suite, or by one that learns from a data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlmodel import Session

from service.evaluation.quality_schemas import LabelNoiseOut, ModelAnswer, NoiseItem
from service.evaluation.shown import Columns
from service.measure import quality
from service.measure.class_scores import SUM_TOLERANCE
from service.measure.label_noise import CELLS, FOLDS, NoiseCandidate, doubtful, label_noise
from service.measure.metric import FloatArray, divide
from service.measure.splits import split
from service.measure.validation import MeasureError
from service.store import evaluations
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, RowSet, Suite

if TYPE_CHECKING:
    import pyarrow as pa

CANDIDATES = 200
ANSWERED, SCORED = ("parsed", "probability"), ("label_scores",)
MODELS = 20  # evaluations asked: the newest of each model


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
    asked = _asked(session, suite)
    names = [evaluations.subject(session, one) for one in asked]
    columns = Columns.read(blobs, suite)
    n_labelled = sum(label is not None for label in columns.labels)
    reason = "no_labels" if not n_labelled else "no_evaluations" if not asked else None
    if reason is not None:
        return _nothing("evaluations", reason, names)
    labels = sorted({label for label in columns.labels if label is not None} | set(suite.definition["labels"] or ()))
    judges = [_judge(name, one, blobs, labels) for name, one in zip(names, asked, strict=True)]
    mean = _mean([judge.probabilities for judge in judges if judge.probabilities is not None])
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
            return _nothing("evaluations", error.code, names)
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
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = scores.offsets.to_numpy()
    counts, inside = np.diff(ends), slice(ends[0], ends[-1])
    if not counts.any() or len(scores) * len(labels) > CELLS:
        return None
    code = pc.index_in(scores.keys, pa.array(labels)).fill_null(-1).to_numpy()[inside]
    found = np.zeros((len(scores), len(labels)))
    found[np.repeat(np.arange(len(scores)), counts), code] = scores.items.to_numpy()[inside]
    given = found[counts > 0]
    if (code < 0).any() or (given < 0).any() or (np.abs(given.sum(axis=1) - 1) > SUM_TOLERANCE).any():
        return None
    found[counts == 0] = np.nan
    return found


def _mean(judged: Sequence[FloatArray]) -> FloatArray | None:
    """Of several models' probabilities, over those that judged the item; None where nobody judged any."""
    if not judged:
        return None
    given = np.sum([~np.isnan(one) for one in judged], axis=0)
    return divide(np.nansum(judged, axis=0), given.astype(np.float64), undefined=np.nan)


def _asked(session: Session, suite: Suite) -> list[Evaluation]:
    """The newest evaluation of each model: several of one would count its opinion several times."""
    found, _ = evaluations.page(
        session, run_ids=None, suite_id=suite.id, suite=None, model_version_id=None, limit=200, cursor=None
    )
    newest: dict[tuple[str | None, ...], Evaluation] = {}
    for one in found:
        model = (one.run_id, None, None) if one.run_id else (None, one.model_version_id, one.name)
        newest.setdefault(model if any(model) else (one.id,), one)
    return list(newest.values())[:MODELS]


def by_cross_validation(items: RowSet | Suite, blobs: BlobStore) -> LabelNoiseOut:
    """Confident learning with a model of the set itself (`measure.label_noise`); copies of a text share a fold."""
    columns = Columns.read(blobs, items)
    labels: Sequence[str | None] = columns.labels
    units = quality.groups_of(columns.texts)
    n_units = int(units.max(initial=-1)) + 1
    if not any(label is not None for label in labels):
        return _nothing("cross_validation", "no_labels", [])
    if n_units < FOLDS:
        return _nothing("cross_validation", "too_few_items", [])
    shares = [1 / FOLDS] * FOLDS
    names = [str(fold) for fold in range(FOLDS)]
    try:
        folds = split(columns.texts, units, None, names=names, shares=shares, seed=0).part
        found = label_noise(columns.texts, labels, folds)
    except MeasureError as error:
        return _nothing("cross_validation", error.code, [])
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


def _nothing(method: str, reason: str, models: list[str]) -> LabelNoiseOut:
    return LabelNoiseOut.model_validate(
        {
            "method": method,
            "reason": reason,
            "models": models,
            "judged": 0,
            "accuracy": None,
            "n_candidates": 0,
            "candidates": [],
        }
    )
