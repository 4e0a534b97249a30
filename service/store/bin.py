"""The bin: what is deleted waits there, is listed, and comes back, until it is purged (`purge.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy import func
from sqlmodel import Session, col, select

from service.errors import Conflict
from service.store.tables import (
    Artifact,
    ArtifactAlias,
    ArtifactCollection,
    ArtifactUse,
    ArtifactVersion,
    Audit,
    AuditEvaluation,
    Evaluation,
    LoggedModel,
    ModelVersion,
    Project,
    Purge,
    Run,
    RunModel,
)
from service.store.upserts import upsert

STEP = 500  # runs that are looked up at once, and that move in one step at most
LEAST_CONDEMNED = 64  # runs that are condemned in a step at least: finding out what rests on one takes as long
POINT_BYTES = 8  # about what a point takes on disk once chunks are joined

_BINNED = col(Run.deleted_at).is_not(None)
_PURGING = sql.exists().where(col(Purge.kind) == "run", col(Purge.id) == col(Run.id))
_PROJECT_PURGING = sql.exists().where(
    col(Purge.kind) == "project", col(Purge.id) == sql.cast(col(Project.id), sql.String)
)

# A model that it logged is a version that lives.
_NAMED = sql.exists().where(
    col(LoggedModel.project_id) == col(Project.id),
    col(ModelVersion.logged_model_id) == col(LoggedModel.id),
    col(ModelVersion.deleted_at).is_(None),
)


class PurgeUnderWay(Conflict):
    """It is being deleted for good, and cannot come back."""

    code = "purge_under_way"


@dataclass(frozen=True)
class BinnedRun:
    """A run in the bin. `bytes` is an estimate: its points once packed, and its artifacts."""

    id: str
    name: str
    project: str
    deleted_at: float
    points: int
    bytes: int


@dataclass(frozen=True)
class BinnedProject:
    name: str
    deleted_at: float
    n_runs: int


@dataclass(frozen=True)
class Totals:
    """What the bin holds, and how many runs are on their way out of it for good."""

    n_runs: int
    bytes: int
    n_purging: int


# --- in, and out again ---


def put_runs(session: Session, ids: Sequence[str], at: float) -> int:
    """Move these runs into the bin; how many were not there yet."""
    move = sql.update(Run).where(col(Run.id).in_(ids), col(Run.deleted_at).is_(None))
    return session.connection().execute(move.values(deleted_at=at)).rowcount


def restore_runs(session: Session, ids: Sequence[str]) -> int:
    """Take these runs out, and their projects if those are in the bin too; what is being purged stays.

    A project comes back without its other runs.
    """
    back = sql.update(Run).where(col(Run.id).in_(ids), _BINNED, ~_PURGING)
    moved = session.connection().execute(back.values(deleted_at=None).returning(col(Run.project_id))).scalars().all()
    owners = sql.update(Project).where(col(Project.id).in_(set(moved)), col(Project.deleted_at).is_not(None))
    session.connection().execute(owners.values(deleted_at=None))
    return len(moved)


def known(session: Session, ids: Sequence[str]) -> set[str]:
    """Those of these runs that there are, in the bin or not."""
    return set(session.exec(select(Run.id).where(col(Run.id).in_(ids))).all())


def is_binned(session: Session, run_id: str) -> bool:
    return session.exec(select(Run.id).where(Run.id == run_id, _BINNED)).first() is not None


def is_purging(session: Session, run_id: str) -> bool:
    return session.get(Purge, ("run", run_id)) is not None


def project(session: Session, name: str) -> Project | None:
    """The project of this name, in the bin or not, for a change that no other writer may come between."""
    return session.exec(select(Project).where(Project.name == name).with_for_update()).first()


def project_is_purging(session: Session, project_id: int) -> bool:
    return session.get(Purge, ("project", str(project_id))) is not None


def stragglers(session: Session, after: tuple[int, str]) -> list[tuple[int, str, float]]:
    """The next runs that are not in the bin though their project is: project, run, and when the project went there."""
    of_binned = (
        sql.select(col(Run.project_id), col(Run.id), col(Project.deleted_at))
        .join(Project, col(Project.id) == col(Run.project_id))
        .where(col(Project.deleted_at).is_not(None), col(Run.deleted_at).is_(None))
        .where(sql.tuple_(col(Run.project_id), col(Run.id)) > sql.tuple_(*map(sql.literal, after)))
        .order_by(col(Run.project_id), col(Run.id))
        .limit(STEP)
    )
    return [(owner, run_id, at or 0.0) for owner, run_id, at in session.connection().execute(of_binned)]


def companions(session: Session, project_id: int, deleted_at: float, after: str) -> Sequence[str]:
    """The next runs that went into the bin together with their project."""
    together = select(Run.id).where(Run.project_id == project_id, Run.deleted_at == deleted_at, col(Run.id) > after)
    return session.exec(together.order_by(col(Run.id)).limit(STEP)).all()


# --- what is there ---


def totals(session: Session) -> Totals:
    counted = sql.select(func.count(), func.coalesce(func.sum(col(Run.points_stored)), 0)).where(_BINNED, ~_PURGING)
    n_runs, points = session.connection().execute(counted).one()
    files = sql.select(func.coalesce(func.sum(col(Artifact.size)), 0)).join(Run, col(Run.id) == col(Artifact.run_id))
    size = session.connection().execute(files.where(_BINNED, ~_PURGING)).scalar_one()
    purging = session.exec(select(func.count()).where(Purge.kind == "run")).one()
    return Totals(n_runs, int(points) * POINT_BYTES + int(size), purging)


def runs(session: Session, project: str | None, after: tuple[float, str] | None, limit: int) -> list[BinnedRun]:
    """Runs in the bin, those deleted last first. `after`: time of deletion and id of the last run seen."""
    query = (
        sql.select(col(Run.id), col(Run.name), col(Project.name), col(Run.deleted_at), col(Run.points_stored))
        .join(Project, col(Project.id) == col(Run.project_id))
        .where(_BINNED, ~_PURGING)
        .order_by(col(Run.deleted_at).desc(), col(Run.id).desc())
        .limit(limit)
    )
    if project is not None:
        query = query.where(col(Project.name) == project)
    if after is not None:
        query = query.where(sql.tuple_(col(Run.deleted_at), col(Run.id)) < sql.tuple_(*map(sql.literal, after)))
    rows: Sequence[Any] = session.connection().execute(query).all()
    sizes = sql.select(col(Artifact.run_id), func.sum(col(Artifact.size))).group_by(col(Artifact.run_id))
    own = sizes.where(col(Artifact.run_id).in_([row[0] for row in rows]))
    files: dict[str, int] = dict(iter(session.connection().execute(own)))
    return [
        BinnedRun(run_id, name, owner, at, points, points * POINT_BYTES + int(files.get(run_id, 0)))
        for run_id, name, owner, at, points in rows
    ]


def projects(session: Session) -> list[BinnedProject]:
    """Projects in the bin, each with how many runs it has there."""
    query = (
        sql.select(col(Project.name), col(Project.deleted_at), func.count(col(Run.id)))
        .join(Run, col(Run.project_id) == col(Project.id), isouter=True)
        .where(col(Project.deleted_at).is_not(None), ~_PROJECT_PURGING)
        .group_by(col(Project.id), col(Project.name), col(Project.deleted_at))
        .order_by(col(Project.name))
    )
    return [BinnedProject(name, at or 0.0, n_runs) for name, at, n_runs in session.connection().execute(query)]


def kept(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """Those of these runs that must not be purged, each with the reason: what still rests on it."""
    reasons: dict[str, list[str]] = {}

    def note(query: Any, say: Callable[..., str]) -> None:
        for run_id, *rest in session.connection().execute(query):
            reasons.setdefault(run_id, []).append(say(*rest))

    versions = sql.select(col(ModelVersion.run_id), col(ModelVersion.name), col(ModelVersion.version))
    living = col(ModelVersion.deleted_at).is_(None)
    note(versions.where(col(ModelVersion.run_id).in_(ids), living), "version {1} of model '{0}' comes from it".format)
    logged = sql.select(col(LoggedModel.run_id), col(ModelVersion.name), col(ModelVersion.version))
    logged = logged.join(ModelVersion, col(ModelVersion.logged_model_id) == col(LoggedModel.id))
    elsewhere = col(ModelVersion.run_id).is_distinct_from(col(LoggedModel.run_id))
    logged = logged.where(col(LoggedModel.run_id).in_(ids), living, elsewhere)
    note(logged, "version {1} of model '{0}' is a model that it logged".format)
    other = sql.select(col(LoggedModel.run_id), col(RunModel.run_id))
    other = other.join(RunModel, col(RunModel.logged_model_id) == col(LoggedModel.id))
    other = other.join(Run, col(Run.id) == col(RunModel.run_id)).where(col(Run.deleted_at).is_(None))
    note(other.where(col(LoggedModel.run_id).in_(ids)), "the run {0} uses a model that it logged".format)
    audits = sql.select(col(Audit.run_id), func.count()).where(col(Audit.run_id).in_(ids))
    note(audits.group_by(col(Audit.run_id)), lambda n: f"{_audits(n)} on it")
    through = sql.select(col(Evaluation.run_id), func.count(col(AuditEvaluation.audit_id).distinct()))
    through = through.join(AuditEvaluation, col(AuditEvaluation.evaluation_id) == col(Evaluation.id))
    through = through.where(col(Evaluation.run_id).in_(ids)).group_by(col(Evaluation.run_id))
    note(through, lambda n: f"{_audits(n)} on its evaluations")
    made = (col(ArtifactVersion.run_id), col(ArtifactCollection.name), col(ArtifactVersion.version))
    of_them = col(ArtifactVersion.run_id).in_(ids)
    owner = sql.join(ArtifactVersion, ArtifactCollection, col(ArtifactCollection.id) == ArtifactVersion.collection_id)
    named = sql.select(*made, col(ArtifactAlias.alias)).select_from(owner)
    named = named.join(ArtifactAlias, col(ArtifactAlias.version_id) == ArtifactVersion.id).where(of_them)
    note(named, "version {1} of the artifact '{0}' is its '{2}'".format)
    used = sql.select(*made, col(ArtifactUse.run_id)).select_from(owner)
    used = used.join(ArtifactUse, col(ArtifactUse.version_id) == ArtifactVersion.id)
    used = used.join(Run, col(Run.id) == col(ArtifactUse.run_id)).where(col(Run.deleted_at).is_(None), of_them)
    foreign = used.where(col(ArtifactUse.run_id) != col(ArtifactVersion.run_id)).distinct()
    note(foreign, "the run {2} has version {1} of the artifact '{0}'".format)
    return {run_id: "; ".join(found) for run_id, found in reasons.items()}


def _audits(n: int) -> str:
    return "an audit rests" if n == 1 else f"{n:,} audits rest"


def hold(session: Session, ids: Iterable[str | None]) -> None:
    """Keep these runs from being purged until the transaction ends: something that rests on them is being stored.

    Raises:
        PurgeUnderWay: one of them is going, or gone.
    """
    wanted = {run_id for run_id in ids if run_id is not None}
    if not wanted:
        return
    rows = select(Run.id).where(col(Run.id).in_(wanted)).order_by(col(Run.id)).with_for_update(read=True)
    there = set(session.exec(rows).all())
    going = session.exec(select(Purge.id).where(Purge.kind == "run", col(Purge.id).in_(wanted))).all()
    if lost := sorted((wanted - there) | set(going)):
        raise PurgeUnderWay(f"The run '{lost[0]}' is being purged: nothing that rests on it can be stored.")


# --- out for good ---


def expired(
    session: Session, before: float, after: tuple[float, str], project_id: int | None = None
) -> list[tuple[float, str]]:
    """The next runs that went into the bin before then and are not being purged, the oldest first."""
    query = (
        sql.select(col(Run.deleted_at), col(Run.id))
        .where(_BINNED, ~_PURGING, col(Run.deleted_at) < before)
        .where(sql.tuple_(col(Run.deleted_at), col(Run.id)) > sql.tuple_(*map(sql.literal, after)))
        .order_by(col(Run.deleted_at), col(Run.id))
        .limit(STEP)
    )
    if project_id is not None:
        query = query.where(col(Run.project_id) == project_id)
    return [(at or 0.0, run_id) for at, run_id in session.connection().execute(query)]


def condemn(session: Session, ids: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Let these runs be purged, as far as they are in the bin: how many go, and those kept, with the reason."""
    rows = select(Run.id).where(col(Run.id).in_(ids), _BINNED).order_by(col(Run.id)).with_for_update()
    binned = session.exec(rows).all()
    reasons = kept(session, binned)
    going = [{"kind": "run", "id": i, "asked_at": time.time()} for i in binned if i not in reasons]
    upsert(session, Purge, going, replace=["asked_at"])
    return len(going), reasons


def emptied_projects(session: Session, before: float, project_id: int | None = None) -> Sequence[int]:
    """The projects that went into the bin before then, whose runs are all going."""
    staying = sql.exists().where(col(Run.project_id) == col(Project.id), ~_PURGING)
    # MLflow clients log to project 0 unasked: it is emptied, but stays.
    query = select(Project.id).where(col(Project.deleted_at) < before, col(Project.id) != 0, ~staying, ~_NAMED)
    if project_id is not None:
        query = query.where(Project.id == project_id)
    return [one for one in session.exec(query.where(~_PROJECT_PURGING)).all() if one is not None]


def condemn_projects(session: Session, ids: Sequence[int]) -> None:
    """Let these projects be purged, as far as they are in the bin still. One with a run is not (`purge.delete`)."""
    binned = select(Project.id).where(col(Project.id).in_(ids), col(Project.deleted_at).is_not(None), ~_NAMED)
    going = session.exec(binned.with_for_update()).all()
    rows = [{"kind": "project", "id": str(one), "asked_at": time.time()} for one in going]
    upsert(session, Purge, rows, replace=["asked_at"])
