"""What all media share: frozen when they are logged, encoded in the background."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

__all__ = [
    "JSON",
    "LARGEST_GALLERY",
    "LARGEST_ITEM",
    "Encoded",
    "Frozen",
    "Gallery",
    "Media",
    "MediaProblem",
    "json_content",
    "listed",
    "made_by",
    "read_file",
    "ready",
]

JSON = "application/json"
LARGEST_GALLERY = 256
"""Items of one key at one step."""
LARGEST_ITEM = 64 << 20
"""Bytes of one item."""


class MediaProblem(ValueError):
    """What was given cannot be kept as this kind of medium. Reported by name, never raised into training."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes that are stored, and what a list shows without them."""

    content: bytes
    content_type: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A medium as it was when it was logged: later changes of what it was made from do not reach it."""

    kind: str
    caption: str | None
    size: int
    """Bytes held in memory until it is encoded, about."""
    encode: Callable[[], Encoded]
    """Called once, in the background; may raise anything."""


@dataclass(slots=True)
class Gallery:
    """What was logged under one key at one step, and what of it could not be kept."""

    items: list[Frozen] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


class Media(ABC):
    """A value that is not a number. It is read when it is logged, not when it is made."""

    kind: ClassVar[str]

    def __init__(self, caption: str | None = None) -> None:
        self.caption = caption

    @abstractmethod
    def freeze(self) -> Frozen:
        """Take what is there now, as cheaply as that can be done. Raises `MediaProblem`, or whatever the value does."""


def ready(medium: Media, content: bytes, content_type: str, details: dict[str, Any]) -> Frozen:
    """A medium that is encoded already."""
    encoded = Encoded(content, content_type, details)
    return Frozen(medium.kind, medium.caption, len(content), lambda: encoded)


def json_content(value: Any) -> bytes:
    return msgspec.json.encode(value)


def made_by(value: object, package: str) -> bool:
    """Whether the class of `value` comes from `package`, or is derived from one that does."""
    return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__)


def read_file(path: str | os.PathLike[str]) -> bytes:
    file = Path(path)
    if file.stat().st_size > LARGEST_ITEM:
        raise MediaProblem(f"{file} is larger than {LARGEST_ITEM >> 20} MiB; log_artifact keeps files of any size")
    return file.read_bytes()


def listed(values: Any) -> list[Any]:
    """A list, array, tensor or pandas column as a flat list of Python's own numbers and texts."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if hasattr(values, "tolist"):
        if len(getattr(values, "shape", ())) > 1:
            values = values.reshape(-1)
        values = values.tolist()
        return values if isinstance(values, list) else [values]
    return [value.item() if hasattr(value, "item") else value for value in values]
