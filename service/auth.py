"""API key -> principal with scopes.

Keys are 256 random bits, stored hashed, shown once. `admin` includes every scope, `write` includes `read`.
Clients send `Authorization: Bearer <key>`, `X-API-Key: <key>`, or the key as the password of Basic
authentication (any user name), which is all that some clients can do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session

from service.dependencies import get_database, get_settings
from service.errors import Forbidden, Unauthorized
from service.store import keys

Scope = Literal["admin", "write", "read", "ingest", "evaluate"]
SCOPES: tuple[Scope, ...] = ("admin", "write", "read", "ingest", "evaluate")
_INCLUDES: dict[str, set[str]] = {
    "admin": set(SCOPES),
    "write": {"write", "read", "ingest", "evaluate"},
}


class KeyRefused(Unauthorized):
    code = "api_key_refused"


class ScopeMissing(Forbidden):
    code = "scope_missing"


def hash_key(key: str) -> str:
    # A 256-bit random key needs no slow hash: there is nothing to guess.
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(session: Session, name: str, scopes: list[Scope], days: float | None = None) -> str:
    """Store a new key's hash and return the key; it cannot be read again."""
    key = f"ts_{secrets.token_urlsafe(32)}"
    expires_at = time.time() + days * 86400 if days is not None else None
    keys.add(session, name=name, key_hash=hash_key(key), scopes=list(scopes), expires_at=expires_at)
    return key


def require(scope: Scope) -> Callable[[Request], Awaitable[str]]:
    """A dependency that lets a caller with `scope` pass, and returns the caller's name."""

    async def check(request: Request) -> str:
        if not get_settings(request).auth_required:
            return "local"
        return await run_in_threadpool(principal, request, scope)

    return check


def principal(request: Request, scope: Scope) -> str:
    """The name of the key that the request carries.

    Raises:
        KeyRefused: there is no key, or it is unknown, revoked or expired. ScopeMissing: it may not do this.
    """
    given = _presented_key(request)
    if given is None:
        raise KeyRefused("An API key is needed: send 'Authorization: Bearer <key>' (make one: tunescope keys NAME).")
    with get_database(request).read() as session:
        key = keys.find(session, hash_key(given))
    if key is None or key.revoked_at is not None:
        raise KeyRefused("This API key is unknown or revoked.")
    if key.expires_at is not None and key.expires_at < time.time():
        raise KeyRefused(f"The API key '{key.name}' has expired.")
    granted = set(key.scopes).union(*(_INCLUDES.get(held, set()) for held in key.scopes))
    if scope not in granted:
        raise ScopeMissing(f"The API key '{key.name}' lacks the scope '{scope}' (it has {', '.join(key.scopes)}).")
    return key.name


def _presented_key(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(token, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return request.headers.get("x-api-key")
