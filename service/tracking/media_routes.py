"""The native tracking API: media of runs."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlmodel import Session

from service.auth import require
from service.dependencies import Blobs, ReadSession, ServiceDatabase, ServiceSettings
from service.errors import TooLarge
from service.tracking import media
from service.tracking.contents import take
from service.tracking.media_schemas import MediaFilter, MediaKeyList, MediaOut, MediaPage, MediaPut, MediaSteps

router = APIRouter(prefix="/api/v1", tags=["media"])
READ = [Depends(require("read"))]
WRITE = [Depends(require("write"))]
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}}
            for types in media.CONTENT_TYPES.values()
            for name in types
        },
    }
}
CONTENT: dict[str, dict[str, str]] = {name: {} for types in media.CONTENT_TYPES.values() for name in types}


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


@router.put("/runs/{run_id}/media", dependencies=WRITE, status_code=201, response_model=MediaOut, openapi_extra=BODY)
async def put_media(
    run_id: str,
    given: Annotated[MediaPut, Query()],
    request: Request,
    blobs: Blobs,
    database: ServiceDatabase,
    settings: ServiceSettings,
) -> Response:
    """Store the request's body as a medium of the run, at a step.

    What was logged before under the same key, step, rank and position is replaced, as are places beyond `of`; what
    was logged there later stays. A cut upload leaves nothing.
    """
    content_type = media.content_type(given.kind, request.headers.get("content-type", ""))
    row = media.row(run_id, given, content_type)
    limit, setting = settings.max_media_bytes, "TUNESCOPE_MAX_MEDIA_BYTES"
    if int(request.headers.get("content-length") or 0) > limit:
        raise TooLarge(f"The medium '{given.key}' is larger than the limit of {limit:,} bytes ({setting}).")
    row["sha256"], row["size"] = await take(request, blobs, database, given.sha256, limit, setting)

    def job(session: Session) -> dict[str, object]:
        return media.put(session, row, given.of)

    return _json(await request.app.state.ingest.write(job), 201)


@router.get("/runs/{run_id}/media", dependencies=READ, response_model=MediaPage)
def list_media(run_id: str, asked: Annotated[MediaFilter, Query()], session: ReadSession, blobs: Blobs) -> Response:
    """Media of a run, the newest step first, then by key, rank and position."""
    return _json(media.find(session, blobs, run_id, asked))


@router.get("/runs/{run_id}/media/keys", dependencies=READ)
def list_media_keys(run_id: str, session: ReadSession) -> MediaKeyList:
    """What media a run has, by key."""
    return MediaKeyList(items=media.keys(session, run_id))


@router.get("/runs/{run_id}/media/steps", dependencies=READ)
def list_media_steps(run_id: str, key: str, session: ReadSession) -> MediaSteps:
    """The steps at which a key has something."""
    return media.steps(session, run_id, key)


@router.get(
    "/media/{media_id}/content", dependencies=READ, response_class=StreamingResponse,
    responses={200: {"description": "The bytes, with the type they were stored with.", "content": CONTENT}},
)  # fmt: skip
def get_media_content(media_id: str, session: ReadSession, blobs: Blobs) -> StreamingResponse:
    """The bytes of a medium. Safe to open in a browser: nothing in them runs, and SVG comes as a download."""
    found = media.get(session, media_id)
    handle = blobs.open(found.sha256)
    pieces = iter(lambda: handle.read(1 << 20), b"")
    return StreamingResponse(pieces, media_type=found.content_type, headers=media.download_headers(found))
