"""What MLflow clients may do to a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlmodel import Session

from service.store import batches, lineage, mlflow_runs, mlflow_search, series
from service.store import runs as store
from service.store.mlflow_search import Info
from service.store.points import Points
from service.store.tables import LoggedModelMetric, Run, new_id
from service.tracking.flatten import flatten
from service.tracking.mlflow import experiments, limits, show
from service.tracking.mlflow.errors import InvalidParameterValue, ResourceDoesNotExist
from service.tracking.mlflow.grammar import RUNS, page_offset, page_token, parse_filter, parse_order
from service.tracking.mlflow.messages import CreateRun, KeyValue, LogInputs, Metric, SearchRuns, UpdateRun
from service.tracking.names import invent_name

_STATUS = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_OVER = {"finished", "failed", "killed"}
_LOGGED_MODELS = "mlflow.log-model.history"
# MLflow clients send nothing between two logs, and some log once in many minutes: seconds that they may be quiet
# before their run is called silent.
PATIENCE = 3600.0
# Adds points to a run's series, and says how many.
Append = Callable[[Session, str, dict[str, Points]], int]


def create(session: Session, given: CreateRun) -> dict[str, Any]:
    """Start a run, and show it."""
    project = experiments.active(session, given.experiment_id or "0")
    tags = dict(limits.tag(one, f"tags[{index}].") for index, one in enumerate(given.tags))
    tagged = tags.get("mlflow.runName")
    if given.run_name and tagged and given.run_name != tagged:
        raise InvalidParameterValue(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{given.run_name}', mlflow.runName='{tagged}')."
        )
    assert project.id is not None
    now = time.time()
    run_id = new_id()
    columns, rest = _into_columns(tags, {"user": given.user_id} if given.user_id else {})
    columns["name"] = given.run_name or columns.get("name") or invent_name(run_id)
    started = now if given.start_time is None else given.start_time / 1000
    run = store.add(
        session,
        id=run_id,
        project_id=project.id,
        created_at=started,
        heartbeat_at=now,
        patience=PATIENCE,
        **columns,
    )
    store.set_tags(session, run_id, dict(rest))
    known = vars(run) | {"artifact_location": project.artifact_location, "user": run.environment.get("user")}
    info = Info(**{name: known[name] for name in Info._fields})
    return show.run(info, mlflow_runs.Data(tags=sorted(rest.items())), [])


def get(session: Session, run_id: str) -> Info:
    """The run, in the bin or not."""
    info = mlflow_runs.info(session, run_id)
    if info is None:
        raise ResourceDoesNotExist(f"Run with id={run_id} not found")
    return info


def shown(session: Session, infos: Sequence[Info]) -> list[dict[str, Any]]:
    """Runs as MLflow shows them, with their params, tags, last values, data sets and models."""
    ids = [info.id for info in infos]
    data = mlflow_runs.data(session, ids)
    models = lineage.of_runs(session, ids)
    return [show.run(info, data[info.id], models[info.id]) for info in infos]


def update(session: Session, given: UpdateRun) -> bool:
    """Apply what was sent. Is the run over?"""
    run = active(session, given.run_id)
    status = _status(given.status)
    if given.end_time is not None:
        run.finished_at = given.end_time / 1000
    if status is not None:
        run.status, run.patience = status, PATIENCE
        # A client that resumes a run sends the old end with the new status: what goes on has no end.
        run.finished_at = run.finished_at if status in _OVER else None
    if given.run_name:
        run.name = given.run_name
    return run.status in _OVER


def _status(given: str | int | None) -> str | None:
    """By name or by its number in the protocol."""
    if given is None:
        return None
    text = str(given)
    name = _STATUS[int(text) - 1] if text.isdigit() and 1 <= int(text) <= len(_STATUS) else text
    if name not in _STATUS:
        raise InvalidParameterValue(f"Invalid value {json.dumps(given)} for parameter 'status' supplied.")
    return name.lower()


def bin_or_restore(session: Session, run_id: str, *, binned: bool) -> None:
    run = _locked(session, run_id)
    if binned:
        run.deleted_at = run.deleted_at or time.time()
    else:
        run.deleted_at = None


def apply_batch(
    session: Session,
    append: Append,
    run_id: str,
    metrics: Sequence[Metric],
    params: Sequence[KeyValue],
    tags: Sequence[KeyValue],
) -> None:
    """Log all of this, or nothing of it.

    Raises:
        InvalidParameterValue: something is beyond a limit, a param has another value already, or the run is deleted.
    """
    limits.check_run_id(run_id)
    for index, metric in enumerate(metrics):
        limits.check_metric(metric, f"metrics[{index}].")
    kept_params = [limits.param(one, f"params[{index}].") for index, one in enumerate(params)]
    kept_tags = dict(limits.tag(one, f"tags[{index}].") for index, one in enumerate(tags))
    limits.check_batch(metrics, params, tags)
    tally = _held(session, run_id)
    _check_models(session, metrics)
    if kept_params or kept_tags:
        run = active(session, run_id)
        _log_params(session, run, kept_params, batch=True)
        _set_tags(session, run, kept_tags)
    _log_metrics(session, append, run_id, tally, metrics)


def log_metric(session: Session, append: Append, run_id: str, metric: Metric) -> None:
    limits.check_metric(metric)
    tally = _held(session, run_id)
    _check_models(session, [metric])
    _log_metrics(session, append, run_id, tally, [metric])


def log_param(session: Session, run_id: str, given: KeyValue) -> None:
    kept = limits.param(given)
    _log_params(session, active(session, run_id), [kept], batch=False)


def set_tag(session: Session, run_id: str, given: KeyValue) -> None:
    key, value = limits.tag(given)
    _set_tags(session, active(session, run_id), {key: value})


def delete_tag(session: Session, run_id: str, key: str) -> None:
    run = active(session, run_id)
    if key == "mlflow.note.content" and run.notes is not None:
        run.notes = None
    elif key == "mlflow.parentRunId" and run.parent_run_id is not None:
        run.parent_run_id = None
    elif key == "mlflow.user" and run.environment.get("user"):
        run.environment = {name: value for name, value in run.environment.items() if name != "user"}
    elif mlflow_runs.tag(session, run_id, key) is not None:
        store.set_tags(session, run_id, {key: None})
    else:
        raise ResourceDoesNotExist(f"No tag with name: {key} in run with id {run_id}")


def log_inputs(session: Session, given: LogInputs) -> None:
    """Link data sets and logged models that the run read."""
    for one in given.datasets:
        limits.check_dataset(one.dataset, one.tags)
    run = active(session, given.run_id)
    rows: list[tuple[dict[str, Any], dict[str, str]]] = []
    for one in given.datasets:
        dataset = one.dataset
        columns = {
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": dataset.source_type,
            "source": dataset.source,
            "columns": dataset.schema,
            "profile": dataset.profile,
        }
        rows.append((columns, {tag.key: tag.value for tag in one.tags}))
    mlflow_runs.add_datasets(session, run.project_id, run.id, rows)
    for model in given.models:
        if lineage.get_model(session, model.model_id) is None:
            raise ResourceDoesNotExist(f"Logged model with ID '{model.model_id}' not found.")
    lineage.link_run(session, run.id, "input", {model.model_id: 0 for model in given.models})


def log_model(session: Session, run_id: str, model_json: str) -> None:
    """Keep what a 2.x client says of a model it logged: a list in one tag, as MLflow keeps it."""
    try:
        model = json.loads(model_json)
    except ValueError:
        raise InvalidParameterValue(f"Malformed model info. \n {model_json} \n is not a valid JSON.") from None
    missing = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if missing:
        raise InvalidParameterValue(f"Model json is missing mandatory fields: {missing}")
    run = active(session, run_id)
    history = json.loads(mlflow_runs.tag(session, run.id, _LOGGED_MODELS) or "[]")
    store.set_tags(session, run.id, {_LOGGED_MODELS: json.dumps([*history, model])})


def search(session: Session, given: SearchRuns) -> tuple[list[dict[str, Any]], str | None]:
    """A page of runs, and the token of the next."""
    limit = limits.check_results(given.max_results)
    clauses = parse_filter(given.filter, RUNS)
    orders = parse_order(given.order_by, RUNS)
    offset = page_offset(given.page_token)
    found = mlflow_search.search(
        session,
        [experiments.number(one) for one in given.experiment_ids],
        clauses=clauses,
        orders=orders,
        deleted=experiments.in_bin(given.run_view_type),
        offset=offset,
        limit=limit + 1,
    )
    following = page_token(offset + limit) if len(found) > limit else None
    return shown(session, found[:limit]), following


def _locked(session: Session, run_id: str) -> Run:
    run = mlflow_runs.lock(session, run_id)
    if run is None:
        raise ResourceDoesNotExist(f"Run with id={run_id} not found")
    return run


def active(session: Session, run_id: str) -> Run:
    """The run for a change; that shows it is alive."""
    run = _locked(session, run_id)
    if run.deleted_at is not None:
        raise InvalidParameterValue(f"The run {run_id} must be in the 'active' state. Current state is deleted.")
    run.heartbeat_at = max(run.heartbeat_at, time.time())
    return run


def _log_params(session: Session, run: Run, given: Sequence[tuple[str, str]], *, batch: bool) -> None:
    """Params are written once: the same value again is nothing new, another one is refused."""
    if not given:
        return
    held = mlflow_runs.params(session, run.id, [key for key, _ in given])
    changed = [(key, held[key], value) for key, value in given if held.get(key, value) != value]
    if changed:
        raise InvalidParameterValue(_conflict(run.id, changed, batch=batch))
    fresh = {key: value for key, value in given if key not in held}
    if fresh:
        run.config = {**run.config, **fresh}
        store.set_params(session, run.id, flatten(fresh))


def _conflict(run_id: str, changed: Sequence[tuple[str, str, str]], *, batch: bool) -> str:
    if batch:
        listed = [{"key": key, "old_value": old, "new_value": new} for key, old, new in changed]
        return f"Changing param values is not allowed. Params were already logged='{listed}' for run ID='{run_id}'."
    key, old, new = changed[0]
    return (
        f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' "
        f"for run ID='{run_id}'. Attempted logging new value '{new}'."
    )


def _held(session: Session, run_id: str) -> batches.Tally:
    """What logging changes on a run, without the rest of it: configs may be large, and metrics come often."""
    tally = batches.locked(session, run_id)
    if tally is None:
        active(session, run_id)  # says why
        raise ResourceDoesNotExist(f"Run with id={run_id} not found")
    tally.heartbeat_at = max(tally.heartbeat_at, time.time())
    return tally


def _check_models(session: Session, metrics: Sequence[Metric]) -> None:
    for model_id in {metric.model_id for metric in metrics if metric.model_id}:
        if lineage.get_model(session, model_id, deleted=True) is None:
            raise ResourceDoesNotExist(f"Logged model with ID '{model_id}' not found.")


def _log_metrics(
    session: Session, append: Append, run_id: str, tally: batches.Tally, metrics: Sequence[Metric]
) -> None:
    by_key: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_key.setdefault(metric.key, []).append(metric)
    columns = {
        key: Points(
            np.array([metric.step for metric in own], np.int64),
            np.array([metric.timestamp for metric in own], np.float64) / 1000,
            np.array([metric.value for metric in own], np.float64),
        )
        for key, own in by_key.items()
    }
    # Clients send in parallel: their points are a set, and a step that goes back is no resumed run.
    tally.points_stored += append(session, run_id, columns)
    batches.touch(session, run_id, tally)
    _log_model_metrics(session, run_id, [metric for metric in metrics if metric.model_id])


def _log_model_metrics(session: Session, run_id: str, metrics: Sequence[Metric]) -> None:
    """What was measured on a logged model is kept with that model too."""
    if not metrics:
        return
    finite = {metric.value: bool(np.isfinite(metric.value)) for metric in metrics}
    lineage.add_metrics(
        session,
        [
            LoggedModelMetric(
                model_id=metric.model_id or "",
                run_id=run_id,
                key=metric.key,
                value=metric.value if finite[metric.value] else None,
                special=None if finite[metric.value] else series.special_name(metric.value),
                step=metric.step,
                time=metric.timestamp / 1000,
                dataset_name=metric.dataset_name or None,
                dataset_digest=metric.dataset_digest or None,
            )
            for metric in metrics
        ],
    )


def _set_tags(session: Session, run: Run, tags: Mapping[str, str]) -> None:
    columns, rest = _into_columns(tags, run.environment)
    for column, value in columns.items():
        setattr(run, column, value)
    if rest:
        store.set_tags(session, run.id, dict(rest))


def _into_columns(tags: Mapping[str, str], environment: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Tags that a run has a column for go there, so that both sides see one value; the columns, and what is left."""
    rest = dict(tags)
    columns: dict[str, Any] = {"environment": environment}
    for tag, column in (("mlflow.note.content", "notes"), ("mlflow.parentRunId", "parent_run_id")):
        if tag in rest:
            columns[column] = rest.pop(tag)
    if name := rest.pop("mlflow.runName", None):
        columns["name"] = name
    if "mlflow.user" in rest:
        columns["environment"] = {**environment, "user": rest.pop("mlflow.user")}
    return columns, rest
