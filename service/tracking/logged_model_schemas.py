"""Logged models on the wire: what a run saved before anyone registered it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.shapes import Reply
from service.tracking.schemas import RegistryTags, Request, SpecialFloat

INT64 = 2**63
State = Literal["UNSPECIFIED", "PENDING", "READY", "FAILED"]


class MadeBy(Request):
    run_id: str
    step: int = Field(0, ge=-INT64, lt=INT64)


class Measured(Request):
    """A value that was measured on the model, maybe on a data set."""

    run_id: str
    key: str = Field(min_length=1, max_length=250)
    value: float | SpecialFloat
    step: int = Field(0, ge=-INT64, lt=INT64)
    time: float
    dataset_name: str | None = Field(None, max_length=500)
    dataset_digest: str | None = Field(None, max_length=36)


class LoggedModelPut(Request):
    project: str = Field(min_length=1, max_length=250)
    name: str = Field(min_length=1, max_length=250)
    run_id: str | None = Field(None, description="The run that logged it.")
    model_type: str | None = None
    status: State = "READY"
    status_message: str | None = None
    params: dict[str, str] = Field(default_factory=dict, description="Merged into the params.")
    tags: RegistryTags = Field(default_factory=dict, description="Merged into the tags.")
    made_by: list[MadeBy] = Field(default_factory=list, description="Runs that had it as an output, at a step.")
    used_by: list[str] = Field(default_factory=list, description="Ids of runs that had it as an input.")
    metrics: list[Measured] = Field(default_factory=list, description="What is stored already is not stored twice.")
    created_at: float
    updated_at: float


class LoggedModelOut(Reply):
    id: str
    project: str
    name: str
    run_id: str | None
    model_type: str | None
    status: str
    status_message: str | None
    params: dict[str, str]
    tags: dict[str, str]
    made_by: list[MadeBy]
    used_by: list[str]
    metrics: list[Measured]
    created_at: float
    updated_at: float
    deleted_at: float | None


class LoggedModelFileOut(Reply):
    path: str
    sha256: str
    size: int


class LoggedModelFileList(Reply):
    items: list[LoggedModelFileOut]
    next_cursor: None = None
