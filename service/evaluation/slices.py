"""Where a model is weak: one metric on the items of each group, tag, label or length, worst first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from service.evaluation.schemas import Slice, SliceList
from service.evaluation.suites import metric_of
from service.measure.metrics import METRICS
from service.measure.score import score
from service.store import evaluations, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

if TYPE_CHECKING:
    import pyarrow as pa

By = Literal["group", "tag", "label", "length"]
Members = Iterator[tuple[str, NDArray[np.int64]]]

NONE = "(none)"


def slices(evaluation: Evaluation, suite: Suite, blobs: BlobStore, by: By, metric: str | None) -> SliceList:
    name = metric_of(suite, metric)
    column = {"group": "group", "tag": "tags", "label": "label", "length": "input"}[by]
    items = suites.read_items(blobs, suite, [column]).column(column).combine_chunks()
    statistics = evaluations.statistics(evaluations.read_answers(blobs, evaluation, [], [name]), name)
    found = []
    for value, rows in _members(items, by):
        result = score(METRICS[name], statistics[rows])
        found.append(Slice(slice=value, n=result.n, value=result.value, interval=result.interval, reason=result.reason))
    sign = 1 if METRICS[name].higher_is_better else -1
    found.sort(key=lambda one: (math.inf if one.value is None else sign * one.value, one.slice))
    return SliceList(metric=name, items=found)


def _members(items: pa.Array, by: By) -> Members:
    if by == "length":
        return _by_length(items)
    if by == "tag":
        return _by_tag(items)
    return _by_value(items, np.arange(len(items)))


def _by_value(values: pa.Array, rows: NDArray[np.int64]) -> Members:
    """Rows of equal values; nulls are a slice of their own."""
    import pyarrow.compute as pc

    encoded = pc.dictionary_encode(values, null_encoding="encode")
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    for place, value in enumerate(encoded.dictionary.to_pylist()):
        yield NONE if value is None else value, rows[order[bounds[place] : bounds[place + 1]]]


def _by_tag(tags: pa.Array) -> Members:
    """An item is in the slice of each of its tags."""
    import pyarrow.compute as pc

    yield from _by_value(pc.list_flatten(tags), pc.list_parent_indices(tags).to_numpy())
    untagged = np.flatnonzero(pc.list_value_length(tags).to_numpy() == 0)
    if len(untagged):
        yield NONE, untagged


def _by_length(texts: pa.Array) -> Members:
    """Quarters of the items by characters of input; ties stay together."""
    import pyarrow.compute as pc

    lengths = pc.utf8_length(texts).to_numpy()
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1.0], method="higher"))
    quarter = np.searchsorted(edges, lengths)
    for place in range(len(edges)):
        rows = np.flatnonzero(quarter == place)
        yield f"{lengths[rows].min()}–{lengths[rows].max()} characters", rows
