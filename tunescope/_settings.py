"""What the environment says: the only reader of `TUNESCOPE_…` in this package. Arguments win over it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["api_key", "dashboard_url", "directory", "mode", "project", "run_id", "url"]

DEFAULT_URL = "http://127.0.0.1:8000"


def url() -> str:
    """`TUNESCOPE_URL`: where the service is."""
    return os.environ.get("TUNESCOPE_URL") or DEFAULT_URL


def dashboard_url() -> str | None:
    """`TUNESCOPE_DASHBOARD_URL`: where people look at runs; links to runs then go there."""
    return (os.environ.get("TUNESCOPE_DASHBOARD_URL") or "").rstrip("/") or None


def api_key() -> str | None:
    """`TUNESCOPE_API_KEY`: the key to send, if the service asks for one."""
    return os.environ.get("TUNESCOPE_API_KEY") or None


def mode() -> str:
    """`TUNESCOPE_MODE`: online, offline or disabled."""
    return os.environ.get("TUNESCOPE_MODE") or "online"


def project() -> str:
    """`TUNESCOPE_PROJECT`: the project of runs that name none."""
    return os.environ.get("TUNESCOPE_PROJECT") or "default"


def run_id() -> str | None:
    """`TUNESCOPE_RUN_ID`: the run that every process started with it logs into."""
    return os.environ.get("TUNESCOPE_RUN_ID") or None


def directory() -> Path:
    """`TUNESCOPE_DIR`: where journals and snapshots are kept."""
    named = os.environ.get("TUNESCOPE_DIR")
    if named:
        return Path(named).expanduser()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "tunescope"
