"""Registered models, their versions and aliases; and the artifacts of runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from service.store.tables import Artifact, ModelAlias, ModelVersion, RegisteredModel


def add_version(session: Session, name: str, **fields: Any) -> ModelVersion:
    """The next version of `name`; the first is 1."""
    newest = session.exec(select(func.max(ModelVersion.version)).where(ModelVersion.name == name)).one()
    now = time.time()
    if session.get(RegisteredModel, name) is None:
        session.add(RegisteredModel(name=name, created_at=now, updated_at=now))
    version = ModelVersion(name=name, version=(newest or 0) + 1, created_at=now, updated_at=now, **fields)
    session.add(version)
    session.flush()
    return version


def get_version(session: Session, version_id: str) -> ModelVersion | None:
    version = session.get(ModelVersion, version_id)
    return None if version is None or version.deleted_at is not None else version


def find_version(session: Session, name: str, version: int) -> ModelVersion | None:
    query = select(ModelVersion).where(ModelVersion.name == name, ModelVersion.version == version)
    return session.exec(query.where(col(ModelVersion.deleted_at).is_(None))).first()


def versions(session: Session, *, name: str | None = None, run_id: str | None = None) -> list[ModelVersion]:
    """Newest first."""
    query = select(ModelVersion).where(col(ModelVersion.deleted_at).is_(None))
    query = query.order_by(col(ModelVersion.name), col(ModelVersion.version).desc())
    if name is not None:
        query = query.where(ModelVersion.name == name)
    if run_id is not None:
        query = query.where(ModelVersion.run_id == run_id)
    return list(session.exec(query).all())


def versions_by_id(session: Session, ids: Sequence[str]) -> dict[str, ModelVersion]:
    rows = session.exec(select(ModelVersion).where(col(ModelVersion.id).in_(ids))).all()
    return {row.id: row for row in rows}


def aliases(session: Session, version_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {version_id: [] for version_id in version_ids}
    query = select(ModelAlias).where(col(ModelAlias.model_version_id).in_(version_ids)).order_by(ModelAlias.alias)
    for row in session.exec(query).all():
        found[row.model_version_id].append(row.alias)
    return found


def set_alias(session: Session, name: str, alias: str, version_id: str) -> None:
    """Point the alias at this version; it leaves the one it pointed at."""
    row = session.get(ModelAlias, (name, alias))
    if row is None:
        session.add(ModelAlias(name=name, alias=alias, model_version_id=version_id))
    else:
        row.model_version_id = version_id
    session.flush()


def add_artifact(session: Session, *, run_id: str, path: str, kind: str, sha256: str, size: int) -> Artifact:
    """Record an artifact; the same path again replaces what it names."""
    row = session.exec(select(Artifact).where(Artifact.run_id == run_id, Artifact.path == path)).first()
    if row is None:
        row = Artifact(run_id=run_id, path=path, kind=kind, sha256=sha256, size=size, created_at=time.time())
        session.add(row)
    else:
        row.kind, row.sha256, row.size, row.created_at = kind, sha256, size, time.time()
    session.flush()
    return row


def artifacts(session: Session, run_id: str) -> list[Artifact]:
    return list(session.exec(select(Artifact).where(Artifact.run_id == run_id).order_by(Artifact.path)).all())


def get_artifact(session: Session, run_id: str, path: str) -> Artifact | None:
    return session.exec(select(Artifact).where(Artifact.run_id == run_id, Artifact.path == path)).first()
