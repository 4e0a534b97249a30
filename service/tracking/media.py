"""What may be stored as a medium, and how media are shown."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

import msgspec
import orjson
from sqlmodel import Session

from service.errors import Invalid, NotFound, ServiceError
from service.store import media as store
from service.store.blobs import BlobStore
from service.store.tables import Media, new_id
from service.tracking import runs
from service.tracking.media_schemas import MediaFilter, MediaKey, MediaPut, MediaSteps

JSON = "application/json"
TEXT = "text/plain"
PICTURES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
}
SOUNDS = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/ogg": "ogg", "audio/flac": "flac"}
# What a browser is ever told that a medium is. Nothing here runs script, but for SVG, which is never shown as a page.
CONTENT_TYPES: dict[str, dict[str, str]] = {
    "image": PICTURES,
    "audio": SOUNDS,
    "text": {TEXT: "txt"},
    "table": {JSON: "json"},
    "histogram": {JSON: "json"},
    "plot": {JSON: "json", "image/png": "png", "image/svg+xml": "svg"},
    "confusion_matrix": {JSON: "json"},
    "pr_curve": {JSON: "json"},
}
SHOWN_AS_PAGE = {TEXT, *PICTURES, *SOUNDS} - {"image/svg+xml"}
LARGEST_INLINE = 256 << 10
MOST_INLINE = 16 << 20
MOST_STEPS = 1_000


class MediaNotFound(NotFound):
    code = "media_not_found"


class BadMedia(Invalid):
    code = "bad_media"


class UnsupportedMedia(ServiceError):
    status = 415
    code = "unsupported_media"


def content_type(kind: str, header: str) -> str:
    """The type a medium of this kind is stored with."""
    given = header.partition(";")[0].strip().lower()
    if given not in CONTENT_TYPES[kind]:
        allowed = ", ".join(CONTENT_TYPES[kind])
        raise UnsupportedMedia(f"Content-Type '{given}' is not kept as {kind}: send one of {allowed}.")
    return given


def row(run_id: str, given: MediaPut, content_type: str) -> dict[str, Any]:
    """A row of the table but for its content."""
    try:
        details = orjson.loads(given.details)
    except orjson.JSONDecodeError:
        details = None
    if not isinstance(details, dict):
        raise BadMedia("`details` is not a JSON object.")
    if given.position >= given.of:
        raise BadMedia(f"Position {given.position} is not in a gallery of {given.of}: positions count from 0.")
    about = given.model_dump(exclude={"of", "details", "time", "sha256"})
    at = time.time() if given.time is None else given.time
    return {**about, "id": new_id(), "run_id": run_id, "time": at, "content_type": content_type, "details": details}


def put(session: Session, row: dict[str, Any], of: int) -> dict[str, Any]:
    runs.get(session, row["run_id"])
    store.put(session, row, of)
    return show(store.at(session, row))


def get(session: Session, media_id: str) -> Media:
    found = store.get(session, media_id)
    if found is None:
        raise MediaNotFound(f"There is no medium '{media_id}'; it may have been replaced.")
    runs.get(session, found.run_id)  # what is in the bin is not shown
    return found


def show(media: Media) -> dict[str, Any]:
    return {**media.model_dump(), "content": None}


def find(session: Session, blobs: BlobStore, run_id: str, asked: MediaFilter) -> dict[str, Any]:
    """One page, in the shape of `MediaPage`."""
    found = store.find(
        session,
        runs.get(session, run_id).id,
        keys=asked.key,
        steps=asked.step,
        first_step=asked.first_step,
        last_step=asked.last_step,
        rank=asked.rank,
        after=_place(asked.cursor) if asked.cursor else None,
        limit=asked.limit + 1,
    )
    page = found[: asked.limit]
    items = [show(media) for media in page]
    if asked.inline:
        _bring_contents(blobs, items)
    last = page[-1] if len(found) > asked.limit else None
    return {"items": items, "next_cursor": last and _cursor(last)}


def _bring_contents(blobs: BlobStore, items: list[dict[str, Any]]) -> None:
    left = MOST_INLINE
    for item in items:
        if item["content_type"] in (JSON, TEXT) and item["size"] <= min(LARGEST_INLINE, left):
            left -= item["size"]
            item["content"] = _parsed(blobs.get(item["sha256"]), item["content_type"])


def _parsed(content: bytes, content_type: str) -> Any:
    if content_type == TEXT:
        return content.decode("utf-8", "replace")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def keys(session: Session, run_id: str) -> list[MediaKey]:
    found: dict[str, MediaKey] = {}
    for one in store.keys(session, runs.get(session, run_id).id):
        held = found.get(one.key)
        if held is None:
            found[one.key] = MediaKey.model_validate({**one._asdict(), "kinds": [one.kind]})
            continue
        held.kinds.append(one.kind)  # type: ignore[arg-type]
        held.n += one.n
        held.first_step = min(held.first_step, one.first_step)
        held.last_step = max(held.last_step, one.last_step)
    return list(found.values())


def steps(session: Session, run_id: str, key: str) -> MediaSteps:
    found = store.steps(session, runs.get(session, run_id).id, key)
    n = len(found)
    if n > MOST_STEPS:
        found = [found[place * (n - 1) // (MOST_STEPS - 1)] for place in range(MOST_STEPS)]
    return MediaSteps(n=n, steps=found)


def download_headers(media: Media) -> dict[str, str]:
    """A medium comes from a user: a browser may neither guess what it is nor run anything in it."""
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in media.key.rsplit("/", 1)[-1]) or "medium"
    suffix = CONTENT_TYPES[media.kind][media.content_type]
    shown = "inline" if media.content_type in SHOWN_AS_PAGE else "attachment"
    return {
        "content-length": str(media.size),
        "content-disposition": f'{shown}; filename="{name}-{media.step}-{media.position}.{suffix}"',
        "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        "x-content-type-options": "nosniff",
        "cache-control": "private, max-age=31536000, immutable",
    }


def _cursor(media: Media) -> str:
    place = [media.step, media.key, media.rank, media.position]
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _place(cursor: str) -> store.Place:
    try:
        return store.Place(*msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[int, str, int, int]))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise runs.BadCursor("The cursor is not one this service gave. Start again without it.") from None
