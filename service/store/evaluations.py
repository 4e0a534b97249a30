"""Evaluations: a row each, and a Parquet file with a row an item in the suite's own order.

Beside output and parsed answer, an item's row carries the sufficient statistics of every metric (`statistics.<name>`, a
list of float64 of fixed length), so that slices, intervals and comparisons are sums and never a second scoring. What an
answer carries beside its text is there as well (`EVIDENCE_COLUMNS`; files of before there were any have none).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import tuple_
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service.errors import Conflict, NotFound
from service.store import bin as bin_store
from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.spool import Ids, digests
from service.store.tables import Evaluation, ModelVersion, Run, Suite

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
_BY_TIME = (col(Evaluation.created_at), col(Evaluation.id))


class EvaluationNotFound(NotFound):
    code = "evaluation_not_found"


ANSWER_COLUMNS = ("id", "output", "parsed", "probability", "correct")
EVIDENCE_COLUMNS = ("label_scores", "predicted_labels", "nll", "n_tokens", "n_bytes", "n_samples", "n_correct")
"""What an answer may carry beside a text: see `Prediction`."""


class NotScored(Conflict):
    code = "not_scored"


class EvaluationExists(Conflict):
    code = "evaluation_exists"


def add(session: Session, evaluation: Evaluation) -> tuple[Evaluation, bool]:
    """Store the evaluation; (the stored one, whether it is new). The same id and content again is stored already.

    Raises:
        PurgeUnderWay: its run has been purged meanwhile, or is going.
    """
    bin_store.hold(session, [evaluation.run_id])
    try:
        with session.begin_nested():
            session.add(evaluation)
        return evaluation, True
    except IntegrityError:
        there = session.get(Evaluation, evaluation.id)
        if there is None:
            raise
    if (there.suite_id, there.prediction_hash) != (evaluation.suite_id, evaluation.prediction_hash):
        raise EvaluationExists(f"There is an evaluation '{there.id}' of other predictions: use an id of its own.")
    return there, False


def existing(session: Session, evaluation_id: str) -> Evaluation:
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None:
        raise EvaluationNotFound(f"There is no evaluation '{evaluation_id}'. GET /api/v1/evaluations lists them.")
    return evaluation


def page(
    session: Session,
    *,
    run_ids: Sequence[str] | None,
    suite_id: str | None,
    suite: str | None,
    model_version_id: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Evaluation], str | None]:
    """Newest first, as `records.page`. An id may be the caller's own, so it does not tell the time."""
    query = select(Evaluation)
    if run_ids is not None:
        query = query.where(col(Evaluation.run_id).in_(run_ids))
    wanted = (
        (col(Evaluation.suite_id), suite_id),
        (col(Evaluation.model_version_id), model_version_id),
    )
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    if suite is not None:
        query = query.join(Suite).where(col(Suite.name) == suite)
    if cursor is not None:
        seen = session.get(Evaluation, cursor)
        if seen is None:
            raise parquet.BadCursor("The evaluation this cursor names is gone. Start again without it.")
        query = query.where(tuple_(*_BY_TIME) < (seen.created_at, seen.id))
    newest_first = [column.desc() for column in _BY_TIME]
    return records.cut(session.exec(query.order_by(*newest_first).limit(limit + 1)).all(), limit)


def suites_of(session: Session, evaluations: Sequence[Evaluation]) -> dict[str, Suite]:
    """The suites of these evaluations, by suite id."""
    return suites_by_id(session, {evaluation.suite_id for evaluation in evaluations})


def suites_by_id(session: Session, ids: Collection[str]) -> dict[str, Suite]:
    return {suite.id: suite for suite in session.exec(select(Suite).where(col(Suite.id).in_(ids)))}


def subject(session: Session, evaluation: Evaluation) -> str:
    """What a person calls the thing that was evaluated: its name, its run, its model version, else its id."""
    if evaluation.name:
        return evaluation.name
    if evaluation.run_id is not None and (run := session.get(Run, evaluation.run_id)) is not None:
        return run.name
    if evaluation.model_version_id is not None:
        version = session.get(ModelVersion, evaluation.model_version_id)
        if version is not None:
            return f"{version.name} v{version.version}"
    return f"evaluation {evaluation.id}"


