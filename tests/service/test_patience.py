"""Callers who dribble their requests, or do not read their answers, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from service.patience import PatientProtocol
from tests.conftest import free_port, wait_until


class Hasty(PatientProtocol):
    """The same, a hundred times faster."""

    LOOK_SECONDS = 0.05
    HEAD_SECONDS = 0.3
    BODY_SECONDS = 0.3
    BODY_RATE = 10_000
    UNREAD_SECONDS = 0.4


class App:
    """Reads the body and answers its length; a megabyte for `/large`; nothing before `go` for `/late`."""

    def __init__(self) -> None:
        self.disconnected = threading.Event()
        self.go = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        if scope["path"] == "/late":
            await asyncio.to_thread(self.go.wait, 10)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            size, more = size + len(message["body"]), message["more_body"]
        body = b"x" * 2**24 if scope["path"] == "/large" else str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if scope["path"] == "/large":
            await receive()
            self.disconnected.set()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app: App) -> Iterator[int]:
    config = uvicorn.Config(app, port=free_port(), http=Hasty, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield config.port
    server.should_exit = True
    thread.join(10)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def heard(connection: socket.socket) -> bytes:
    """Everything until the service closes."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionError:
        pass
    return said


def dribble(connection: socket.socket, piece: bytes, seconds: float = 5.0) -> None:
    """A piece every 50 ms until the service has had enough; fails if it never has."""
    deadline = time.monotonic() + seconds
    connection.settimeout(0.05)
    while time.monotonic() < deadline:
        try:
            connection.sendall(piece)
            if connection.recv(1, socket.MSG_PEEK) is not None:
                connection.settimeout(10)
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return
    pytest.fail("the service went on listening")


@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        (b"", b"\r\n"),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n"),
        (b"G", b"E"),
    ],
)
def test_headers_that_dribble_in_are_ended(port: int, opening: bytes, piece: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(opening)
        dribble(connection, piece)
        assert not heard(connection).startswith(b"HTTP/1.1 200")


def test_a_connection_that_says_nothing_is_ended(port: int) -> None:
    with connect(port) as connection:
        assert heard(connection).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_empty_lines_after_an_answer_do_not_keep_a_connection(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65536).endswith(b"\r\n\r\n0")
        dribble(connection, b"\r\n")


def test_a_body_that_dribbles_in_is_ended_and_the_application_hears_of_it(port: int, app: App) -> None:
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        dribble(connection, b"x")
        assert heard(connection).startswith(b"HTTP/1.1 408")
    assert app.disconnected.wait(10)


def test_a_slow_body_that_keeps_its_rate_arrives(port: int) -> None:
    """Three times as long as the time that is given to a body of which nothing arrives."""
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n")
        for _ in range(30):
            connection.sendall(b"x" * 1000)
            time.sleep(0.03)
        assert connection.recv(65536).endswith(b"\r\n\r\n30000")


@pytest.mark.parametrize("expect", [b"", b"expect: 100-continue\r\n"])
def test_time_in_which_the_service_does_not_read_is_not_the_callers(port: int, app: App, expect: bytes) -> None:
    size = 2**20 if not expect else 1000
    with connect(port) as connection:
        head = f"POST /late HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n".encode() + expect + b"\r\n"
        connection.sendall(head)
        sent = threading.Thread(target=lambda: connection.sendall(b"x" * size) if not expect else None)
        sent.start()
        assert not app.disconnected.wait(0.8)
        app.go.set()
        if expect:
            assert connection.recv(65536).startswith(b"HTTP/1.1 100")
            connection.sendall(b"x" * size)
        sent.join(10)
        assert connection.recv(65536).endswith(f"\r\n\r\n{size}".encode())


def test_an_answer_that_nobody_reads_is_ended(port: int, app: App) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert app.disconnected.wait(10)


def test_an_answer_that_is_read_slowly_arrives(port: int) -> None:
    with connect(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        size, began = 0, time.monotonic()
        while piece := connection.recv(2**18):
            size += len(piece)
            time.sleep(0.01)
        assert time.monotonic() - began > 2 * Hasty.UNREAD_SECONDS
        assert size > 2**24


def test_headers_have_an_end(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        line = b"a: " + b"b" * 8000 + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(line)
        except ConnectionError:
            pass
        assert heard(connection)[:12] in (b"HTTP/1.1 431", b"")
