"""What MLflow clients may do to a logged model: one that a run saved, with or without registering it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlmodel import Session

from service.store import lineage as store
from service.store import lineage_search as search_store
from service.store import mlflow_runs
from service.store.lineage_search import ModelOrder, OnDataset
from service.store.tables import LoggedModel, LoggedModelMetric
from service.tracking import logged
from service.tracking.mlflow import experiments, limits, runs, show, wire
from service.tracking.mlflow.errors import InvalidParameterValue, ResourceDoesNotExist
from service.tracking.mlflow.grammar import Grammar, page_offset, page_token, parse_filter
from service.tracking.mlflow.messages import KeyValue
from service.tracking.names import invent_name

# As in the protocol, by number.
STATUSES = {
    "LOGGED_MODEL_STATUS_UNSPECIFIED": "UNSPECIFIED",
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}
MAX_RESULTS = 100
_BAD_IN_NAMES = ("/", ":", ".", "%", '"', "'")
LANGUAGE = Grammar(
    kinds={"attributes": "attribute", "metrics": "metric", "params": "param", "tags": "tag"},
    attributes={
        **dict.fromkeys(("creation_time", "creation_timestamp", "creation_timestamp_ms"), "created_at"),
        **dict.fromkeys(("last_updated_timestamp", "last_updated_timestamp_ms"), "updated_at"),
        **{name: name for name in ("name", "model_type", "status")},
        "model_id": "id",
        "source_run_id": "run_id",
    },
    numbers=frozenset({"created_at", "updated_at"}),
    lists=frozenset({"name", "model_type", "status", "id", "run_id"}),
    listed=frozenset({"param", "tag"}),
    nullable=frozenset(),
)


class Create(msgspec.Struct):
    experiment_id: wire.Text
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class Finalize(msgspec.Struct):
    status: str | int


class Params(msgspec.Struct):
    params: list[KeyValue] = []


class Tags(msgspec.Struct):
    tags: list[KeyValue] = []


class Dataset(msgspec.Struct):
    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(Dataset):
    field_name: str = ""
    ascending: bool = True


class Search(msgspec.Struct):
    experiment_ids: list[str]
    filter: str = ""
    datasets: list[Dataset] = []
    max_results: wire.Int64 = MAX_RESULTS
    order_by: list[OrderBy] = []
    page_token: str = ""


class Output(msgspec.Struct):
    model_id: wire.Text
    step: wire.Int64 = 0


class LogOutputs(wire.RunRequest, kw_only=True):
    models: list[Output]


def create(session: Session, given: Create) -> LoggedModel:
    if any(sign in given.name for sign in _BAD_IN_NAMES):
        raise InvalidParameterValue(
            f"Invalid model name ({given.name!r}) provided. Model name must be a non-empty string and cannot contain "
            f"the following characters: {_BAD_IN_NAMES}"
        )
    project = experiments.active(session, given.experiment_id)
    if given.source_run_id and mlflow_runs.info(session, given.source_run_id) is None:
        raise ResourceDoesNotExist(f"Run with id={given.source_run_id} not found")
    model = store.create_model(
        session,
        project_id=project.id,
        name=given.name,
        run_id=given.source_run_id or None,
        model_type=given.model_type or None,
        params=_values(given.params),
        tags=_values(given.tags),
    )
    model.name = model.name or invent_name(model.id)
    return model


def _values(given: Sequence[KeyValue]) -> dict[str, str]:
    for one in given:
        limits.check_length("key", limits.KEY, one.key)
    return {one.key: one.value for one in given}


def finalize(session: Session, model_id: str, given: Finalize) -> LoggedModel:
    text = str(given.status)
    name = list(STATUSES)[int(text)] if text in {"0", "1", "2", "3"} else text
    if name not in STATUSES:
        raise InvalidParameterValue(wire.invalid_value("status", given.status))
    model = logged.lock(session, model_id)
    store.set_status(model, STATUSES[name])
    return model


def add_params(session: Session, model_id: str, given: Params) -> None:
    store.add_params(logged.lock(session, model_id), _values(given.params))


def set_tags(session: Session, model_id: str, given: Tags) -> None:
    store.set_tags(logged.lock(session, model_id), _values(given.tags))


def delete_tag(session: Session, model_id: str, key: str) -> None:
    model = logged.lock(session, model_id)
    if key not in model.tags:
        raise ResourceDoesNotExist(f"No tag with key {key!r} found for model with ID {model_id!r}.")
    store.set_tags(model, {key: None})


def log_outputs(session: Session, given: LogOutputs) -> None:
    """Link models to the run that made them."""
    run = runs.active(session, given.run_id)
    for output in given.models:
        logged.get(session, output.model_id)
    store.link_run(session, run.id, "output", {output.model_id: output.step for output in given.models})


def search(session: Session, given: Search) -> tuple[list[LoggedModel], str | None]:
    """A page of models, and the token of the next one."""
    if not all(dataset.dataset_name for dataset in given.datasets):
        raise InvalidParameterValue("`dataset_name` in the `datasets` clause must be specified.")
    limit, offset = limits.check_results(given.max_results or MAX_RESULTS), page_offset(given.page_token)
    found = search_store.find_models(
        session,
        [experiments.number(experiment_id) for experiment_id in given.experiment_ids],
        clauses=parse_filter(given.filter, LANGUAGE),
        datasets=[OnDataset(one.dataset_name, one.dataset_digest or None) for one in given.datasets],
        orders=[_order(one) for one in given.order_by],
        offset=offset,
        limit=limit + 1,
    )
    return found[:limit], page_token(offset + limit) if len(found) > limit else None


def _order(given: OrderBy) -> ModelOrder:
    name = given.field_name
    dataset = OnDataset(given.dataset_name, given.dataset_digest or None) if given.dataset_name else None
    if name.startswith("metrics."):
        return ModelOrder("metric", name.removeprefix("metrics.").strip("`"), not given.ascending, dataset)
    if "." in name:
        raise InvalidParameterValue(f"Invalid order by field name: {name}. Only metrics are supported.")
    if name not in LANGUAGE.attributes:
        raise InvalidParameterValue(f"Invalid order by field name: {name}")
    return ModelOrder("attribute", LANGUAGE.attributes[name], not given.ascending)


def shown(session: Session, models: Sequence[LoggedModel]) -> list[dict[str, Any]]:
    """Logged models as MLflow shows them, with everything measured on them."""
    metrics = store.metrics(session, [model.id for model in models])
    names = {ours: theirs for theirs, ours in STATUSES.items()}
    return [
        {
            "info": {
                "model_id": model.id,
                "experiment_id": str(model.project_id),
                "name": model.name,
                "creation_timestamp_ms": wire.milliseconds(model.created_at),
                "last_updated_timestamp_ms": wire.milliseconds(model.updated_at),
                "artifact_uri": logged.location(session, model),
                "status": names[model.status],
                "status_message": model.status_message or "",
                "model_type": model.model_type or "",
                "source_run_id": model.run_id or "",
                "tags": show.pairs(list(model.tags.items())),
            },
            "data": {
                "params": show.pairs(list(model.params.items())),
                "metrics": [_metric(row) for row in metrics[model.id]],
            },
        }
        for model in models
    ]


def _metric(row: LoggedModelMetric) -> dict[str, Any]:
    shown = {
        "key": row.key,
        "value": row.special if row.value is None else row.value,
        "timestamp": wire.milliseconds(row.time),
        "step": row.step,
        "model_id": row.model_id,
        "run_id": row.run_id,
        "dataset_name": row.dataset_name,
        "dataset_digest": row.dataset_digest,
    }
    return {key: value for key, value in shown.items() if value is not None}
