"""The wire shapes of media."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.shapes import Reply
from service.tracking.contents import Sha256

Kind = Literal["image", "audio", "text", "table", "histogram", "plot", "confusion_matrix", "pr_curve"]
INT64 = 2**63
LARGEST_GALLERY = 256
Key = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
Step = Annotated[int, Field(ge=-INT64, lt=INT64)]


class MediaPut(BaseModel):
    """What is stored, and where: the query of an upload."""

    model_config = ConfigDict(extra="forbid")

    key: Key = Field(description="Its name, as of a metric: `samples/generated`.")
    step: Step
    kind: Kind
    time: float | None = Field(None, allow_inf_nan=False, description="When it was logged; absent: now.")
    position: int = Field(
        0, ge=0, lt=LARGEST_GALLERY, description="Its place in a gallery: several of one key and step."
    )
    of: int = Field(1, ge=1, le=LARGEST_GALLERY, description="How many the gallery has.")
    rank: int = Field(0, ge=0, lt=2**31, description="The process of a distributed training that logged it.")
    caption: str | None = Field(None, max_length=2_000, pattern=r"^[^\x00]*$")
    details: str = Field(
        "{}", max_length=10_000, description="A JSON object with what lists show: width, height, average_precision, …"
    )
    sha256: Sha256 = None


class MediaFilter(BaseModel):
    """Which media of a run."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[list[Key], Field(max_length=1_000)] | None = Field(None, description="Absent: all keys.")
    step: Annotated[list[Step], Field(max_length=1_000)] | None = Field(None, description="Only these steps.")
    first_step: Step | None = Field(None, description="Only from this step on.")
    last_step: Step | None = Field(None, description="Only up to this step.")
    rank: int | None = Field(None, ge=0, lt=2**31, description="Only what this process logged.")
    inline: bool = Field(False, description="Bring JSON and texts of up to 256 KiB along, as `content`.")
    limit: int = Field(100, ge=1, le=1_000)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class MediaOut(Reply):
    id: str = Field(description="Names these bytes for ever: what replaces them has another.")
    run_id: str
    key: str
    step: int
    rank: int
    position: int
    time: float
    kind: Kind
    content_type: str
    sha256: str
    size: int = Field(description="Bytes.")
    caption: str | None
    details: dict[str, Any]
    content: Any = Field(None, description="With `inline`: the JSON or the text; null if it is too large or none.")


class MediaPage(Reply):
    items: list[MediaOut]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null on the last.")


class MediaKey(Reply):
    key: str
    kinds: list[Kind]
    n: int = Field(description="Items, all steps together.")
    first_step: int
    last_step: int


class MediaKeyList(Reply):
    items: list[MediaKey]
    next_cursor: None = None


class MediaSteps(Reply):
    n: int = Field(description="Steps that have something under the key.")
    steps: list[int] = Field(description="Those, upwards; of more than 1,000, as many evenly, the ends included.")
