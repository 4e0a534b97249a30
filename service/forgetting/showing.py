"""An audit as it is answered: the record as stored, whether it still matches its hash, and its waivers as of now."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlmodel import Session

from service.errors import NotFound
from service.forgetting import waivers
from service.forgetting.audit import record_hash
from service.forgetting.schemas import AuditOut, AuditResult, Gate, PolicyOut, Verdict
from service.store import audits
from service.store.tables import Audit, Policy, Waiver

EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2, "INVALID": 3}


class AuditNotFound(NotFound):
    code = "audit_not_found"


def existing(session: Session, audit_id: str) -> Audit:
    audit = audits.get(session, audit_id)
    if audit is None:
        raise AuditNotFound(f"There is no audit '{audit_id}'. GET /api/v1/audits lists them.")
    return audit


def show(audit: Audit, policy: Policy, ledger: Sequence[Waiver] = ()) -> AuditOut:
    row = audit.model_dump(exclude={"result", "policy_id", "policy_hash"})
    result = AuditResult.model_validate(audit.result)
    own = waivers.shown(ledger, time.time())
    return AuditOut.model_validate(
        {
            **row,
            **result.model_dump(),
            "policy": PolicyOut.of(policy),
            "exit_code": EXIT_CODES[result_verdict(audit)],
            "waivers": own,
            "waived": waivers.covered(result.tasks, own),
            "intact": record_hash(audit) == audit.hash,
        }
    )


def show_all(session: Session, found: Sequence[Audit]) -> list[AuditOut]:
    policies, ledgers = audits.policies_of(session, found), audits.waivers_of(session, [one.id for one in found])
    return [show(one, policies[one.policy_id], ledgers[one.id]) for one in found]


def gate(audit: AuditOut, *, accept_waivers: bool) -> Gate:
    """May it ship? A waiver counts only where it is asked for, and only for a record that is as it was written."""
    excused = accept_waivers and audit.waived and audit.intact
    return Gate(
        audit_id=audit.id,
        verdict=audit.verdict,
        sentence=audit.sentence,
        waived=audit.waived,
        exit_code=0 if excused else audit.exit_code if audit.intact else EXIT_CODES["INVALID"],
        hash=audit.hash,
    )


def result_verdict(audit: Audit) -> Verdict:
    verdict: Verdict = audit.verdict  # type: ignore[assignment]
    return verdict
