"""What the hot faces ask of a caller before they read on: a key with the scope `evaluate`, and a body that ends."""

from __future__ import annotations

import asyncio
import time

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from service.auth import principal
from service.dependencies import get_settings
from service.errors import ServiceError, TooLarge, Unavailable
from service.experiments.recorder import DATABASE_AWAY
from service.experiments.traffic import get_traffic

KEY_TRUSTED_SECONDS = 30.0
MOST_KEYS = 10_000
CHECK_SECONDS, FIRST_CHECK_SECONDS = 2.0, 10.0
# A database that hangs keeps those threads, and none that others need.
_checks = CapacityLimiter(8)


async def admit(request: Request) -> None:
    """The scope `evaluate`, asked of the database at most twice a minute for a key, and never needed while
    the database is away, or hangs, and the key was good before."""
    if not get_settings(request).auth_required:
        return
    presented = request.headers.get("authorization") or request.headers.get("x-api-key") or ""
    trusted = get_traffic(request).trusted_keys
    checked_at = trusted.get(presented)
    if checked_at is not None and time.monotonic() - checked_at < KEY_TRUSTED_SECONDS:
        return
    try:
        async with asyncio.timeout(FIRST_CHECK_SECONDS if checked_at is None else CHECK_SECONDS):
            await to_thread.run_sync(principal, request, "evaluate", abandon_on_cancel=True, limiter=_checks)
    except TimeoutError:
        if checked_at is None:
            raise Unavailable("The database does not answer, and this key is not known yet; try again.") from None
    except DATABASE_AWAY:
        if checked_at is None:
            raise
    except ServiceError:
        trusted.pop(presented, None)
        raise
    if len(trusted) >= MOST_KEYS:
        trusted.clear()
    trusted[presented] = time.monotonic()


ADMITTED = [Depends(admit)]


async def limited_body(request: Request, limit: int) -> bytes:
    """The whole body; reading stops where it passes the limit, whatever length the caller announced.

    Raises:
        TooLarge
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body is larger than the {limit:,} bytes that are read here.")
        parts.append(part)
    return b"".join(parts)
