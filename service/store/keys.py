"""API keys, by hash."""

from __future__ import annotations

import time

from sqlmodel import Session, select

from service.store.tables import ApiKey


def add(session: Session, *, name: str, key_hash: str, scopes: list[str], expires_at: float | None) -> None:
    session.add(ApiKey(name=name, key_hash=key_hash, scopes=scopes, created_at=time.time(), expires_at=expires_at))


def find(session: Session, key_hash: str) -> ApiKey | None:
    return session.exec(select(ApiKey).where(ApiKey.key_hash == key_hash)).first()
