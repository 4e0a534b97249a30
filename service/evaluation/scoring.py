"""Predictions are scored once: statistics an item, a score a metric, everything stored together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from service.errors import Invalid
from service.evaluation.predictions import Answers, align
from service.evaluation.schemas import EvaluationFields, Prediction
from service.evaluation.statistics import item_statistics
from service.evaluation.uploads import Rows
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.measure.score import score
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.spool import RowFile
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 0
MAX_LABELS = 100_000


class TooManyLabels(Invalid):
    code = "too_many_labels"


def evaluate(
    suite: Suite, wanted: EvaluationFields, predictions: Iterable[Rows[Prediction]], blobs: BlobStore
) -> Evaluation:
    """The scored evaluation with its answers stored, ready for `evaluations.add`. No session: this may take long.

    In memory are a piece of the set, 100 bytes an item, and the statistics of one metric at a time.
    """
    with ExitStack() as opened:
        items = opened.enter_context(suites.items(blobs, suite))
        rows = opened.enter_context(RowFile(blobs.scratch_file()))
        answers = align(suite, items.whole(["id"]).column("id"), predictions, rows)
        labels = _vocabulary(suite, items, answers)
        new = opened.enter_context(evaluations.NewAnswers(blobs))
        metrics: list[str] = suite.definition["metrics"]
        start = 0
        for piece in items.pieces(["id", "label", "references"]):
            columns = answers.columns(start, start + len(piece))
            statistics = {name: item_statistics(name, piece, columns["parsed"], labels=labels) for name in metrics}
            new.add({**columns, "correct": _correct(suite, columns["parsed"], piece, statistics)}, statistics)
            start += len(piece)
        scored = new.read_back()
        scores = [_score(name, evaluations.all_statistics(scored, name), answers.n_missing) for name in metrics]
        return Evaluation(
            **wanted.model_dump(exclude={"predictions"}, exclude_none=True),
            n=start,
            n_missing=answers.n_missing,
            n_unparsed=answers.n_unparsed,
            scores=scores,
            prediction_hash=answers.hash(),
            items_sha256=new.store(),
            created_at=time.time(),
        )


def _vocabulary(suite: Suite, items: parquet.Reader, answers: Answers) -> list[str] | None:
    """All labels that items or answers name, sorted; None where no metric reads labels."""
    if not any(METRICS[name].reads == "label" for name in suite.definition["metrics"]):
        return None
    named = set(answers.named)
    for piece in items.pieces(["label"]):
        named.update(piece.column("label").unique().to_pylist())
    if len(named) > MAX_LABELS:
        raise TooManyLabels(
            f"Items and answers name {len(named):,} different labels, more than {MAX_LABELS:,}: declare the suite's "
            "`labels`, or a `parser` that reads a label out of an output."
        )
    return sorted(named)


def _correct(
    suite: Suite, parsed: Sequence[str | None], items: pa.Table, statistics: dict[str, FloatArray]
) -> list[bool | None]:
    """Right or wrong by the primary metric where it says so, else by the first metric of the suite that does."""
    for name in (suite.definition["primary_metric"], *statistics):
        if METRICS[name].reads == "label":
            labels = items.column("label").to_pylist()
            return [given == label for given, label in zip(parsed, labels, strict=True)]
        if METRICS[name].kind == "proportion":
            return [right == 1.0 for right in statistics[name][:, 0].tolist()]
    return [None] * len(items)


def _score(name: str, statistics: FloatArray, n_missing: int) -> dict[str, Any]:
    return asdict(score(METRICS[name], statistics, n_missing=n_missing, seed=SEED))
