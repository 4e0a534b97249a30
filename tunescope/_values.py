"""What may be logged, and how it is turned into what is stored. Pure.

A metric value is anything that is one number: int, float, bool, Decimal, Fraction, a NumPy scalar, a tensor or array
with one element. A config value is anything at all: what has no JSON form is stored as text.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["NotStorable", "flatten", "freeze", "metric_key", "to_number", "to_plain"]

PLAIN = frozenset({float, int, bool, str, type(None)})
DEEPEST = 64
LONGEST_KEY = 500
INT64 = range(-(2**63), 2**63)


class NotStorable:
    """Stands for a value that is not one number. Keeps what to say about it, not the value."""

    __slots__ = ("what",)

    def __init__(self, value: object) -> None:
        shape = getattr(value, "shape", None)
        self.what = type(value).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else "")


def freeze(value: Any) -> Any:
    """What `value` is now, at the cost of a look: later changes to it must not alter what was logged.

    A tensor is cloned on its own device and converted later in the background, so that logging a loss on a GPU does
    not wait for the GPU.
    """
    if hasattr(value, "detach"):
        return value.detach().clone() if value.numel() == 1 else NotStorable(value)
    if hasattr(value, "item") and hasattr(value, "size"):
        return value.item() if value.size == 1 else NotStorable(value)
    return value


def to_number(value: Any) -> float | None:
    """The value as a float64, or None if it is not one number. NaN and infinities are numbers."""
    if isinstance(value, str | bytes | NotStorable):
        return None
    try:
        number = value.item() if hasattr(value, "item") else value
        return None if isinstance(number, complex) else float(number)
    except Exception:  # any foreign class may raise anything
        return None


def metric_key(key: object) -> str:
    """A key as it can be stored: text without NUL and lone surrogates, never empty, at most 500 characters."""
    text = key if isinstance(key, str) else str(key)
    if "\0" in text or not text.isascii():
        text = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if len(text) > LONGEST_KEY:
        # The end is told by a checksum: two long keys that begin alike stay two.
        text = f"{text[: LONGEST_KEY - 9]}…{zlib.crc32(text.encode()):08x}"
    return text or "unnamed"


def flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries, keys joined with `/` as in `train/loss`."""
    for key, value in values.items():
        name = metric_key(f"{prefix}{key}")
        if isinstance(value, Mapping):
            if name.count("/") < DEEPEST:  # a dictionary that contains itself ends here
                yield from flatten(value, name + "/")
        else:
            yield name, value


def to_plain(value: Any, depth: int = 0) -> Any:
    """`value` in JSON's terms. Never raises: what has no form of its own is stored as its text."""
    if value is None or isinstance(value, bool):
        return value
    if type(value) is str:
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int) and type(value) is int:
        return value if value in INT64 else str(value)
    if type(value) is float:
        return value if math.isfinite(value) else _special(value)
    try:
        return _convert(value, depth)
    except Exception:  # any foreign class may raise anything
        return f"<{type(value).__name__}>"


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _convert(value: Any, depth: int) -> Any:
    if depth >= DEEPEST:
        return "…"
    deeper = depth + 1
    if isinstance(value, Mapping):
        return {to_plain(str(key)): to_plain(v, deeper) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v, deeper) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((to_plain(v, deeper) for v in value), key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name), deeper) for f in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # arrays, tensors and their scalars
        return to_plain(value.tolist(), deeper)
    if type(value).__name__ == "Namespace":
        return to_plain(vars(value), deeper)
    if isinstance(value, float):
        return to_plain(float(value), deeper)
    if hasattr(value, "model_dump"):  # pydantic
        return to_plain(value.model_dump(), deeper)
    enum_value = getattr(type(value), "__members__", None)
    return to_plain(value.value, deeper) if enum_value is not None else to_plain(str(value))
