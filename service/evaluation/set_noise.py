"""Labels of multi-label items that are probably wrong or missing: each label is judged by itself, against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.evaluation.judges import CANDIDATES, mean_of, scores_of
from service.evaluation.quality_schemas import LabelDoubt, LabelNoiseOut, ModelAnswer, NoiseItem
from service.evaluation.shown import Columns
from service.measure.label_noise import (
    SetCandidate,
    doubtful_sets,
    indicators,
    outvoted_sets,
    set_noise,
)
from service.measure.metric import FloatArray, IntArray
from service.measure.validation import MeasureError
from service.store import evaluations
from service.store.blobs import BlobStore
from service.store.tables import Evaluation

Answers = list[list[str] | None]


@dataclass(frozen=True)
class _Judge:
    name: str
    answers: Answers
    probabilities: FloatArray | None
    """Of every label, (n, L), NaN where none was given; None where the answers carry none."""


def by_evaluations(
    columns: Columns, names: list[str], asked: Sequence[Evaluation], blobs: BlobStore, declared: Sequence[str]
) -> LabelNoiseOut:
    """By confident learning over the mean of `label_scores` that are probabilities; else by what most answer."""
    labels = sorted({label for own in columns.own_labels for label in own or ()} | set(declared))
    judges = [_judge(name, one, blobs, labels) for name, one in zip(names, asked, strict=True)]
    try:
        own = indicators(columns.own_labels, labels)
        mean = mean_of([judge.probabilities for judge in judges if judge.probabilities is not None])
        if mean is None:
            found = outvoted_sets([indicators(judge.answers, labels) for judge in judges], own, labels)
            basis, judged = "answers", int((own >= 0).any(axis=1).sum())
        else:
            learned = doubtful_sets(mean, own, labels)
            found, basis, judged = learned.candidates, "label_scores", learned.judged
    except MeasureError as error:
        return LabelNoiseOut.nothing("evaluations", error.code, names)
    return LabelNoiseOut.model_validate(
        {
            "method": "evaluations",
            "basis": basis,
            "multi_label": True,
            "reason": None,
            "models": names,
            "judged": judged,
            "accuracy": None,
            "n_candidates": len(found),
            "candidates": [_shown(one, columns, judges) for one in found[:CANDIDATES]],
        }
    )


def by_cross_validation(columns: Columns, folds: IntArray) -> LabelNoiseOut:
    try:
        found = set_noise(columns.texts, columns.own_labels, folds)
    except MeasureError as error:
        return LabelNoiseOut.nothing("cross_validation", error.code, [])
    return LabelNoiseOut(
        method="cross_validation",
        multi_label=True,
        reason=None,
        models=[],
        judged=found.judged,
        accuracy=found.accuracy,
        n_candidates=len(found.candidates),
        candidates=[_shown(one, columns, ()) for one in found.candidates[:CANDIDATES]],
    )


def _judge(name: str, evaluation: Evaluation, blobs: BlobStore, labels: Sequence[str]) -> _Judge:
    with evaluations.answers(blobs, evaluation) as answers:
        table = answers.whole([one for one in ("predicted_labels", "label_scores") if one in answers.names])
    said: Answers = [None] * evaluation.n
    if "predicted_labels" in table.column_names:
        said = table.column("predicted_labels").to_pylist()
    given = None
    if "label_scores" in table.column_names:
        given = scores_of(table.column("label_scores").combine_chunks(), labels)
    if given is not None and ((given < 0) | (given > 1)).any():
        given = None
    return _Judge(name, said, given)


def _shown(one: SetCandidate, columns: Columns, judges: Sequence[_Judge]) -> NoiseItem:
    own = set(columns.own_labels[one.item] or ())
    likely = own ^ {doubt.label for doubt in one.doubts}
    first = one.doubts[0]
    sure = first.probability
    of_own = None if sure is None else sure if first.given else 1 - sure
    answers = [
        ModelAnswer(
            model=judge.name,
            answer=None if judge.answers[one.item] is None else ", ".join(judge.answers[one.item] or ()),
            probability=None,
        )
        for judge in judges
    ]
    return NoiseItem(
        **columns.show(one.item).model_dump(),
        suggested=", ".join(sorted(likely)),
        probability=None if of_own is None else 1 - of_own,
        label_probability=of_own,
        doubts=[LabelDoubt.model_validate(doubt, from_attributes=True) for doubt in one.doubts],
        models=sum(said is not None and set(said) == likely for said in (judge.answers[one.item] for judge in judges))
        if judges
        else None,
        answers=answers,
    )
