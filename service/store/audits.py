"""Policies, audits and waivers: what may be lost, what was, and who answers for it. All are written once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from service.store import bin as bin_store
from service.store import records
from service.store.evaluations import EvaluationNotFound
from service.store.tables import Audit, AuditEvaluation, Evaluation, Policy, Waiver


def add_policy(session: Session, policy: Policy) -> tuple[Policy, bool]:
    return records.add_version(session, policy)


def get_policy(session: Session, policy_id: str) -> Policy | None:
    return session.get(Policy, policy_id)


def find_policy(session: Session, name: str, version: int) -> Policy | None:
    return session.exec(select(Policy).where(Policy.name == name, Policy.version == version)).first()


def newest_policy(session: Session, name: str) -> Policy | None:
    return session.exec(select(Policy).where(Policy.name == name).order_by(col(Policy.version).desc())).first()


def page_policies(
    session: Session, *, name: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[Policy], str | None]:
    query = select(Policy)
    if name is not None:
        query = query.where(col(Policy.name) == name)
    return records.page(session, query, col(Policy.id), limit, cursor)


def policies_of(session: Session, audits: Sequence[Audit]) -> dict[str, Policy]:
    """The policies of these audits, by policy id."""
    ids = {audit.policy_id for audit in audits}
    return {policy.id: policy for policy in session.exec(select(Policy).where(col(Policy.id).in_(ids)))}


def add(session: Session, audit: Audit) -> Audit:
    """Store the audit and what it rests on, which is kept from now on.

    Raises:
        EvaluationNotFound, PurgeUnderWay: what it rests on has been purged meanwhile, or is going.
    """
    links = {(side, one["id"]) for side, given in audit.result["inputs"]["evaluations"].items() for one in given}
    ids = {evaluation_id for _, evaluation_id in links}
    owners = dict(session.exec(select(Evaluation.id, Evaluation.run_id).where(col(Evaluation.id).in_(ids))).all())
    if lost := sorted(ids - owners.keys()):
        raise EvaluationNotFound(f"The evaluation '{lost[0]}' has been purged with its run: nothing can be judged.")
    bin_store.hold(session, [audit.run_id, *owners.values()])
    session.add(audit)
    session.flush()
    session.add_all(AuditEvaluation(audit_id=audit.id, side=side, evaluation_id=one) for side, one in sorted(links))
    session.flush()
    return audit


def get(session: Session, audit_id: str) -> Audit | None:
    return session.get(Audit, audit_id)


def page(
    session: Session,
    *,
    run_id: str | None,
    verdict: str | None,
    after_version_id: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Audit], str | None]:
    query = select(Audit)
    wanted = (
        (col(Audit.run_id), run_id),
        (col(Audit.verdict), verdict),
        (col(Audit.after_version_id), after_version_id),
    )
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return records.page(session, query, col(Audit.id), limit, cursor)


def add_waiver(session: Session, waiver: Waiver) -> Waiver | None:
    """Store a waiver, or the revocation of one; None: it was revoked already."""
    try:
        with session.begin_nested():
            session.add(waiver)
    except IntegrityError:
        return None
    return waiver


def get_waiver(session: Session, waiver_id: str) -> Waiver | None:
    return session.get(Waiver, waiver_id)


def waivers_of(session: Session, audit_ids: Sequence[str]) -> dict[str, list[Waiver]]:
    """Waivers and revocations of each of these audits, newest first."""
    found: dict[str, list[Waiver]] = {audit_id: [] for audit_id in audit_ids}
    query = select(Waiver).where(col(Waiver.audit_id).in_(audit_ids)).order_by(col(Waiver.id).desc())
    for waiver in session.exec(query):
        found[waiver.audit_id].append(waiver)
    return found
