"""The bin's shapes on the wire."""

from __future__ import annotations

from pydantic import Field

from service.shapes import Reply
from service.tracking.schemas import Request


class RunsToDelete(Request):
    ids: list[str] | None = Field(None, min_length=1, max_length=10_000)
    query: str = Field("", max_length=5000, description="Or every run that this finds, in the search language.")
    project: str | None = Field(None, description="Only runs of this project; without a query, all of them.")


class RunsToRestore(Request):
    ids: list[str] = Field(min_length=1, max_length=10_000)


class Deleted(Reply):
    runs: int = Field(description="Runs that went into the bin now.")
    missing: list[str] = Field([], description="Ids that are no runs.")


class Restored(Reply):
    runs: int = Field(description="Runs that came back from the bin.")


class BinnedRunOut(Reply):
    id: str
    name: str
    project: str
    deleted_at: float
    points: int
    bytes: int = Field(description="An estimate of what purging it gives back: points once packed, and artifacts.")
    purged_after: float | None = Field(description="When it will be purged; null: it is kept.")
    kept: str | None = Field(description="Why it is not purged; null: nothing rests on it.")


class BinnedProjectOut(Reply):
    name: str
    deleted_at: float
    n_runs: int = Field(description="Its runs in the bin.")
    purged_after: float


class StepsOut(Reply):
    """How long filling, emptying and purging the bin has kept writers waiting, step by step, since the start."""

    steps: int = Field(description="Steps of this process, the last ten thousand at most.")
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_p99_ms: float = Field(description="Of processor time alone: without the disk, and without other programs.")
    cpu_longest_ms: float


class BinPage(Reply):
    items: list[BinnedRunOut]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null on the last.")
    projects: list[BinnedProjectOut] = Field(description="Projects in the bin, all of them.")
    n_runs: int = Field(description="Runs in the bin, all pages.")
    bytes: int = Field(description="An estimate of what purging all of them gives back.")
    n_purging: int = Field(description="Runs that are being deleted for good now; they are no longer listed.")
    keep_days: float = Field(description="Days after which the bin is purged by itself (TUNESCOPE_BIN_DAYS).")
    steps: StepsOut | None = Field(description="How long each step kept writers waiting; null: there was none.")


class KeptRun(Reply):
    id: str
    reason: str


class PurgeStarted(Reply):
    purging: int = Field(description="Runs that are being deleted for good from now on; this cannot be undone.")
    n_kept: int = Field(description="Runs that stay in the bin, since something rests on them.")
    kept: list[KeptRun] = Field(description="The first hundred of these, with the reason.")
