"""Suites: checked hard when they come in, hashed, never changed after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.evaluation.schemas import SuiteCreate, SuiteItem
from service.evaluation.statistics import item_statistics
from service.measure.metrics import METRICS
from service.store import suites
from service.store.blobs import BlobStore
from service.store.tables import Suite


class SuiteNotFound(NotFound):
    code = "suite_not_found"


class SuiteInvalid(Invalid):
    """`details.item` is the id of the item at fault, where one is."""

    code = "suite_invalid"


class UnknownMetric(Invalid):
    code = "unknown_metric"


def build(wanted: SuiteCreate, blobs: BlobStore) -> Suite:
    """The checked suite with its items stored, ready for `suites.add`."""
    items = [_normal(item) for item in wanted.items]
    primary = wanted.primary_metric or next(iter(wanted.metrics), "")
    _check_definition(wanted, primary)
    _check_items(items, wanted.metrics, wanted.labels)
    table = suites.items_table(items)
    for metric in wanted.metrics:
        # References no metric could ever read are refused now, and not when the first model has answered.
        item_statistics(metric, table, [None] * len(items))
    definition = wanted.model_dump(include={"metrics", "template", "parser", "labels", "description"})
    definition["primary_metric"] = primary
    return Suite(
        name=wanted.name,
        version=0,
        hash=suites.content_hash(wanted.task_type, definition, items),
        task_type=wanted.task_type,
        n_items=len(items),
        definition=definition,
        items_sha256=suites.write_items(blobs, table),
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


def _check_definition(wanted: SuiteCreate, primary: str) -> None:
    if not wanted.items:
        raise SuiteInvalid("The suite is empty: give at least one item.")
    if not wanted.metrics:
        raise SuiteInvalid(f"The suite names no metric: give at least one of {', '.join(sorted(METRICS))}.")
    for name in [*wanted.metrics, primary]:
        if name not in METRICS:
            raise UnknownMetric(f"There is no metric '{name}'. Known: {', '.join(sorted(METRICS))}.")
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


def _check_items(items: Sequence[dict[str, Any]], metrics: Sequence[str], labels: Sequence[str] | None) -> None:
    reads = {METRICS[name].reads: name for name in metrics}
    allowed = None if labels is None else set(labels)
    seen: set[str] = set()
    for item in items:
        item_id, label = item["id"], item["label"]
        if item_id in seen:
            raise _fault(item_id, "comes twice: item ids are unique in a suite")
        seen.add(item_id)
        if "label" in reads and label is None:
            raise _fault(item_id, f"has no label, which the metric '{reads['label']}' reads")
        if "text" in reads and label is None and not item["references"]:
            raise _fault(item_id, f"has no reference, which the metric '{reads['text']}' reads")
        if allowed is not None and label is not None and label not in allowed:
            raise _fault(item_id, f"has the label '{label}', which is not among the suite's labels")


def _fault(item_id: str, what: str) -> SuiteInvalid:
    return SuiteInvalid(f"Item '{item_id}' {what}.", details={"item": item_id})
