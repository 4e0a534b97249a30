"""Whatever goes wrong below, callers see the package's own errors, with a sentence to act on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import free_port
from tunescope import ApiError, Client, ConnectionFailed, TunescopeError


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """A socket that answers every request with these bytes and hangs up; None: it never answers."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            held = []
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                if stop.is_set():
                    connection.close()
                elif answer is None:
                    held.append(connection)
                else:
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)
            for connection in held:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def http(status: str, body: str = "", kind: str = "application/json", more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    )
    return (head + body).encode()


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (None, ConnectionFailed, "did not answer in time"),
        (b"", ConnectionFailed, "Cannot reach Tunescope at http://127.0.0.1"),
        (b"\x00\x01 nonsense\r\n\r\n", ConnectionFailed, "Cannot reach"),
        (http("200 OK", "<html>hello</html>", "text/html"), ApiError, "did not answer in JSON"),
        (http("502 Bad Gateway", "<h1>proxy</h1>", "text/html"), ApiError, "<h1>proxy</h1> (code http_error, 502)"),
        (http("301 Moved", more="Location: https://else.where/\r\n"), ApiError, "points to https://else.where/"),
        (http("500 Oops", '{"error": "a string"}'), ApiError, "(code http_error, 500)"),
        (
            http("404 Not Found", '{"error": {"code": "suite_not_found", "message": "No such suite.", "details": 7}}'),
            ApiError,
            "No such suite. (code suite_not_found, 404)",
        ),
    ],
)
def test_lower_layers_are_mapped(answer: bytes | None, expected: type[Exception], says: str) -> None:
    with server(answer) as url, Client(url, timeout=0.5) as client, pytest.raises(expected) as caught:
        client.health()
    assert says in str(caught.value)
    assert isinstance(caught.value, TunescopeError)


def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(ConnectionFailed, match="Cannot reach Tunescope at"):
        client.list_projects()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://[::1", "nonsense"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(TunescopeError, match="URL"):
        Client(url)


def test_parts_of_an_api_error(api: Client) -> None:
    with pytest.raises(ApiError) as caught:
        api.get_run("no-such-run")
    error = caught.value
    assert (error.status, error.code) == (404, "run_not_found")
    assert str(error) == f"{error.message} (code run_not_found, 404)"


@pytest.mark.parametrize("call", [lambda c: c.get_run("../projects"), lambda c: c.get_experiment("a/../../runs")])
def test_a_name_cannot_reach_another_route(api: Client, call: Callable[[Client], object]) -> None:
    with pytest.raises(ApiError) as caught:
        call(api)
    assert caught.value.status == 404
