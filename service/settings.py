"""Every knob of the service: one class, read from `TUNESCOPE_…` once, then passed as a value.

The only module that reads the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of the service; each is also an environment variable `TUNESCOPE_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="TUNESCOPE_", extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    data_dir: Path = Field(
        Path("tunescope-data"), description="Folder of everything the service keeps on this machine."
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; absent: SQLite in the data folder. PostgreSQL: postgresql+psycopg://…"
    )
    artifacts_url: str | None = Field(
        None, description="fsspec URL of the artifact store; absent: a folder in the data folder."
    )
    auth: bool | None = Field(None, description="Ask for API keys. Absent: off on a loopback address, on elsewhere.")
    max_body_bytes: int = Field(256 * 2**20, gt=0, description="Largest request body that is read.")
    max_artifact_bytes: int = Field(
        64 * 2**30,
        gt=0,
        description="Largest file that MLflow clients may upload; it is streamed, never held in memory.",
    )
    max_evaluation_file_bytes: int = Field(
        8 * 2**30, gt=0, description="Largest file of a suite's items or of predictions; it is streamed to disk."
    )
    max_media_bytes: int = Field(
        64 * 2**20, gt=0, description="Largest image, table or other medium that a run may log."
    )
    silent_after_seconds: float = Field(
        60.0, gt=0, description="A running run without a heartbeat for this long is shown as silent."
    )
    bin_days: float = Field(
        30.0, ge=0, description="Days that deleted runs and projects can be restored; then they are purged."
    )
    judge_idle_seconds: float = Field(
        300.0, gt=0, description="The process that scores and compares ends after so long without a request."
    )
    webhook_private_addresses: bool = Field(
        False, description="Let webhooks go to loopback and private addresses (link-local ones never)."
    )
    dashboard_url: str = Field(
        "http://localhost:8501", description="Where people open the dashboard: links to runs lead there."
    )
    snapshot_refresh_seconds: float = Field(
        5.0, gt=0, description="How soon every replica sees a change of an experiment."
    )
    rollout_check_seconds: float = Field(
        10.0, gt=0, description="How often a rollout's guardrails are looked at, by one of the replicas."
    )
    holdout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of all units that keep the control in every experiment, counted in none. More holds for "
        "experiments made from then on, less for all. The same on every replica.",
    )
    content_days: float = Field(
        90.0,
        gt=0,
        description="Days that prompts and answers are kept, where an experiment stores them; inf: for ever.",
    )
    request_days: float = Field(
        365.0,
        gt=0,
        description="Days that single requests and outcomes are kept; inf: for ever. Of readouts, only the errors of "
        "p50 and p95 are learned from them.",
    )
    max_prompt_bytes: int = Field(
        32 * 2**20, gt=0, description="Largest body that the gateway reads, such as a prompt with its images."
    )
    upstream_hosts: str | None = Field(
        None,
        description="Hosts, with commas between, whose models may be at loopback and private addresses; others must be "
        "public. Absent: any host that an admin names. Link-local and metadata addresses never.",
    )
    upstream_calls: int = Field(
        512, gt=0, description="Calls under way at one upstream; more are refused with 503 until one ends."
    )
    upstream_connect_timeout: float = Field(5.0, gt=0, description="Seconds to connect to a model upstream.")
    upstream_first_token_timeout: float = Field(60.0, gt=0, description="Seconds to an upstream's first byte.")
    upstream_token_timeout: float = Field(30.0, gt=0, description="Seconds between two bytes of an answer.")
    upstream_total_timeout: float = Field(600.0, gt=0, description="Seconds for a whole answer.")

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{quote(str(self.data_dir.absolute() / 'tunescope.db'))}"

    @property
    def resolved_artifacts_url(self) -> str:
        return self.artifacts_url or str(self.data_dir.absolute() / "artifacts")

    @property
    def environment(self) -> dict[str, str]:
        """What programs that are started inherit."""
        return dict(os.environ)

    def upstream_may_be_private(self, host: str) -> bool:
        """Whether a model on this host may be at a loopback or private address."""
        return self.upstream_hosts is None or host.lower() in {
            one.strip().lower() for one in self.upstream_hosts.split(",")
        }

    @property
    def loopback(self) -> bool:
        return self.host in {"127.0.0.1", "localhost", "::1"}

    @property
    def auth_required(self) -> bool:
        return self.auth if self.auth is not None else not self.loopback


class SecretNotFound(LookupError):
    """A key reference that leads nowhere."""


def read_secret(reference: str) -> str:
    """The secret behind `env:NAME` or `file:/path`. References are stored; secrets never are."""
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        value = os.environ.get(place)
        if not value:
            raise SecretNotFound(f"the environment variable {place} is not set")
        return value
    if kind == "file" and place:
        path = Path(place)
        if not path.is_file():
            raise SecretNotFound(f"the file {place} does not exist")
        return path.read_text(encoding="utf-8").strip()
    raise SecretNotFound(f"'{kind}:…' is no key reference: write env:NAME or file:/path")
