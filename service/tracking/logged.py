"""Logged models: what a run saved before anyone registers it. The rules that both faces of the registry share."""

from __future__ import annotations

import json

from sqlmodel import Session

from service.errors import NotFound
from service.store import lineage as store
from service.store import mlflow_projects as projects
from service.store.tables import LoggedModel, ModelVersion
from service.tracking.mlflow.show import artifact_root

# Which registered versions a logged model became, as MLflow clients read it.
VERSIONS_TAG = "mlflow.modelVersions"


class LoggedModelNotFound(NotFound):
    code = "logged_model_not_found"


def get(session: Session, model_id: str, *, deleted: bool = False) -> LoggedModel:
    model = store.get_model(session, model_id, deleted=deleted)
    if model is None:
        raise _not_found(model_id)
    return model


def lock(session: Session, model_id: str) -> LoggedModel:
    """The model, deleted or not, for a change."""
    model = store.lock_model(session, model_id)
    if model is None:
        raise _not_found(model_id)
    return model


def _not_found(model_id: str) -> LoggedModelNotFound:
    return LoggedModelNotFound(f"Logged model with ID '{model_id}' not found.")


def location(session: Session, model: LoggedModel) -> str:
    """The address of the model's files."""
    project = projects.get(session, model.project_id)
    root = artifact_root(model.project_id, project.artifact_location if project else None)
    return f"{root}/models/{model.id}/artifacts"


def note_version(session: Session, model_id: str, version: ModelVersion) -> None:
    """Write on the logged model which version it became."""
    model = lock(session, model_id)
    noted = json.loads(model.tags.get(VERSIONS_TAG, "[]"))
    store.set_tags(model, {VERSIONS_TAG: json.dumps([*noted, {"name": version.name, "version": str(version.version)}])})
