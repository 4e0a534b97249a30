"""Alerts: opened once however many replicas find them, refreshed, resolved, listed; and the pulse of running runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, and_, update
from sqlmodel import Session, col, select

from service.store.tables import Alert, Project, Run, new_id
from service.store.upserts import insert

SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Pulse:
    """A run that is said to be on: when it was last heard of, with its patience added, and whether a silence is already
    on record."""

    run_id: str
    heard_at: float
    silent: bool


def pulses(session: Session, limit: int) -> list[Pulse]:
    """Runs that are on, those heard of last first."""
    quiet = and_(col(Alert.run_id) == Run.id, col(Alert.rule) == SILENT, col(Alert.resolved_at).is_(None))
    query = (
        select(Run.id, col(Run.heartbeat_at) + col(Run.patience), Alert.id)
        .join(Alert, quiet, isouter=True)
        .where(Run.status == "running", col(Run.deleted_at).is_(None))
        .order_by(col(Run.heartbeat_at).desc())
        .limit(limit)
    )
    return [Pulse(run_id, heard_at, alert is not None) for run_id, heard_at, alert in session.exec(query)]


def runs_with_open(session: Session, rule: str) -> list[str]:
    """Runs on which an alert of this rule is open."""
    return list(session.exec(select(Alert.run_id).where(Alert.rule == rule, col(Alert.resolved_at).is_(None))))


def standing(session: Session, run_id: str) -> list[Alert]:
    """The open alerts of a run."""
    return list(session.exec(select(Alert).where(Alert.run_id == run_id, col(Alert.resolved_at).is_(None))))


def open_(session: Session, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Put these alerts (columns without `id`) on record as open; answer the ids of those that were not open before.

    One row a (run, rule, metric): two replicas that find the same thing at once open it once, and a resolved alert
    that comes back is opened again with its new evidence.
    """
    opened: list[str] = []
    table: Table = Alert.__table__  # type: ignore[attr-defined]
    for row in rows:
        statement = insert(table, session.get_bind().dialect.name).values(id=new_id(), resolved_at=None, **row)
        changes = {name: statement.excluded[name] for name in (*_CHANGING, "created_at", "resolved_at")}
        statement = statement.on_conflict_do_update(
            index_elements=["run_id", "rule", "key"], set_=changes, where=col(Alert.resolved_at).is_not(None)
        )
        opened += session.connection().execute(statement.returning(col(Alert.id))).scalars().all()
    return opened


_CHANGING = ("severity", "message", "evidence", "step")


def refresh(session: Session, alert_id: str, changes: dict[str, Any]) -> None:
    """Bring an open alert's severity, message, evidence and step up to date."""
    session.connection().execute(update(Alert).where(col(Alert.id) == alert_id).values(changes))


def resolve(session: Session, ids: Collection[str], now: float) -> list[str]:
    """Close these alerts; answer those that were open until now."""
    if not ids:
        return []
    statement = update(Alert).where(col(Alert.id).in_(ids), col(Alert.resolved_at).is_(None))
    return list(
        session.connection().execute(statement.values(resolved_at=now).returning(col(Alert.id))).scalars().all()
    )


def page(
    session: Session,
    *,
    project: str | None,
    run_ids: Sequence[str] | None,
    open_only: bool | None,
    rule: str | None,
    severity: str | None,
    limit: int,
    after: str | None,
) -> list[tuple[Alert, str, str]]:
    """Alerts with their run's name and project, the newest first; those of runs in the bin are left out."""
    query = (
        select(Alert, Run.name, Project.name)
        .join(Run, col(Run.id) == Alert.run_id)
        .join(Project, col(Project.id) == Alert.project_id)
        .where(col(Run.deleted_at).is_(None))
        .order_by(col(Alert.id).desc())
        .limit(limit)
    )
    if project is not None:
        query = query.where(Project.name == project)
    if run_ids is not None:
        query = query.where(col(Alert.run_id).in_(run_ids))
    if open_only is not None:
        query = query.where(col(Alert.resolved_at).is_(None) == open_only)
    if rule is not None:
        query = query.where(Alert.rule == rule)
    if severity is not None:
        query = query.where(Alert.severity == severity)
    if after is not None:
        query = query.where(col(Alert.id) < after)
    return [(alert, run_name, name) for alert, run_name, name in session.exec(query)]
