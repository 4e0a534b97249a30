"""Artifacts with versions, from a training script: `run.use_artifact("model:champion").download()`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunescope import _settings
from tunescope._client import Client, Json
from tunescope._exceptions import TunescopeError
from tunescope._values import to_plain

__all__ = ["UsedArtifact", "checked_aliases", "resolved"]


class UsedArtifact:
    """A version of an artifact that a run uses."""

    def __init__(self, about: Json, url: str, api_key: str | None) -> None:
        """Made by `Run.use_artifact`."""
        self.id: str = about["id"]
        self.project: str = about["project"]
        self.name: str = about["name"]
        self.version: int = about["version"]
        self.aliases: list[str] = about["aliases"]
        self.about: dict[str, Any] = about["about"]
        self.files: list[str] = [file["path"] for file in about["files"]]
        self._url = url
        self._api_key = api_key

    def download(self, folder: str | Path | None = None) -> Path:
        """Fetch its files into a folder, each checked by its hash; what is there already is not fetched again.

        The default is a folder of this version's own in `TUNESCOPE_DIR`. Raises `ConnectionFailed`, `ApiError`.
        """
        place = Path(folder) if folder is not None else _settings.directory() / "artifacts" / self.id
        with Client(self._url, self._api_key) as client:
            return client.download_artifact_version(self.id, place)

    def __repr__(self) -> str:
        return f"UsedArtifact({self.project}/{self.name}:v{self.version})"


def resolved(reference: str, project: str, url: str, api_key: str | None) -> UsedArtifact:
    """The version that `name`, `name:v3` or `name:alias` names."""
    name, _, which = reference.partition(":")
    with Client(url, api_key) as client:
        return UsedArtifact(client.find_artifact_version(project, name, which or "latest"), url, api_key)


def checked_aliases(name: str, aliases: Sequence[str]) -> list[str]:
    """Raises `TunescopeError` for what the service would refuse later, when nobody listens any more."""
    if ":" in name:
        raise TunescopeError(f"The artifact's name {name!r} has a ':', which separates a name from its alias.")
    plain: list[str] = [to_plain(str(alias)) for alias in ([aliases] if isinstance(aliases, str) else aliases)]
    for alias in plain:
        taken = alias == "latest" or (alias[:1] in ("v", "V") and alias[1:].isdecimal())
        if taken or not alias or not all(c.isalnum() or c in "_-." for c in alias):
            raise TunescopeError(
                f"{alias!r} is no alias: use letters, digits, '_', '-', '.', and not 'latest' or 'v3'."
            )
    return plain
