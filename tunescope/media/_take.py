"""What `run.log` was given, as it is at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunescope._values import PLAIN, NotStorable, freeze
from tunescope.media._image import Image
from tunescope.media._media import LARGEST_GALLERY, Gallery, Media, MediaProblem, made_by
from tunescope.media._plot import Plot, is_figure
from tunescope.media._text import Table

__all__ = ["take"]


def take(values: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[Gallery]]:
    """The values, each frozen, and the galleries among them."""
    galleries: list[Gallery] = []
    return _frozen(values, galleries), galleries


def _frozen(values: Mapping[Any, Any], galleries: list[Gallery]) -> dict[Any, Any]:
    taken: dict[Any, Any] = {}
    for key, value in values.items():
        if type(value) in PLAIN:
            taken[key] = value
        elif isinstance(value, Mapping):
            taken[key] = _frozen(value, galleries)
        else:
            frozen = freeze(value)
            # Numbers first: a loss on a GPU must not wait until it is known not to be a figure.
            media = _media(value) if frozen is value or isinstance(frozen, NotStorable) else None
            if media is not None:
                frozen = _gallery(media)
                galleries.append(frozen)
            taken[key] = frozen
    return taken


def _media(value: Any) -> list[Media] | None:
    """The media that `value` is, or is a list of; None if it is something else."""
    if isinstance(value, list | tuple):
        found = [_medium(item) for item in value]
        return [item for item in found if item is not None] if found and None not in found else None
    one = _medium(value)
    return None if one is None else [one]


def _medium(value: Any) -> Media | None:
    if isinstance(value, Media):
        return value
    if made_by(value, "PIL") and hasattr(value, "getbands"):
        return Image(value)
    if is_figure(value):
        return Plot(value)
    if made_by(value, "pandas") and hasattr(value, "itertuples"):
        return Table(rows=value)
    return None


def _gallery(media: list[Media]) -> Gallery:
    gallery = Gallery()
    for medium in media[:LARGEST_GALLERY]:
        try:
            gallery.items.append(medium.freeze())
        except MediaProblem as problem:
            gallery.problems.append(str(problem))
        except Exception as error:  # a foreign class, or a file, may raise anything
            gallery.problems.append(f"{type(error).__name__}: {error}")
    if len(media) > LARGEST_GALLERY:
        gallery.problems.append(f"a step keeps {LARGEST_GALLERY} items a key, {len(media):,} were given")
    return gallery
