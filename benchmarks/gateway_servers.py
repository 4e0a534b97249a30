"""Servers that `gateway.py` starts: a model that answers at once, and the barest proxy of the gateway's own parts.

python benchmarks/gateway_servers.py model PORT
python benchmarks/gateway_servers.py pass-through PORT http://127.0.0.1:MODEL_PORT
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

CHUNKS = 32
WORDS = "word " * 4
PATH = "/v1/chat/completions"
JSON, EVENTS = "application/json", "text/event-stream"
USAGE = {"prompt_tokens": 200, "completion_tokens": 4 * CHUNKS, "total_tokens": 200 + 4 * CHUNKS}


def envelope(kind: str, choices: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"id": "c-1", "object": kind, "created": 1, "model": "m", "choices": choices, **more}).encode()


def whole() -> bytes:
    message = {"role": "assistant", "content": WORDS * CHUNKS}
    return envelope("chat.completion", [{"index": 0, "message": message, "finish_reason": "stop"}], usage=USAGE)


def event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + envelope("chat.completion.chunk", [choice]) + b"\n\n"


class Model:
    """An ASGI application without a framework: what it takes itself is hardly in the figures."""

    def __init__(self) -> None:
        self._whole = whole()
        self._events = [event({"role": "assistant", "content": ""})]
        self._events += [event({"content": WORDS}) for _ in range(CHUNKS)]
        self._events += [event({}, "stop")]
        self._usage = b"data: " + envelope("chat.completion.chunk", [], usage=USAGE) + b"\n\n"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = json.loads(body) if body else {}
        streamed = bool(asked.get("stream"))
        kind = EVENTS if streamed else JSON
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
        if not streamed:
            await send({"type": "http.response.body", "body": self._whole})
            return
        for one in self._events:
            await send({"type": "http.response.body", "body": one, "more_body": True})
        if (asked.get("stream_options") or {}).get("include_usage"):
            await send({"type": "http.response.body", "body": self._usage, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def pass_through(model: str) -> Starlette:
    """Sends what it is sent, and passes the answer on as it comes. No routing, no records, no limits."""
    sessions: list[aiohttp.ClientSession] = []

    async def relay(request: Request) -> Response:
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False))
        body = await request.body()
        answer = await sessions[0].post(f"{model}{PATH}", data=body, headers={"content-type": JSON})
        if answer.content_type == EVENTS:
            return StreamingResponse(pieces(answer), answer.status, media_type=EVENTS)
        return Response(await answer.read(), answer.status, media_type=JSON)

    async def pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        while piece := await answer.content.readany():
            yield piece

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route(PATH, relay, methods=["POST"]), Route("/healthz", health)])


if __name__ == "__main__":
    _, which, port, *rest = sys.argv
    app = Model() if which == "model" else pass_through(*rest)
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, lifespan="off")
