"""What every answer is, and those that more than one feature gives."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Reply(BaseModel):
    """What a route answers. Its serializer is built when it is first needed, not at the service's start."""

    model_config = ConfigDict(defer_build=True)


class ModelVersionOut(Reply):
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
    stage: str = Field(description="None, Staging, Production or Archived, as MLflow clients set it.")
    created_at: float
    updated_at: float
    deleted_at: float | None = Field(description="When it was deleted; what names a deleted version can still show it.")
