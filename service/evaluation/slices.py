"""Where a model is weak: one metric on the items of each group, tag, label or length, worst first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import Invalid
from service.evaluation.schemas import Slice, SliceList
from service.evaluation.suites import metric_of
from service.measure.metrics import METRICS
from service.measure.score import score
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

By = Literal["group", "tag", "label", "length"]
Members = Iterator[tuple[str, NDArray[np.int64]]]

NONE = "(none)"
MAX_SLICES = 1_000


class TooManySlices(Invalid):
    code = "too_many_slices"


def slices(evaluation: Evaluation, suite: Suite, blobs: BlobStore, by: By, metric: str | None) -> SliceList:
    name = metric_of(suite, metric)
    with suites.items(blobs, suite) as items:
        members = list(_by_length(items) if by == "length" else _by_value(items, _column(by, name)))
    with evaluations.answers(blobs, evaluation) as answers:
        statistics = evaluations.all_statistics(answers, name)
    found = []
    for value, rows in members:
        result = score(METRICS[name], statistics[rows])
        found.append(Slice(slice=value, n=result.n, value=result.value, interval=result.interval, reason=result.reason))
    sign = 1 if METRICS[name].higher_is_better else -1
    found.sort(key=lambda one: (math.inf if one.value is None else sign * one.value, one.slice))
    return SliceList(metric=name, items=found)


def _column(by: By, metric: str) -> str:
    if by == "label" and METRICS[metric].reads == "labels":
        return "labels"
    return "tags" if by == "tag" else by


def _by_value(items: parquet.Reader, column: str) -> Members:
    """Rows of equal values; an item is in the slice of each of its tags or labels. Items without are a slice of their
    own."""
    numbers: dict[str | None, int] = {}
    codes, rows, start = [], [], 0
    for piece in items.pieces([column]):
        values, places = _values(piece.column(column).combine_chunks())
        encoded = values.dictionary_encode(null_encoding="encode")
        own = [numbers.setdefault(value, len(numbers)) for value in encoded.dictionary.to_pylist()]
        if len(numbers) > MAX_SLICES:
            raise TooManySlices(
                f"The items have over {MAX_SLICES:,} different values of `{column}`, too many to score one by one."
            )
        codes.append(np.array(own, dtype=np.int64)[encoded.indices.to_numpy()])
        rows.append(start + places)
        start += len(piece)
    code, row = np.concatenate(codes), np.concatenate(rows)
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(len(numbers) + 1))
    for value, number in numbers.items():
        yield NONE if value is None else value, row[order[bounds[number] : bounds[number + 1]]]


def _values(values: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The values of a piece and the row of each; null for a row that has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(values.type):
        return values, np.arange(len(values))
    untagged = np.flatnonzero(pc.fill_null(pc.list_value_length(values), 0).to_numpy() == 0)
    tags = pa.concat_arrays([pc.list_flatten(values), pa.nulls(len(untagged), pa.string())])
    return tags, np.concatenate([pc.list_parent_indices(values).to_numpy(), untagged])


def _by_length(items: parquet.Reader) -> Members:
    """Quarters of the items by characters of input; ties stay together."""
    import pyarrow.compute as pc

    lengths = np.concatenate([pc.utf8_length(piece.column("input")).to_numpy() for piece in items.pieces(["input"])])
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1.0], method="higher"))
    quarter = np.searchsorted(edges, lengths)
    for place in range(len(edges)):
        rows = np.flatnonzero(quarter == place)
        yield f"{lengths[rows].min()}–{lengths[rows].max()} characters", rows
