"""The native tracking API: alerts, diagnoses, webhooks."""

from __future__ import annotations

import time
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.auth import require
from service.dependencies import ReadSession, ServiceDatabase, ServiceSettings, WriteSession
from service.measure.diagnosis import Severity
from service.store import alerts as store
from service.store import webhooks as webhook_store
from service.store.database import Database
from service.store.tables import Webhook
from service.tracking import diagnoses, runs, webhooks
from service.tracking.alert_schemas import (
    AlertPage,
    DiagnosisList,
    WebhookBody,
    WebhookCreate,
    WebhookList,
    WebhookOut,
    WebhookTest,
    show_alert,
    show_diagnosis,
)
from service.tracking.webhooks import Deliveries

READ = [Depends(require("read"))]
ADMIN = [Depends(require("admin"))]
SCHEME = """Every alert that is opened or resolved is POSTed to the webhook's URL as JSON (see the callback).

**Signature** (with `secret_ref`), as Standard Webhooks has it, so that its libraries verify it: `webhook-id` names the
event, `webhook-timestamp` is the time of this try (Unix seconds), and `webhook-signature` is `v1,` and the base64 of
HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{raw body}`. The key is the secret's bytes, or, if the secret begins
with `whsec_`, what the rest decodes to as base64. Refuse what is older than a few minutes.

**Delivery** is at least once: drop what has a `webhook-id` that you have seen. Anything but a 2xx within 10 s (3 s to
connect) is tried again after 2 s, 4 s, 8 s, … up to 15 minutes, each shortened by up to a half at random, for 24 hours;
410 ends it at once. Order is not promised: `at` says when it happened. Redirects are not followed.

**Addresses** are checked when the connection is made. Private and loopback ones need
`TUNESCOPE_WEBHOOK_PRIVATE_ADDRESSES=true`; link-local ones are never used."""

router = APIRouter(prefix="/api/v1")
callbacks = APIRouter()


@callbacks.post("{$request.body#/url}")
def receive(body: WebhookBody) -> None:
    """What the receiver gets."""


@router.get("/alerts", tags=["alerts"], dependencies=READ)
def list_alerts(
    session: ReadSession,
    project: str | None = None,
    run_id: Annotated[list[str] | None, Query(max_length=1000)] = None,
    open: Annotated[bool | None, Query(description="true: those that still hold; false: those resolved.")] = None,
    rule: str | None = None,
    severity: Severity | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> AlertPage:
    """Alerts, the newest first."""
    rows = store.page(
        session,
        project=project,
        run_ids=run_id,
        open_only=open,
        rule=rule,
        severity=severity,
        limit=limit + 1,
        after=cursor,
    )
    items = [show_alert(*row) for row in rows[:limit]]
    return AlertPage(items=items, next_cursor=items[-1].id if len(rows) > limit else None)


@router.get("/runs/{run_id}/diagnoses", tags=["alerts"], dependencies=READ)
def diagnose_run(run_id: str, session: ReadSession, settings: ServiceSettings) -> DiagnosisList:
    """What each rule says of the run now, with its criterion and the numbers it used; or why it cannot tell."""
    run = runs.get(session, run_id)
    found = diagnoses.of_run(session, run, time.time(), settings.silent_after_seconds)
    return DiagnosisList(items=[show_diagnosis(diagnosis) for diagnosis in found])


@router.post(
    "/webhooks", tags=["alerts"], dependencies=ADMIN, status_code=201, callbacks=callbacks.routes, description=SCHEME
)
def create_webhook(given: WebhookCreate, session: WriteSession, settings: ServiceSettings) -> WebhookOut:
    return webhooks.create(session, given, settings.webhook_private_addresses)


@router.get("/webhooks", tags=["alerts"], dependencies=ADMIN)
def list_webhooks(session: ReadSession) -> WebhookList:
    """Webhooks with what they have not received yet; secrets are never shown."""
    return WebhookList(items=webhooks.show_all(session))


@router.delete("/webhooks/{webhook_id}", tags=["alerts"], dependencies=ADMIN, status_code=204)
def delete_webhook(webhook_id: str, session: WriteSession) -> Response:
    """Take a webhook away; what it has not received is dropped."""
    webhook_store.remove(session, webhooks.find(session, webhook_id))
    return Response(status_code=204)


@router.post("/webhooks/{webhook_id}/test", tags=["alerts"], dependencies=ADMIN)
async def test_webhook(webhook_id: str, request: Request, database: ServiceDatabase) -> WebhookTest:
    """Send a made-up alert (event `webhook.test`) now, once, and say how that went."""
    webhook = await run_in_threadpool(_find, database, webhook_id)
    attempt = await cast(Deliveries, request.app.state.deliveries).test(webhook)
    return WebhookTest(delivered=attempt.delivered, status=attempt.status, error=attempt.error, seconds=attempt.seconds)


def _find(database: Database, webhook_id: str) -> Webhook:
    with database.read() as session:
        return webhooks.find(session, webhook_id)
