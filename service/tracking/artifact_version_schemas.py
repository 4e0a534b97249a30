"""The wire shapes of artifacts' versions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.shapes import Reply

# Names go into references like `model:champion`.
Name = Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^:\x00-\x1f]+$")]
Alias = Annotated[str, Field(min_length=1, max_length=250)]
FilePath = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]


class VersionFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: FilePath = Field(description="Its path in the artifact.")
    artifact: FilePath = Field(description="The path under which the run has it.")


class ArtifactVersionCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    kind: str = Field("file", max_length=250, description="model, dataset, …; what the first version says is kept.")
    files: list[VersionFile] = Field(min_length=1, max_length=100_000)
    aliases: list[Alias] = Field([], description="Names that point at this version from now on: `best`.")
    about: dict[str, Any] = Field({}, description="Whatever is worth knowing of it.")


class ArtifactAliasSet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1)


class ArtifactVersionOut(Reply):
    id: str
    project: str
    name: str
    kind: str
    version: int
    aliases: list[str] = Field(description="`latest` is the newest version's.")
    digest: str = Field(description="SHA-256 of the paths and hashes of its files.")
    size: int = Field(description="Bytes, all files together.")
    n_files: int
    run_id: str = Field(description="The run that made it.")
    about: dict[str, Any]
    created_at: float


class ArtifactVersionList(Reply):
    items: list[ArtifactVersionOut]
    next_cursor: str | None


class ArtifactFileOut(Reply):
    path: str
    sha256: str
    size: int


class ArtifactRun(Reply):
    id: str
    name: str
    status: str


class ArtifactVersionWhole(ArtifactVersionOut):
    files: list[ArtifactFileOut]
    made_by: list[ArtifactRun] = Field(description="The runs that logged it, equal content again included.")
    used_by: list[ArtifactRun]
