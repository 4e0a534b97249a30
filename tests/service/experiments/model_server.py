"""A real model endpoint for tests: an OpenAI-shaped ASGI server in a thread, which also fails in every way.

The last message chooses what happens: plain text is echoed; "fail 503 2" answers 503 twice, then echoes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.conftest import free_port, wait_until


@dataclass
class ModelServer:
    """`requests`: bodies received, with their headers. `cancelled`: streams whose reader went away."""

    name: str
    port: int = field(default_factory=free_port)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        answers = {"chat/completions": self._complete, "completions": self._continue, "embeddings": self._embed}
        app = Starlette(routes=[Route(f"/v1/{path}", answer, methods=["POST"]) for path, answer in answers.items()])
        config = uvicorn.Config(app, port=self.port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self.release.set()
        self._server.should_exit = True
        self._thread.join(10)

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        order, *details = body["messages"][-1]["content"].split()
        self.tried[body["messages"][-1]["content"]] += 1
        handler = getattr(self, f"_do_{order}", None)
        if handler is not None:
            answer: Response | None = await handler(body, details)
            if answer is not None:
                return answer
        return self._echo(body)

    async def _continue(self, request: Request) -> Response:
        """The text-completion face: the prompt and a word."""
        body = await request.json()
        self.requests.append(body)
        words = [f"{self.name}:", body["prompt"], "and"]
        if not body.get("stream"):
            choice = {"index": 0, "text": " ".join(words), "finish_reason": "length"}
            return JSONResponse(envelope("text_completion", [choice], self.name) | {"usage": usage("one two three")})
        asked = (body.get("stream_options") or {}).get("include_usage")
        parts = [event(envelope("text_completion", [{"index": 0, "text": word}], self.name)) for word in words]
        parts.append(event(envelope("text_completion", [{"index": 0, "text": "", "finish_reason": "stop"}], self.name)))
        if asked:
            parts.append(event(envelope("text_completion", [], self.name) | {"usage": usage("one two three")}))
        return StreamingResponse(iter([*parts, b"data: [DONE]\n\n"]), media_type="text/event-stream")

    async def _embed(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if body["input"] == "fail":
            return JSONResponse({"error": {"message": "down"}}, 503, headers={"retry-after": "0"})
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
        counted = {"prompt_tokens": 4, "total_tokens": 4}
        return JSONResponse({"object": "list", "data": data, "model": self.name, "usage": counted})

    def _echo(self, body: dict[str, Any], events: AsyncIterator[bytes] | None = None) -> Response:
        text = f"{self.name}: {body['messages'][-1]['content']}"
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse(envelope("chat.completion", [choice], self.name) | {"usage": usage(text)})
        return StreamingResponse(events or self._chunks(body, text), media_type="text/event-stream")

    async def _chunks(self, body: dict[str, Any], text: str, pause: float = 0.0) -> AsyncIterator[bytes]:
        asked = (body.get("stream_options") or {}).get("include_usage")
        extra: dict[str, Any] = {"usage": None} if asked else {}
        try:
            yield event(chunk(self.name, {"role": "assistant", "content": ""}) | extra)
            for word in text.split(" "):
                await asyncio.sleep(pause)
                yield event(chunk(self.name, {"content": word + " "}) | extra)
            yield event(chunk(self.name, {}, "stop") | extra)
            if asked:
                yield event(envelope("chat.completion.chunk", [], self.name) | {"usage": usage(text)})
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _do_fail(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """fail STATUS [TIMES]: that error, the first TIMES times (always, without)."""
        if len(details) > 1 and self.tried[body["messages"][-1]["content"]] > int(details[1]):
            return None
        error = {"message": "the model says no, key sk-secret", "type": "invalid_request_error", "code": "no"}
        return JSONResponse({"error": error}, int(details[0]), headers={"retry-after": "0"})

    async def _do_slow(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """slow: words come slowly, until the reader goes."""
        return self._echo(body, self._chunks(body, "one two three four five " * 100, pause=0.02))

    async def _do_linger(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """linger: the whole answer comes, but not the end of its body."""

        async def words() -> AsyncIterator[bytes]:
            yield event(chunk(self.name, {"content": "word"}))
            yield event(chunk(self.name, {}, "stop"))
            yield b"data: [DONE]\n\n"
            await asyncio.sleep(60)

        return StreamingResponse(words(), media_type="text/event-stream")

    async def _do_stall(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """stall [WORDS]: nothing more comes after that many words; without, nothing comes at all."""

        async def words() -> AsyncIterator[bytes]:
            for _ in range(int(details[0])):
                yield event(chunk(self.name, {"content": "word "}))
            await asyncio.sleep(60)

        if not details:
            await asyncio.sleep(60)
        return StreamingResponse(words(), media_type="text/event-stream")

    async def _do_cut(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """cut WORDS: the connection ends after that many words, without a proper end."""

        async def words() -> AsyncIterator[bytes]:
            for _ in range(int(details[0])):
                yield event(chunk(self.name, {"content": "word "}))

        return StreamingResponse(words(), media_type="text/event-stream")

    async def _do_garbage(self, body: dict[str, Any], details: list[str]) -> Response | None:
        if body.get("stream"):
            return StreamingResponse(iter([b"data: {not json\n\n"]), media_type="text/event-stream")
        return PlainTextResponse("<html>welcome</html>")

    async def _do_weather(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """weather CITY: asks for the tools that were offered, the arguments in pieces."""
        if not body.get("tools"):
            return None
        names = [tool["function"]["name"] for tool in body["tools"]]
        calls = [
            {
                "id": f"call_{n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps({"city": details[0]})},
            }
            for n, name in enumerate(names)
        ]
        if not body.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": calls}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            return JSONResponse(envelope("chat.completion", [choice], self.name) | {"usage": usage("x")})
        parts = [event(chunk(self.name, {"role": "assistant", "content": None}))]
        for n, call in enumerate(calls):
            opening = call | {"index": n, "function": {"name": call["function"]["name"], "arguments": ""}}
            parts.append(event(chunk(self.name, {"tool_calls": [opening]})))
            parts += [
                event(chunk(self.name, {"tool_calls": [{"index": n, "function": {"arguments": piece}}]}))
                for piece in call["function"]["arguments"]
            ]
        parts += [event(chunk(self.name, {}, "tool_calls")), b"data: [DONE]\n\n"]
        return StreamingResponse(iter(parts), media_type="text/event-stream")

    async def _do_endless(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """endless: bytes without an end and without sense."""

        async def noise() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0.001)

        kind = "text/event-stream" if body.get("stream") else "application/json"
        return StreamingResponse(noise(), media_type=kind)

    async def _do_silence(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """silence: comments, as a keep-alive sends them, and never a word."""

        async def comments() -> AsyncIterator[bytes]:
            while True:
                yield b": keep-alive\n\n"
                await asyncio.sleep(0.05)

        return StreamingResponse(comments(), media_type="text/event-stream")

    async def _do_drip(self, body: dict[str, Any], details: list[str]) -> Response | None:
        """drip: a word now and then, for longer than a whole answer may take."""
        return self._echo(body, self._chunks(body, "one two three four five " * 100, pause=0.1))

    async def _do_redirect(self, body: dict[str, Any], details: list[str]) -> Response | None:
        return RedirectResponse("http://127.0.0.1:1/elsewhere", 307)


def envelope(kind: str, choices: list[dict[str, Any]], model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model, "choices": choices}


def chunk(model: str, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return envelope("chat.completion.chunk", [{"index": 0, "delta": delta, "finish_reason": finish_reason}], model)


def usage(text: str) -> dict[str, int]:
    n_words = len(text.split())
    return {"prompt_tokens": 10, "completion_tokens": n_words, "total_tokens": 10 + n_words}


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
