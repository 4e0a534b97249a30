"""How long the service waits for a caller: requests that dribble in and answers that nobody reads are ended.

uvicorn waits for both without end, and reads headers of any length. The limits are those of web servers (Apache's
mod_reqtimeout): a time for the headers, and for a body a time that grows with what arrives, so that a large upload may
take hours and a caller who sends a byte now and then may not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.gathering import Gathering

logger = logging.getLogger(__name__)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with bounds. Time in which the service itself does not read is not the caller's."""

    LOOK_SECONDS = 5.0
    HEAD_SECONDS = 20.0  # from a connection, or a request's first byte, to the end of its headers
    HEAD_BYTES = 2**16
    BODY_SECONDS = 30.0  # a body may fall so far behind
    BODY_RATE = 1024  # bytes a second
    UNREAD_SECONDS = 60.0  # that an answer waits for its reader to take some of it

    _part: Literal["head", "body", "answer"] = "head"
    _received = 0
    _left = 0.0
    _unsent = 0
    _unread = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, Gathering(transport, self.loop)))
        self._left = self.HEAD_SECONDS
        self._timer = self.loop.call_later(self.LOOK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._part == "answer" and self.cycle.response_complete:
            # Also where no request begins: empty lines, which end uvicorn's own time-out for idle connections.
            self._part, self._received, self._left = "head", 0, self.HEAD_SECONDS
        self._received += len(data)
        super().data_received(data)
        if self._part == "head" and self._received > self.HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        self._part, self._left = "head", self.HEAD_SECONDS
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._part, self._received, self._left = "body", 0, self.BODY_SECONDS
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._part, self._received = "answer", 0
        super().on_message_complete()

    def resume_writing(self) -> None:
        self._unread = 0.0
        super().resume_writing()

    def _look(self) -> None:
        self._timer = self.loop.call_later(self.LOOK_SECONDS, self._look)
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        stuck = self.flow.write_paused or self.transport.is_closing()
        self._unread = self._unread + self.LOOK_SECONDS if stuck and unsent >= before else 0.0
        self._unsent = unsent
        if self._unread > self.UNREAD_SECONDS:
            logger.warning("A caller does not read its answer: the connection is ended.")
            self.transport.abort()
        elif self._part != "answer" and not stuck and not self._is_ours():
            self._wait_on()

    def _is_ours(self) -> bool:
        """Whether it is the service that keeps the caller from sending."""
        return self.flow.read_paused or (self._part == "body" and self.cycle.waiting_for_100_continue)

    def _wait_on(self) -> None:
        self._left -= self.LOOK_SECONDS
        if self._part == "body":
            self._left = min(self.BODY_SECONDS, self._left + self._received / self.BODY_RATE)
            self._received = 0
        if self._left < 0:
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        """Say why, if nothing has been said yet, and end the connection."""
        if self.transport.is_closing():
            return
        logger.warning("A caller is refused: %s.", status.decode())
        if self._part == "head" or not self.cycle.response_started:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
