"""One call to one model: sent, timed, and either a first byte that is sound or an error that says why not."""

from __future__ import annotations

import asyncio
import importlib
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx2
import orjson

from service.addresses import AddressRefused, socket_to
from service.experiments.endpoints import Endpoint
from service.experiments.refusals import (
    Garbled,
    Misconfigured,
    Overloaded,
    Refused,
    Saturated,
    TooSlow,
    Unreachable,
    UpstreamError,
)
from service.experiments.snapshot import LiveUpstream
from service.experiments.streaming import EventSplitter, GarbledStream, first_data
from service.settings import Settings

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

# What an upstream may send as one whole answer: embeddings of a large batch are tens of megabytes.
MOST_ANSWER_BYTES = 256 * 2**20
LARGE_BYTES = 2**20  # from which on a body is sent in pieces, so that other calls get their turns
NAMES_SECONDS = 10  # that the address of a name is remembered
# Statuses about the request itself: the caller must hear them, another try would end alike.
_ABOUT_THE_REQUEST = {400, 402, 409, 413, 415, 422, 451}
_OVERLOADED = {408, 425, 429}


class Upstreams:
    """The pooled connections to every model, how many calls are under way at each, and the time-outs of a call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._first = settings.upstream_first_token_timeout
        self._between = settings.upstream_token_timeout
        self.total = settings.upstream_total_timeout
        self._under_way: Counter[str] = Counter()
        self._sessions: dict[bool, ClientSession] = {}

    def _session(self, private: bool) -> ClientSession:
        """Made for the first request: it takes 100 ms, which a service without a gateway need not wait for."""
        if private not in self._sessions:
            http = importlib.import_module("aiohttp")
            connector = http.TCPConnector(
                limit=0,  # calls are counted here, by upstream; a pool would queue callers
                keepalive_timeout=30,
                ttl_dns_cache=NAMES_SECONDS,
                ssl=httpx2.create_ssl_context(),
                socket_factory=socket_to(private),
            )
            self._sessions[private] = http.ClientSession(
                connector=connector,
                # Reading is timed here, by what is waited for.
                timeout=http.ClientTimeout(total=None, connect=self._settings.upstream_connect_timeout),
                cookie_jar=http.DummyCookieJar(),
                trust_env=False,
            )
        return self._sessions[private]

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def call(
        self, upstream: LiveUpstream, endpoint: Endpoint, body: dict[str, Any], deadline: float, stream: bool
    ) -> Answer:
        """Send `body` and wait until the answer has begun well: a whole one, or a stream's first event.

        Raises:
            UpstreamError: nothing of an answer has been passed on; see its `retry` and `fall_back`.
        """
        if upstream.problem is not None:
            raise Misconfigured(f"The upstream '{upstream.name}' has no usable key: {upstream.problem}.")
        most = self._settings.upstream_calls
        if self._under_way[upstream.name] >= most:
            raise Saturated(f"{most} calls are under way at the upstream '{upstream.name}'; try again in a moment.")
        self._under_way[upstream.name] += 1
        answer = Answer(upstream, endpoint, self._between, deadline, partial(self._ended, upstream.name))
        try:
            # A whole answer has no first token to wait for: only the total bounds it.
            limit = min(self._first, deadline - time.monotonic()) if stream else deadline - time.monotonic()
            async with asyncio.timeout(max(limit, 0.0)):
                await answer.open(self._request(upstream, endpoint, body), stream)
        except TimeoutError:
            answer.close()
            raise TooSlow(f"The upstream '{upstream.name}' did not begin to answer in {limit:.1f} s.") from None
        except BaseException:
            answer.close()
            raise
        return answer

    def _ended(self, name: str) -> None:
        self._under_way[name] -= 1
        if not self._under_way[name]:
            del self._under_way[name]

    def _request(self, upstream: LiveUpstream, endpoint: Endpoint, body: dict[str, Any]) -> Awaitable[ClientResponse]:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if upstream.api_key is not None:
            headers["authorization"] = f"Bearer {upstream.api_key}"
        content = orjson.dumps(body | {"model": upstream.model})
        return self._session(self._settings.upstream_may_be_private(upstream.host)).post(
            f"{upstream.base_url}/{endpoint.path}",
            data=content if len(content) < LARGE_BYTES else io.BytesIO(content),
            headers=headers,
            allow_redirects=False,
        )


class Answer:
    """What an upstream sends back: `body` of a whole answer, or `events` of a stream. `close` calls `ended`, once."""

    def __init__(
        self, upstream: LiveUpstream, endpoint: Endpoint, between: float, deadline: float, ended: Callable[[], None]
    ) -> None:
        self.upstream = upstream
        self._endpoint = endpoint
        self.body = b""
        self.parsed: dict[str, Any] = {}
        self._between, self._deadline = between, deadline
        self._ended: Callable[[], None] | None = ended
        self._response: ClientResponse | None = None
        self._splitter = EventSplitter()
        self._first: list[bytes] = []

    async def open(self, request: Awaitable[ClientResponse], stream: bool) -> None:
        try:
            self._response = await request
            if self._response.status != 200:
                raise await self._refusal(self._response)
            if stream:
                await self._read_first_event(self._response)
            else:
                self._read_whole(await self._limited(self._response))
        except _client_error() as error:
            raise self._ours(error, "cannot be reached") from error

    async def events(self) -> AsyncIterator[list[bytes]]:
        """Whole events in order, those together that arrived together.

        Raises:
            UpstreamError: the stream broke off, or paused for longer than allowed.
        """
        yield self._first
        while True:
            limit = max(min(self._between, self._deadline - time.monotonic()), 0.0)
            try:
                async with asyncio.timeout(limit):
                    try:
                        chunk = await self._chunk()
                    except _client_error() as error:
                        raise self._ours(error, "broke off") from error
            except TimeoutError:
                raise TooSlow(f"The upstream '{self.upstream.name}' paused for more than {limit:.1f} s.") from None
            if not chunk:
                return
            yield self._splitter.feed(chunk)

    def close(self) -> None:
        """Let the connection go: back to the pool after the last byte, else away, which ends the upstream's work."""
        if self._response is not None:
            self._response.close()
        if self._ended is not None:
            self._ended()
            self._ended = None

    def _ours(self, error: Exception, what: str) -> UpstreamError:
        """An error of the client as ours."""
        http, name = importlib.import_module("aiohttp"), self.upstream.name
        if isinstance(error, http.ConnectionTimeoutError):
            return Unreachable(f"The upstream '{name}' did not accept a connection in time.")
        if not isinstance(error, http.ClientConnectorError):
            return Unreachable(f"The upstream '{name}' {what}: {_cause(error)}.")
        if isinstance(error.os_error, AddressRefused):
            return Misconfigured(f"The upstream '{name}' is at an address that is not allowed.")
        return Unreachable(f"The upstream '{name}' {what}: {error.os_error.strerror or error.os_error}.")

    async def _chunk(self) -> bytes:
        """Some bytes of a stream; none at its end."""
        assert self._response is not None
        return await self._response.content.readany()

    async def _limited(self, response: ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        while chunk := await response.content.readany():
            size += len(chunk)
            if size > MOST_ANSWER_BYTES:
                raise self._garbled(f"with more than {MOST_ANSWER_BYTES:,} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def _read_first_event(self, response: ClientResponse) -> None:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise self._garbled("a stream was asked for, and none came")
        while (data := first_data(self._first)) is None:
            chunk = await self._chunk()
            if not chunk:
                raise self._garbled("the stream ended before its first event")
            try:
                self._first += self._splitter.feed(chunk)
            except GarbledStream as error:
                raise self._garbled(str(error)) from error
        try:
            opening = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._garbled("the stream's first event is no JSON") from error
        if not isinstance(opening, dict) or "choices" not in opening:
            raise self._garbled("the stream opened with something else than choices")

    def _read_whole(self, body: bytes) -> None:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise self._garbled("the answer is no JSON") from error
        if not isinstance(parsed, dict) or not isinstance(parsed.get(self._endpoint.answers), list):
            raise self._garbled(f"the answer has no {self._endpoint.answers}")
        self.body, self.parsed = body, parsed

    def _garbled(self, what: str) -> Garbled:
        return Garbled(f"The upstream '{self.upstream.name}' answered 200, but {what}.")

    async def _refusal(self, response: ClientResponse) -> UpstreamError:
        status, name = response.status, self.upstream.name
        if status in _ABOUT_THE_REQUEST:
            try:
                said = orjson.loads(await self._limited(response))
            except orjson.JSONDecodeError:
                said = None
            return Refused(f"The upstream '{name}' refused the request with status {status}.", status, said)
        if status in _OVERLOADED or status >= 500:
            return Overloaded(f"The upstream '{name}' answered {status}.", status, response.headers.get("retry-after"))
        # 401, 403, 404 and redirects are between the gateway and its upstream; their words may hold a key.
        return Misconfigured(f"The upstream '{name}' answered {status}: check its URL, model name and key.")


def _client_error() -> type[Exception]:
    """What all errors of the client are: asked for when there is one."""
    error: type[Exception] = importlib.import_module("aiohttp").ClientError
    return error


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
