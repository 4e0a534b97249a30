"""Suites: checked hard when they come in, hashed, never changed after."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.evaluation.parsers import LIST
from service.evaluation.schemas import SuiteDefinition, SuiteItem, TaskType
from service.evaluation.statistics import item_statistics
from service.evaluation.uploads import Rows
from service.measure.metric import Reads
from service.measure.metrics import METRICS
from service.store import suites
from service.store.blobs import BlobStore
from service.store.tables import Suite

if TYPE_CHECKING:
    import pyarrow as pa

TRANSPOSED = 100
"""So many references for every item of a smaller set are a mistake."""
USUAL: dict[TaskType, tuple[str, ...]] = {
    "classification": ("accuracy", "f1_macro"),
    "multi_label": ("multilabel_f1_micro", "multilabel_f1_macro", "subset_accuracy", "hamming_loss"),
    "multiple_choice": ("accuracy",),
    "generation": ("exact_match",),
    "summarisation": ("rougeL", "rouge1", "rouge2"),
    "translation": ("chrf", "bleu"),
    "extractive_qa": ("token_f1", "exact_match"),
    "language_modelling": ("perplexity", "bits_per_byte"),
}
"""Metrics of a suite that names none."""
_ITEM_NEEDS: dict[Reads, str] = {"label": "label", "scores": "label", "labels": "labels", "text": "reference"}


class SuiteNotFound(NotFound):
    code = "suite_not_found"


class SuiteInvalid(Invalid):
    """`details.item` is the id of the item at fault, where one is."""

    code = "suite_invalid"


class ReferencesTransposed(SuiteInvalid):
    code = "references_transposed"


class UnknownMetric(Invalid):
    code = "unknown_metric"


def build(wanted: SuiteDefinition, rows: Iterable[Rows[SuiteItem]], blobs: BlobStore) -> Suite:
    """The checked suite with its items stored, ready for `suites.add`."""
    metrics = list(USUAL[wanted.task_type]) if wanted.metrics is None else wanted.metrics
    wanted = wanted.model_copy(update={"metrics": metrics})
    primary = wanted.primary_metric or next(iter(metrics), "")
    _check_definition(wanted, metrics, primary)
    check = _ItemCheck(wanted)
    with suites.NewItems(blobs) as new:
        for piece in rows:
            items = [normal(item) for item in piece.rows]
            check(piece, items)
            table = suites.items_table(items)
            for metric in metrics:
                _check_readable(metric, table, wanted.labels, piece)
            new.add(items, table)
        check.whole(new)
        definition = wanted.model_dump(include={"metrics", "template", "parser", "labels", "description"})
        definition["primary_metric"] = primary
        content_hash, items_sha256 = new.store(wanted.task_type, definition)
        return Suite(
            name=wanted.name,
            version=0,
            hash=content_hash,
            task_type=wanted.task_type,
            n_items=len(new),
            definition=definition,
            items_sha256=items_sha256,
            created_at=time.time(),
        )


def existing(session: Session, suite_id: str) -> Suite:
    suite = suites.get(session, suite_id)
    if suite is None:
        raise SuiteNotFound(f"There is no suite '{suite_id}'. GET /api/v1/suites lists them.")
    return suite


def metric_of(suite: Suite, name: str | None) -> str:
    """The asked-for metric of the suite; its primary one when none is asked for."""
    if name is None:
        return str(suite.definition["primary_metric"])
    if name not in suite.definition["metrics"]:
        known = ", ".join(suite.definition["metrics"])
        raise UnknownMetric(f"The suite '{suite.name}' is not scored by '{name}'. It has: {known}.")
    return name


def normal(item: SuiteItem) -> dict[str, Any]:
    """An item with all its fields. `labels` only where it has them: what was stored before there were any keeps its
    hash."""
    labels = item.get("labels")
    return {
        "id": item["id"],
        "input": item["input"],
        "label": item.get("label"),
        "references": item.get("references") or [],
        "group": item.get("group"),
        "tags": sorted(set(item.get("tags") or [])),
        **({} if labels is None else {"labels": sorted(labels)}),
    }


def _check_readable(metric: str, items: pa.Table, labels: list[str] | None, piece: Rows[SuiteItem]) -> None:
    """Refuses what the metric could never read now, and not when the first model has answered."""
    what = METRICS[metric].reads
    if what == "scores":
        if labels is not None:
            nothing = np.full((len(items), len(labels)), np.nan)
            item_statistics(metric, items, nothing, labels=sorted(labels), piece=piece)
    elif what != "labels":  # of the labels themselves `_ItemCheck` has all there is to say
        item_statistics(metric, items, [None] * len(items), piece=piece)


def _check_definition(wanted: SuiteDefinition, metrics: Sequence[str], primary: str) -> None:
    if not metrics:
        raise SuiteInvalid(f"The suite names no metric: give at least one of {', '.join(sorted(METRICS))}.")
    for name in [*metrics, primary]:
        if name not in METRICS:
            raise UnknownMetric(f"There is no metric '{name}'. Known: {', '.join(sorted(METRICS))}.")
    if len(set(metrics)) < len(metrics):
        raise SuiteInvalid("A metric is named twice in `metrics`.")
    if primary not in metrics:
        raise SuiteInvalid(f"The primary metric '{primary}' is not among the suite's metrics.")
    if wanted.labels is not None and not wanted.labels:
        raise SuiteInvalid("`labels` is empty: name the labels, or leave it out.")
    if wanted.labels is not None and len(set(wanted.labels)) < len(wanted.labels):
        raise SuiteInvalid("A label is named twice in `labels`.")
    if wanted.parser == "label" and wanted.labels is None:
        raise SuiteInvalid("The parser 'label' looks for declared labels: give `labels`.")
    what_is_read = {METRICS[name].reads for name in metrics}
    if wanted.parser == LIST and ("labels" not in what_is_read or what_is_read & {"label", "text"}):
        raise SuiteInvalid(
            f"The parser '{LIST}' reads lists of labels: it is for suites of which every metric of answers reads such "
            "lists, as multilabel_f1_micro does."
        )


class _ItemCheck:
    """What every item must have, what no two may share, and what the set as a whole may not look like."""

    def __init__(self, wanted: SuiteDefinition) -> None:
        self._reads = {METRICS[name].reads: name for name in reversed(wanted.metrics or ())}
        self._needs = sorted({(_ITEM_NEEDS[what], name) for what, name in self._reads.items() if what in _ITEM_NEEDS})
        self._labels = None if wanted.labels is None else set(wanted.labels)
        self._numbers: list[Sequence[int] | None] = []
        self._reference_counts: set[int] = set()

    def __call__(self, piece: Rows[SuiteItem], items: Sequence[dict[str, Any]]) -> None:
        self._numbers.append(piece.numbers)
        for index, item in enumerate(items):
            label, labels = item["label"], item.get("labels")
            has = {"label": label is not None, "labels": labels is not None}
            has["reference"] = has["label"] or bool(item["references"])
            for what, metric in self._needs:
                if not has[what]:
                    lacks = f"has no {what}, which the metric '{metric}' reads"
                    raise piece.fault(SuiteInvalid, index, item["id"], lacks)
            if "likelihood" in self._reads and len(item["references"]) > 1:
                many = f"has {len(item['references'])} references, and '{self._reads['likelihood']}' is of one text"
                raise piece.fault(SuiteInvalid, index, item["id"], many)
            for one in [*(labels or ()), *([] if label is None else [label])]:
                if self._labels is not None and one not in self._labels:
                    what = f"has the label '{one}', which is not among the suite's labels"
                    raise piece.fault(SuiteInvalid, index, item["id"], what)
            if labels is not None and len(set(labels)) < len(labels):
                raise piece.fault(SuiteInvalid, index, item["id"], "has a label twice in `labels`")
            self._reference_counts.add(len(item["references"]))

    def whole(self, new: suites.NewItems) -> None:
        if not len(new):
            raise SuiteInvalid("The suite is empty: give at least one item.")
        if (repeated := new.repeated()) is not None:
            item_id, earlier, later = repeated
            rows = [number for numbers in self._numbers for number in numbers or ()]
            told = f"Row {rows[later]:,}: item" if rows else "Item"
            before = f" (first in row {rows[earlier]:,})" if rows else ""
            raise SuiteInvalid(
                f"{told} '{item_id}' comes twice{before}: item ids are unique in a suite.",
                details={"item": item_id, **({"row": rows[later]} if rows else {})},
            )
        most = max(self._reference_counts)
        if self._reference_counts == {most} and most >= TRANSPOSED and most > len(new):
            raise ReferencesTransposed(
                f"Each of the {len(new):,} items has {most:,} references: they look transposed, a list for each set "
                "of references. Give each item the list of its own references."
            )
