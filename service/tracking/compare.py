"""Runs side by side: what was set differently, and what each reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from service.errors import Invalid
from service.measure.direction import Direction, guess
from service.store import runs as store
from service.store.tables import Run
from service.tracking import runs
from service.tracking.compare_schemas import (
    ComparedMetric,
    ComparedRun,
    Comparison,
    Difference,
    Differences,
    Leaders,
)
from service.tracking.flatten import flatten
from service.tracking.grouping import Leaf, identity
from service.tracking.runs import RunNotFound
from service.tracking.schemas import MetricSummary

MAX_METRICS = 500
MAX_TEXT = 500


class TooManyMetrics(Invalid):
    code = "too_many_metrics"


def chosen(session: Session, run_ids: Sequence[str]) -> list[Run]:
    """These runs in this order, each once.

    Raises:
        RunNotFound: naming those that do not exist.
    """
    ids = list(dict.fromkeys(run_ids))
    found = store.many(session, ids)
    absent = [run_id for run_id in ids if run_id not in found]
    if absent:
        more = f" (and {len(absent) - 3} more)" if len(absent) > 3 else ""
        raise RunNotFound(f"There is no run {', '.join(repr(one) for one in absent[:3])}{more}.")
    return [found[run_id] for run_id in ids]


def compare(
    session: Session,
    run_ids: Sequence[str],
    metrics: Sequence[str] | None,
    directions: Mapping[str, Direction],
    silent_after: float,
) -> Comparison:
    shown = runs.show(session, chosen(session, run_ids), silent_after, metrics=metrics)
    hashes = [{"data_hash": (run["data_hash"], None)} if run["data_hash"] else {} for run in shown]
    return Comparison(
        runs=[ComparedRun.model_validate({name: run[name] for name in ComparedRun.model_fields}) for run in shown],
        config=differences([flatten(run["config"]) for run in shown]),
        environment=differences([flatten(run["environment"]) for run in shown]),
        tags=differences([{key: (text, None) for key, text in run["tags"].items()} for run in shown]),
        data_hash=differences(hashes),
        metrics=_metrics(shown, metrics, directions),
    )


def differences(records: Sequence[Mapping[str, Leaf]]) -> Differences:
    """The keys that are missing in some records or not the same in all. Values are compared in full, and shown cut."""
    keys = dict.fromkeys(key for record in records for key in record)
    differing = []
    for key in keys:
        leaves = [record.get(key) for record in records]
        if len({None if leaf is None else identity(leaf) for leaf in leaves}) > 1:
            texts = [None if leaf is None else _cut(leaf[0]) for leaf in leaves]
            differing.append(
                Difference(key=key, values=texts, numbers=[None if leaf is None else leaf[1] for leaf in leaves])
            )
    return Differences(differing=differing, equal=len(keys) - len(differing))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _metrics(
    shown: Sequence[dict[str, Any]], asked: Sequence[str] | None, directions: Mapping[str, Direction]
) -> list[ComparedMetric]:
    keys = sorted({key for run in shown for key in run["metrics"]}) if asked is None else list(dict.fromkeys(asked))
    if len(keys) > MAX_METRICS:
        raise TooManyMetrics(
            f"These runs have {len(keys):,} metrics, at most {MAX_METRICS} are compared in one call: name some."
        )
    return [_metric(key, shown, directions.get(key) or guess(key)) for key in keys]


def _metric(key: str, shown: Sequence[dict[str, Any]], direction: Direction | None) -> ComparedMetric:
    summaries: list[dict[str, Any] | None] = [run["metrics"].get(key) for run in shown]
    ids = [run["id"] for run in shown]
    return ComparedMetric(
        key=key,
        direction=direction,
        values=[None if summary is None else MetricSummary.model_validate(summary) for summary in summaries],
        leaders=Leaders(
            last=leaders(ids, [summary and summary["last"] for summary in summaries], direction),
            best=leaders(ids, [summary and direction and summary[direction] for summary in summaries], direction),
        ),
    )


def leaders(ids: Sequence[str], values: Sequence[Any], direction: Direction | None) -> list[str]:
    """Who has the best of the finite values: all of them on a tie, nobody when all are the same."""
    numbers = [(run_id, value) for run_id, value in zip(ids, values, strict=True) if isinstance(value, int | float)]
    if direction is None or len({value for _, value in numbers}) < 2:
        return []
    best = (min if direction == "min" else max)(value for _, value in numbers)
    return [run_id for run_id, value in numbers if value == best]
