"""The record of an audit, checked against its hash: out of a report that was kept, or from the service."""

from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from tunescope._exceptions import TunescopeError

__all__ = ["Checked", "check", "from_report"]

_HTML = re.compile(r"<details><summary>The record</summary><pre>(.*?)</pre></details>", re.DOTALL)
_HTML_HASH = re.compile(r"<td>Record SHA-256</td><td>([0-9a-f]{64})")
_HTML_VERDICT = re.compile(r"<h1>([A-Z]+)</h1>")
_MARKDOWN = re.compile(r"^```json\n(\{.*\})\n```$", re.MULTILINE)
_MARKDOWN_HASH = re.compile(r"^\| Record SHA-256 \| ([0-9a-f]{64})", re.MULTILINE)
_MARKDOWN_VERDICT = re.compile(r"\A# Forgetting audit: ([A-Z]+)$", re.MULTILINE)


class Checked(NamedTuple):
    """A record, the hash that was stated of it and the one it has; `problems` is empty where all is as it should be."""

    record: dict[str, Any]
    stated: str
    found: str
    problems: list[str]


def check(text: bytes, stated: str, verdict: str | None = None) -> Checked:
    """`verdict`: what stands at the head of the report, if it came from one."""
    found = hashlib.sha256(text).hexdigest()
    try:
        record: dict[str, Any] = json.loads(text)
        problems = [] if found == stated else [f"The record's SHA-256 is {found}, and {stated} was stated of it."]
        if verdict is not None and record["verdict"] != verdict:
            problems.append(f"The report is headed {verdict}, and its record says {record['verdict']}.")
    except (ValueError, KeyError, TypeError):
        raise TunescopeError("The record is not one of an audit: it cannot be read.") from None
    return Checked(record, stated, found, problems)


def from_report(path: Path) -> Checked:
    """Raises `TunescopeError` for a file that is no report of an audit."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TunescopeError(f"{path}: {getattr(error, 'strerror', None) or 'not a text'}.") from error
    page = text.lstrip().startswith("<!doctype html>")
    records = (_HTML if page else _MARKDOWN).findall(text)
    stated = (_HTML_HASH if page else _MARKDOWN_HASH).findall(text)
    verdicts = (_HTML_VERDICT if page else _MARKDOWN_VERDICT).findall(text)
    if len(records) != 1 or len(stated) != 1 or len(verdicts) != 1:
        raise TunescopeError(f"{path}: not a report of an audit as the service writes it, or not the whole of one.")
    record = html.unescape(records[0]) if page else records[0]
    return check(record.encode(), stated[0], verdicts[0])
