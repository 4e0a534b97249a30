"""A config of any depth to dotted leaves, as search and comparison read them. Pure."""

from __future__ import annotations

import json
import math
from typing import Any


def flatten(config: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
    """Each leaf's text, and its number if it is one (booleans and NaN are not).

    Lists are leaves, written as JSON: what was set together is read together.
    """
    leaves: dict[str, tuple[str, float | None]] = {}
    pending: list[tuple[str, Any]] = list(config.items())
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict) and value:
            pending.extend((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            leaves[str(key)] = _leaf(value)
    return dict(sorted(leaves.items()))


def _leaf(value: Any) -> tuple[str, float | None]:
    if isinstance(value, str):
        return value, _number(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value), None
    if isinstance(value, int | float):
        if not abs(value) < 1e308:  # too large to compare as a number, infinite, or NaN
            return json.dumps(value), None
        return repr(value), float(value)
    return json.dumps(value, ensure_ascii=False, default=str), None


def _number(text: str) -> float | None:
    """YAML reads 1e-4 as text; people search it as the number it is."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, dictionaries key by key."""
    merged = dict(old)
    for key, value in new.items():
        held = merged.get(key)
        merged[key] = merge(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged
