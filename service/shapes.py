"""Wire shapes that more than one feature answers with."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ModelVersionOut(BaseModel):
    id: str
    name: str
    version: int
    run_id: str | None
    base_version_id: str | None
    source: str | None
    method: str | None
    description: str | None
    logged_model_id: str | None = Field(description="The logged model that the version was made of.")
    tags: dict[str, str]
    aliases: list[str]
    created_at: float
    updated_at: float
    deleted_at: float | None = Field(description="When it was deleted; what names a deleted version can still show it.")
