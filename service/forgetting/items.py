"""The items behind an audit: what was lost and what was gained, with both outputs, by category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlmodel import Session

from service.errors import NotFound
from service.forgetting.schemas import ChangedItem, ChangedItemPage, TaskResult
from service.measure.comparison import item_changes
from service.measure.metrics import METRICS
from service.store import evaluations, parquet, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

Kind = Literal["lost", "gained"]


class TaskNotFound(NotFound):
    code = "task_not_found"


@dataclass(frozen=True)
class Judged:
    """A judged task of an audit with the evaluations it was judged from."""

    suite: Suite
    metric: str
    before: Evaluation
    after: Evaluation


def judged_tasks(session: Session, tasks: Sequence[TaskResult], suite: str | None) -> list[Judged]:
    """The judged tasks in the audit's order, or the one on `suite`."""
    if suite is not None and suite not in {task.suite for task in tasks}:
        raise TaskNotFound(f"The audit protects no suite '{suite}'. It has: {', '.join(task.suite for task in tasks)}.")
    found = []
    for task in tasks:
        if task.verdict == "INVALID" or suite not in (None, task.suite):
            continue
        assert task.metric and task.before_evaluation_id and task.after_evaluation_id  # noqa: PT018
        before = evaluations.existing(session, task.before_evaluation_id)
        after = evaluations.existing(session, task.after_evaluation_id)
        own = evaluations.suites_of(session, [before])[before.suite_id]
        found.append(Judged(own, task.metric, before, after))
    return found


def changed_items(
    tasks: Sequence[Judged], blobs: BlobStore, kind: Kind, limit: int, cursor: str | None
) -> ChangedItemPage:
    """Items by task, in a task by group, in a group the largest change first."""
    changes = [_changes(task, blobs, kind) for task in tasks]
    places, next_cursor = parquet.page(np.arange(sum(len(one.rows) for one in changes)), limit, cursor)
    found: list[ChangedItem] = []
    start = 0
    for one in changes:
        end = start + len(one.rows)
        found += one.show(one.rows[places[(places >= start) & (places < end)] - start], blobs)
        start = end
    return ChangedItemPage(items=found, next_cursor=next_cursor)


@dataclass(frozen=True)
class _Changes:
    """The rows of one task that changed, in the order they are shown in."""

    task: Judged
    rows: NDArray[np.int64]

    def show(self, rows: NDArray[np.int64], blobs: BlobStore) -> list[ChangedItem]:
        if not len(rows):
            return []
        task = self.task
        with suites.items(blobs, task.suite) as items, evaluations.Pair(blobs, task.before, task.after) as pair:
            found, outputs = items.take(rows).to_pylist(), pair.outputs(rows)
        return [
            ChangedItem(suite=task.suite.name, before_output=before, after_output=after, **item)
            for item, before, after in zip(found, *outputs, strict=True)
        ]


def _changes(task: Judged, blobs: BlobStore, kind: Kind) -> _Changes:
    with evaluations.Pair(blobs, task.before, task.after) as pair:
        change = item_changes(METRICS[task.metric], pair.first(task.metric), pair.second(task.metric))
    assert change is not None  # a gated metric scores items
    loss = change if kind == "lost" else -change
    group = suites.read_items(blobs, task.suite, ["group"]).column("group").fill_null("").to_numpy()
    rows = np.lexsort((loss, group))
    return _Changes(task, rows[loss[rows] < 0])
