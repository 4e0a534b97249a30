"""The forgetting API: policies, audits, the items behind them, the report to sign."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlmodel import Session

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, WriteSession
from service.forgetting import audit as auditing
from service.forgetting import items, policies, report, showing, waivers
from service.forgetting.schemas import (
    AuditCreate,
    AuditOut,
    AuditPage,
    ChangedItemPage,
    Gate,
    PolicyCreate,
    PolicyOut,
    PolicyPage,
    Verdict,
    WaiverCreate,
    WaiverOut,
    WaiverPage,
    WaiverRevoke,
)
from service.store import audits

router = APIRouter(prefix="/api/v1")
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
EVALUATE = [Depends(require("evaluate"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Principal = Annotated[str, Depends(require("write"))]


@router.post("/policies", tags=["policies"], dependencies=WRITE, status_code=201)
def create_policy(wanted: PolicyCreate, session: WriteSession, response: Response) -> PolicyOut:
    """Write down what may be lost. The same policy again answers 200; a change is the next version."""
    policy, new = audits.add_policy(session, policies.build(wanted))
    response.status_code = 201 if new else 200
    return PolicyOut.of(policy)


@router.get("/policies", tags=["policies"], dependencies=READ)
def list_policies(
    session: ReadSession, name: str | None = None, limit: Limit = 100, cursor: str | None = None
) -> PolicyPage:
    """Policies, newest first; every version is one."""
    found, next_cursor = audits.page_policies(session, name=name, limit=limit, cursor=cursor)
    return PolicyPage(items=[PolicyOut.of(policy) for policy in found], next_cursor=next_cursor)


@router.get("/policies/{policy_id}", tags=["policies"], dependencies=READ)
def get_policy(policy_id: str, session: ReadSession) -> PolicyOut:
    """One policy version."""
    return PolicyOut.of(policies.existing(session, policy_id))


@router.post("/audits", tags=["audits"], dependencies=EVALUATE, status_code=201)
def create_audit(wanted: AuditCreate, database: ServiceDatabase, blobs: Blobs) -> AuditOut:
    """Judge what a fine-tune lost: evaluations before and after, item by item, under a policy.

    `exit_code` in the answer is the verdict for a pipeline: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID.
    """
    with database.read() as session:
        case = auditing.open_case(session, wanted)
    audit = auditing.conduct(case, blobs)
    with database.write() as session:
        return showing.show(audits.add(session, audit), case.policy)


@router.get("/audits", tags=["audits"], dependencies=READ)
def list_audits(
    session: ReadSession,
    run_id: str | None = None,
    verdict: Verdict | None = None,
    after_version_id: str | None = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> AuditPage:
    """Audits, newest first."""
    found, next_cursor = audits.page(
        session, run_id=run_id, verdict=verdict, after_version_id=after_version_id, limit=limit, cursor=cursor
    )
    return AuditPage(items=showing.show_all(session, found), next_cursor=next_cursor)


@router.get("/audits/{audit_id}", tags=["audits"], dependencies=READ)
def get_audit(audit_id: str, session: ReadSession) -> AuditOut:
    """One audit with its verdict, tasks and advice."""
    return _existing(session, audit_id)


@router.get("/audits/{audit_id}/items", tags=["audits"], dependencies=READ)
def list_changed_items(
    audit_id: str,
    session: ReadSession,
    blobs: Blobs,
    kind: items.Kind,
    suite: Annotated[str | None, Query(description="A protected suite's name; absent: all, worst first.")] = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> ChangedItemPage:
    """Items that were lost or gained, with both outputs, by task and group."""
    tasks = items.judged_tasks(session, _existing(session, audit_id).tasks, suite)
    return items.changed_items(tasks, blobs, kind, limit, cursor)


@router.get("/audits/{audit_id}/report", tags=["audits"], dependencies=READ)
def get_report(
    audit_id: str, session: ReadSession, blobs: Blobs, format: Literal["markdown", "html"] = "html"
) -> Response:
    """The audit as one file to sign and keep."""
    audit = _existing(session, audit_id)
    record = auditing.record_text(showing.existing(session, audit_id))
    tasks = items.judged_tasks(session, audit.tasks, None)
    lost = items.changed_items(tasks, blobs, "lost", report.MAX_ITEMS, None).items
    if format == "html":
        page = report.html(audit, lost, record)
        return Response(page, media_type="text/html; charset=utf-8", headers=report.HTML_HEADERS)
    return Response(report.markdown(audit, lost, record), media_type="text/markdown; charset=utf-8")


@router.get("/audits/{audit_id}/gate", tags=["audits"], dependencies=READ)
def get_gate(
    audit_id: str,
    session: ReadSession,
    accept_waivers: Annotated[bool, Query(description="A valid waiver counts as a pass.")] = False,
) -> Gate:
    """May it ship? The verdict and the exit code a pipeline ends with."""
    return showing.gate(_existing(session, audit_id), accept_waivers=accept_waivers)


@router.get("/audits/{audit_id}/record", tags=["audits"], dependencies=READ)
def get_record(audit_id: str, session: ReadSession) -> Response:
    """The record to the byte: the SHA-256 of this answer is the audit's hash."""
    text = auditing.record_text(showing.existing(session, audit_id))
    return Response(text, media_type="application/json")


@router.post("/audits/{audit_id}/waivers", tags=["audits"], status_code=201)
def create_waiver(audit_id: str, wanted: WaiverCreate, session: WriteSession, principal: Principal) -> WaiverOut:
    """Answer for what an audit found, for a time. Verdict and record stay what they are."""
    waiver = waivers.add(session, showing.existing(session, audit_id), wanted, principal)
    return _waiver(session, audit_id, waiver.id)


@router.get("/audits/{audit_id}/waivers", tags=["audits"], dependencies=READ)
def list_waivers(audit_id: str, session: ReadSession) -> WaiverPage:
    """The waivers of an audit, newest first; expired and revoked ones too."""
    return WaiverPage(items=_existing(session, audit_id).waivers)


@router.post("/audits/{audit_id}/waivers/{waiver_id}/revoke", tags=["audits"], status_code=201)
def revoke_waiver(
    audit_id: str, waiver_id: str, wanted: WaiverRevoke, session: WriteSession, principal: Principal
) -> WaiverOut:
    """Take a waiver back. Both stay on record."""
    waivers.revoke(session, showing.existing(session, audit_id), waiver_id, wanted, principal)
    return _waiver(session, audit_id, waiver_id)


def _existing(session: Session, audit_id: str) -> AuditOut:
    return showing.show_all(session, [showing.existing(session, audit_id)])[0]


def _waiver(session: Session, audit_id: str, waiver_id: str) -> WaiverOut:
    return next(one for one in _existing(session, audit_id).waivers if one.id == waiver_id)
