"""A connection that sends once what is written in one turn of the loop.

uvicorn writes the head and the body of an answer one after the other, and uvloop sends each at once. Sending is a
system call that wakes the reader: of a short answer it is the dearest part.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST_HELD_BYTES = 2**16  # more goes out at once: callers that do not read must be felt


class Gathering:
    """A transport, with `write` put off to the next turn of the loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._held = 0

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._held += len(data)
        if self._held > MOST_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        parts, self._parts, self._held = self._parts, [], 0
        if len(parts) == 1:
            self._transport.write(parts[0])
        elif parts:
            self._transport.writelines(parts)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        return self._held + self._transport.get_write_buffer_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
