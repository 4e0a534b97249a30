"""A second process for what takes long: scoring, comparing, auditing, paging through items.

The service hands such requests over as they are, so that neither a million predictions nor the libraries that read
them (Arrow, SciPy, sacrebleu) weigh on the process that takes in metrics and routes traffic. Three processes:

    service ── requests over a socket ──> worker     started at the first request, ends when idle, gives its memory back
       └────── forked at start ─────────> keeper     holds the socket, starts a worker whenever someone knocks

The keeper is a fork made before any thread runs: a new worker has everything imported already. All of it ends with
the service, whichever way that ends.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from pathlib import Path

import httpx2
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service import errors

LONG = re.compile(
    r"POST /api/v1/(audits|stages|datasets|(suites|evaluations)(/file)?)"
    r"|GET /api/v1/(suites|datasets|evaluations|audits)/[^/]+/(items|quality|label-noise|split)"
    r"|GET /api/v1/evaluations/[^/]+/(confusion|classes|calibration|slices)"
    r"|GET /api/v1/(comparisons(/(items|several|configurations))?|leakage|forgetting-events)"
    r"|POST /api/v1/reviews(/[^/]+/(next|close))?"
    r"|GET /api/v1/reviews/[^/]+/(result|items)"
)
_OF_THE_CONNECTION = {b"connection", b"keep-alive", b"transfer-encoding"}


class Judge:
    """The keeper, seen from the service."""

    def __init__(self, make_app: Callable[[], ASGIApp], idle_seconds: float) -> None:
        """Fork the keeper, whose workers run `make_app()`. Call it before any thread runs and a database is open."""
        folder = Path(tempfile.mkdtemp(prefix="tunescope-judge-"))
        self.socket_path = str(folder / "socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket_path)
        listener.listen(1024)
        # Nothing is ever written there: its end of file says that the service has ended.
        ours, theirs = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(theirs)
            _run(lambda: _keep(listener, ours, folder, lambda: _work(listener, make_app(), idle_seconds)))
        os.close(ours)
        listener.close()
        self._alive = theirs

    def close(self) -> None:
        os.close(self._alive)
        os.waitpid(self._pid, 0)


def _run(body: Callable[[], None]) -> None:
    """What a forked process does in all its life."""
    status = 1
    try:
        body()
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        # Not sys.exit: the clean-up of the process this is a copy of is not for us to do.
        os._exit(status)


def _keep(listener: socket.socket, service: int, folder: Path, work: Callable[[], None]) -> None:
    """Start a worker when a connection waits and none runs; end with the service."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, whose end is ours
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    failures = 0
    while service not in select.select([listener.fileno(), service], [], [])[0]:
        ended, mark = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(ended)
            _run(work)
        os.close(mark)
        if service in select.select([ended, service], [], [])[0]:
            os.kill(worker, signal.SIGTERM)
        _, status = os.waitpid(worker, 0)
        os.close(ended)
        failures = failures + 1 if status else 0
        time.sleep(min(0.1 * failures, 5.0))
    shutil.rmtree(folder, ignore_errors=True)


def _work(listener: socket.socket, app: ASGIApp, idle_seconds: float) -> None:
    app = Idle(app, idle_seconds)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=10))
    app.when_idle = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[listener])


class Handover:
    """Middleware of the service: hands what takes long to the worker, and its answer back, byte for byte."""

    def __init__(self, app: ASGIApp, socket_path: str) -> None:
        self._app = app
        self._socket_path = socket_path

    @cached_property
    def _worker(self) -> httpx2.AsyncClient:
        # A connection a request: a kept one could end, with the idle worker, just as it is used.
        limits = httpx2.Limits(max_keepalive_connections=0)
        return httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=self._socket_path, limits=limits),
            base_url="http://judge",
            timeout=httpx2.Timeout(None, connect=10.0),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or LONG.fullmatch(f"{scope['method']} {scope['path']}") is None:
            await self._app(scope, receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = [(key, value) for key, value in scope["headers"] if key not in _OF_THE_CONNECTION]
        url = httpx2.URL("http://judge", raw_path=target)

        async def ask() -> httpx2.Response:
            # A question has no body, and may be asked twice.
            content = None if scope["method"] == "GET" else _body(receive)
            request = self._worker.build_request(scope["method"], url, headers=headers, content=content)
            return await self._worker.send(request, stream=True)

        try:
            try:
                answer = await ask()
            except httpx2.RemoteProtocolError:
                if scope["method"] != "GET":
                    raise
                answer = await ask()  # the worker it was handed to was just about to end, being idle
        except ClientDisconnect:
            return  # nobody waits for an answer
        except httpx2.TransportError as error:
            message = (
                f"The process that scores and compares ended before it answered ({error!r}). Send the request again."
            )
            await errors.error_response(Request(scope), 503, "judge_unavailable", message)(scope, receive, send)
            return
        try:
            headers = [(key.lower(), value) for key, value in answer.headers.raw]
            kept = [(key, value) for key, value in headers if key not in _OF_THE_CONNECTION]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        more = message.get("more_body", False)


class Idle:
    """The worker's application, and a word when no request has come for a while."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds
        self._running = 0
        self._requests = 0
        self.when_idle: Callable[[], object] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._running += 1
        self._requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            asyncio.get_running_loop().call_later(self._seconds, self._look, self._requests)

    def _look(self, requests: int) -> None:
        if self._running == 0 and requests == self._requests:
            self.when_idle()
