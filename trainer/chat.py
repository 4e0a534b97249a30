"""OpenAI's chat completions in and out: a request read into a job for an engine, its pieces written as an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from trainer.data import prompt_ids
from trainer.engine import Engine, Job, Piece, prompt_generator
from trainer.generate import Prompt

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


def shape(message: str, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def event(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
