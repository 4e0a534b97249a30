"""Named answer parsers: an output in, the answer in it out, or None where there is none to read.

A fixed list and no patterns from outside: a pattern can be made to run for hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import orjson

ParserName = Literal["strip", "first_line", "last_number", "after_hashes", "choice_letter", "label", "label_list"]
Parse = Callable[[str], str | None]
ParseList = Callable[[str], list[str] | None]
LIST: ParserName = "label_list"

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_CHOICES = (
    re.compile(r"\(([A-J])\)"),
    re.compile(r"(?i:answer)(?:\s+is)?\s*:?\s*([A-J])\b"),
    re.compile(r"^\s*([A-J])(?:[).:]|\s*$)", re.MULTILINE),
)
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_ANNOUNCED = re.compile(r"(?:labels?|tags?|answers?)\s*:", re.IGNORECASE)
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+")
_SEPARATORS = ("\n", ";", "|", ",")
_WRAPPING = " \t\r\n\"'`"


def strip(output: str) -> str | None:
    return output.strip() or None


def first_line(output: str) -> str | None:
    """The first line that is not blank."""
    return next((line.strip() for line in output.splitlines() if line.strip()), None)


def last_number(output: str) -> str | None:
    """The last number, without thousands separators: `so 1,250 in all` -> `1250`."""
    numbers = _NUMBER.findall(output)
    return numbers[-1].replace(",", "") if numbers else None


def after_hashes(output: str) -> str | None:
    """What follows the last `####` on its line, without thousands separators (GSM8K)."""
    _, found, rest = output.rpartition("####")
    return (first_line(rest) or "").replace(",", "") or None if found else None


def choice_letter(output: str) -> str | None:
    """A letter A to J given as a choice: `(B)`, `the answer is B`, or a line that is `B` or starts `B.`."""
    found = next((match for pattern in _CHOICES if (match := pattern.search(output))), None)
    return found.group(1) if found else None


def label_reader(labels: Sequence[str]) -> Parse:
    """Reads the one declared label an output names as whole words, whatever its case; none when it names several."""
    by_name = {name.lower(): name for name in labels}
    # Longest first, so that 'not spam' is not read as 'spam'.
    names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{names})(?!\w)", re.IGNORECASE)

    def read(output: str) -> str | None:
        if output.strip() in labels:
            return output.strip()
        named = {found.lower() for found in pattern.findall(output)}
        return by_name.get(named.pop()) if len(named) == 1 else None

    return read


def label_list_reader(labels: Sequence[str]) -> ParseList:
    """Reads a list of labels, whatever their case: JSON (`["a", "b"]`, in a code block too), or parts between line ends
    (with or without bullets), `;`, `|` or `,`. `[]` and `none` are no labels. None where some part is no label: what
    can only be guessed at is not an answer.
    """
    by_name = {name.lower(): name for name in labels} | {name: name for name in labels}

    def read(output: str) -> list[str] | None:
        for parts in _lists(output):
            named = [by_name.get(part, by_name.get(part.lower())) for part in parts]
            if None not in named:
                return list(dict.fromkeys(name for name in named if name is not None))
            if len(parts) == 1 and parts[0].lower() == "none":
                return []
        return None

    return read


def _lists(output: str) -> Iterator[list[str]]:
    """What an output may list, by one separator after the other."""
    fenced = _FENCE.search(output)
    text = (fenced.group(1) if fenced else output).strip()
    if announced := _ANNOUNCED.match(text):
        text = text[announced.end() :].strip()
    try:
        listed = orjson.loads(text)
    except orjson.JSONDecodeError:
        listed = None
    if isinstance(listed, list):
        if all(isinstance(part, str) for part in listed):
            yield [part.strip() for part in listed]
        return
    inside = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text.removesuffix(".")
    for separator in _SEPARATORS:
        parts = [_item(part) for part in inside.split(separator)]
        if any(parts):
            yield [part for part in parts if part]


def _item(part: str) -> str:
    bullet = _BULLET.match(part)
    return part[bullet.end() if bullet else 0 :].strip(_WRAPPING)


PARSERS: dict[str, Parse] = {
    "strip": strip,
    "first_line": first_line,
    "last_number": last_number,
    "after_hashes": after_hashes,
    "choice_letter": choice_letter,
}


def parser_for(name: str | None, labels: Sequence[str] | None) -> Parse:
    """The named parser; with none, the output itself is the answer (a declared label, where labels are declared)."""
    if name == "label":
        return label_reader(labels or ())
    if name is not None:
        read = PARSERS[name]
        return read if labels is None else lambda output: _one_of(read(output), labels)
    return (lambda output: output) if labels is None else lambda output: _one_of(output.strip(), labels)


def _one_of(answer: str | None, labels: Sequence[str]) -> str | None:
    return answer if answer in labels else None