class NewAnswers:
    """The answers of an evaluation on their way in: added piece by piece in the suite's order, then stored whole."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._parquet: parquet.Writer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parquet is not None:
            self._parquet.__exit__(kind, error, trace)

    def add(self, answers: Mapping[str, Any], statistics: Mapping[str, Floats]) -> None:
        """A piece of `ANSWER_COLUMNS`, of `EVIDENCE_COLUMNS` where there is any, and of each metric's (n, k)
        statistics."""
        import pyarrow as pa

        text, number, count = pa.string(), pa.float64(), pa.int64()
        types = (text, text, text, number, pa.bool_(), pa.map_(text, number), pa.list_(text), number, *[count] * 4)
        names = (*ANSWER_COLUMNS, *EVIDENCE_COLUMNS)
        schema = pa.schema([pa.field(name, kind, name != "id") for name, kind in zip(names, types, strict=True)])
        columns = {**dict.fromkeys(EVIDENCE_COLUMNS, [None] * len(answers["id"])), **answers}
        table = pa.table({name: columns[name] for name in names}, schema=schema)
        for metric, values in statistics.items():
            flat = pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel())
            table = table.append_column(_column(metric), pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
        if self._parquet is None:
            self._parquet = parquet.Writer(self._blobs, table.schema)
        self._parquet.write(table)

    def read_back(self) -> parquet.Reader:
        assert self._parquet is not None  # a suite has at least one item
        return self._parquet.read_back()

    def store(self) -> str:
        assert self._parquet is not None
        return self._parquet.store()


def answers(blobs: BlobStore, evaluation: Evaluation) -> parquet.Reader:
    """The answers, to be read piece by piece: `ANSWER_COLUMNS` and the statistics of the suite's metrics."""
    return parquet.stored(blobs, evaluation.items_sha256)


def all_statistics(answers: parquet.Reader, metric: str) -> Floats:
    """The (n, k) statistics of one metric of the whole set.

    Raises:
        NotScored: the answers carry nothing that the metric reads.
    """
    if not is_scored(answers, metric):
        raise NotScored(
            f"The answers carry no `label_scores`, which the metric '{metric}' reads: evaluate again with them, or "
            "take another metric."
        )
    whole, start = np.empty((len(answers), 0)), 0
    for values in statistics_pieces(answers, metric):
        if not start:
            whole = np.empty((len(answers), values.shape[1]))
        whole[start : start + len(values)] = values
        start += len(values)
    return whole


def statistics_pieces(answers: parquet.Reader, metric: str) -> Iterator[Floats]:
    """The same, piece by piece."""
    for piece in answers.pieces([_column(metric)]):
        yield statistics(piece, metric)


def is_scored(answers: parquet.Reader, metric: str) -> bool:
    return _column(metric) in answers.names


def statistics(table: pa.Table, metric: str) -> Floats:
    """The (n, k) statistics of one metric out of some answers."""
    column = table.column(_column(metric)).combine_chunks()
    return cast(Floats, column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size))


class Pair:
    """Two evaluations of the same items, both in the order of the first. As a context manager it closes the files."""

    def __init__(self, blobs: BlobStore, one: Evaluation, other: Evaluation) -> None:
        self._first, self._second = answers(blobs, one), answers(blobs, other)
        # Evaluations of one suite are in its order; another suite of the same items may have another.
        self._order = None if one.suite_id == other.suite_id else self._places()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._first.__exit__(kind, error, trace)
        self._second.__exit__(kind, error, trace)

    def _places(self) -> NDArray[np.int64]:
        second = Ids([digests(piece.column("id").to_pylist()) for piece in self._second.pieces(["id"])])
        return np.concatenate([second.places(piece.column("id").to_pylist()) for piece in self._first.pieces(["id"])])

    def first(self, metric: str) -> Floats:
        return all_statistics(self._first, metric)

    def second(self, metric: str) -> Floats:
        found = all_statistics(self._second, metric)
        return found if self._order is None else found[self._order]

    def outputs(self, rows: NDArray[np.int64]) -> tuple[list[str | None], list[str | None]]:
        """Both outputs of the items at these places, or what was answered without one: a label or several."""
        theirs = rows if self._order is None else self._order[rows]
        return _said(self._first, rows), _said(self._second, theirs)


def _said(answers: parquet.Reader, rows: NDArray[np.int64]) -> list[str | None]:
    columns = [name for name in ("output", "parsed", "predicted_labels") if name in answers.names]
    found: list[str | None] = []
    for row in answers.take(rows, columns).to_pylist():
        labels = row.get("predicted_labels")
        instead = row["parsed"] if labels is None else ", ".join(labels)
        found.append(instead if row["output"] is None else row["output"])
    return found


def _column(metric: str) -> str:
    return f"statistics.{metric}"
