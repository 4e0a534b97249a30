"""Experiments, their change logs, the upstreams, and the model versions behind their arms."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import event
from sqlmodel import Session, col, select

from service.store.tables import Experiment, ExperimentChange, ModelAlias, ModelVersion, Upstream


def find(session: Session, key: str) -> Experiment | None:
    return session.exec(select(Experiment).where(col(Experiment.key) == key)).first()


def find_for_change(session: Session, key: str) -> Experiment | None:
    """Like `find`, and no other transaction changes it until this one ends."""
    return session.exec(select(Experiment).where(col(Experiment.key) == key).with_for_update()).first()


def by_ids(session: Session, ids: Collection[str]) -> dict[str, Experiment]:
    return {row.id: row for row in session.exec(select(Experiment).where(col(Experiment.id).in_(ids)))}


def everything(session: Session) -> Sequence[Experiment]:
    return session.exec(select(Experiment).order_by(col(Experiment.key))).all()


def of_status(session: Session, status: str) -> Sequence[Experiment]:
    return session.exec(select(Experiment).where(col(Experiment.status) == status)).all()


def page(session: Session, limit: int, cursor: str | None) -> tuple[Sequence[Experiment], str | None]:
    """Newest first, and the cursor of the next page."""
    query = select(Experiment).order_by(col(Experiment.id).desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(col(Experiment.id) < cursor)
    rows = session.exec(query).all()
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def add(session: Session, experiment: Experiment) -> None:
    session.add(experiment)
    session.flush()


def log(session: Session, experiment: Experiment, actor: str, action: str, details: dict[str, Any]) -> None:
    change = ExperimentChange(experiment_id=experiment.id, at=time.time(), actor=actor, action=action, details=details)
    session.add(change)


def changes(session: Session, experiment_id: str) -> Sequence[ExperimentChange]:
    """The audit log, oldest first."""
    query = select(ExperimentChange).where(col(ExperimentChange.experiment_id) == experiment_id)
    return session.exec(query.order_by(col(ExperimentChange.id))).all()


def upstreams(session: Session) -> Sequence[Upstream]:
    return session.exec(select(Upstream).order_by(col(Upstream.name))).all()


def find_upstream(session: Session, name: str) -> Upstream | None:
    return session.get(Upstream, name)


def save_upstream(session: Session, upstream: Upstream) -> Upstream:
    return session.merge(upstream)


def model_versions(session: Session, ids: Collection[str]) -> dict[str, tuple[ModelVersion, list[str]]]:
    """The versions with these ids, each with its aliases."""
    if not ids:
        return {}
    versions = session.exec(select(ModelVersion).where(col(ModelVersion.id).in_(ids))).all()
    aliases: dict[str, list[str]] = {}
    query = select(ModelAlias).where(col(ModelAlias.model_version_id).in_(ids)).order_by(col(ModelAlias.alias))
    for row in session.exec(query):
        aliases.setdefault(row.model_version_id, []).append(row.alias)
    return {version.id: (version, aliases.get(version.id, [])) for version in versions}


def after_commit(session: Session, action: Callable[[], object]) -> None:
    """Run `action` once this transaction is stored; never, if it is rolled back."""

    def run(_: Session) -> None:
        action()

    event.listen(session, "after_commit", run, once=True)
