"""The gateway while what it stands on is killed or hangs: nobody who asks notices, and nothing recorded is lost."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest
from sqlmodel import select

from service.store.database import Database
from service.store.tables import Exposure, GatewayRequest, Outcome
from tests.conftest import LiveService, running_service, wait_until
from tests.end_to_end.test_storage_faults import OwnPostgres, own_postgres
from tests.service.experiments.model_server import ModelServer


@pytest.fixture
def model() -> Iterator[ModelServer]:
    server = ModelServer("base")
    server.start()
    yield server
    server.stop()


def set_up(url: str, model: ModelServer) -> None:
    """An experiment 'chat' of two arms on one model."""
    with httpx2.Client(base_url=f"{url}/api/v1", timeout=30) as http:
        variants = [{"key": key, "weight": 1, "upstream": "base", "value": key} for key in ("a", "b")]
        for path, body in (
            ("/upstreams", {"name": "base", "base_url": model.url, "model": "x"}),
            ("/experiments", {"key": "chat", "variants": variants}),
            ("/experiments/chat/start", None),
        ):
            assert http.post(path, json=body).is_success


@dataclass
class Traffic:
    """Callers who ask and rate. `answered`: request ids, and when they were; `rated`: whose rating was acknowledged."""

    url: str
    failures: list[str] = field(default_factory=list)
    answered: dict[str, float] = field(default_factory=dict)
    rated: set[str] = field(default_factory=set)
    decided: int = 0

    def ask(self, http: httpx2.Client, number: int) -> str | None:
        body = {
            "model": "exp:chat",
            "messages": [{"role": "user", "content": f"hello {number}"}],
            "stream": number % 2 == 0,
            "user": f"u{number % 50}",
        }
        answer = http.post("/v1/chat/completions", json=body)
        if answer.status_code != 200 or "hello" not in answer.text:
            self.failures.append(f"{answer.status_code} {answer.text}")
            return None
        self.answered[answer.headers["x-request-id"]] = time.monotonic()
        return answer.headers["x-request-id"]

    def decide(self, http: httpx2.Client, number: int) -> None:
        context = {"context": {"targetingKey": f"flag-{number % 50}"}}
        answer = http.post("/ofrep/v1/evaluate/flags/chat", json=context)
        if answer.status_code != 200:
            self.failures.append(f"{answer.status_code} {answer.text}")
        self.decided += 1

    def rate(self, http: httpx2.Client, request_id: str) -> None:
        event = {"type": "outcome", "request_id": request_id, "metric": "satisfaction", "value": 1}
        answer = http.post("/api/v1/events", json={"events": [event]})
        if answer.status_code == 200:
            self.rated.add(request_id)

    def run(self, stop: threading.Event, rating: bool, expect_death: bool) -> None:
        number = random.randrange(10**6)
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            while not stop.is_set():
                number += 1
                try:
                    request_id = self.ask(http, number)
                    self.decide(http, number)
                    if rating and request_id is not None and number % 3 == 0:
                        self.rate(http, request_id)
                except httpx2.TransportError as error:
                    if expect_death:
                        return
                    self.failures.append(repr(error))
                time.sleep(0.005)

    @contextmanager
    def flowing(self, callers: int = 3, rating: bool = True, expect_death: bool = False) -> Iterator[None]:
        stop = threading.Event()
        threads = [threading.Thread(target=self.run, args=(stop, rating, expect_death)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(90)

    def grows_by(self, calls: int) -> None:
        """Wait for so many more answers."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) >= before + calls, 60)


def found(url: str) -> tuple[set[str], set[str], set[str]]:
    """Requests, rated requests and exposed units in the database."""
    database = Database(url, attached=True)
    try:
        with database.read() as session:
            requests = set(session.exec(select(GatewayRequest.request_id)).all())
            rated = set(session.exec(select(Outcome.request_id)).all())
            return requests, rated, set(session.exec(select(Exposure.unit_id)).all())
    finally:
        database.close()


def test_postgresql_is_killed_while_traffic_runs(postgres_url: str, model: ModelServer, tmp_path: Path) -> None:
    with own_postgres() as server, running_service(tmp_path / "data", database_url=server.url) as service:
        set_up(service.url, model)
        traffic = Traffic(service.url)
        with traffic.flowing():
            traffic.grows_by(30)
            server.kill()
            traffic.grows_by(60)  # nobody home
            assert list((tmp_path / "data" / "spill").glob("events-*.jsonl"))
            server.start()
            traffic.grows_by(30)
        assert traffic.failures == []
        wait_until(lambda: not list((tmp_path / "data" / "spill").glob("events-*.jsonl")), 60)
        wait_until(lambda: set(traffic.answered) <= found(server.url)[0])
        requests, rated, units = found(server.url)
        assert requests == set(traffic.answered)
        assert traffic.rated <= rated
        assert {f"u{n}" for n in range(50)} >= {unit for unit in units if unit.startswith("u")}


