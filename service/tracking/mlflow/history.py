"""The points of metrics as MLflow shows them: a set, without segments, in order of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sqlmodel import Session

from service.store import history, mlflow_runs, series
from service.store.points import Points
from service.tracking.mlflow import limits
from service.tracking.mlflow.errors import InvalidParameterValue
from service.tracking.mlflow.grammar import page_offset, page_token
from service.tracking.mlflow.messages import GetHistory, GetHistoryBulk, GetHistoryInterval


def page(session: Session, given: GetHistory) -> tuple[list[dict[str, Any]], str | None]:
    """Points by time, step and value, and the token of the next page. Without `max_results`, all of them."""
    if given.max_results is not None and given.max_results <= 0:
        raise InvalidParameterValue(
            f"Invalid value {given.max_results} for parameter 'max_results' supplied. It must be a positive integer."
        )
    offset = page_offset(given.page_token)
    points = by_time(_points(session, given.run_id, given.metric_key))
    end = len(points) if given.max_results is None else offset + given.max_results
    following = page_token(end) if end < len(points) else None
    return _shown(given.metric_key, points[offset:end]), following


def bulk(session: Session, given: GetHistoryBulk) -> list[dict[str, Any]]:
    """The same metric of several runs, run by run."""
    if not given.run_id:
        raise InvalidParameterValue("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(given.run_id) > limits.HISTORY_RUNS:
        raise InvalidParameterValue(
            f"GetMetricHistoryBulk request cannot specify more than {limits.HISTORY_RUNS} run_ids. "
            f"Received {len(given.run_id)} run_ids."
        )
    if not given.metric_key:
        raise InvalidParameterValue("GetMetricHistoryBulk request must specify a metric_key.")
    left = max(0, min(given.max_results, limits.HISTORY_RESULTS))
    found: list[dict[str, Any]] = []
    for run_id in sorted(given.run_id):
        points = by_time(_points(session, run_id, given.metric_key))[: left - len(found)]
        found += [{**row, "run_id": run_id} for row in _shown(given.metric_key, points)]
    return found


def interval(session: Session, given: GetHistoryInterval) -> list[dict[str, Any]]:
    """Evenly chosen points of each run, by step, between two steps if they are given."""
    if len(given.run_ids) > limits.HISTORY_RUNS:
        raise InvalidParameterValue(
            f"GetMetricHistoryBulkInterval request must specify at most {limits.HISTORY_RUNS} run_ids. "
            f"Received {len(given.run_ids)} run_ids."
        )
    if not 1 <= given.max_results <= limits.INTERVAL_RESULTS:
        raise InvalidParameterValue(f"max_results must be between 1 and {limits.INTERVAL_RESULTS}.")
    start, end = given.start_step, given.end_step
    if (start is None) != (end is None):
        raise InvalidParameterValue("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise InvalidParameterValue(
            f"end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        )
    found: list[dict[str, Any]] = []
    for run_id in given.run_ids:
        points = _by_step(_points(session, run_id, given.metric_key))
        if start is not None and end is not None:
            points = points[(points.steps >= start) & (points.steps <= end)]
        chosen = points[evenly(len(points), given.max_results)]
        found += [{**row, "run_id": run_id} for row in _shown(given.metric_key, chosen)]
    return found


def evenly(count: int, most: int) -> npt.NDArray[np.intp]:
    """Which of `count` points to show as `most`: the first of each of `most` equal buckets, and the last point."""
    if count <= most:
        return np.arange(count)
    size, longer = divmod(count, most)
    buckets = np.arange(most)
    firsts = buckets * size + np.minimum(buckets, longer)
    firsts[-1] = count - 1
    return firsts


def by_time(points: Points) -> Points:
    """Distinct points, ordered by time, then step, then value."""
    return _distinct(points, np.lexsort((points.values, points.steps, points.times)))


def _by_step(points: Points) -> Points:
    return _distinct(points, np.lexsort((points.values, points.times, points.steps)))


def _distinct(points: Points, order: npt.NDArray[np.intp]) -> Points:
    """The points in this order; one that was sent twice is shown once."""
    ordered = points[order]
    if len(ordered) < 2:
        return ordered
    # By bits: NaN is equal to itself here.
    bits = ordered.values.view(np.int64)
    same = (np.diff(ordered.times) == 0) & (np.diff(ordered.steps) == 0) & (bits[1:] == bits[:-1])
    return ordered[np.concatenate(([True], ~same))] if same.any() else ordered


def _points(session: Session, run_id: str, key: str) -> Points:
    found = mlflow_runs.known_series(session, run_id, key)
    return Points.concatenate([]) if found is None else history.read(session, found)[0]


def _shown(key: str, points: Points) -> list[dict[str, Any]]:
    values: list[Any] = points.values.tolist()
    for index in np.flatnonzero(~np.isfinite(points.values)):
        values[index] = series.special_name(values[index])
    times = np.rint(points.times * 1000).astype(np.int64).tolist()
    return [
        {"key": key, "value": value, "timestamp": time, "step": step}
        for value, time, step in zip(values, times, points.steps.tolist(), strict=True)
    ]
