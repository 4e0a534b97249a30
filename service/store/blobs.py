"""Content-addressed files behind fsspec: a local folder by default, any fsspec store by URL."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import NotFound, TooLarge


class BlobNotFound(NotFound):
    code = "blob_not_found"


class BlobStore:
    """Bytes under their SHA-256. The same bytes are stored once; a blob never changes."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._files.makedirs(self._root, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Store `data`, return its SHA-256 in hex."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._files.exists(self._path(sha256)):
            temporary = self._temporary()
            with self._files.open(temporary, "wb") as handle:
                handle.write(data)
                self._sync(handle)
            self._place(temporary, sha256)
        return sha256

    async def put_stream(
        self, chunks: AsyncIterator[bytes], limit: int, setting: str = "TUNESCOPE_MAX_BODY_BYTES"
    ) -> tuple[str, int]:
        """Store a stream of at most `limit` bytes, as `setting` allows; return its SHA-256 and size.

        A cut stream leaves nothing.
        """
        digest, size, temporary = hashlib.sha256(), 0, self._temporary()
        try:
            with self._files.open(temporary, "wb") as handle:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise TooLarge(f"The body is larger than the limit of {limit:,} bytes ({setting}).")
                    digest.update(chunk)
                    handle.write(chunk)
                self._sync(handle)
        except BaseException:
            if self._files.exists(temporary):
                self._files.rm(temporary)
            raise
        sha256 = digest.hexdigest()
        self._place(temporary, sha256)
        return sha256, size

    def get(self, sha256: str) -> bytes:
        with self.open(sha256) as handle:
            return handle.read()

    def open(self, sha256: str) -> IO[bytes]:
        try:
            return cast(IO[bytes], self._files.open(self._path(sha256), "rb"))
        except FileNotFoundError:
            raise BlobNotFound(f"The file with SHA-256 {sha256} is missing from the artifact store.") from None

    def local_path(self, sha256: str) -> Path | None:
        """The blob as a file of this machine, or None when the store is elsewhere."""
        return Path(self._path(sha256)) if isinstance(self._files, LocalFileSystem) else None

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _temporary(self) -> str:
        self._files.makedirs(f"{self._root}/incoming", exist_ok=True)
        return f"{self._root}/incoming/{uuid.uuid4().hex}"

    def _place(self, temporary: str, sha256: str) -> None:
        self._files.makedirs(f"{self._root}/{sha256[:2]}", exist_ok=True)
        self._files.mv(temporary, self._path(sha256))

    def _sync(self, handle: IO[bytes]) -> None:
        handle.flush()
        if isinstance(self._files, LocalFileSystem):
            os.fsync(handle.fileno())
