"""Alerts, diagnoses and webhooks on the wire."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator

from service.measure.diagnosis import RULES, Diagnosis, Severity, State
from service.shapes import Reply
from service.store.tables import Alert
from service.tracking.schemas import Request

Event = Literal["alert.opened", "alert.resolved", "webhook.test"]


class AlertOut(Reply):
    id: str
    rule: str
    title: str = Field(description="The rule in words.")
    key: str = Field(description="The metric it is about; empty: the run as a whole.")
    severity: Severity
    message: str = Field(description="What was found, with the numbers.")
    evidence: dict[str, Any] = Field(description="The values, thresholds and windows that the rule used.")
    advice: str = Field(description="What usually helps.")
    step: int | None = Field(description="Where it begins.")
    opened_at: float = Field(description="When it was found; found again after it was resolved: that time.")
    resolved_at: float | None = Field(description="Since when the run no longer shows it; null: it is open.")
    run_id: str
    run_name: str
    project: str


class AlertPage(Reply):
    items: list[AlertOut]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class DiagnosisOut(Reply):
    rule: str
    title: str
    criterion: str = Field(description="When the rule finds something.")
    state: State = Field(description="`found`; `clear`; `too_little_data` or `not_measured`: it cannot tell, and why.")
    key: str
    severity: Severity | None
    message: str
    evidence: dict[str, Any]
    advice: str | None = Field(description="What usually helps; null if nothing was found.")
    step: int | None


class DiagnosisList(Reply):
    items: list[DiagnosisOut]
    next_cursor: None = None


class WebhookCreate(Request):
    url: str = Field(max_length=2000, description="http or https; no user name or password in it.")
    project: str | None = Field(None, description="Only alerts of this project; absent: of all.")
    secret_ref: str | None = Field(
        None, description="env:NAME or file:/path of the signing secret; the secret itself is never stored or returned."
    )

    @field_validator("url")
    @classmethod
    def _is_web(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a webhook's URL begins with http:// or https:// and names a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a webhook's URL holds no user name or password; use secret_ref to sign instead")
        return url

    @field_validator("secret_ref")
    @classmethod
    def _is_reference(cls, reference: str | None) -> str | None:
        if reference is not None and not reference.startswith(("env:", "file:")):
            raise ValueError("write env:NAME or file:/path, never the secret itself")
        return reference


class WebhookOut(Reply):
    id: str
    url: str
    project: str | None
    secret_ref: str | None
    created_at: float
    waiting: int = Field(description="Deliveries that have not arrived yet.")
    last_error: str | None = Field(description="Why one of those has not.")
    problem: str | None = Field(description="Why nothing can be signed now: the secret reference leads nowhere.")


class WebhookList(Reply):
    items: list[WebhookOut]
    next_cursor: None = None


class WebhookTest(Reply):
    delivered: bool
    status: int | None = Field(description="What the receiver answered; null: nothing.")
    error: str | None
    seconds: float


class RunReference(BaseModel):
    id: str
    name: str
    project: str
    url: str = Field(description="The run in the dashboard.")


class WebhookBody(BaseModel):
    """What a webhook receives."""

    event: Event
    at: float = Field(description="When it happened (Unix seconds); tries that come late carry the same.")
    alert: AlertOut
    run: RunReference


def show_alert(alert: Alert, run_name: str, project: str) -> AlertOut:
    return AlertOut(
        id=alert.id,
        rule=alert.rule,
        title=RULES[alert.rule].title,
        key=alert.key,
        severity=alert.severity,
        message=alert.message,
        evidence=alert.evidence,
        advice=RULES[alert.rule].advice,
        step=alert.step,
        opened_at=alert.created_at,
        resolved_at=alert.resolved_at,
        run_id=alert.run_id,
        run_name=run_name,
        project=project,
    )


def show_diagnosis(diagnosis: Diagnosis) -> DiagnosisOut:
    rule = RULES[diagnosis.rule]
    return DiagnosisOut(
        rule=diagnosis.rule,
        title=rule.title,
        criterion=rule.criterion,
        state=diagnosis.state,
        key=diagnosis.key,
        severity=diagnosis.severity,
        message=diagnosis.message,
        evidence=dict(diagnosis.evidence),
        advice=rule.advice if diagnosis.state == "found" else None,
        step=diagnosis.step,
    )
