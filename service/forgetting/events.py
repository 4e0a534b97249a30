"""Forgetting events over the checkpoints of a run: which items it learned and lost again (Toneva et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session

from service.forgetting.stage_schemas import Checkpoint, ForgettingEvents, ForgottenItem
from service.measure.forgetting import forgetting_events
from service.measure.metric import FloatArray
from service.measure.metrics import METRICS
from service.store import evaluations, records, suites
from service.store.blobs import BlobStore
from service.store.tables import Evaluation, Suite

_SCANNED = 1000


@dataclass(frozen=True)
class Checkpoints:
    """The evaluations of a run on one version of a suite, one a step, in the order of training."""

    run_id: str
    name: str
    suite: Suite | None
    evaluations: Sequence[Evaluation]


def gather(session: Session, run_id: str, name: str) -> Checkpoints:
    """Of the suite's version with the most checkpoints; of one step, the newest evaluation."""
    records.check_links(session, run_id)
    given, _ = evaluations.page(
        session, run_ids=[run_id], suite=name, suite_id=None, model_version_id=None, limit=_SCANNED, cursor=None
    )
    of_suite = evaluations.suites_of(session, given)
    by_version: dict[str, dict[int, Evaluation]] = {}
    for one in given:  # newest first
        if one.step is not None:
            by_version.setdefault(of_suite[one.suite_id].hash, {}).setdefault(one.step, one)
    if not by_version:
        return Checkpoints(run_id, name, None, [])
    versions = {suite.hash: suite for suite in of_suite.values()}
    best = max(by_version, key=lambda key: (len(by_version[key]), versions[key].version))
    found = by_version[best]
    return Checkpoints(run_id, name, versions[best], [found[step] for step in sorted(found)])


def count(checkpoints: Checkpoints, metric: str | None, blobs: BlobStore, limit: int) -> ForgettingEvents:
    """Events and what they say of each item; null, with a reason, where they cannot be told."""
    suite, given = checkpoints.suite, checkpoints.evaluations
    metric = metric or (None if suite is None else str(suite.definition["primary_metric"]))
    if suite is None or len(given) < 2:
        return _unknown(checkpoints, metric, "too_few_checkpoints")
    right = _right(given, metric, suite, blobs)
    if right is None:
        return _unknown(checkpoints, metric, "not_right_or_wrong")
    found = forgetting_events(right)
    steps = np.diff(right, axis=0, prepend=right[:1])
    shown = [place for place in np.argsort(-found.events, kind="stable").tolist() if found.events[place]][:limit]
    # Answers lie in the order of their suite's items.
    items = suites.read_items(blobs, suite, ["id", "input", "group"]).take(shown).to_pylist()
    return ForgettingEvents(
        run_id=checkpoints.run_id,
        suite=suite.name,
        version=suite.version,
        metric=metric,
        n=right.shape[1],
        checkpoints=[
            Checkpoint(
                step=one.step or 0,
                evaluation_id=one.id,
                share_right=float(right[place].mean()),
                forgotten=int(np.count_nonzero(steps[place] < 0)),
                learned=int(np.count_nonzero(steps[place] > 0)),
            )
            for place, one in enumerate(given)
        ],
        events=int(found.events.sum()),
        learned=found.learned,
        never_forgotten=found.never_forgotten,
        never_learned=right.shape[1] - found.learned,
        items_by_events=np.bincount(found.events).tolist(),
        most_forgotten=[
            ForgottenItem(**item, events=int(found.events[place]), right=(right[:, place] == 1).tolist())
            for item, place in zip(items, shown, strict=True)
        ],
        reason=None,
    )


def _right(given: Sequence[Evaluation], metric: str | None, suite: Suite, blobs: BlobStore) -> FloatArray | None:
    """0/1 of shape (checkpoints, items), in the item order of the first; None where the metric is of another kind."""
    if metric not in suite.definition["metrics"] or metric is None:
        return None
    rows = []
    for one in given:
        with evaluations.Pair(blobs, given[0], one) as both:
            scores = METRICS[metric].item_scores(both.second(metric))
        if scores is None or not np.isin(scores, (0.0, 1.0)).all():
            return None
        rows.append(scores)
    return np.stack(rows)


def _unknown(checkpoints: Checkpoints, metric: str | None, reason: str) -> ForgettingEvents:
    return ForgettingEvents(
        run_id=checkpoints.run_id,
        suite=checkpoints.name,
        version=checkpoints.suite.version if checkpoints.suite else None,
        metric=metric,
        n=checkpoints.suite.n_items if checkpoints.suite else 0,
        checkpoints=[],
        events=None,
        learned=None,
        never_forgotten=None,
        never_learned=None,
        items_by_events=[],
        most_forgotten=[],
        reason=reason,
    )
