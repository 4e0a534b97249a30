"""Walking the record: from a run or a model version to everything that came of it, and back."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from sqlmodel import Session

from service.shapes import ModelVersionOut, Reply
from service.store import artifact_versions as artifact_store
from service.store import lineage, registry
from service.store import links as store
from service.store import runs as run_store
from service.store.tables import ModelVersion
from service.tracking import artifact_versions
from service.tracking.artifact_version_schemas import ArtifactVersionOut
from service.tracking.models import show


class EvaluationLink(Reply):
    id: str
    suite: str
    suite_version: int
    name: str | None
    step: int | None
    model_version_id: str | None
    run_id: str | None
    metric: str | None
    value: float | None
    interval: tuple[float, float] | None
    created_at: float


class AuditLink(Reply):
    id: str
    policy: str
    verdict: str
    run_id: str | None
    before_version_id: str | None
    after_version_id: str | None
    created_at: float


class ExperimentLink(Reply):
    key: str
    name: str
    status: str
    variant: str
    model_version_id: str


class RunLink(Reply):
    id: str
    name: str
    status: str
    data_hash: str | None


class DatasetLink(Reply):
    id: str
    name: str
    digest: str
    source_type: str
    source: str = Field(description="Where it can be read again, as the client wrote it.")
    context: str | None = Field(description="What the run read it as: training, evaluation, …")


class LoggedModelLink(Reply):
    id: str
    name: str
    model_type: str | None
    status: str
    role: str = Field(description="`output`: the run made it; `input`: the run used it.")
    step: int


class RunLinks(Reply):
    artifacts_made: list[ArtifactVersionOut] = Field(description="Versions of artifacts that the run logged.")
    artifacts_used: list[ArtifactVersionOut]
    datasets: list[DatasetLink]
    logged_models: list[LoggedModelLink]
    model_versions: list[ModelVersionOut]
    evaluations: list[EvaluationLink]
    audits: list[AuditLink]
    experiments: list[ExperimentLink]


class VersionLinks(Reply):
    run: RunLink | None
    datasets: list[DatasetLink] = Field(description="What the version's run read.")
    base: ModelVersionOut | None
    evaluations: list[EvaluationLink]
    audits: list[AuditLink]
    experiments: list[ExperimentLink]


def of_run(session: Session, run_id: str) -> RunLinks:
    versions = registry.versions(session, run_id=run_id)
    ids = [version.id for version in versions]
    return RunLinks(
        artifacts_made=artifact_versions.show(session, artifact_store.of_run(session, run_id, "output")),
        artifacts_used=artifact_versions.show(session, artifact_store.of_run(session, run_id, "input")),
        datasets=_datasets(session, run_id),
        logged_models=_logged_models(session, run_id),
        model_versions=show(session, versions),
        evaluations=_evaluations(session, run_id, ids),
        audits=_audits(session, run_id, ids),
        experiments=_experiments(session, ids),
    )


def of_version(session: Session, version: ModelVersion) -> VersionLinks:
    run = run_store.get(session, version.run_id) if version.run_id else None
    base = registry.get_version(session, version.base_version_id, deleted=True) if version.base_version_id else None
    return VersionLinks(
        run=RunLink.model_validate(run, from_attributes=True) if run else None,
        datasets=_datasets(session, run.id) if run else [],
        base=show(session, [base])[0] if base else None,
        evaluations=_evaluations(session, None, [version.id]),
        audits=_audits(session, None, [version.id]),
        experiments=_experiments(session, [version.id]),
    )


def _datasets(session: Session, run_id: str) -> list[DatasetLink]:
    return [
        DatasetLink(**dataset.model_dump(), context=tags.get("mlflow.data.context"))
        for dataset, tags in lineage.datasets(session, run_id)
    ]


def _logged_models(session: Session, run_id: str) -> list[LoggedModelLink]:
    used = lineage.of_runs(session, [run_id])[run_id]
    models = lineage.logged_by_id(session, [row.logged_model_id for row in used])
    return [LoggedModelLink(**models[row.logged_model_id].model_dump(), role=row.role, step=row.step) for row in used]


def _evaluations(session: Session, run_id: str | None, version_ids: Sequence[str]) -> list[EvaluationLink]:
    found = []
    for evaluation, suite in store.evaluations(session, run_id=run_id, version_ids=version_ids):
        primary = suite.definition.get("primary_metric")
        score = next((s for s in evaluation.scores if s["name"] == primary), next(iter(evaluation.scores), {}))
        found.append(
            EvaluationLink(
                **evaluation.model_dump(include={"id", "name", "step", "model_version_id", "run_id", "created_at"}),
                suite=suite.name,
                suite_version=suite.version,
                metric=score.get("name"),
                value=score.get("value"),
                interval=score.get("interval"),
            )
        )
    return found


def _audits(session: Session, run_id: str | None, version_ids: Sequence[str]) -> list[AuditLink]:
    return [
        AuditLink(**audit.model_dump(include=set(AuditLink.model_fields) - {"policy"}), policy=policy.name)
        for audit, policy in store.audits(session, run_id=run_id, version_ids=version_ids)
    ]


def _experiments(session: Session, version_ids: Sequence[str]) -> list[ExperimentLink]:
    wanted = set(version_ids)
    return [
        ExperimentLink(
            key=experiment.key,
            name=experiment.name,
            status=experiment.status,
            variant=variant["key"],
            model_version_id=variant["model_version_id"],
        )
        for experiment in store.experiments(session)
        for variant in experiment.plan.get("variants", [])
        if variant.get("model_version_id") in wanted
    ]
