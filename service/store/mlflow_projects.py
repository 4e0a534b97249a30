"""Projects as MLflow's face reads and writes them: by number, the bin included."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service.store.mlflow_filters import Clause, Order, project_condition, project_order
from service.store.tables import Project, ProjectTag, Run
from service.store.upserts import upsert

DEFAULT_ID, DEFAULT_NAME = 0, "Default"


def ensure_default(session: Session) -> None:
    """Make the project that clients log to unasked, unless it is there."""
    if session.get(Project, DEFAULT_ID) is not None:
        return
    taken = by_name(session, DEFAULT_NAME) is not None
    now = time.time()
    row = {
        "id": DEFAULT_ID,
        "name": f"{DEFAULT_NAME} (MLflow)" if taken else DEFAULT_NAME,
        "created_at": now,
        "updated_at": now,
    }
    upsert(session, Project, [row], replace=["name"])


def add(session: Session, name: str, artifact_location: str | None) -> Project | None:
    """A new project; None when the name is taken, in the bin or not."""
    now = time.time()
    project = Project(name=name, artifact_location=artifact_location, created_at=now, updated_at=now)
    try:
        with session.begin_nested():
            session.add(project)
    except IntegrityError:
        return None
    return project


def rename(session: Session, project: Project, name: str) -> bool:
    """False when another project has the name, in the bin or not."""
    try:
        with session.begin_nested():
            project.name, project.updated_at = name, time.time()
    except IntegrityError:
        return False
    return True


def get(session: Session, project_id: int) -> Project | None:
    return session.get(Project, project_id)


def lock(session: Session, project_id: int) -> Project | None:
    return session.get(Project, project_id, with_for_update=True, populate_existing=True)


def by_name(session: Session, name: str) -> Project | None:
    return session.exec(select(Project).where(Project.name == name)).first()


def search(
    session: Session,
    *,
    clauses: Sequence[Clause],
    orders: Sequence[Order],
    deleted: bool | None,
    offset: int,
    limit: int,
) -> list[Project]:
    """Projects for which all clauses hold. `deleted`: only the bin, only the rest, or (None) both."""
    query = select(Project).where(*(project_condition(clause) for clause in clauses))
    if deleted is not None:
        query = query.where(col(Project.deleted_at).is_not(None) if deleted else col(Project.deleted_at).is_(None))
    return list(session.exec(query.order_by(*project_order(orders)).offset(offset).limit(limit)).all())


def tags(session: Session, project_ids: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    found: dict[int, list[tuple[str, str]]] = {project_id: [] for project_id in project_ids}
    for start in range(0, len(project_ids), 500):
        some = project_ids[start : start + 500]
        query = select(ProjectTag).where(col(ProjectTag.project_id).in_(some)).order_by(ProjectTag.key)
        for row in session.exec(query).all():
            found[row.project_id].append((row.key, row.value))
    return found


def set_tags(session: Session, project_id: int, tags: dict[str, str]) -> None:
    rows = [{"project_id": project_id, "key": key, "value": value} for key, value in tags.items()]
    upsert(session, ProjectTag, rows, replace=["value"])


def delete_tag(session: Session, project_id: int, key: str) -> bool:
    """Whether there was one."""
    row = session.get(ProjectTag, (project_id, key))
    if row is not None:
        session.delete(row)
        session.flush()
    return row is not None


def move_to_bin(session: Session, project: Project, *, binned: bool) -> None:
    """Put the project and all its runs into the bin, or take them out."""
    now = time.time()
    project.deleted_at, project.updated_at = (now if binned else None), now
    session.flush()
    # A run that was in the bin before keeps its time, so that a purge goes by it.
    was = col(Run.deleted_at).is_(None) if binned else col(Run.deleted_at).is_not(None)
    change = sql.update(Run).where(col(Run.project_id) == project.id, was).values(deleted_at=project.deleted_at)
    session.connection().execute(change)
