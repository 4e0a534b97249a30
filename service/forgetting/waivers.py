"""Waivers: somebody answers for what an audit found, until a date. Verdict and record stay what they are."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlmodel import Session

from service.errors import Conflict, Invalid, NotFound
from service.forgetting.schemas import (
    Revocation,
    TaskResult,
    WaiverCreate,
    WaiverOut,
    WaiverRevoke,
)
from service.store import audits
from service.store.tables import Audit, Waiver


class WaiverInvalid(Invalid):
    code = "waiver_invalid"


class WaiverNotFound(NotFound):
    code = "waiver_not_found"


class WaiverRevoked(Conflict):
    code = "waiver_revoked"


class NothingToWaive(Conflict):
    code = "nothing_to_waive"


def add(session: Session, audit: Audit, wanted: WaiverCreate, principal: str) -> Waiver:
    now = time.time()
    if wanted.until <= now:
        raise WaiverInvalid("`until` lies in the past: a waiver holds from now until then.")
    verdicts = {task["suite"]: task["verdict"] for task in audit.result["tasks"]}
    if wanted.suite is not None and wanted.suite not in verdicts:
        raise WaiverInvalid(f"The audit protects no suite '{wanted.suite}'. It has: {', '.join(verdicts)}.")
    if (audit.verdict if wanted.suite is None else verdicts[wanted.suite]) == "PASS":
        what = "The audit" if wanted.suite is None else f"'{wanted.suite}'"
        raise NothingToWaive(f"{what} passed: there is nothing to waive.")
    row = Waiver(audit_id=audit.id, written_by=principal, created_at=now, **wanted.model_dump())
    stored = audits.add_waiver(session, row)
    assert stored is not None  # only a revocation can come too late
    return stored


def revoke(session: Session, audit: Audit, waiver_id: str, wanted: WaiverRevoke, principal: str) -> Waiver:
    """The revocation, stored; the waiver stays beside it."""
    waiver = audits.get_waiver(session, waiver_id)
    if waiver is None or waiver.audit_id != audit.id or waiver.revokes is not None:
        raise WaiverNotFound(f"There is no waiver '{waiver_id}'. GET /api/v1/audits/{audit.id}/waivers lists them.")
    row = Waiver(
        audit_id=audit.id, revokes=waiver_id, written_by=principal, created_at=time.time(), **wanted.model_dump()
    )
    stored = audits.add_waiver(session, row)
    if stored is None:
        raise WaiverRevoked(f"The waiver '{waiver_id}' is revoked already.")
    return stored


def shown(ledger: Sequence[Waiver], now: float) -> list[WaiverOut]:
    """The waivers of a ledger with what became of them, in its order."""
    revocations = {row.revokes: row for row in ledger if row.revokes is not None}
    return [_show(row, revocations.get(row.id), now) for row in ledger if row.revokes is None]


def covered(tasks: Sequence[TaskResult], waivers: Sequence[WaiverOut]) -> bool:
    """Has every task that did not pass a valid waiver, its own or the audit's? False where all passed."""
    valid = {waiver.suite for waiver in waivers if waiver.state == "valid"}
    open_tasks = [task.suite for task in tasks if task.verdict != "PASS"]
    return bool(open_tasks) and (None in valid or valid.issuperset(open_tasks))


def _show(row: Waiver, revocation: Waiver | None, now: float) -> WaiverOut:
    until = row.until or 0.0
    taken_back = None
    if revocation is not None:
        taken_back = Revocation(
            who=revocation.who, why=revocation.why, by=revocation.written_by, at=revocation.created_at
        )
    return WaiverOut(
        id=row.id,
        audit_id=row.audit_id,
        suite=row.suite,
        who=row.who,
        why=row.why,
        by=row.written_by,
        until=until,
        created_at=row.created_at,
        state="revoked" if revocation is not None else "expired" if until <= now else "valid",
        revoked=taken_back,
    )
