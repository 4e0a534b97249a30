"""Media of other trackers as media here, encoded as `run.log` does. None: our media cannot hold it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunescope._values import metric_key, to_plain
from tunescope.importers._record import ImportedMedium
from tunescope.media import LARGEST_GALLERY, LARGEST_ITEM, Audio, Image, Media, Table, Text
from tunescope.media._media import JSON, MediaProblem, json_content

__all__ = ["Place", "encoded", "gallery", "histogram", "table", "text", "within"]

LONGEST_CAPTION = 2_000
HEAD = 4096  # bytes that tell what a file is


@dataclass(frozen=True, slots=True)
class Place:
    """Where a medium was logged: `position` in a gallery of `of`."""

    key: str
    step: int
    time: float
    position: int = 0
    of: int = 1
    caption: str | None = None


def text(value: str, place: Place) -> ImportedMedium | None:
    return _made(Text(value), place)


def table(columns: Sequence[Any], rows: Sequence[Any], place: Place) -> ImportedMedium | None:
    try:
        return _made(Table([str(name) for name in columns], rows), place)
    except (MediaProblem, TypeError):  # rows of other lengths, or that are no rows
        return None


def histogram(edges: Any, counts: Any, place: Place) -> ImportedMedium | None:
    """Counts of the bins between `edges`, which are one more."""
    try:
        edges = [float(edge) for edge in edges]
        counts = [_whole(float(count)) for count in counts]
    except (TypeError, ValueError):
        return None
    rising = all(low < high for low, high in pairwise(edges))
    if not counts or len(edges) != len(counts) + 1 or not rising or not all(map(math.isfinite, [*edges, *counts])):
        return None
    content = json_content({"edges": edges, "counts": counts, "nan": 0, "infinite": 0})
    return _medium("histogram", content, JSON, {"n": sum(counts), "bins": len(counts)}, place)


def encoded(content: Path | bytes, place: Place) -> ImportedMedium | None:
    """An image or a sound, told by its first bytes."""
    if isinstance(content, bytes):
        head, size = content[:HEAD], len(content)
    else:
        with content.open("rb") as stream:
            head, size = stream.read(HEAD), content.stat().st_size
    for kind in (Image, Audio):
        try:
            content_type = kind(head).freeze().encode().content_type
        except MediaProblem:
            continue
        return _medium(kind.kind, content, content_type, {}, place) if size <= LARGEST_ITEM else None
    return None


def gallery(contents: Sequence[Path | bytes], captions: Sequence[str | None], place: Place) -> list[ImportedMedium]:
    """Images or sounds of one key and step; none if one of them is neither."""
    if len(contents) > LARGEST_GALLERY:
        return []
    found = [
        encoded(one, replace(place, position=at, of=len(contents), caption=caption))
        for at, (one, caption) in enumerate(zip(contents, captions, strict=True))
    ]
    return [one for one in found if one is not None] if None not in found else []


def within(folder: Path, name: Any) -> Path | None:
    """A file by its path in a folder, if it is there and not elsewhere."""
    file = folder / str(name)
    return file if file.is_file() and file.resolve().is_relative_to(folder.resolve()) else None


def _whole(count: float) -> int | float:
    return int(count) if count.is_integer() else count


def _made(medium: Media, place: Place) -> ImportedMedium | None:
    made = medium.freeze().encode()
    return _medium(medium.kind, made.content, made.content_type, made.details, place)


def _medium(
    kind: str, content: Path | bytes, content_type: str, details: dict[str, Any], place: Place
) -> ImportedMedium | None:
    if isinstance(content, bytes) and len(content) > LARGEST_ITEM:
        return None
    about = {
        "key": metric_key(place.key),
        "step": place.step,
        "rank": 0,
        "position": place.position,
        "of": place.of,
        "time": place.time,
        "kind": kind,
        "caption": None if place.caption is None else to_plain(place.caption)[:LONGEST_CAPTION],
        "content_type": content_type,
        "details": details,
    }
    return ImportedMedium(content, about)
