"""Trained models behind an OpenAI-compatible endpoint: one process, several checkpoints, told apart by `model`."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
import uvicorn
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from trainer.data import prompt_ids
from trainer.engine import Engine, Job, Piece, TooBusy, prompt_generator
from trainer.errors import ConfigError, ModelError
from trainer.generate import Prompt
from trainer.models import Checkpoint, device_for, load
from trainer.progress import quiet

DEFAULT_LIMIT = 256
"""Tokens of an answer where a request sets no limit."""


class Part(Struct):
    type: str
    text: str | None = None


class Message(Struct):
    role: str
    content: str | list[Part] | None = None


class StreamOptions(Struct):
    include_usage: bool = False


class ChatRequest(Struct):
    """The fields of OpenAI's request that are heeded; others are read over."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class RequestError(Exception):
    """A refusal in OpenAI's shape."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


def serve(folders: Sequence[Path], names: Sequence[str], host: str, port: int, max_batch: int, wait: float) -> None:
    """Loads every checkpoint, then answers until interrupted. Raises `TrainerError` for one that cannot be loaded."""
    quiet()
    # A core is left to the HTTP side: small models are answered in less time than it takes to wait for a core.
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    checkpoints = dict(zip(model_names(folders, names), map(load_to_serve, folders), strict=True))
    app = create_app(checkpoints, max_batch=max_batch, wait=wait)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def model_names(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """What each checkpoint is called: as asked, else by its folder, or the folder above one called `model`."""
    if names and len(names) != len(folders):
        raise ConfigError(f"--name: {len(names)} names for {len(folders)} checkpoints.")
    resolved = [folder.resolve() for folder in folders]
    chosen = list(names) or [one.parent.name if one.name == "model" else one.name for one in resolved]
    for name in chosen:
        if chosen.count(name) > 1:
            raise ConfigError(f"two checkpoints are both called {name!r}; tell them apart with --name.")
    return chosen


def load_to_serve(folder: Path) -> Checkpoint:
    """A causal LM, on the GPU if there is one, a LoRA adapter merged into its base."""
    checkpoint = load(folder, device_for("auto"))
    if checkpoint.card.task != "causal_lm":
        raise ModelError(f"{folder}: a {checkpoint.card.task} model answers no chat.")
    model = checkpoint.model
    if checkpoint.card.method["name"] == "lora" and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return checkpoint._replace(model=model.eval())


def create_app(checkpoints: dict[str, Checkpoint], *, max_batch: int = 32, wait: float = 0.004) -> Starlette:
    """The endpoint over loaded models; each has an `Engine` while the application runs."""
    engines: dict[str, Engine] = {}
    started = int(time.time())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for name, checkpoint in checkpoints.items():
            engines[name] = Engine(checkpoint, max_batch=max_batch, wait=wait)
        yield
        for engine in engines.values():
            await asyncio.to_thread(engine.close)

    async def health(_: Request) -> Response:
        return reply({"status": "ok", "models": list(engines)})

    async def models(_: Request) -> Response:
        return reply({"object": "list", "data": [describe(name, started) for name in engines]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in engines:
            raise unknown_model(name, engines)
        return reply(describe(name, started))

    async def chat(request: Request) -> Response:
        asked = read_request(await request.body())
        if asked.model not in engines:
            raise unknown_model(asked.model, engines)
        engine = engines[asked.model]
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = make_job(asked, engine, lambda piece: loop.call_soon_threadsafe(pieces.put_nowait, piece))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
        try:
            engine.submit(job)
        except TooBusy as error:
            raise RequestError(503, str(error), code="overloaded") from error
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            return StreamingResponse(stream(job, pieces, head, usage), media_type="text/event-stream")
        return reply(completion(job, await pieces.get(), head))

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        exception_handlers={RequestError: refuse, HTTPException: refuse_http},
        lifespan=lifespan,
    )


def read_request(body: bytes) -> ChatRequest:
    """Raises `RequestError` for what is no chat request."""
    try:
        return msgspec.json.decode(body, type=ChatRequest)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        param = where.strip("`").removeprefix("$").removeprefix(".") or None
        raise RequestError(400, f"{param}: {message}" if param else message, param=param) from error
    except msgspec.DecodeError as error:
        raise RequestError(400, f"The body is not JSON: {error}") from error


def make_job(asked: ChatRequest, engine: Engine, tell: Any) -> Job:
    """Raises `RequestError` if the prompt is empty or leaves no room for an answer."""
    ids = chat_ids(asked.messages, engine)
    limit = asked.max_completion_tokens or asked.max_tokens
    left = engine.room - len(ids)
    if left < (limit or 1):
        raise RequestError(
            400,
            f"The model's context is {engine.room} tokens: {len(ids)} of prompt and {limit or 1} of answer do not fit.",
            code="context_length_exceeded",
            param="messages",
        )
    temperature = engine.temperature if asked.temperature is None else asked.temperature
    device = next(engine.model.parameters()).device
    prompt = Prompt(
        ids,
        limit or min(left, DEFAULT_LIMIT),
        temperature=temperature,
        top_p=asked.top_p or 1.0,
        generator=prompt_generator(asked.seed, device) if temperature else None,
    )
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    return Job(prompt, tell, stops=[stop for stop in stops if stop], stream=bool(asked.stream))


def chat_ids(messages: Sequence[Message], engine: Engine) -> list[int]:
    """The tokens of a conversation, by the tokenizer's chat template; without one, the last user message in the
    prompt template that the model was trained with."""
    texts = [{"role": message.role, "content": text_of(message)} for message in messages]
    if engine.tokenizer.chat_template is not None:
        whole = engine.tokenizer.apply_chat_template(texts, tokenize=False, add_generation_prompt=True)
        ids = list(engine.tokenizer(whole, add_special_tokens=False)["input_ids"])
    else:
        question = next((text["content"] for text in reversed(texts) if text["role"] == "user"), None)
        if question is None:
            raise RequestError(400, "There is no message with the role 'user'.", param="messages")
        template = engine.card.prompt_template or "{input}"
        ids = prompt_ids(template.replace("{input}", question), engine.tokenizer)
    if not ids:
        raise RequestError(400, "The messages are empty.", param="messages")
    return ids


def text_of(message: Message) -> str:
    if isinstance(message.content, str) or message.content is None:
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            raise RequestError(400, f"Content of type {part.type!r} is not understood; only text is.", param="messages")
    return "".join(part.text or "" for part in message.content)


def completion(job: Job, piece: Piece, head: dict[str, Any]) -> dict[str, Any]:
    if piece.reason == "error":
        raise RequestError(500, "The model failed; the server's log says why.", code="generation_failed")
    message = {"role": "assistant", "content": piece.text.strip()}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": piece.reason}
    return head | {"object": "chat.completion", "choices": [choice], "usage": usage_of(job, piece)}


async def stream(
    job: Job, pieces: asyncio.Queue[Piece], head: dict[str, Any], with_usage: bool
) -> AsyncIterator[bytes]:
    """Server-sent events as OpenAI sends them. A reader who leaves ends the row."""
    head = head | {"object": "chat.completion.chunk"} | ({"usage": None} if with_usage else {})

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        return event(head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]})

    try:
        yield chunk({"role": "assistant", "content": ""})
        started = False
        while True:
            piece = await pieces.get()
            text = piece.text if started else piece.text.lstrip()
            started = started or bool(text)
            if text:
                yield chunk({"content": text})
            if piece.reason == "error":
                yield event({"error": shape("The model failed; the server's log says why.", 500, "generation_failed")})
                return
            if piece.reason is not None:
                yield chunk({}, piece.reason)
                break
        if with_usage:
            yield event(head | {"choices": [], "usage": usage_of(job, piece)})
        yield b"data: [DONE]\n\n"
    finally:
        job.prompt.ended = True


def usage_of(job: Job, piece: Piece) -> dict[str, int]:
    prompt = len(job.prompt.ids)
    return {"prompt_tokens": prompt, "completion_tokens": piece.tokens, "total_tokens": prompt + piece.tokens}


def describe(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "tunescope"}


def unknown_model(name: str, engines: dict[str, Engine]) -> RequestError:
    there = ", ".join(engines)
    return RequestError(404, f"There is no model {name!r}; there are {there}.", code="model_not_found", param="model")


def shape(message: str, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def reply(content: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return reply({"error": shape(str(error), error.status, error.code, error.param)}, error.status)


async def refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return reply({"error": shape(error.detail, error.status_code)}, error.status_code)
