"""The bytes of artifacts and media on their way in: sent, or named by their hash because they are there already."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool

from service.errors import Invalid, NotFound
from service.store import artifacts
from service.store.blobs import BlobStore
from service.store.database import Database

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
Sha256 = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9a-f]{64}$",
        description="The SHA-256 of the content. Without a body, what is stored under it already is taken: "
        "404 `content_missing` asks for the bytes. With one, they must have it.",
    ),
]


class ContentMissing(NotFound):
    """These bytes are not here yet: send them."""

    code = "content_missing"


class ContentDiffers(Invalid):
    code = "content_differs"


class BadArtifactPath(Invalid):
    code = "bad_artifact_path"


def check_path(path: str) -> None:
    """Refuse what is no path of a file below its owner."""
    if not path or any(part in {"", ".", ".."} for part in path.split("/")) or "\\" in path or "\0" in path:
        raise BadArtifactPath(f"'{path}' is no artifact path: use names joined by '/', without '..'.")


async def take(
    request: Request, blobs: BlobStore, database: Database, sha256: str | None, limit: int, setting: str
) -> tuple[str, int]:
    """SHA-256 and size of a request's body once it is stored, or of what is stored already.

    Raises:
        ContentMissing, ContentDiffers, TooLarge
    """
    if sha256 not in (None, EMPTY) and request.headers.get("content-length") == "0":
        size = await run_in_threadpool(_stored, database, blobs, sha256)
        if size is None:
            raise ContentMissing(f"Nothing is stored under the SHA-256 {sha256}: send the bytes.")
        return sha256, size
    found, size = await blobs.put_stream(request.stream(), limit, setting)
    if sha256 is not None and found != sha256:
        raise ContentDiffers(
            f"The body has the SHA-256 {found}, not {sha256}: it was changed on its way. Send it again."
        )
    return found, size


def _stored(database: Database, blobs: BlobStore, sha256: str) -> int | None:
    with database.read() as session:
        return artifacts.stored_size(session, blobs, sha256)
