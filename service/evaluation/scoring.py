"""Predictions are scored once: statistics an item, a score a metric, everything stored together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from service.errors import Invalid
from service.evaluation.evidence import given, reads
from service.evaluation.predictions import Answers, align
from service.evaluation.schemas import EvaluationFields, Prediction
from service.evaluation.statistics import columns_read, item_statistics
from service.evaluation.uploads import Rows
from service.measure.metric import FloatArray, Reads
from service.measure.metrics import METRICS
from service.measure.score import by_pieces, not_scored, score, score_pieces
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.spool import RowFile
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

SEED = 0
MAX_LABELS = 100_000
MAX_CELLS = 20_000_000
"""Items times statistics of one metric: 160 MB, and what is computed of them some times that."""
SCORES_AT_A_TIME = 1_000_000


class TooManyLabels(Invalid):
    code = "too_many_labels"


def evaluate(
    suite: Suite, wanted: EvaluationFields, predictions: Iterable[Rows[Prediction]], blobs: BlobStore
) -> Evaluation:
    """The scored evaluation with its answers stored, ready for `evaluations.add`. No session: this may take long.

    In memory are a piece of the set (fewer items where each has many scores), 100 bytes an item, and the statistics of
    one metric at a time.
    """
    with ExitStack() as opened:
        items = opened.enter_context(suites.items(blobs, suite))
        rows = opened.enter_context(RowFile(blobs.scratch_file()))
        labels = _known_labels(suite, items)
        answers = align(suite, items.whole(["id"]).column("id"), predictions, rows, labels)
        labels |= _named_labels(suite, items, answers)
        new = opened.enter_context(evaluations.NewAnswers(blobs))
        wanted_metrics: list[str] = suite.definition["metrics"]
        metrics = [name for name in wanted_metrics if not (answers.lacks_scores and METRICS[name].reads == "scores")]
        start = 0
        for piece in _parts(items.pieces(columns_read(metrics)), len(labels.get("scores", ()))):
            columns = answers.columns(start, start + len(piece))
            statistics = {name: _statistics(name, piece, columns, labels) for name in metrics}
            _check_size(suite, statistics)
            new.add({**columns, "correct": _correct(suite, columns["parsed"], piece, statistics)}, statistics)
            start += len(piece)
        scored = new.read_back()
        scores = [
            _score(name, scored, answers.n_missing)
            if name in metrics
            else asdict(not_scored(METRICS[name], start, n_missing=answers.n_missing, reason="no_label_scores"))
            for name in wanted_metrics
        ]
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


def _statistics(
    metric: str, items: pa.Table, columns: Mapping[str, Sequence[Any]], labels: Mapping[Reads, list[str]]
) -> FloatArray:
    known = labels.get(METRICS[metric].reads)
    return item_statistics(metric, items, given(metric, columns, known), labels=known)


def _parts(pieces: Iterable[pa.Table], n_scores: int) -> Iterator[pa.Table]:
    """The pieces, in parts of which each holds no more than `SCORES_AT_A_TIME`."""
    rows = max(1, SCORES_AT_A_TIME // max(n_scores, 1))
    for piece in pieces:
        for start in range(0, len(piece), rows):
            yield piece.slice(start, rows)


def _check_size(suite: Suite, statistics: Mapping[str, FloatArray]) -> None:
    for name, values in statistics.items():
        if suite.n_items * values.shape[1] > MAX_CELLS:
            raise TooManyLabels(
                f"The metric '{name}' keeps {values.shape[1]:,} numbers an item, too many for {suite.n_items:,} items: "
                f"items times labels are {MAX_CELLS:,} at most. Leave the metric out, or take fewer items."
            )


def _known_labels(suite: Suite, items: parquet.Reader) -> dict[Reads, list[str]]:
    """The labels that metrics of scores, and of sets of labels, know: the suite's, else those of its items; sorted."""
    known: dict[Reads, list[str]] = {}
    columns: dict[Reads, str] = {"scores": "label", "labels": "labels"}
    for what in reads(suite) & columns.keys():
        if suite.definition["labels"] is not None:
            known[what] = sorted(suite.definition["labels"])
        else:
            known[what] = _distinct(items, columns[what])
    return known


def _named_labels(suite: Suite, items: parquet.Reader, answers: Answers) -> dict[Reads, list[str]]:
    """All labels that items or answers name, sorted, where a metric reads labels."""
    return {"label": _distinct(items, "label", answers.named)} if "label" in reads(suite) else {}


def _distinct(items: parquet.Reader, column: str, others: Iterable[str] = ()) -> list[str]:
    named = set(others)
    for piece in items.pieces([column]):
        values = piece.column(column).combine_chunks()
        named.update((values.flatten() if column == "labels" else values).unique().to_pylist())
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


def _score(name: str, answers: parquet.Reader, n_missing: int) -> dict[str, Any]:
    metric = METRICS[name]
    if by_pieces(metric, len(answers)):
        pieces = evaluations.statistics_pieces(answers, name)
        return asdict(score_pieces(metric, pieces, len(answers), n_missing=n_missing, seed=SEED))
    return asdict(score(metric, evaluations.all_statistics(answers, name), n_missing=n_missing, seed=SEED))
