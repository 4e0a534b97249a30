"""Alerts told to other systems: signed JSON by HTTP POST, at least once.

What is owed is a row in the database (`Delivery`), claimed for a moment by the process that delivers it: a service that
is killed, or another replica, goes on with it. A webhook is told one thing at a time; a slow one holds up no other.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import httpx2
from sqlmodel import Session

from service.addresses import AddressRefused, permitted, resolve
from service.errors import Invalid, NotFound
from service.settings import SecretNotFound, Settings, read_secret
from service.store import runs as run_store
from service.store import webhooks as store
from service.store.database import Database
from service.store.tables import Alert, Webhook
from service.store.webhooks import Owed
from service.tracking.alert_schemas import (
    Event,
    RunReference,
    WebhookBody,
    WebhookCreate,
    WebhookOut,
    show_alert,
)
from service.tracking.alerts import DATABASE_AWAY

logger = logging.getLogger(__name__)

CONNECT_SECONDS, TOTAL_SECONDS = 3.0, 10.0
# A claim outlives the attempt it is made for by far; after it, the delivery is anybody's again.
LEASE_SECONDS = 3 * TOTAL_SECONDS
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, GIVE_UP_SECONDS = 2.0, 900.0, 86_400.0
T = TypeVar("T")
AT_ONCE = 16  # webhooks that are talked to at the same time
EXCERPT = 200
GONE = 410


class WebhookNotFound(NotFound):
    code = "webhook_not_found"


class WebhookAddress(Invalid):
    code = "webhook_address"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went. `status`: what the receiver answered; None: nothing."""

    status: int | None
    error: str | None
    seconds: float

    @property
    def delivered(self) -> bool:
        return self.error is None


# --- what there is ---


def create(session: Session, given: WebhookCreate, private: bool) -> WebhookOut:
    """Register a webhook.

    Raises:
        WebhookAddress: the URL names an address that is not allowed (a name is checked when it is connected to).
    """
    host = httpx2.URL(given.url).host
    with suppress(ValueError):  # a name, not an address
        if not permitted(host, private):
            hint = "" if private else " TUNESCOPE_WEBHOOK_PRIVATE_ADDRESSES=true allows private ones."
            raise WebhookAddress(f"{host} is not a public address.{hint}")
    project_id = run_store.project_id(session, given.project) if given.project is not None else None
    row = Webhook(url=given.url, project_id=project_id, secret_ref=given.secret_ref, created_at=time.time())
    return _show(store.add(session, row), given.project, 0, None)


def find(session: Session, webhook_id: str) -> Webhook:
    found = store.get(session, webhook_id)
    if found is None:
        raise WebhookNotFound(f"There is no webhook '{webhook_id}'.")
    return found[0]


def show_all(session: Session) -> list[WebhookOut]:
    state = store.state(session)
    return [_show(row, project, *state.get(row.id, (0, None))) for row, project in store.everything(session)]


def _show(row: Webhook, project: str | None, waiting: int, error: str | None) -> WebhookOut:
    problem = None
    try:
        _key(row.secret_ref)
    except (SecretNotFound, OSError) as missing:
        problem = str(missing)
    return WebhookOut(
        id=row.id,
        url=row.url,
        project=project,
        secret_ref=row.secret_ref,
        created_at=row.created_at,
        waiting=waiting,
        last_error=error,
        problem=problem,
    )


