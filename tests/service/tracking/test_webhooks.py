"""Webhooks on a real receiver: signed, at least once, through outages, kills and slowness, and only where allowed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlmodel import select
from starlette.testclient import TestClient

from service.addresses import permitted
from service.app import create_app
from service.settings import Settings
from service.store import alerts as alert_store
from service.store import runs as run_store
from service.store import webhooks as store
from service.store.database import Database
from service.store.tables import Delivery, Run, Webhook
from service.tracking import webhooks
from service.tracking.webhooks import Deliveries, retry_delay, signature
from tests.conftest import free_port, running_service, wait_until
from tests.service.tracking.receiver import Receiver, listening
from tests.service.tracking.test_alerts_api import log, make_run, wait_for_alerts

NAN = float("nan")
SECRET = b"a signing secret of this test"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", webhook_private_addresses=True, dashboard_url="https://board.example/")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening(Receiver()) as one:
        yield one


def register(client: TestClient, receiver: Receiver, **more: Any) -> str:
    answer = client.post("/api/v1/webhooks", json={"url": receiver.url, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def listed(client: TestClient, webhook_id: str) -> dict[str, Any]:
    return next(w for w in client.get("/api/v1/webhooks").json()["items"] if w["id"] == webhook_id)


def verify(headers: dict[str, str], body: bytes, key: bytes) -> None:
    """As a receiver does it, by the description in the API's documentation."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    version, _, given = headers["webhook-signature"].partition(",")
    assert (version, given) == ("v1", expected)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_an_alert_is_told_and_so_is_its_end(client: TestClient, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    register(client, receiver, secret_ref=f"file:{tmp_path / 'secret'}")
    register(client, receiver, project="another one")
    run_id = make_run(client, name="too hot")
    log(client, run_id, train__loss=[2.0, NAN, NAN])
    wait_until(lambda: receiver.events() == ["alert.opened"])
    log(client, run_id, 2, train__loss=[1.0])
    client.patch(f"/api/v1/runs/{run_id}", json={"status": "finished"})
    wait_until(lambda: receiver.events() == ["alert.opened", "alert.resolved"])
    opened, resolved = receiver.received
    assert opened.json["run"] == {
        "id": run_id, "name": "too hot", "project": "p", "url": f"https://board.example/run?id={run_id}",
    }  # fmt: skip
    (alert,) = wait_for_alerts(client, 1, run_id=run_id)
    assert {**opened.json["alert"], "resolved_at": alert["resolved_at"]} == alert
    assert resolved.json["alert"]["resolved_at"] == alert["resolved_at"]
    assert opened.json["at"] == alert["opened_at"]
    for one in receiver.received:
        verify(one.headers, one.body, SECRET)
    assert opened.headers["webhook-id"] != resolved.headers["webhook-id"]
    assert opened.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert opened.headers["content-type"] == "application/json"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """A known vector of the scheme, as its verifying libraries compute it."""
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    assert signature(key, "msg_loFOjxBNrRLzqYUf", 1731705121, body) == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_a_secret_may_be_base64_behind_its_prefix(
    client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + base64.b64encode(SECRET).decode())
    webhook = register(client, receiver, secret_ref="env:HOOK_SECRET")
    answer = client.post(f"/api/v1/webhooks/{webhook}/test").json()
    assert (answer["delivered"], answer["status"], answer["error"]) == (True, 204, None)
    verify(receiver.received[0].headers, receiver.received[0].body, SECRET)
    assert receiver.events() == ["webhook.test"]
    monkeypatch.delenv("HOOK_SECRET")
    refused = client.post(f"/api/v1/webhooks/{webhook}/test").json()
    assert (refused["delivered"], refused["status"]) == (False, None)
    assert "HOOK_SECRET is not set" in refused["error"]  # never unsigned
    assert len(receiver.received) == 1


def test_a_receiver_that_is_down_is_told_when_it_is_up(client: TestClient) -> None:
    receiver = Receiver(free_port())
    webhook = register(client, receiver)
    log(client, make_run(client), train__loss=[2.0, NAN, NAN])
    wait_until(lambda: listed(client, webhook)["last_error"] is not None)
    state = listed(client, webhook)
    assert state["waiting"] == 1
    assert state["last_error"].startswith("Not reached:")
    failing = Receiver(
        receiver.port, answer=lambda n: (503, {}, b"come back " * 100) if n < 2 else (200, {}, b"thanks")
    )
    with listening(failing):
        wait_until(lambda: listed(client, webhook)["waiting"] == 0)
    assert failing.events() == ["alert.opened"] * 2
    first, second = failing.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_only_a_short_excerpt_of_an_answer_is_kept(client: TestClient, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {}, b"x" * 1_000_000)
    answer = client.post(f"/api/v1/webhooks/{register(client, receiver)}/test").json()
    assert answer["status"] == 500
    assert 100 < len(answer["error"]) < 300


def test_a_redirect_is_not_followed(client: TestClient, receiver: Receiver) -> None:
    with listening(Receiver()) as other:
        receiver.answer = lambda _: (302, {"location": other.url}, b"")
        answer = client.post(f"/api/v1/webhooks/{register(client, receiver)}/test").json()
    assert (answer["delivered"], answer["status"]) == (False, 302)
    assert "redirect" in answer["error"]
    assert len(receiver.received) == 1
    assert other.received == []


def test_a_receiver_that_is_gone_is_left_alone(client: TestClient, receiver: Receiver) -> None:
    receiver.answer = lambda _: (410, {}, b"")
    webhook = register(client, receiver)
    log(client, make_run(client), train__loss=[2.0, NAN, NAN])
    wait_until(lambda: len(receiver.received) == 1 and listed(client, webhook)["waiting"] == 0)


def test_a_webhook_that_is_taken_away_hears_nothing_more(client: TestClient) -> None:
    receiver = Receiver(free_port())
    webhook = register(client, receiver)
    log(client, make_run(client), train__loss=[2.0, NAN, NAN])
    wait_until(lambda: listed(client, webhook)["last_error"] is not None)
    assert client.delete(f"/api/v1/webhooks/{webhook}").status_code == 204
    with listening(receiver), listening(Receiver()) as other:
        register(client, other)
        log(client, make_run(client), train__loss=[2.0, NAN, NAN])
        wait_until(lambda: len(other.received) == 1)
    assert receiver.received == []


# --- where it may go ---


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.215.14", True, True),
        ("2606:2800:21f:cb07::1", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("10.1.2.3", False, True),
        ("192.168.0.1", False, True),
        ("100.64.0.1", False, True),  # shared address space
        ("fd00::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("64:ff9b::7f00:1", False, True),  # 127.0.0.1, translated
        ("2002:7f00:1::", False, True),  # 127.0.0.1, 6to4
        ("::ffff:93.184.215.14", True, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_addresses_that_may_be_connected_to(address: str, public: bool, private: bool) -> None:
    assert permitted(address, private=False) is public
    assert permitted(address, private=True) is private


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_connected_to(
    tmp_path: Path, database: Database, receiver: Receiver
) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path / "data"), database)) as client:
        url = receiver.url.replace("127.0.0.1", "localhost")
        webhook = client.post("/api/v1/webhooks", json={"url": url}).json()["id"]
        answer = client.post(f"/api/v1/webhooks/{webhook}/test").json()
        assert answer["delivered"] is False
        assert "TUNESCOPE_WEBHOOK_PRIVATE_ADDRESSES" in answer["error"]
        log(client, make_run(client), train__loss=[2.0, NAN, NAN])
        wait_until(lambda: "not a public address" in (listed(client, webhook)["last_error"] or ""))
    assert receiver.received == []


# --- what is owed ---


def owe(database: Database, *urls: str, at: float | None = None, alerts: int = 1) -> list[str]:
    """Webhooks that are owed an event for each of some alerts."""
    now = time.time() if at is None else at
    with database.write() as session:
        project = run_store.project_id(session, "p")
        run = Run(project_id=project, name="r", created_at=now, heartbeat_at=now)
        session.add(run)
        ids = [store.add(session, Webhook(url=url, created_at=now)).id for url in urls]
        row = {"project_id": project, "run_id": run.id, "rule": "loss_not_finite", "severity": "error", "message": "m",
               "evidence": {}, "step": 1, "created_at": now}  # fmt: skip
        opened = alert_store.open_(session, [{**row, "key": f"loss{n}"} for n in range(alerts)])
        store.owe(session, project, opened, "alert.opened", now)
    return ids


def deliver(database: Database, settings: Settings, until: Any, replicas: int = 1, **options: float) -> None:
    """Run deliverers until the condition holds."""

    async def run() -> None:
        running = [Deliveries(settings, database, poll_seconds=0.05, **options) for _ in range(replicas)]
        for one in running:
            await one.start()
        try:
            await asyncio.to_thread(wait_until, until)
        finally:
            for one in running:
                await one.stop()

    asyncio.run(run())


def deliveries(database: Database, webhook_id: str) -> list[Delivery]:
    with database.read() as session:
        found = list(session.exec(select(Delivery).where(Delivery.webhook_id == webhook_id)))
        session.expunge_all()
        return found


def all_done(database: Database, *webhook_ids: str) -> Any:
    return lambda: all(row.done for webhook_id in webhook_ids for row in deliveries(database, webhook_id))


def test_replicas_share_the_work_and_deliver_each_once(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    (webhook,) = owe(database, receiver.url, alerts=30)
    deliver(database, settings, all_done(database, webhook), replicas=4)
    ids = [one.headers["webhook-id"] for one in receiver.received]
    assert len(ids) == len(set(ids)) == 30


def test_a_slow_receiver_holds_up_no_other(database: Database, settings: Settings, receiver: Receiver) -> None:
    with listening(Receiver(delay=60.0)) as slow:
        slow_id, quick_id = owe(database, slow.url, receiver.url, alerts=10)
        deliver(database, settings, all_done(database, quick_id), total_seconds=60.0)
        assert len(receiver.received) == 10
        assert {row.attempts for row in deliveries(database, slow_id)} == {0}
        deliver(
            database,
            settings,
            lambda: any(row.last_error for row in deliveries(database, slow_id)),
            total_seconds=0.5,
        )
    told = [row for row in deliveries(database, slow_id) if row.last_error]
    assert {row.last_error for row in told} == {"No answer within 0.5 s."}
    assert not any(row.done for row in told)


def test_stopping_ends_even_if_something_becomes_due_at_that_moment(database: Database, settings: Settings) -> None:
    async def run() -> None:
        for _ in range(5):
            one = Deliveries(settings, database, poll_seconds=60.0)
            await one.start()
            await asyncio.sleep(0.1)  # it waits
            one._due.set()
            async with asyncio.timeout(5):
                await one.stop()

    asyncio.run(run())


def test_a_day_later_it_is_given_up(database: Database, settings: Settings) -> None:
    (webhook,) = owe(database, f"http://127.0.0.1:{free_port()}/", at=time.time() - webhooks.GIVE_UP_SECONDS)
    deliver(database, settings, all_done(database, webhook))
    (row,) = deliveries(database, webhook)
    assert row.attempts == 1
    assert (row.last_error or "").startswith("Given up after 1 tries. Not reached:")


def test_what_happens_again_is_owed_again(database: Database, settings: Settings, receiver: Receiver) -> None:
    """An event that repeats while its first telling is under way is told again, not taken for done."""
    (webhook,) = owe(database, receiver.url)
    with database.write() as session:
        claimed = store.claim(session, time.time(), 60.0, [])
        assert claimed is not None
        assert store.claim(session, time.time(), 60.0, []) is None
    with database.write() as session:
        store.owe(session, claimed.alert.project_id, [claimed.alert.id], "alert.opened", time.time())
        store.settle(session, claimed, done=True, next_attempt_at=0.0, error=None)
    assert not all_done(database, webhook)()
    deliver(database, settings, all_done(database, webhook))
    assert len(receiver.received) == 1


def test_a_claim_that_nobody_settles_runs_out(database: Database) -> None:
    owe(database, "http://127.0.0.1:9/")
    now = time.time()
    with database.write() as session:
        assert store.claim(session, now, 30.0, []) is not None
    with database.write() as session:
        assert store.claim(session, now + 29.0, 30.0, []) is None
        assert store.claim(session, now + 31.0, 30.0, []) is not None


def test_retries_wait_longer_and_longer() -> None:
    chance = random.Random(1)
    for attempts, longest in ((1, 2.0), (2, 4.0), (5, 32.0), (12, 900.0), (1000, 900.0)):
        waits = [retry_delay(attempts, chance) for _ in range(100)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_killed_service_delivers_after_its_next_start(tmp_path: Path) -> None:
    receiver = Receiver(free_port())
    environment = {"TUNESCOPE_WEBHOOK_PRIVATE_ADDRESSES": "true"}
    with ExitStack() as stack:
        service = stack.enter_context(running_service(tmp_path / "data", environment=environment))
        client: Any = stack.enter_context(httpx2.Client(base_url=service.url))
        webhook = register(client, receiver)
        run_id = make_run(client)
        log(client, run_id, train__loss=[2.0, NAN, NAN])
        wait_until(lambda: listed(client, webhook)["last_error"] is not None)
        service.kill()
        stack.enter_context(listening(receiver))
        service.start()
        wait_until(lambda: len(receiver.received) >= 1)
        wait_until(lambda: listed(client, webhook)["waiting"] == 0)
    assert set(receiver.events()) == {"alert.opened"}
    assert receiver.received[0].json["run"]["id"] == run_id
