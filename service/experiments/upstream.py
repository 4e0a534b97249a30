"""One call to one model: sent, timed, and either a first byte that is sound or an error that says why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

import httpx2
import orjson

from service.experiments.endpoints import Endpoint
from service.experiments.refusals import (
    Garbled,
    Misconfigured,
    Overloaded,
    Refused,
    TooSlow,
    Unreachable,
    UpstreamError,
)
from service.experiments.snapshot import LiveUpstream
from service.experiments.streaming import EventSplitter, first_data
from service.settings import Settings

# Statuses about the request itself: the caller must hear them, another try would end alike.
_ABOUT_THE_REQUEST = {400, 402, 409, 413, 415, 422, 451}
_OVERLOADED = {408, 425, 429}


class Upstreams:
    """The pooled connections to every model, and the time-outs of a call."""

    def __init__(self, settings: Settings) -> None:
        self._first = settings.upstream_first_token_timeout
        self._between = settings.upstream_token_timeout
        self._connect = settings.upstream_connect_timeout
        self.total = settings.upstream_total_timeout

    @cached_property
    def _client(self) -> httpx2.AsyncClient:
        """Made for the first request: it takes 50 ms, which a service without a gateway need not wait for."""
        return httpx2.AsyncClient(
            # Reading is timed here, by what is waited for; a pool without a limit never queues a caller.
            timeout=httpx2.Timeout(None, connect=self._connect),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=30),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        if "_client" in vars(self):
            await self._client.aclose()

    async def call(
        self, upstream: LiveUpstream, endpoint: Endpoint, body: dict[str, Any], deadline: float, stream: bool
    ) -> Answer:
        """Send `body` and wait until the answer has begun well: a whole one, or a stream's first event.

        Raises:
            UpstreamError: nothing of an answer has been passed on; see its `retry` and `fall_back`.
        """
        if upstream.problem is not None:
            raise Misconfigured(f"The upstream '{upstream.name}' has no usable key: {upstream.problem}.")
        answer = Answer(upstream, endpoint, self._between, deadline)
        try:
            # A whole answer has no first token to wait for: only the total bounds it.
            limit = min(self._first, deadline - time.monotonic()) if stream else deadline - time.monotonic()
            async with asyncio.timeout(max(limit, 0.0)):
                await answer.open(self._client, self._request(upstream, endpoint, body), stream)
        except TimeoutError:
            await answer.close()
            raise TooSlow(f"The upstream '{upstream.name}' did not begin to answer in {limit:.1f} s.") from None
        except BaseException:
            await answer.close()
            raise
        return answer

    def _request(self, upstream: LiveUpstream, endpoint: Endpoint, body: dict[str, Any]) -> httpx2.Request:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if upstream.api_key is not None:
            headers["authorization"] = f"Bearer {upstream.api_key}"
        content = orjson.dumps(body | {"model": upstream.model})
        return self._client.build_request(
            "POST", f"{upstream.base_url}/{endpoint.path}", content=content, headers=headers
        )


class Answer:
    """What an upstream sends back: `body` of a whole answer, or `events` of a stream."""

    def __init__(self, upstream: LiveUpstream, endpoint: Endpoint, between: float, deadline: float) -> None:
        self.upstream = upstream
        self._endpoint = endpoint
        self.body = b""
        self.parsed: dict[str, Any] = {}
        self._between, self._deadline = between, deadline
        self._response: httpx2.Response | None = None
        self._splitter = EventSplitter()
        self._first: list[bytes] = []

    async def open(self, client: httpx2.AsyncClient, request: httpx2.Request, stream: bool) -> None:
        try:
            self._response = await client.send(request, stream=True)
            if self._response.status_code != 200:
                raise await self._refusal(self._response)
            self._chunks = self._response.aiter_bytes()
            if stream:
                await self._read_first_event(self._response)
            else:
                self._read_whole(await self._response.aread())
        except httpx2.ConnectTimeout as error:
            raise Unreachable(f"The upstream '{self.upstream.name}' did not accept a connection in time.") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unreachable(f"The upstream '{self.upstream.name}' cannot be reached: {_cause(error)}.") from error

    async def events(self) -> AsyncIterator[bytes]:
        """Whole events in order.

        Raises:
            UpstreamError: the stream broke off, or paused for longer than allowed.
        """
        for event in self._first:
            yield event
        while True:
            limit = max(min(self._between, self._deadline - time.monotonic()), 0.0)
            try:
                async with asyncio.timeout(limit):
                    chunk = await anext(self._chunks, None)
            except TimeoutError:
                raise TooSlow(f"The upstream '{self.upstream.name}' paused for more than {limit:.1f} s.") from None
            except (httpx2.TransportError, httpx2.DecodingError) as error:
                raise Unreachable(f"The upstream '{self.upstream.name}' broke off: {_cause(error)}.") from error
            if chunk is None:
                return
            for event in self._splitter.feed(chunk):
                yield event

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()

    async def _read_first_event(self, response: httpx2.Response) -> None:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise self._garbled("a stream was asked for, and none came")
        while (data := first_data(self._first)) is None:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise self._garbled("the stream ended before its first event")
            self._first += self._splitter.feed(chunk)
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

    async def _refusal(self, response: httpx2.Response) -> UpstreamError:
        status, name = response.status_code, self.upstream.name
        if status in _ABOUT_THE_REQUEST:
            try:
                said = orjson.loads(await response.aread())
            except orjson.JSONDecodeError:
                said = None
            return Refused(f"The upstream '{name}' refused the request with status {status}.", status, said)
        if status in _OVERLOADED or status >= 500:
            return Overloaded(f"The upstream '{name}' answered {status}.", status, response.headers.get("retry-after"))
        # 401, 403, 404 and redirects are between the gateway and its upstream; their words may hold a key.
        return Misconfigured(f"The upstream '{name}' answered {status}: check its URL, model name and key.")


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__
