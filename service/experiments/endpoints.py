"""What of OpenAI's API is passed on: where it goes, what a body must hold, and how a sound answer is known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    path: str
    asks: str
    """The field of a body that holds what is asked."""
    kinds: tuple[type, ...]
    answers: str
    """The list that every answer has."""
    streams: bool = True
    may_fall_back: bool = True


CHAT = Endpoint("chat/completions", "messages", (list,), "choices")
COMPLETIONS = Endpoint("completions", "prompt", (str, list), "choices")
# Vectors of another model cannot be compared with those the caller has: better none than the fallback's.
EMBEDDINGS = Endpoint("embeddings", "input", (str, list), "data", streams=False, may_fall_back=False)
