"""Logged models: what a run saved before anyone registers it. The rules that both faces of the registry share."""

from __future__ import annotations

import json
import math

from sqlmodel import Session

from service.errors import Conflict, NotFound
from service.store import lineage as store
from service.store import mlflow_projects as projects
from service.store import runs as run_store
from service.store import series
from service.store.tables import LoggedModel, LoggedModelMetric, ModelVersion
from service.tracking import runs
from service.tracking.logged_model_schemas import LoggedModelOut, LoggedModelPut, MadeBy, Measured
from service.tracking.mlflow.show import artifact_root

# Which registered versions a logged model became, as MLflow clients read it.
VERSIONS_TAG = "mlflow.modelVersions"


class LoggedModelNotFound(NotFound):
    code = "logged_model_not_found"


class LoggedModelElsewhere(Conflict):
    """The id is that of a model in another project, or of one that was deleted."""

    code = "logged_model_exists"


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


def put(session: Session, model_id: str, given: LoggedModelPut) -> LoggedModel:
    """The model of this id as it is given; what it was measured and linked to before stays.

    Raises:
        RunNotFound, RunInBin: a run that is named is not here.
        LoggedModelElsewhere: the id is taken by a model of another project, or by one that was deleted.
    """
    project_id = run_store.project_id(session, given.project)
    held = store.get_model(session, model_id, deleted=True)
    if held is not None and (held.project_id != project_id or held.deleted_at is not None):
        why = "was deleted here" if held.deleted_at is not None else "is in another project"
        raise LoggedModelElsewhere(f"The logged model '{model_id}' {why}. Choose another id.")
    named = {given.run_id, *given.used_by, *(one.run_id for one in given.made_by)}
    named |= {one.run_id for one in given.metrics}
    for run_id in sorted(one for one in named if one is not None):
        runs.get(session, run_id)
    fields = given.model_dump(exclude={"project", "made_by", "used_by", "metrics"})
    model = store.put_model(session, model_id, project_id=project_id, **fields)
    for link in given.made_by:
        store.link_run(session, link.run_id, "output", {model_id: link.step})
    for run_id in given.used_by:
        store.link_run(session, run_id, "input", {model_id: 0})
    if given.metrics:
        store.add_metrics(session, [_measured(model_id, one) for one in given.metrics])
    return model


def _measured(model_id: str, given: Measured) -> LoggedModelMetric:
    value = float(given.value)
    finite = math.isfinite(value)
    return LoggedModelMetric(
        model_id=model_id,
        **given.model_dump(exclude={"value"}),
        value=value if finite else None,
        special=None if finite else series.special_name(value),
    )


def show(session: Session, model: LoggedModel) -> LoggedModelOut:
    links = store.runs_of_model(session, model.id)
    return LoggedModelOut(
        **model.model_dump(exclude={"project_id"}),
        project=run_store.project_names(session, [model.project_id])[model.project_id],
        made_by=[MadeBy(run_id=link.run_id, step=link.step) for link in links if link.role == "output"],
        used_by=[link.run_id for link in links if link.role == "input"],
        metrics=[
            Measured(
                **row.model_dump(include={"run_id", "key", "step", "time", "dataset_name", "dataset_digest"}),
                value=row.special if row.value is None else row.value,
            )
            for row in store.metrics(session, [model.id])[model.id]
        ],
    )
