"""The tracking API's shapes on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.shapes import ModelVersionOut, Reply

Status = Literal["scheduled", "running", "silent", "finished", "failed", "crashed", "killed"]
SpecialFloat = Literal["NaN", "Infinity", "-Infinity"]
# Which process of a run: 0 speaks for it.
Rank = Annotated[int, Field(ge=0)] | Literal["all"]


# The registry's tags, as long as MLflow's.
TagKey = Annotated[str, StringConstraints(min_length=1, max_length=250)]
TagValue = Annotated[str, StringConstraints(max_length=100_000)]
RegistryTags = dict[TagKey, TagValue]
RegistryTagChanges = dict[TagKey, TagValue | None]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunCreate(Request):
    project: str = Field(min_length=1, max_length=250)
    name: str | None = Field(None, max_length=250, description="Absent: the service invents one.")
    id: str | None = Field(None, pattern=r"^[0-9a-zA-Z][\w\-]{0,63}$", description="Absent: the service makes one.")
    config: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    group: str | None = None
    parent_run_id: str | None = None
    notes: str | None = None
    environment: dict[str, Any] = Field({}, description="Git, host, packages, command line: what the client recorded.")
    data_hash: str | None = Field(None, description="Hash of the training data.")
    created_at: float | None = Field(None, description="When the run began, if that was earlier than now.")
    resume: Literal["never", "allow", "must"] = Field(
        "never", description="What to do when the id exists: refuse, continue it, or insist that it exists."
    )


class RunUpdate(Request):
    name: str = Field("", min_length=1, max_length=250, description="Absent: it keeps the one it has.")
    notes: str | None = None
    group: str | None = None
    tags: dict[str, str | None] = Field({}, description="Merged into the tags; null takes one away.")
    config: dict[str, Any] = Field({}, description="Merged into the config, key by key.")
    status: Literal["running", "finished", "failed", "crashed", "killed"] | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    error: str | None = Field(None, description="Why it failed: the traceback and the last console lines.")
    points_sent: int | None = Field(None, ge=0, description="How many points were sent in all; batches count theirs.")
    data_hash: str | None = None


class MetricSummary(Reply):
    """What a series comes to; extremes are over finite values."""

    count: int
    first_step: int
    last_step: int
    last: float | SpecialFloat | None
    min: float | None
    max: float | None
    min_step: int | None
    max_step: int | None
    mean: float | None


class SeriesSummary(MetricSummary):
    key: str
    rank: int = Field(description="The process that logged it; 0 speaks for the run.")


class SeriesList(Reply):
    items: list[SeriesSummary]
    next_cursor: None = None


class ConsoleLine(Reply):
    time: float
    stream: Literal["stdout", "stderr"]
    rank: int
    text: str


class ConsolePage(Reply):
    items: list[ConsoleLine]
    cursor: int = Field(description="Give it back as `after` for the lines that follow.")
    more: bool = Field(description="True when further lines are stored already.")


class RunOut(Reply):
    id: str
    project: str
    name: str
    status: Status
    group: str | None
    parent_run_id: str | None
    notes: str | None
    config: dict[str, Any]
    tags: dict[str, str]
    environment: dict[str, Any]
    data_hash: str | None
    created_at: float
    heartbeat_at: float
    finished_at: float | None
    duration: float = Field(description="Seconds from the start to the end, or to the last sign of life.")
    exit_code: int | None
    error: str | None
    points_stored: int
    points_sent: int | None = Field(
        description="Points that its processes sent in all: those stored, and refused ones."
    )
    metrics: dict[str, MetricSummary]


class RunPage(Reply):
    items: list[RunOut]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class ProjectOut(Reply):
    name: str
    n_runs: int
    last_activity_at: float


class ProjectList(Reply):
    items: list[ProjectOut]
    next_cursor: None = None


class BatchReceipt(Reply):
    last_batch: int = Field(description="The highest batch of this writer that is stored.")
    duplicate: bool = Field(description="True when the batch had been stored before; it was dropped.")
    points_stored: int = Field(description="Points of the run that are stored, all writers together.")


class SeriesOut(Reply):
    run_id: str
    key: str
    rank: int = Field(description="The process of the run that logged it.")
    count: int = Field(description="Points stored in the series.")
    sampled: bool = Field(description="True when fewer points are given than asked for exist.")
    steps: list[int]
    times: list[float]
    values: list[float | SpecialFloat]


class History(Reply):
    series: list[SeriesOut]
    cursor: str = Field(description="Give it back as `after` to read only what came since.")


class ArtifactOut(Reply):
    id: str
    path: str
    kind: str
    sha256: str
    size: int = Field(description="Bytes.")
    created_at: float


class ArtifactList(Reply):
    items: list[ArtifactOut]
    next_cursor: None = None


class VersionCreate(Request):
    run_id: str | None = None
    base_version_id: str | None = Field(None, description="The version this one was tuned from.")
    source: str | None = Field(None, description="Where the weights are: a path or URL.")
    method: str | None = Field(None, description="full, lora, qlora, …")
    description: str | None = None
    logged_model_id: str | None = Field(None, description="The logged model (of a run) that this version is made of.")
    tags: RegistryTags = Field(default_factory=dict)
    aliases: list[str] = Field(default_factory=list)
    version: int | None = Field(
        None, ge=1, lt=2**31, description="The number it had elsewhere, if that is free here. Absent: the next one."
    )
    stage: Literal["None", "Staging", "Production", "Archived"] = Field("None", description="MLflow's stage.")
    created_at: float | None = Field(None, description="When it was made, if that was earlier than now.")


class VersionUpdate(Request):
    description: str | None = None
    tags: RegistryTagChanges = Field({}, description="Merged into the tags; null takes one away.")


class ModelVersionList(Reply):
    items: list[ModelVersionOut]
    next_cursor: None = None


class ModelUpdate(Request):
    name: str | None = Field(None, min_length=1, max_length=250, description="Another name for the model.")
    description: str | None = None
    tags: RegistryTagChanges = Field({}, description="Merged into the tags; null takes one away.")


class ModelPut(Request):
    description: str | None = None
    tags: RegistryTags = Field(default_factory=dict, description="Merged into the tags.")
    created_at: float | None = Field(None, description="When it was made, if that was earlier than now.")


class ModelOut(Reply):
    name: str
    description: str | None
    tags: dict[str, str]
    aliases: dict[str, int] = Field(description="Each alias and the number of the version it points at.")
    n_versions: int = Field(description="Versions that are not deleted.")
    latest: ModelVersionOut | None = Field(description="The newest version; null when it has none.")
    created_at: float
    updated_at: float


class ModelList(Reply):
    items: list[ModelOut]
    next_cursor: None = None


class AliasSet(Request):
    version: int = Field(ge=1)
