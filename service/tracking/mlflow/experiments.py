"""What MLflow clients may do to an experiment, which is a project here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session

from service.store import mlflow_projects as store
from service.store import mlflow_runs
from service.store.mlflow_filters import Clause
from service.store.tables import Project
from service.tracking.mlflow import limits, show
from service.tracking.mlflow.errors import (
    InvalidParameterValue,
    InvalidState,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from service.tracking.mlflow.grammar import EXPERIMENTS, page_offset, page_token, parse_filter, parse_order
from service.tracking.mlflow.messages import CreateExperiment, KeyValue, SearchExperiments
from service.tracking.mlflow.wire import invalid_value

_VIEWS = {"ACTIVE_ONLY": False, "DELETED_ONLY": True, "ALL": None}
_DATASETS_SHOWN = 1000


def number(experiment_id: str) -> int:
    """The project's id behind an experiment's."""
    try:
        found = int(experiment_id)
    except ValueError:
        found = 2**63
    if not -(2**31) <= found < 2**31:
        raise InvalidParameterValue(f"Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer.")
    return found


def in_bin(view: str | int) -> bool | None:
    """A view type, by name or number: only the bin, only the rest, or (None) both."""
    name = list(_VIEWS)[int(view) - 1] if str(view) in {"1", "2", "3"} else str(view)
    if name not in _VIEWS:
        raise InvalidParameterValue(invalid_value("view_type", view))
    return _VIEWS[name]


def get(session: Session, experiment_id: str) -> Project:
    project = store.get(session, number(experiment_id))
    if project is None:
        raise ResourceDoesNotExist(f"No Experiment with id={number(experiment_id)} exists")
    return project


def active(session: Session, experiment_id: str) -> Project:
    project = get(session, experiment_id)
    if project.deleted_at is not None:
        raise InvalidParameterValue(
            f"The experiment {experiment_id} must be in the 'active' state. Current state is deleted."
        )
    return project


def shown(session: Session, projects: list[Project]) -> list[dict[str, Any]]:
    tags = store.tags(session, [project.id for project in projects if project.id is not None])
    return [show.experiment(project, tags[project.id or 0]) for project in projects]


def by_name(session: Session, name: str) -> Project:
    """In the bin or not."""
    project = store.by_name(session, name)
    if project is None:
        raise ResourceDoesNotExist(f"Could not find experiment with name '{name}'")
    return project


def create(session: Session, given: CreateExperiment) -> str:
    limits.check_length("name", limits.EXPERIMENT_NAME, given.name)
    _check_location(given.artifact_location)
    tags = dict(limits.experiment_tag(one) for one in given.tags)
    project = store.add(session, given.name, given.artifact_location or None)
    if project is None or project.id is None:
        raise _taken(session, given.name)
    store.set_tags(session, project.id, tags)
    return str(project.id)


def _check_location(location: str) -> None:
    parts = urlsplit(location)
    if parts.fragment or ";" in parts.path:
        raise InvalidParameterValue("'artifact_location' URL can't include fragments or params.")
    if location.startswith("runs:"):
        raise InvalidParameterValue(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")
    if ".." in parts.path.split("/"):
        raise InvalidParameterValue("Invalid artifact location: it must not contain '..'.")


def _taken(session: Session, name: str) -> ResourceAlreadyExists:
    held = store.by_name(session, name)
    binned = held is not None and held.deleted_at is not None
    advice = " in deleted state: restore it, or choose another name" if binned else ""
    return ResourceAlreadyExists(f"Experiment(name={name}) already exists{advice}.")


def rename(session: Session, experiment_id: str, name: str) -> None:
    limits.check_length("name", limits.EXPERIMENT_NAME, name)
    project = get(session, experiment_id)
    if project.deleted_at is not None:
        raise InvalidState("Cannot rename a non-active experiment.")
    if not store.rename(session, project, name):
        raise _taken(session, name)


def bin_or_restore(session: Session, experiment_id: str, *, binned: bool) -> None:
    project = store.lock(session, number(experiment_id))
    if project is None or (project.deleted_at is not None) == binned:
        raise ResourceDoesNotExist(f"No Experiment with id={number(experiment_id)} exists")
    store.move_to_bin(session, project, binned=binned)


def set_tag(session: Session, experiment_id: str, given: KeyValue) -> None:
    key, value = limits.experiment_tag(given)
    project = active(session, experiment_id)
    assert project.id is not None
    store.set_tags(session, project.id, {key: value})


def delete_tag(session: Session, experiment_id: str, key: str) -> None:
    project = active(session, experiment_id)
    if project.id is None or not store.delete_tag(session, project.id, key):
        raise ResourceDoesNotExist(f"No tag with name: {key} in experiment with id {experiment_id}")


def search(session: Session, given: SearchExperiments) -> tuple[list[dict[str, Any]], str | None]:
    """A page of experiments, and the token of the next."""
    limit = limits.check_results(given.max_results)
    clauses = [_numbered(clause) for clause in parse_filter(given.filter, EXPERIMENTS)]
    orders = parse_order(given.order_by, EXPERIMENTS)
    offset = page_offset(given.page_token)
    found = store.search(
        session, clauses=clauses, orders=orders, deleted=in_bin(given.view_type), offset=offset, limit=limit + 1
    )
    following = page_token(offset + limit) if len(found) > limit else None
    return shown(session, found[:limit]), following


def _numbered(clause: Clause) -> Clause:
    """Ids are text on the wire and numbers in the table."""
    if (clause.kind, clause.key) != ("attribute", "experiment_id"):
        return clause
    if isinstance(clause.value, tuple):
        return replace(clause, value=tuple(number(str(one)) for one in clause.value))
    return replace(clause, value=number(str(clause.value)))


def datasets(session: Session, experiment_ids: list[str]) -> list[dict[str, Any]]:
    """Summaries of the data sets that runs of these experiments read."""
    if not experiment_ids:
        raise InvalidParameterValue("SearchDatasets request must specify at least one experiment_id.")
    if len(experiment_ids) > limits.DATASET_EXPERIMENTS:
        raise InvalidParameterValue(
            f"SearchDatasets request cannot specify more than {limits.DATASET_EXPERIMENTS} experiment_ids. "
            f"Received {len(experiment_ids)} experiment_ids."
        )
    found = mlflow_runs.datasets_in_use(session, [number(one) for one in experiment_ids], _DATASETS_SHOWN)
    return [
        {"experiment_id": str(project), "name": name, "digest": digest, **({"context": said} if said else {})}
        for project, name, digest, said in found
    ]
