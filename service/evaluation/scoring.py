"""Predictions are scored once: statistics an item, a score a metric, everything stored together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from service.evaluation.predictions import Answers, align
from service.evaluation.schemas import EvaluationCreate
from service.evaluation.statistics import item_statistics
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.score import score
from service.store import evaluations, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 0


def evaluate(suite: Suite, wanted: EvaluationCreate, blobs: BlobStore) -> Evaluation:
    """The scored evaluation with its answers stored, ready for `evaluations.add`. No session: this may take long."""
    items = suites.read_items(blobs, suite, ["id", "label", "references"])
    answers = align(suite, items.column("id").to_pylist(), wanted.predictions)
    metrics: list[str] = suite.definition["metrics"]
    statistics = {name: item_statistics(name, items, answers.parsed) for name in metrics}
    columns: dict[str, Sequence[Any]] = {
        "id": answers.ids,
        "output": answers.outputs,
        "parsed": answers.parsed,
        "probability": answers.probabilities,
        "correct": _correct(suite, answers, items, statistics),
    }
    return Evaluation(
        **wanted.model_dump(exclude={"predictions"}),
        n=len(answers.ids),
        n_missing=answers.n_missing,
        n_unparsed=answers.n_unparsed,
        scores=[_score(name, values, answers.n_missing) for name, values in statistics.items()],
        prediction_hash=answers.hash(),
        items_sha256=evaluations.write_answers(blobs, columns, statistics),
        created_at=time.time(),
    )


def _correct(suite: Suite, answers: Answers, items: pa.Table, statistics: dict[str, FloatArray]) -> list[bool | None]:
    """Right or wrong by the primary metric where it says so, else by the first metric of the suite that does."""
    for name in (suite.definition["primary_metric"], *statistics):
        if METRICS[name].reads == "label":
            labels = items.column("label").to_pylist()
            return [given == label for given, label in zip(answers.parsed, labels, strict=True)]
        if METRICS[name].kind == "proportion":
            return [right == 1.0 for right in statistics[name][:, 0].tolist()]
    return [None] * suite.n_items


def _score(name: str, statistics: FloatArray, n_missing: int) -> dict[str, Any]:
    return asdict(score(METRICS[name], statistics, n_missing=n_missing, seed=SEED))
