"""Who may do what."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from service.store.tables.columns import json_column, new_id


class ApiKey(SQLModel, table=True):
    __tablename__ = "api_key"
    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    key_hash: str = Field(unique=True)
    scopes: list[str] = Field(default_factory=list, sa_column=json_column())
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
