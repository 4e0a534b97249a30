"""Which contents the service is likely to have: their bytes need not travel twice."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

__all__ = ["Sent", "sha256_of"]

MOST = 10_000
ASK_FROM = 64 << 10  # bytes from which to ask is worth a request


class Sent:
    """The hashes of what was sent last. May be used from several threads."""

    def __init__(self) -> None:
        self._hashes: dict[str, None] = {}
        self._lock = threading.Lock()
        self.understood = True
        """Whether the service can be asked: an older one cannot."""

    def worth_asking(self, sha256: str, size: int) -> bool:
        return self.understood and (size >= ASK_FROM or sha256 in self._hashes)

    def add(self, sha256: str) -> None:
        with self._lock:
            self._hashes[sha256] = None
            if len(self._hashes) > MOST:
                del self._hashes[next(iter(self._hashes))]


def sha256_of(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
