"""One proxied call from first to last byte: tried, passed on, timed, and recorded whatever happens.

Retries stay on the assigned arm and end with the first byte; then one declared safe model may answer. Two
models never share a stream. The analysis is by assigned arm, whoever answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.experiments.assignment import Assignment, LiveExperiment
from service.experiments.endpoints import Endpoint
from service.experiments.events import HUNG_UP, Requested
from service.experiments.recorder import Recorder
from service.experiments.refusals import GatewayError, Overloaded, Unreachable, UpstreamError
from service.experiments.snapshot import LiveUpstream
from service.experiments.streaming import GarbledStream, StreamReader, Usage, error_event
from service.experiments.upstream import Answer, Upstreams

logger = logging.getLogger(__name__)

RETRIES = 1
RETRY_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
UNWATCHED_SECONDS = 0.1


class Call(msgspec.Struct, frozen=True):
    """What the caller asked for, and who is to answer."""

    endpoint: Endpoint
    request_id: str
    body: dict[str, Any]
    stream: bool
    strip_usage: bool
    upstream: LiveUpstream
    fallback: LiveUpstream | None = None
    experiment: LiveExperiment | None = None
    assignment: Assignment | None = None
    unit_id: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {"x-request-id": self.request_id}
        if self.experiment is not None and self.assignment is not None:
            headers |= {"x-experiment": self.experiment.key, "x-variant": self.assignment.variant.key}
        return headers

    @property
    def stores_content(self) -> bool:
        return self.experiment is not None and self.experiment.store_content


class Relay(Response):
    """The response to one call. The upstream is called when the response is sent, so that a caller who hangs
    up ends the upstream's work too, and everything is recorded in one place."""

    def __init__(self, call: Call, upstreams: Upstreams, recorder: Recorder) -> None:
        super().__init__()
        self._call, self._upstreams, self._recorder = call, upstreams, recorder
        self._at, self._started = time.time(), time.monotonic()
        self._deadline = self._started + upstreams.total
        self._answered_by: LiveUpstream = call.upstream
        self._answer: Answer | None = None
        self._usage = Usage()
        self._text: str | None = None
        # What stands in the record if nobody hears the end of the answer.
        self._status: int = HUNG_UP
        self._error: str | None = "hung_up"
        self._first_token: float | None = None
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task, hung_up = asyncio.current_task(), asyncio.Event()
        assert task is not None
        watchers: list[asyncio.Task[None]] = []
        # A task costs as much as the routing: an answer that comes at once needs nobody who watches for its caller.
        timer = asyncio.get_running_loop().call_later(
            UNWATCHED_SECONDS, lambda: watchers.append(asyncio.create_task(_watch(receive, task, hung_up)))
        )
        try:
            await self._respond(send)
        except asyncio.CancelledError:
            if not hung_up.is_set():
                raise
            task.uncancel()
        except Exception:
            self._status, self._error = 500, "internal_error"
            raise
        finally:
            timer.cancel()
            for watcher in watchers:
                watcher.cancel()
            self._record()
            if self._answer is not None:
                self._answer.close()

    async def _respond(self, send: Send) -> None:
        try:
            self._answer = await self._obtain()
            await (self._pass_stream(send, self._answer) if self._call.stream else self._pass_whole(send, self._answer))
        except GatewayError as error:
            self._status, self._error = error.status, error.code
            if self._sending:
                await send({"type": "http.response.body", "body": error_event(error.body), "more_body": False})
            else:
                await self._send_whole(send, error.status, orjson.dumps(error.body), error.headers)

    async def _obtain(self) -> Answer:
        """The first sound answer: from the arm, else from the fallback."""
        last: UpstreamError | None = None
        for upstream, pause in self._tries():
            if last is not None and time.monotonic() >= self._deadline:
                break
            if last is not None and upstream is self._answered_by:
                if not last.retry:
                    continue
                await asyncio.sleep(_pause(last, pause))
            self._answered_by = upstream
            try:
                return await self._upstreams.call(
                    upstream, self._call.endpoint, self._call.body, self._deadline, self._call.stream
                )
            except UpstreamError as error:
                logger.warning("Call %s: %s", self._call.request_id, error.message)
                if not error.fall_back:
                    raise
                last = error
        assert last is not None
        raise last

    def _tries(self) -> Iterator[tuple[LiveUpstream, float]]:
        yield self._call.upstream, 0.0
        for attempt in range(RETRIES):
            yield self._call.upstream, RETRY_PAUSE_SECONDS * 2**attempt
        if self._call.fallback is not None and self._call.fallback.name != self._call.upstream.name:
            yield self._call.fallback, 0.0

    async def _pass_whole(self, send: Send, answer: Answer) -> None:
        self._usage.read(answer.parsed.get("usage"))
        if self._call.stores_content:
            self._text = _first_text(answer.parsed)
        self._status, self._error = 200, None
        await self._send_whole(send, 200, answer.body, {})

    async def _send_whole(self, send: Send, status: int, body: bytes, more: dict[str, str]) -> None:
        headers = {"content-type": "application/json", "content-length": str(len(body))} | self._call.headers | more
        await self._start(send, status, headers)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _pass_stream(self, send: Send, answer: Answer) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await self._start(send, 200, headers | {"x-accel-buffering": "no"} | self._call.headers)
        reader = StreamReader(self._call.strip_usage, self._call.stores_content, self._usage)
        try:
            async for events in answer.events():
                passed = reader.read_all(events)
                if self._first_token is None and reader.started:
                    self._first_token = self._elapsed()
                if reader.done and not reader.failed:
                    # Clients close the connection at the last event, not at the end of the body: they have it all.
                    self._status, self._error = 200, None
                if passed:
                    await send({"type": "http.response.body", "body": passed, "more_body": True})
        except GarbledStream as error:
            raise Unreachable(f"The upstream '{answer.upstream.name}' broke off: {error}.") from error
        finally:
            if self._call.stores_content:
                self._text = reader.answer
        if reader.failed or not reader.finished:
            raise Unreachable(f"The upstream '{answer.upstream.name}' ended its answer early.")
        self._status, self._error = 200, None
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send, status: int, headers: dict[str, str]) -> None:
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        self._sending = True

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _record(self) -> None:
        call, usage, answered_by = self._call, self._usage, self._answered_by
        experiment, assignment = call.experiment, call.assignment
        cost = answered_by.cost(usage.input_tokens, usage.output_tokens)
        self._recorder.record(
            Requested(
                request_id=call.request_id,
                at=self._at,
                status=self._status,
                experiment_id=experiment.id if experiment else None,
                phase=experiment.phase if experiment else None,
                unit_id=call.unit_id,
                variant=(assignment.recorded or assignment.variant.key) if assignment else None,
                counted=assignment is not None and assignment.recorded is not None,
                upstream=answered_by.name,
                error=self._error,
                fell_back=answered_by is not call.upstream,
                streamed=call.stream,
                latency=self._elapsed(),
                first_token=self._first_token,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost=cost,
                price_version=answered_by.price_version if cost is not None else None,
                messages=call.body.get(call.endpoint.asks) if call.stores_content else None,
                answer=self._text,
            )
        )


async def _watch(receive: Receive, task: asyncio.Task[Any], hung_up: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    hung_up.set()
    task.cancel()


def _pause(error: UpstreamError, otherwise: float) -> float:
    """Seconds before the next try: what the upstream asks for, within reason."""
    asked = error.retry_after if isinstance(error, Overloaded) else None
    try:
        return min(float(asked), LONGEST_PAUSE_SECONDS) if asked else otherwise
    except ValueError:
        return otherwise


def _first_text(answer: dict[str, Any]) -> str | None:
    try:
        choice = answer["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None
