"""Webhooks, and what is owed to them: every delivery is a row until it has arrived or is given up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sql
from sqlalchemy import delete, func, or_, update
from sqlmodel import Session, col, select

from service.store.tables import Alert, Delivery, Project, Run, Webhook
from service.store.upserts import upsert


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery that this process has claimed, with all that its body is made of."""

    webhook_id: str
    url: str
    secret_ref: str | None
    event: str
    created_at: float
    attempts: int
    alert: Alert
    run_name: str
    project: str


def add(session: Session, webhook: Webhook) -> Webhook:
    session.add(webhook)
    session.flush()
    return webhook


def get(session: Session, webhook_id: str) -> tuple[Webhook, str | None] | None:
    """A webhook and its project's name."""
    return next(iter(everything(session, webhook_id)), None)


def everything(session: Session, webhook_id: str | None = None) -> list[tuple[Webhook, str | None]]:
    query = select(Webhook, Project.name).join(Project, col(Project.id) == Webhook.project_id, isouter=True)
    if webhook_id is not None:
        query = query.where(Webhook.id == webhook_id)
    return [(webhook, name) for webhook, name in session.exec(query.order_by(col(Webhook.id)))]


def remove(session: Session, webhook: Webhook) -> None:
    """Take a webhook away, with what it was still owed."""
    session.connection().execute(delete(Delivery).where(col(Delivery.webhook_id) == webhook.id))
    session.delete(webhook)


def state(session: Session) -> dict[str, tuple[int, str | None]]:
    """Webhook → deliveries that wait, and what went wrong with one of those last."""
    query = (
        select(Delivery.webhook_id, func.count(), func.max(Delivery.last_error))
        .where(col(Delivery.done).is_(False))
        .group_by(col(Delivery.webhook_id))
    )
    return {webhook_id: (count, error) for webhook_id, count, error in session.exec(query)}


def owe(session: Session, project_id: int, alert_ids: Collection[str], event: str, now: float) -> int:
    """Note that every webhook of the project (and those of all projects) is to be told of these alerts."""
    mine = or_(col(Webhook.project_id).is_(None), col(Webhook.project_id) == project_id)
    webhooks = session.exec(select(Webhook.id).where(mine)).all()
    rows = [
        {
            "webhook_id": webhook_id, "alert_id": alert_id, "event": event, "created_at": now, "attempts": 0,
            "next_attempt_at": now, "done": False, "last_error": None,
        }
        for alert_id in alert_ids
        for webhook_id in webhooks
    ]  # fmt: skip
    upsert(
        session, Delivery, rows, replace=("created_at", "attempts", "next_attempt_at", "done", "last_error")
    )  # the event happens again: owed anew
    return len(rows)


def claim(session: Session, now: float, lease_seconds: float, busy: Collection[str]) -> Owed | None:
    """Take one delivery that is due and make it due again after the lease: if this process dies, another delivers.

    Several replicas may claim at once: a row that one has locked is skipped by the others. Webhooks in `busy` are left
    alone.
    """
    delivery = session.exec(
        select(Delivery)
        .where(col(Delivery.done).is_(False), Delivery.next_attempt_at <= now, col(Delivery.webhook_id).not_in(busy))
        .order_by(col(Delivery.next_attempt_at), col(Delivery.created_at))
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if delivery is None:
        return None
    delivery.next_attempt_at = now + lease_seconds
    about = (
        sql.select(Webhook, Alert, col(Run.name), col(Project.name))
        .select_from(Webhook)
        .join(Alert, col(Alert.id) == delivery.alert_id)
        .join(Run, col(Run.id) == Alert.run_id)
        .join(Project, col(Project.id) == Alert.project_id)
        .where(col(Webhook.id) == delivery.webhook_id)
    )
    webhook, alert, run_name, project = session.execute(about).one()
    session.expunge(alert)  # it outlives the session
    return Owed(
        webhook.id, webhook.url, webhook.secret_ref, delivery.event, delivery.created_at, delivery.attempts, alert,
        run_name, project,
    )  # fmt: skip


def settle(session: Session, owed: Owed, *, done: bool, next_attempt_at: float, error: str | None) -> None:
    """Write down how an attempt went; nothing, if the event has happened again meanwhile and is owed anew."""
    session.connection().execute(
        update(Delivery)
        .where(
            col(Delivery.webhook_id) == owed.webhook_id,
            col(Delivery.alert_id) == owed.alert.id,
            col(Delivery.event) == owed.event,
            col(Delivery.created_at) == owed.created_at,
        )
        .values(done=done, attempts=owed.attempts + 1, next_attempt_at=next_attempt_at, last_error=error)
    )


def next_due(session: Session) -> float | None:
    """When the next delivery is due."""
    return session.exec(select(func.min(Delivery.next_attempt_at)).where(col(Delivery.done).is_(False))).one()
