"""The versions of artifacts, their aliases, and which runs made and used them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, select

from service.store.tables import (
    Artifact,
    ArtifactAlias,
    ArtifactCollection,
    ArtifactUse,
    ArtifactVersion,
    ArtifactVersionFile,
    Project,
    Run,
)
from service.store.upserts import upsert


class Found(NamedTuple):
    """A version, and where it belongs."""

    version: ArtifactVersion
    collection: ArtifactCollection
    project: str


def artifacts_at(session: Session, run_id: str, paths: Sequence[str]) -> dict[str, Artifact]:
    """The files of a run at these paths, as far as there are any."""
    found: dict[str, Artifact] = {}
    for start in range(0, len(paths), 500):
        query = select(Artifact).where(Artifact.run_id == run_id, col(Artifact.path).in_(paths[start : start + 500]))
        found.update({row.path: row for row in session.exec(query).all()})
    return found


def collection(session: Session, project_id: int, name: str) -> ArtifactCollection | None:
    query = select(ArtifactCollection)
    return session.exec(
        query.where(ArtifactCollection.project_id == project_id, ArtifactCollection.name == name)
    ).first()


def lock_collection(session: Session, project_id: int, name: str, kind: str) -> ArtifactCollection:
    """The collection, made if need be, for a change that no other writer may come between."""
    own = select(ArtifactCollection).where(ArtifactCollection.project_id == project_id, ArtifactCollection.name == name)
    found = session.exec(own.with_for_update()).first()
    if found is None:
        try:
            with session.begin_nested():
                session.add(ArtifactCollection(project_id=project_id, name=name, kind=kind, created_at=time.time()))
        except IntegrityError:  # another writer was faster
            pass
        found = session.exec(own.with_for_update()).one()
    return found


def newest(session: Session, collection_id: str) -> ArtifactVersion | None:
    query = select(ArtifactVersion).where(ArtifactVersion.collection_id == collection_id)
    return session.exec(query.order_by(col(ArtifactVersion.version).desc()).limit(1)).first()


def numbered(session: Session, collection_id: str, version: int) -> ArtifactVersion | None:
    query = select(ArtifactVersion).where(ArtifactVersion.collection_id == collection_id)
    return session.exec(query.where(ArtifactVersion.version == version)).first()


def by_alias(session: Session, collection_id: str, alias: str) -> ArtifactVersion | None:
    query = select(ArtifactVersion).join(ArtifactAlias, col(ArtifactAlias.version_id) == ArtifactVersion.id)
    return session.exec(query.where(ArtifactAlias.collection_id == collection_id, ArtifactAlias.alias == alias)).first()


def add_version(
    session: Session,
    owner: ArtifactCollection,
    run_id: str,
    digest: str,
    files: Mapping[str, Artifact],
    about: dict[str, Any],
) -> ArtifactVersion:
    """The next version. Lock the collection before."""
    last = newest(session, owner.id)
    version = ArtifactVersion(
        collection_id=owner.id,
        version=last.version + 1 if last is not None else 1,
        run_id=run_id,
        digest=digest,
        size=sum(file.size for file in files.values()),
        n_files=len(files),
        about=about,
        created_at=time.time(),
    )
    session.add(version)
    session.flush()
    for path, file in files.items():
        session.add(ArtifactVersionFile(version_id=version.id, path=path, sha256=file.sha256, size=file.size))
    session.flush()
    return version


def set_alias(session: Session, collection_id: str, alias: str, version_id: str) -> None:
    """Point the alias at this version; it leaves the one it pointed at."""
    row = {"collection_id": collection_id, "alias": alias, "version_id": version_id}
    upsert(session, ArtifactAlias, [row], replace=["version_id"])


def delete_alias(session: Session, collection_id: str, alias: str) -> bool:
    """False when there is no such alias."""
    own = (col(ArtifactAlias.collection_id) == collection_id, col(ArtifactAlias.alias) == alias)
    return bool(session.connection().execute(delete(ArtifactAlias).where(*own)).rowcount)


def note_use(session: Session, run_id: str, version_id: str, role: str) -> None:
    """Say that the run used (`input`) or logged (`output`) the version."""
    row = {"run_id": run_id, "version_id": version_id, "role": role, "created_at": time.time()}
    upsert(session, ArtifactUse, [row], replace=["role"])


def _found(session: Session, *where: Any, limit: int | None = None) -> list[Found]:
    query = (
        select(ArtifactVersion, ArtifactCollection, Project.name)
        .join(ArtifactCollection, col(ArtifactCollection.id) == ArtifactVersion.collection_id)
        .join(Project, col(Project.id) == ArtifactCollection.project_id)
        .where(*where)
        .order_by(col(ArtifactCollection.name), col(ArtifactVersion.version).desc())
    )
    rows = session.exec(query if limit is None else query.limit(limit)).all()
    return [Found(version, owner, project) for version, owner, project in rows]


def get(session: Session, version_id: str) -> Found | None:
    return next(iter(_found(session, ArtifactVersion.id == version_id)), None)


def versions(session: Session, collection_id: str, below: int | None, limit: int) -> list[Found]:
    """Versions under a number, newest first."""
    where = [ArtifactVersion.collection_id == collection_id]
    if below is not None:
        where.append(col(ArtifactVersion.version) < below)  # type: ignore[arg-type]
    return _found(session, *where, limit=limit)


def newest_of_project(session: Session, project_id: int) -> list[Found]:
    """The newest version of every artifact of a project, by name."""
    last = (
        select(ArtifactVersion.collection_id, func.max(ArtifactVersion.version).label("last"))
        .group_by(col(ArtifactVersion.collection_id))
        .subquery()
    )
    is_last = (last.c.collection_id == ArtifactVersion.collection_id) & (last.c.last == ArtifactVersion.version)
    found = select(ArtifactVersion.id).join(last, is_last)
    return _found(session, ArtifactCollection.project_id == project_id, col(ArtifactVersion.id).in_(found))


def of_run(session: Session, run_id: str, role: str) -> list[Found]:
    """What a run used, or logged."""
    used = select(ArtifactUse.version_id).where(ArtifactUse.run_id == run_id, ArtifactUse.role == role)
    return _found(session, col(ArtifactVersion.id).in_(used))


def runs_of(session: Session, version_id: str) -> list[tuple[str, Run]]:
    """The runs that used or logged a version, each with its role; those in the bin are not shown."""
    query = select(ArtifactUse.role, Run).join(Run, col(Run.id) == ArtifactUse.run_id)
    query = query.where(ArtifactUse.version_id == version_id, col(Run.deleted_at).is_(None))
    return [(role, run) for role, run in session.exec(query.order_by(col(Run.id))).all()]


def aliases(session: Session, version_ids: Sequence[str]) -> dict[str, list[str]]:
    """The aliases of each of these versions."""
    found: dict[str, list[str]] = {version_id: [] for version_id in version_ids}
    query = select(ArtifactAlias).where(col(ArtifactAlias.version_id).in_(version_ids))
    for row in session.exec(query.order_by(ArtifactAlias.alias)).all():
        found[row.version_id].append(row.alias)
    return found


def newest_ids(session: Session, collection_ids: Sequence[str]) -> set[str]:
    """The newest version of each of these collections."""
    last = (
        select(ArtifactVersion.collection_id, func.max(ArtifactVersion.version).label("last"))
        .where(col(ArtifactVersion.collection_id).in_(collection_ids))
        .group_by(col(ArtifactVersion.collection_id))
        .subquery()
    )
    is_last = (last.c.collection_id == ArtifactVersion.collection_id) & (last.c.last == ArtifactVersion.version)
    return set(session.exec(select(ArtifactVersion.id).join(last, is_last)).all())


def files(session: Session, version_id: str) -> list[ArtifactVersionFile]:
    query = select(ArtifactVersionFile).where(ArtifactVersionFile.version_id == version_id)
    return list(session.exec(query.order_by(ArtifactVersionFile.path)).all())


def file(session: Session, version_id: str, path: str) -> ArtifactVersionFile | None:
    return session.get(ArtifactVersionFile, (version_id, path))
