"""Rows as MLflow's objects. Pure: rows in, dictionaries out, every number in them finite or named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.store.mlflow_filters import STATUS
from service.store.mlflow_runs import Data, Last
from service.store.mlflow_search import Info
from service.store.tables import Project, RunModel
from service.tracking.mlflow.wire import milliseconds


def run(info: Info, data: Data, models: Sequence[RunModel]) -> dict[str, Any]:
    inputs = [model for model in models if model.role == "input"]
    outputs = [model for model in models if model.role == "output"]
    return {
        "info": run_info(info),
        "data": {
            "metrics": [_metric(last) for last in data.metrics],
            "params": pairs(data.params),
            "tags": pairs(_tags(info, data)),
        },
        "inputs": {
            "dataset_inputs": [_dataset_input(dataset, tags) for dataset, tags in data.datasets],
            "model_inputs": [{"model_id": model.logged_model_id} for model in inputs],
        },
        "outputs": {"model_outputs": [{"model_id": model.logged_model_id, "step": model.step} for model in outputs]},
    }


def run_info(info: Info) -> dict[str, Any]:
    shown = {
        "run_id": info.id,
        "run_uuid": info.id,
        "run_name": info.name,
        "experiment_id": str(info.project_id),
        "user_id": info.user or "",
        "status": STATUS.get(info.status, "RUNNING"),
        "start_time": milliseconds(info.created_at),
        "artifact_uri": f"{artifact_root(info.project_id, info.artifact_location)}/{info.id}/artifacts",
        "lifecycle_stage": stage(info.deleted_at),
    }
    if info.finished_at is not None:
        shown["end_time"] = milliseconds(info.finished_at)
    return shown


def artifact_root(project_id: int, location: str | None) -> str:
    """Where clients put the files of an experiment's runs: with this service, unless another place was given."""
    return (location or f"mlflow-artifacts:/{project_id}").rstrip("/")


def stage(deleted_at: float | None) -> str:
    return "active" if deleted_at is None else "deleted"


def experiment(project: Project, tags: Sequence[tuple[str, str]]) -> dict[str, Any]:
    assert project.id is not None
    return {
        "experiment_id": str(project.id),
        "name": project.name,
        "artifact_location": artifact_root(project.id, project.artifact_location),
        "lifecycle_stage": stage(project.deleted_at),
        "creation_time": milliseconds(project.created_at),
        "last_update_time": milliseconds(project.updated_at),
        "tags": pairs(tags),
    }


def pairs(given: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in given]


def _tags(info: Info, data: Data) -> list[tuple[str, str]]:
    """A run's tags, with what MLflow keeps as tags and a run has columns for."""
    columns = [
        ("mlflow.note.content", info.notes),
        ("mlflow.parentRunId", info.parent_run_id),
        ("mlflow.runName", info.name),
        # What a client says when it does not know.
        ("mlflow.user", info.user if info.user != "unknown" else None),
    ]
    return [*data.tags, *((key, value) for key, value in columns if value is not None)]


def _metric(last: Last) -> dict[str, Any]:
    value = last.special if last.value is None else last.value
    return {"key": last.key, "value": value, "timestamp": milliseconds(last.time), "step": last.step}


def _dataset_input(dataset: Any, tags: dict[str, str]) -> dict[str, Any]:
    shown = {
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.columns,
        "profile": dataset.profile,
    }
    return {
        "dataset": {key: value for key, value in shown.items() if value is not None},
        "tags": pairs(list(tags.items())),
    }
