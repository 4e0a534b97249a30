"""What every route's method is made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunescope._client.sent import Sent
from tunescope._transport import Transport, path

Json = dict[str, Any]

API = "/api/v1"
ARROW = "application/vnd.apache.arrow.stream"
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
PIECE = 1 << 20


class Calls:
    """A connection, and the calls that routes have in common."""

    _transport: Transport
    _sent: Sent

    def _get(self, *parts: str, **params: Any) -> Json:
        answer: Json = self._transport.json("GET", API + path(*parts), params=params)
        return answer

    def _post(self, *parts: str, body: Any = None) -> Json:
        answer: Json = self._transport.json("POST", API + path(*parts), json={} if body is None else body)
        return answer

    def _bytes(self, route: str, **options: Any) -> bytes:
        content: bytes = self._transport.send("GET", route, **options).content
        return content


def listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece
