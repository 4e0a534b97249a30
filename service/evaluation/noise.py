"""Labels that are probably wrong: by the models that answered a suite, or by one that learns from a data set itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from service.evaluation.quality_schemas import LabelNoiseOut, ModelAnswer, NoiseItem
from service.evaluation.shown import Columns
from service.measure import quality
from service.measure.label_noise import FOLDS, label_noise
from service.measure.splits import split
from service.measure.validation import MeasureError
from service.store import evaluations, parquet
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, RowSet, Suite

CANDIDATES = 200
MODELS = 20  # evaluations asked: the newest of each model


def by_evaluations(session: Session, suite: Suite, blobs: BlobStore) -> LabelNoiseOut:
    """Items whose label the suite's evaluations confidently and mostly disagree with (`measure.quality`)."""
    asked = _asked(session, suite)
    names = [evaluations.subject(session, one) for one in asked]
    columns = Columns.read(blobs, suite)
    n_labelled = sum(label is not None for label in columns.labels)
    reason = "no_labels" if not n_labelled else "no_evaluations" if not asked else None
    if reason is not None:
        return _nothing("evaluations", reason, names)
    answers, chances = [], []
    for one in asked:
        table = parquet.read(blobs, one.items_sha256, ["id", "parsed", "probability"])
        by_id = dict(zip(*(table.column(name).to_pylist() for name in ("id", "parsed")), strict=True))
        sure = dict(zip(*(table.column(name).to_pylist() for name in ("id", "probability")), strict=True))
        answers.append([by_id.get(item_id) for item_id in columns.ids])
        chances.append([sure.get(item_id) for item_id in columns.ids])
    found = quality.disagreements(columns.labels, answers, chances)
    return LabelNoiseOut(
        method="evaluations",
        reason=None,
        models=names,
        judged=n_labelled,
        accuracy=None,
        n_candidates=len(found),
        candidates=[
            NoiseItem(
                **columns.show(one.item).model_dump(),
                suggested=one.suggested,
                probability=one.probability,
                label_probability=None,
                models=one.models,
                answers=[
                    ModelAnswer(model=name, answer=given[one.item], probability=chance[one.item])
                    for name, given, chance in zip(names, answers, chances, strict=True)
                ],
            )
            for one in found[:CANDIDATES]
        ],
    )


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
