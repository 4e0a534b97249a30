"""A connection to PostgreSQL that is lost at commit: what was committed is not done again, what was not is."""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, make_url, text

from service.store import series
from service.store.database import Database
from service.tracking.ingest import Ingest

from .test_series import new_run, points


class Cut:
    """A relay in front of PostgreSQL that cuts one connection at its next COMMIT: before or after it arrives."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.armed: str | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.server)
                answers = threading.Event()
                answers.set()
                threading.Thread(target=self._up, args=(client, server, answers), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server, answers), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.armed and b"COMMIT" in data:
                    mode, self.armed = self.armed, None
                    self.cuts += 1
                    if mode == "after":
                        answers.clear()  # the server's answer is waited for, and not passed on
                        server.sendall(data)
                        answers.wait(10)
                    break
                server.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _down(self, client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not answers.is_set():
                    answers.set()
                    return
                client.sendall(data)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    url = make_url(postgres_url)
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"cut_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated"))
    relay = Cut(f"{url.query['host']}/.s.PGSQL.{url.port or 5432}")
    request.node.relay = relay
    yield f"postgresql+psycopg://{url.username}@127.0.0.1:{relay.port}/{name}"
    relay.close()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_lost_at_commit(database: Database, request: pytest.FixtureRequest, when: str) -> None:
    run_id = new_run(database)
    ingest = Ingest(database)
    ingest.start()
    relay: Cut = request.node.relay

    async def log() -> int:
        return await ingest.write(lambda session: ingest.append(session, run_id, {"x": points([1, 2])}))

    relay.armed = when
    assert asyncio.run(log()) == 2
    ingest.stop()
    assert relay.cuts == 1
    with database.read() as session:
        (one,) = series.summaries(session, [run_id])
    assert one.count == 2
