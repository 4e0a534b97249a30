"""Content-addressed files behind fsspec: a local folder by default, any fsspec store by URL."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from service.errors import NotFound, TooLarge

FRESH_SECONDS = 600.0
PIECE = 1 << 20


class BlobNotFound(NotFound):
    code = "blob_not_found"


class BlobStore:
    """Bytes under their SHA-256. The same bytes are stored once; a blob never changes."""

    def __init__(self, url: str, scratch: Path | None = None) -> None:
        """`scratch`: the folder of files on their way in or out; absent: the system's for temporary files."""
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._files.makedirs(self._root, exist_ok=True)
        self._scratch = scratch

    def put(self, data: bytes) -> str:
        """Store `data`, return its SHA-256 in hex."""
        sha256 = hashlib.sha256(data).hexdigest()
        age = self._age(self._path(sha256))
        # What was stored long ago is stored anew: `discard` goes by the age of a file.
        if age is None or age > FRESH_SECONDS:
            temporary = self._temporary()
            try:
                with self._files.open(temporary, "wb") as handle:
                    handle.write(data)
                    self._sync(handle)
            except BaseException:
                self._drop(temporary)
                raise
            self._place(temporary, sha256)
        return sha256

    def put_file(self, file: IO[bytes]) -> str:
        """Store what is in `file` from its beginning, of any size; return its SHA-256 in hex."""
        file.seek(0)
        digest, temporary = hashlib.sha256(), self._temporary()
        try:
            with self._files.open(temporary, "wb") as handle:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    handle.write(piece)
                self._sync(handle)
        except BaseException:
            self._drop(temporary)
            raise
        self._place(temporary, digest.hexdigest())
        return digest.hexdigest()

    def scratch_file(self) -> IO[bytes]:
        """A file without a name on this machine's disk: gone when it is closed, or the process ends in any way."""
        if self._scratch is not None:
            self._scratch.mkdir(parents=True, exist_ok=True)
        return cast(IO[bytes], tempfile.TemporaryFile(dir=self._scratch))

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
            self._drop(temporary)
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

    def size(self, sha256: str) -> int | None:
        """Bytes of a blob; None: there is none."""
        try:
            return int(self._files.size(self._path(sha256)))
        except FileNotFoundError:
            return None

    def stored(self) -> Iterator[tuple[str, int]]:
        """SHA-256 and bytes of all blobs, a 256th of the listing at a time."""
        for start in range(256):
            try:
                found = self._files.ls(f"{self._root}/{start:02x}", detail=True)
            except FileNotFoundError:
                continue
            yield from ((one["name"].rsplit("/", 1)[-1], int(one["size"])) for one in found)

    def discard(self, sha256: str, unused_seconds: float) -> bool:
        """Remove a blob that nothing names. False: it was stored within `unused_seconds`, and stays.

        Whoever uploads the same bytes meanwhile keeps them: in a folder, the file is first moved aside, and moved back
        if it turns out to be new. An object store cannot move: there, an upload between two requests may be lost.
        """
        path = self._path(sha256)
        age = self._age(path)
        if age is None:
            return True
        if age < unused_seconds:
            return False
        try:
            if not isinstance(self._files, LocalFileSystem):
                self._files.rm(path)
                return True
            aside = self._temporary()
            Path(path).rename(aside)
        except FileNotFoundError:  # another replica was faster
            return True
        if (self._age(aside) or 0.0) < unused_seconds:
            Path(aside).rename(path)
            return False
        Path(aside).unlink()
        return True

    def local_path(self, sha256: str) -> Path | None:
        """The blob as a file of this machine, or None when the store is elsewhere."""
        return Path(self._path(sha256)) if isinstance(self._files, LocalFileSystem) else None

    def _age(self, path: str) -> float | None:
        """Seconds since the file was written; None: there is none."""
        try:
            written = self._files.modified(path)
        except FileNotFoundError:
            return None
        return time.time() - float(written.timestamp())

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _temporary(self) -> str:
        self._files.makedirs(f"{self._root}/incoming", exist_ok=True)
        return f"{self._root}/incoming/{uuid.uuid4().hex}"

    def _drop(self, temporary: str) -> None:
        if self._files.exists(temporary):
            self._files.rm(temporary)

    def _place(self, temporary: str, sha256: str) -> None:
        self._files.makedirs(f"{self._root}/{sha256[:2]}", exist_ok=True)
        self._files.mv(temporary, self._path(sha256))

    def _sync(self, handle: IO[bytes]) -> None:
        handle.flush()
        if isinstance(self._files, LocalFileSystem):
            os.fsync(handle.fileno())
