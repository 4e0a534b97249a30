"""The forgetting API: policies, audits, the items behind them, the report to sign."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlmodel import Session

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, WriteSession
from service.errors import NotFound
from service.forgetting import audit as auditing
from service.forgetting import items, policies, report
from service.forgetting.schemas import (
    AuditCreate,
    AuditOut,
    AuditPage,
    ChangedItemPage,
    PolicyCreate,
    PolicyOut,
    PolicyPage,
    Verdict,
)
from service.store import audits

router = APIRouter(prefix="/api/v1")
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
EVALUATE = [Depends(require("evaluate"))]
Limit = Annotated[int, Query(ge=1, le=1000)]


class AuditNotFound(NotFound):
    code = "audit_not_found"


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
    """Judge what a fine-tune lost: evaluations before and after, item by item, under a policy."""
    with database.read() as session:
        case = auditing.open_case(session, wanted)
    audit = auditing.conduct(case, blobs)
    with database.write() as session:
        return auditing.show(audits.add(session, audit), case.policy)


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
    by_id = audits.policies_of(session, found)
    return AuditPage(items=[auditing.show(one, by_id[one.policy_id]) for one in found], next_cursor=next_cursor)


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
    tasks = items.judged_tasks(session, audit.tasks, None)
    lost = items.changed_items(tasks, blobs, "lost", report.MAX_ITEMS, None).items
    if format == "html":
        return Response(report.html(audit, lost), media_type="text/html; charset=utf-8", headers=report.HTML_HEADERS)
    return Response(report.markdown(audit, lost), media_type="text/markdown; charset=utf-8")


def _existing(session: Session, audit_id: str) -> AuditOut:
    audit = audits.get(session, audit_id)
    if audit is None:
        raise AuditNotFound(f"There is no audit '{audit_id}'. GET /api/v1/audits lists them.")
    return auditing.show(audit, policies.existing(session, audit.policy_id))
