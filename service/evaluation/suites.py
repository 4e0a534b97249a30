"""Suites: checked hard when they come in, hashed, never changed after."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.evaluation.schemas import SuiteDefinition, SuiteItem
from service.evaluation.statistics import item_statistics
from service.evaluation.uploads import Rows
from service.measure.metrics import METRICS
from service.store import suites
from service.store.blobs import BlobStore
from service.store.tables import Suite

TRANSPOSED = 100
"""So many references for every item of a smaller set are a mistake."""


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
    primary = wanted.primary_metric or next(iter(wanted.metrics), "")
    _check_definition(wanted, primary)
    check = _ItemCheck(wanted)
    with suites.NewItems(blobs) as new:
        for piece in rows:
            items = [_normal(item) for item in piece.rows]
            check(piece, items)
            table = suites.items_table(items)
            for metric in wanted.metrics:
                # References no metric could ever read are refused now, and not when the first model has answered.
                item_statistics(metric, table, [None] * len(items), piece=piece)
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


def _normal(item: SuiteItem) -> dict[str, Any]:
    return {
        "id": item["id"],
        "input": item["input"],
        "label": item.get("label"),
        "references": item.get("references") or [],
        "group": item.get("group"),
        "tags": sorted(set(item.get("tags") or [])),
    }


def _check_definition(wanted: SuiteDefinition, primary: str) -> None:
    if not wanted.metrics:
        raise SuiteInvalid(f"The suite names no metric: give at least one of {', '.join(sorted(METRICS))}.")
    for name in [*wanted.metrics, primary]:
        if name not in METRICS:
            raise UnknownMetric(f"There is no metric '{name}'. Known: {', '.join(sorted(METRICS))}.")
        if METRICS[name].reads not in ("label", "text"):
            raise SuiteInvalid(
                f"The metric '{name}' reads {METRICS[name].reads}; the predictions of a suite carry a label or a text."
            )
    if len(set(wanted.metrics)) < len(wanted.metrics):
        raise SuiteInvalid("A metric is named twice in `metrics`.")
    if primary not in wanted.metrics:
        raise SuiteInvalid(f"The primary metric '{primary}' is not among the suite's metrics.")
    if wanted.labels is not None and not wanted.labels:
        raise SuiteInvalid("`labels` is empty: name the labels, or leave it out.")
    if wanted.labels is not None and len(set(wanted.labels)) < len(wanted.labels):
        raise SuiteInvalid("A label is named twice in `labels`.")
    if wanted.parser == "label" and wanted.labels is None:
        raise SuiteInvalid("The parser 'label' looks for declared labels: give `labels`.")


class _ItemCheck:
    """What every item must have, what no two may share, and what the set as a whole may not look like."""

    def __init__(self, wanted: SuiteDefinition) -> None:
        self._reads = {METRICS[name].reads: name for name in wanted.metrics}
        self._labels = None if wanted.labels is None else set(wanted.labels)
        self._numbers: list[Sequence[int] | None] = []
        self._reference_counts: set[int] = set()

    def __call__(self, piece: Rows[SuiteItem], items: Sequence[dict[str, Any]]) -> None:
        self._numbers.append(piece.numbers)
        for index, item in enumerate(items):
            label = item["label"]
            if "label" in self._reads and label is None:
                raise piece.fault(SuiteInvalid, index, item["id"], self._lacks("label"))
            if "text" in self._reads and label is None and not item["references"]:
                raise piece.fault(SuiteInvalid, index, item["id"], self._lacks("reference"))
            if self._labels is not None and label is not None and label not in self._labels:
                what = f"has the label '{label}', which is not among the suite's labels"
                raise piece.fault(SuiteInvalid, index, item["id"], what)
            self._reference_counts.add(len(item["references"]))

    def _lacks(self, what: str) -> str:
        metric = self._reads["label" if what == "label" else "text"]
        return f"has no {what}, which the metric '{metric}' reads"

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
