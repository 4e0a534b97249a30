"""Which settings a metric depends on, over the runs of a project, a search or a list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sqlmodel import Session

from service.errors import Invalid
from service.measure import importance as measure
from service.measure.direction import Direction, guess
from service.measure.importance import MIN_RUNS, Explanation, Setting, Share
from service.store import search
from service.store import series as series_store
from service.store.tables import Run
from service.tracking.compare import chosen
from service.tracking.compare_schemas import Importance, ImportanceRequest, SettingImportance
from service.tracking.flatten import flatten
from service.tracking.search import parse

MAX_RUNS = 1000


class DirectionUnknown(Invalid):
    code = "direction_unknown"


def explain(session: Session, asked: ImportanceRequest, silent_after: float) -> Importance:
    """How much of the metric's variation over the runs each config key explains by itself.

    Raises:
        BadQuery, RunNotFound; DirectionUnknown: the best value is asked for and the name does not say which that is.
    """
    by = _extreme(asked.metric, asked.direction) if asked.by == "best" else asked.by
    found, truncated = _runs(session, asked, silent_after)
    summaries = series_store.summary_table(session, [run.id for run in found], [asked.metric])
    values = [(run, _finite(summaries[run.id].get(asked.metric, {}).get(by))) for run in found]
    counted = [(run, value) for run, value in values if value is not None]
    told = measure.explain(
        np.array([value for _, value in counted], dtype=np.float64),
        settings([run.config for run, _ in counted]),
        top=asked.top,
    )
    return Importance(
        metric=asked.metric,
        by=by,
        n=told.n,
        without=len(found) - len(counted),
        truncated=truncated,
        settings=[_shown(share) for share in told.shares],
        left_out=told.left_out,
        unclear=told.unclear,
        constant=len(told.constant),
        reason=told.reason,
        message=_message(told, asked.metric),
    )


def _extreme(metric: str, given: Direction | None) -> Direction:
    direction = given or guess(metric)
    if direction is None:
        raise DirectionUnknown(
            f"Whether more or less of '{metric}' is better cannot be told from its name: "
            "send direction 'min' or 'max', or ask for by 'last', 'min' or 'max'."
        )
    return direction


def _runs(session: Session, asked: ImportanceRequest, silent_after: float) -> tuple[list[Run], bool]:
    if asked.run_ids is not None:
        return chosen(session, asked.run_ids), False
    condition, orders = parse(asked.query)
    rows = search.find(
        session,
        project=asked.project,
        condition=condition,
        orders=orders,
        after=None,
        limit=MAX_RUNS + 1,
        silent_after=silent_after,
    )
    return chosen(session, [place.run_id for place in rows[:MAX_RUNS]]), len(rows) > MAX_RUNS


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def settings(configs: list[dict[str, Any]]) -> dict[str, Setting]:
    """Config key → its value in each run."""
    flat = [flatten(config) for config in configs]
    leaves = {key: [one.get(key) for one in flat] for key in dict.fromkeys(key for one in flat for key in one)}
    return {
        key: Setting([leaf and leaf[0] for leaf in column], [leaf and leaf[1] for leaf in column])
        for key, column in leaves.items()
    }


def _shown(share: Share) -> SettingImportance:
    return SettingImportance(
        key=share.key,
        kind=share.kind,
        levels=share.levels,
        missing=share.missing,
        importance=share.share,
        interval=share.interval,
        correlation=share.correlation,
        correlation_interval=share.correlation_interval,
        twins=list(share.twins),
    )


def _message(told: Explanation, metric: str) -> str | None:
    if told.reason == "too_few_runs":
        return f"Cannot tell: {told.n} runs have a finite '{metric}', and below {MIN_RUNS} noise looks like importance."
    if told.reason == "no_variation":
        return f"Cannot tell: '{metric}' is the same in all {told.n} runs."
    return None
