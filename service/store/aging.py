"""Deleting what is old of traffic: contents first, then requests with their outcomes. What a readout reads stays.

Exposures, rollups and sums are kept, so that no number changes; and an outcome is deleted with its request or after it,
so that none that comes late can count twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, tuple_
from sqlmodel import Session, col, select

from service.store.events import take_turn
from service.store.tables import GatewayContent, GatewayRequest, Outcome


def old_contents(session: Session, before: float, limit: int) -> list[str]:
    """Requests made before then whose prompts and answers are stored, the oldest first."""
    # The gateway makes these ids itself: they begin with the millisecond.
    query = select(GatewayContent.request_id).where(col(GatewayContent.request_id) < f"{int(before * 1000):012x}")
    return list(session.exec(query.order_by(col(GatewayContent.request_id)).limit(limit)).all())


def delete_contents(session: Session, request_ids: Sequence[str]) -> None:
    session.connection().execute(delete(GatewayContent).where(col(GatewayContent.request_id).in_(request_ids)))


def old_requests(session: Session, before: float, limit: int) -> list[str]:
    query = select(GatewayRequest.request_id).where(col(GatewayRequest.at) < before)
    return list(session.exec(query.order_by(col(GatewayRequest.at)).limit(limit)).all())


def delete_requests(session: Session, request_ids: Sequence[str]) -> None:
    """Requests, what was asked and answered, and what became of them."""
    take_turn(session)
    for table in (Outcome, GatewayContent, GatewayRequest):
        session.connection().execute(delete(table).where(col(table.request_id).in_(request_ids)))


def old_orphans(session: Session, before: float, limit: int) -> list[tuple[str, str]]:
    """Outcomes given before then whose request never came, or is gone: (request, metric)."""
    there = select(GatewayRequest.request_id).where(col(GatewayRequest.request_id) == col(Outcome.request_id)).exists()
    query = select(Outcome.request_id, Outcome.metric).where(col(Outcome.at) < before, ~there)
    return list(session.exec(query.order_by(col(Outcome.at)).limit(limit)).all())


def delete_outcomes(session: Session, keys: Sequence[tuple[str, str]]) -> None:
    take_turn(session)
    both = tuple_(col(Outcome.request_id), col(Outcome.metric))
    session.connection().execute(delete(Outcome).where(both.in_(keys)))
