"""What importers of harness results share: reading their files, and turning judgements into answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunescope._environment import MASK, is_secret, text_masker
from tunescope.importers._record import ImportProblem

__all__ = [
    "choice_name",
    "json_lines",
    "json_object",
    "judged",
    "listed_choices",
    "score_of",
    "verdict",
    "without_secrets",
]

MOST_LETTERS = 26


def json_object(file: Path) -> dict[str, Any]:
    """The object that a file holds."""
    try:
        whole = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        raise ImportProblem(f"{file}: there is no such file.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ImportProblem(f"{file}: not JSON ({error}). Was it cut off?") from None
    if not isinstance(whole, dict):
        raise ImportProblem(f"{file}: an object is expected, not {type(whole).__name__}.")
    return whole


def json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, each with its place: `samples.jsonl, line 7`."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            place = f"{file}, line {number:,}"
            try:
                found = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ImportProblem(f"{place}: not JSON ({error}). Was the file cut off?") from None
            if not isinstance(found, dict):
                raise ImportProblem(f"{place}: an object is expected, not {type(found).__name__}.")
            yield place, found


def verdict(value: Any) -> bool | None:
    """Right or wrong, as a harness says it of one item; None for anything else."""
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def score_of(value: Any) -> float | None:
    """A reported value that is a number."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    return number if math.isfinite(number) else None


def judged(label: str, answer: str | None, right: bool) -> str | None:
    """The answer as the harness took it: the label where it said right, and anything but the label where not."""
    if right:
        return label
    return answer if answer != label else None


def choice_name(index: int, of: int) -> str:
    """What a choice is called where each item has choices of its own: its letter, or its number counted from 1."""
    return chr(ord("A") + index) if of <= MOST_LETTERS else str(index + 1)


def listed_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices, a line each."""
    lines = [f"{choice_name(index, len(choices))}. {choice}" for index, choice in enumerate(choices)]
    return "\n".join([question.rstrip(), *lines]).lstrip("\n")


def without_secrets(value: Any) -> Any:
    """Settings as they may be stored: values whose name says that they are secret are masked, and empty ones left
    out."""
    if isinstance(value, Mapping):
        kept = ((str(name), one) for name, one in value.items() if one not in (None, {}, [], ""))
        return {name: MASK if is_secret(name) else without_secrets(one) for name, one in kept}
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return text_masker()(value) if isinstance(value, str) else value
