"""What is written in one turn of the loop leaves together, in order, and before the end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from service.gathering import MOST_HELD_BYTES, Gathering


class Sent:
    """A transport that notes what it is given to send."""

    def __init__(self) -> None:
        self.sends: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sends.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.sends.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 5

    def is_closing(self) -> bool:
        return self.closed


def gathering() -> tuple[Any, Sent]:
    sent = Sent()
    return Gathering(cast(asyncio.Transport, sent), asyncio.get_running_loop()), sent


async def _written_together() -> None:
    connection, sent = gathering()
    connection.write(b"head ")
    connection.write(b"body")
    assert sent.sends == []
    assert connection.get_write_buffer_size() == 5 + len(b"head body")
    await asyncio.sleep(0)
    assert sent.sends == [b"head body"]
    assert connection.get_write_buffer_size() == 5
    connection.write(b"next")
    await asyncio.sleep(0)
    assert sent.sends == [b"head body", b"next"]


async def _closed() -> None:
    connection, sent = gathering()
    connection.write(b"last words")
    connection.close()
    assert (sent.sends, connection.is_closing()) == ([b"last words"], True)
    await asyncio.sleep(0)
    assert sent.sends == [b"last words"]


async def _much() -> None:
    connection, sent = gathering()
    connection.write(b"a")
    connection.write(b"b" * MOST_HELD_BYTES)
    assert [len(one) for one in sent.sends] == [1 + MOST_HELD_BYTES]


def test_what_is_written_in_one_turn_leaves_together() -> None:
    asyncio.run(_written_together())


def test_the_end_comes_after_what_was_written() -> None:
    asyncio.run(_closed())


def test_much_does_not_wait() -> None:
    asyncio.run(_much())
