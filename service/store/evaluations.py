"""Evaluations: a row each, and a Parquet file with a row an item in the suite's own order.

Beside output and parsed answer, an item's row carries the sufficient statistics of every metric (`statistics.<name>`, a
list of float64 of fixed length), so that slices, intervals and comparisons are sums and never a second scoring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session, col, select

from service.errors import NotFound
from service.store import parquet, records
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, ModelVersion, Run, Suite

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]


class EvaluationNotFound(NotFound):
    code = "evaluation_not_found"


ANSWER_COLUMNS = ("id", "output", "parsed", "probability", "correct")


def add(session: Session, evaluation: Evaluation) -> Evaluation:
    session.add(evaluation)
    session.flush()
    return evaluation


def existing(session: Session, evaluation_id: str) -> Evaluation:
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None:
        raise EvaluationNotFound(f"There is no evaluation '{evaluation_id}'. GET /api/v1/evaluations lists them.")
    return evaluation


def page(
    session: Session,
    *,
    run_id: str | None,
    suite_id: str | None,
    suite: str | None,
    model_version_id: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Evaluation], str | None]:
    query = select(Evaluation)
    wanted = (
        (col(Evaluation.run_id), run_id),
        (col(Evaluation.suite_id), suite_id),
        (col(Evaluation.model_version_id), model_version_id),
    )
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    if suite is not None:
        query = query.join(Suite).where(col(Suite.name) == suite)
    return records.page(session, query, col(Evaluation.id), limit, cursor)


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


def write_answers(blobs: BlobStore, answers: Mapping[str, Sequence[Any]], statistics: Mapping[str, Floats]) -> str:
    """Store `ANSWER_COLUMNS` and each metric's (n, k) statistics."""
    import pyarrow as pa

    text = pa.string()
    types = (text, text, text, pa.float64(), pa.bool_())
    schema = pa.schema([pa.field(name, kind, name != "id") for name, kind in zip(ANSWER_COLUMNS, types, strict=True)])
    table = pa.table({name: answers[name] for name in ANSWER_COLUMNS}, schema=schema)
    for metric, values in statistics.items():
        flat = pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel())
        table = table.append_column(_column(metric), pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
    return parquet.write(blobs, table)


def read_answers(
    blobs: BlobStore, evaluation: Evaluation, columns: Sequence[str] | None = None, metrics: Sequence[str] = ()
) -> pa.Table:
    """The answers (all of `ANSWER_COLUMNS` unless `columns` names some) and the statistics of `metrics`."""
    names = [*(ANSWER_COLUMNS if columns is None else columns), *map(_column, metrics)]
    return parquet.read(blobs, evaluation.items_sha256, names)


def read_pair(
    blobs: BlobStore, one: Evaluation, other: Evaluation, columns: Sequence[str], metrics: Sequence[str] = ()
) -> tuple[pa.Table, pa.Table]:
    """The answers of two evaluations of the same items, both in the order of `one`; `columns` includes "id"."""
    import pyarrow.compute as pc

    first, second = (read_answers(blobs, evaluation, columns, metrics) for evaluation in (one, other))
    return first, second.take(pc.index_in(first.column("id"), value_set=second.column("id")))


def statistics(answers: pa.Table, metric: str) -> Floats:
    """The (n, k) statistics of one metric out of a table of `read_answers`."""
    column = answers.column(_column(metric)).combine_chunks()
    return cast(Floats, column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size))


def _column(metric: str) -> str:
    return f"statistics.{metric}"