@contextmanager
def hanging(server: OwnPostgres) -> Iterator[None]:
    """PostgreSQL takes what it is sent, and does nothing: SIGSTOP."""
    head = psutil.Process(int((server.folder / "postmaster.pid").read_text().splitlines()[0]))
    family = [head, *head.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_the_service_is_killed_while_postgresql_hangs(postgres_url: str, model: ModelServer, tmp_path: Path) -> None:
    """What a kill may cost: what was answered in the last second or so, though the database took nothing for longer."""
    with own_postgres() as server, running_service(tmp_path / "data", database_url=server.url) as service:
        set_up(service.url, model)
        traffic = Traffic(service.url)
        with traffic.flowing(rating=False, expect_death=True):
            traffic.grows_by(30)
            with hanging(server):
                traffic.grows_by(100)
                time.sleep(2)
                traffic.grows_by(30)
                assert traffic.failures == []
                killed_at = time.monotonic()
                service.kill()
        service.start()
        wait_until(lambda: not list((tmp_path / "data" / "spill").glob("events-*.jsonl")), 60)
        lost = set(traffic.answered) - found(server.url)[0]
        assert all(traffic.answered[request_id] > killed_at - 1.5 for request_id in lost)
        assert len(lost) < len(traffic.answered)


def kill_under_load(service: LiveService, url: str, model: ModelServer, times: int) -> None:
    set_up(service.url, model)
    traffic = Traffic(service.url)
    lost: set[str] = set()
    for number in range(times):
        with traffic.flowing(callers=4, expect_death=True):
            traffic.grows_by(60)
            time.sleep(random.Random(number).uniform(2.0, 2.1))
            killed_at = time.monotonic()
            service.kill()
        service.start()
        wait_until(lambda: not list((service.data_dir / "spill").glob("events-*.jsonl")), 60)
        requests, rated, _ = found(url)
        assert traffic.rated <= rated  # acknowledged: stored
        lost |= {one for one in set(traffic.answered) - requests - lost if traffic.answered[one] > killed_at - 1.5}
        assert set(traffic.answered) - requests == lost
        assert any(request_id in requests for request_id, at in traffic.answered.items() if at < killed_at - 1.5)


@pytest.mark.slow
def test_the_service_is_killed_with_events_in_its_queue(model: ModelServer, tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        kill_under_load(service, f"sqlite:///{tmp_path / 'data' / 'tunescope.db'}", model, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_service_is_killed_again_and_again(postgres_url: str, model: ModelServer, tmp_path: Path) -> None:
    with own_postgres() as server, running_service(tmp_path / "data", database_url=server.url) as service:
        kill_under_load(service, server.url, model, 8)


@pytest.mark.slow
def test_what_was_spilled_is_there_after_a_kill(postgres_url: str, model: ModelServer, tmp_path: Path) -> None:
    """The database dies first, then the service: what was recorded lies on disk, and is stored later."""
    with own_postgres() as server, running_service(tmp_path / "data", database_url=server.url) as service:
        set_up(service.url, model)
        traffic = Traffic(service.url)
        with traffic.flowing(callers=2):
            traffic.grows_by(10)
            server.kill()
            traffic.grows_by(40)
        time.sleep(1.5)
        service.kill()
        server.start()
        service.start()
        wait_until(lambda: not list((tmp_path / "data" / "spill").glob("events-*.jsonl")), 60)
        requests, rated, _ = found(server.url)
        assert requests == set(traffic.answered)
        assert traffic.rated <= rated


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hundreds_of_slow_callers_keep_nobody_from_an_answer(model: ModelServer, tmp_path: Path) -> None:
    """Slow loris: 150 callers dribble headers, 150 a body. Others are answered, and within a minute all are gone."""
    with running_service(tmp_path / "data") as service, ExitStack() as stack:
        set_up(service.url, model)
        openings = [b"POST /v1/chat/completions HTTP/1.1\r\n"]
        openings.append(openings[0] + b"host: x\r\ncontent-length: 100000\r\n\r\n{")
        callers = [
            (stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10)), opening)
            for opening in openings
            for _ in range(150)
        ]
        for connection, opening in callers:
            connection.sendall(opening)
        open_ones = {connection for connection, _ in callers}
        traffic = Traffic(service.url)
        with traffic.flowing(rating=False):
            deadline = time.monotonic() + 90
            while open_ones and time.monotonic() < deadline:
                for connection in list(open_ones):
                    if ended(connection):
                        open_ones.remove(connection)
                traffic.grows_by(5)
        assert open_ones == set()
        assert traffic.failures == []


def ended(connection: socket.socket) -> bool:
    """Dribble a byte; whether the service has had enough."""
    connection.setblocking(False)
    try:
        connection.send(b"x")
        return connection.recv(65536) is not None
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