# --- signing ---


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` (the scheme of Standard Webhooks)."""
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _key(reference: str | None) -> bytes | None:
    """The signing key: what follows `whsec_` is base64, anything else is taken as it is."""
    if reference is None:
        return None
    secret = read_secret(reference)
    if secret.startswith("whsec_"):
        with suppress(binascii.Error):
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


# --- delivering ---


def retry_delay(attempts: int, chance: random.Random) -> float:
    """Seconds until the next try after `attempts` that failed: doubling, half of it by chance."""
    longest = min(FIRST_RETRY_SECONDS * 2.0 ** min(attempts - 1, 30), LONGEST_RETRY_SECONDS)
    return longest * chance.uniform(0.5, 1.0)


class Deliveries:
    """Delivers what is owed, between `start` and `stop`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        poll_seconds: float = 2.0,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._database = database
        self._total = total_seconds
        self._private = settings.webhook_private_addresses
        self._dashboard = settings.dashboard_url.rstrip("/")
        self._poll = poll_seconds
        self._chance = random.Random()
        self._busy: dict[str, asyncio.Task[None]] = {}  # webhook → the delivery that is under way
        self._client: httpx2.AsyncClient | None = None
        # Threads of its own for the database: `stop` waits until none of them uses it any more.
        self._threads = ThreadPoolExecutor(AT_ONCE, "webhooks")

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """End at once: what is cut off is delivered again when its claim has run out."""
        tasks = [self._task, *self._busy.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._client is not None:
            await self._client.aclose()

    def wake(self) -> None:
        """Something new is owed. From any thread."""
        with suppress(RuntimeError):  # the loop is closed: the next start finds it
            self._loop.call_soon_threadsafe(self._due.set)

    async def test(self, webhook: Webhook) -> Attempt:
        """Send a made-up alert now, and say how that went."""
        now = time.time()
        alert = Alert(
            id="test", project_id=0, run_id="test", rule="loss_not_finite", key="train/loss", severity="info",
            message="This is a test: no run has a problem.", created_at=now,
        )  # fmt: skip
        owed = Owed(webhook.id, webhook.url, webhook.secret_ref, "webhook.test", now, 0, alert, "test", "test")
        return await self._attempt(owed)

    async def _run(self) -> None:
        while True:
            self._due.clear()
            try:
                owed = await self._in_thread(self._claim) if len(self._busy) < AT_ONCE else None
            except DATABASE_AWAY as error:
                logger.warning("Webhooks wait: the database does not answer: %s", str(error).splitlines()[0])
                owed = None
            except Exception:  # a fault of ours must not end the task
                logger.exception("What is owed to webhooks cannot be read")
                owed = None
            if owed is not None:
                self._busy[owed.webhook_id] = asyncio.create_task(self._deliver(owed))
                continue
            # Not wait_for: before Python 3.12 it may swallow a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._due.wait()

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await self._loop.run_in_executor(self._threads, work, *given)

    def _claim(self) -> Owed | None:
        now = time.time()
        with self._database.read() as session:  # most of the time there is nothing: no need to queue for writing
            due = store.next_due(session)
        if due is None or due > now:
            return None
        with self._database.write() as session:
            return store.claim(session, now, LEASE_SECONDS, list(self._busy))

    async def _deliver(self, owed: Owed) -> None:
        try:
            attempt = await self._attempt(owed)
            await self._in_thread(self._settle, owed, attempt)
        except DATABASE_AWAY as error:  # it will be delivered twice: better than never
            logger.warning("A delivery could not be noted: %s", str(error).splitlines()[0])
        except Exception:
            logger.exception("A delivery to %s failed", owed.url)
        finally:
            del self._busy[owed.webhook_id]
            self._due.set()

    def _settle(self, owed: Owed, attempt: Attempt) -> None:
        now = time.time()
        error, done = attempt.error, attempt.delivered
        following = now + retry_delay(owed.attempts + 1, self._chance)
        if not done and (attempt.status == GONE or following > owed.created_at + GIVE_UP_SECONDS):
            done, error = True, f"Given up after {owed.attempts + 1} tries. {error}"
        if error is not None:
            logger.warning("Webhook %s was not told of %s: %s", owed.url, owed.event, error)
        with self._database.write() as session:
            store.settle(session, owed, done=done, next_attempt_at=following, error=error)

    async def _attempt(self, owed: Owed) -> Attempt:
        began = time.monotonic()
        status: int | None = None
        error: str | None = None
        try:
            async with asyncio.timeout(self._total):
                status, error = await self._post(owed)
        except TimeoutError:
            error = f"No answer within {self._total:g} s."
        except (SecretNotFound, AddressRefused) as refused:
            error = f"Not sent: {refused}."
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as failure:
            error = f"Not reached: {str(failure) or type(failure).__name__}."
        return Attempt(status, error, time.monotonic() - began)

    async def _post(self, owed: Owed) -> tuple[int, str | None]:
        """Status, and what is wrong with it. The connection goes to the address that was checked."""
        url = httpx2.URL(owed.url)
        address = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80), self._private)
        body = self._body(owed).model_dump_json().encode()
        headers = {"host": url.netloc.decode("ascii"), "content-type": "application/json", **_signed(owed, body)}
        if self._client is None:
            # Connections are not kept: they would be told apart by address alone, and a host's name matters to TLS.
            limits = httpx2.Limits(max_keepalive_connections=0)
            timeout = httpx2.Timeout(self._total, connect=CONNECT_SECONDS)
            self._client = httpx2.AsyncClient(
                timeout=timeout, limits=limits, follow_redirects=False, trust_env=False,
                headers={"user-agent": "tunescope-webhooks"},
            )  # fmt: skip
        request = self._client.build_request(
            "POST", url.copy_with(host=address), content=body, headers=headers, extensions={"sni_hostname": url.host}
        )
        response = await self._client.send(request, stream=True)
        try:
            if response.is_success:
                return response.status_code, None
            said = b""
            async for piece in response.aiter_bytes():
                said += piece
                if len(said) >= EXCERPT:
                    break
            where = " (a redirect, which is not followed)" if response.is_redirect else ""
            excerpt = said[:EXCERPT].decode(errors="replace").replace("\0", "")
            return response.status_code, f"Answered {response.status_code}{where}. {excerpt}".strip()
        finally:
            await response.aclose()

    def _body(self, owed: Owed) -> WebhookBody:
        alert = owed.alert
        event: Event = owed.event  # type: ignore[assignment]
        return WebhookBody(
            event=event,
            at=owed.created_at,
            alert=show_alert(alert, owed.run_name, owed.project),
            run=RunReference(
                id=alert.run_id,
                name=owed.run_name,
                project=owed.project,
                url=f"{self._dashboard}/run?id={alert.run_id}",
            ),
        )


def _signed(owed: Owed, body: bytes) -> dict[str, str]:
    # The same for every try of the same event: receivers know by it what they have had before.
    named = f"{owed.webhook_id}.{owed.alert.id}.{owed.event}.{owed.created_at!r}"
    message_id = f"msg_{hashlib.sha256(named.encode()).hexdigest()[:32]}"
    timestamp = int(time.time())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    key = _key(owed.secret_ref)
    return headers if key is None else {**headers, "webhook-signature": signature(key, message_id, timestamp, body)}
