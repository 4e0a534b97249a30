"""Server-sent events as bytes: cut into events, read as they pass, changed only where something must be removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

DONE = b"[DONE]"
MOST_EVENT_BYTES = 16 * 2**20


class GarbledStream(ValueError):
    """The upstream sent an event that is no JSON object, or has no end."""


class EventSplitter:
    """Cuts a byte stream into whole events, each with the blank line that ends it.

    Raises:
        GarbledStream: an event does not end.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self._rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *events, self._rest = data.split(b"\n\n")
        if len(self._rest) > MOST_EVENT_BYTES:
            raise GarbledStream(f"an event is larger than {MOST_EVENT_BYTES:,} bytes")
        return [event + b"\n\n" for event in events if event.strip()]


def data_of(event: bytes) -> bytes | None:
    """The data of an event; None for a comment (keep-alive)."""
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def first_data(events: Iterable[bytes]) -> bytes | None:
    return next((data for event in events if (data := data_of(event)) is not None), None)


def error_event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


@dataclass(slots=True)
class Usage:
    """Token counts as the upstream reported them; None where it did not."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    def read(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.input_tokens = _count(usage.get("prompt_tokens"), self.input_tokens)
            # Embeddings are all input: no count of the output is none, where the total says so.
            nothing = 0 if usage.get("total_tokens") == self.input_tokens is not None else None
            self.output_tokens = _count(usage.get("completion_tokens", nothing), self.output_tokens)


def _count(value: Any, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


@dataclass(slots=True)
class StreamReader:
    """Follows an answer as it passes: usage, first token, how it ended; strips usage nobody asked for."""

    strip_usage: bool
    keep_answer: bool = False
    usage: Usage = field(default_factory=Usage)
    started: bool = False
    finished: bool = False
    done: bool = False
    """The caller has been told that nothing follows."""
    failed: bool = False
    _answer: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        return "".join(self._answer)

    def read_all(self, events: Iterable[bytes]) -> bytes:
        """What of these events goes on to the caller. A garbled one ends the stream: what came before it has passed."""
        return b"".join([self.read(event) for event in events])

    def read(self, event: bytes) -> bytes:
        """What of this event goes on to the caller: mostly the event itself, byte for byte."""
        data = data_of(event)
        if data is None:
            return event
        if data == DONE:
            self.finished = self.done = True
            return event
        return self._read_chunk(event, data)

    def _read_chunk(self, event: bytes, data: bytes) -> bytes:
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise GarbledStream("an event is no JSON") from error
        if not isinstance(chunk, dict):
            raise GarbledStream("an event is no JSON object")
        if "error" in chunk and "choices" not in chunk:
            self.failed = True
        choices = chunk.get("choices") or []
        for choice in choices:
            self._read_choice(choice)
        if "usage" not in chunk:
            return event
        self.usage.read(chunk["usage"])
        if not self.strip_usage:
            return event
        if not choices and chunk["usage"] is not None:
            return b""
        del chunk["usage"]
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _read_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        # A completion's text stands where a chat has its delta.
        text = delta.get("content", choice.get("text"))
        # An opening delta carries the role and an empty text: no token yet.
        self.started = self.started or bool(text) or any(value for key, value in delta.items() if key != "role")
        self.finished = self.finished or choice.get("finish_reason") is not None
        if self.keep_answer and isinstance(text, str) and choice.get("index", 0) == 0:
            self._answer.append(text)
