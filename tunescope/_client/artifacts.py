"""Artifacts with versions, aliases, and lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunescope._client.calls import API, Calls, Json
from tunescope._client.sent import sha256_of
from tunescope._exceptions import TunescopeError
from tunescope._transport import path


class Artifacts(Calls):
    def log_artifact_version(self, run_id: str, **body: Any) -> Json:
        """Make what a run has uploaded a version: `name`, `kind`, `files` (`path`, `artifact`), `aliases`, `about`.

        `Run.log_artifact(..., aliases=[...])` is the usual way.
        """
        return self._post("runs", run_id, "artifact-versions", body=body)

    def use_artifact_version(self, run_id: str, version_id: str) -> None:
        """Note that a run uses a version."""
        self._transport.send("PUT", API + path("runs", run_id, "artifact-uses", version_id))

    def list_artifact_collections(self, project: str) -> Json:
        """The artifacts of a project that have versions: the newest version of each."""
        return self._get("artifacts", project=project)

    def artifact_versions(self, project: str, name: str, **params: Any) -> Json:
        """The versions of an artifact, newest first; page with `limit`, `cursor`."""
        return self._get("artifact-versions", project=project, name=name, **params)

    def find_artifact_version(self, project: str, name: str, reference: str = "latest") -> Json:
        """The version that `latest`, `v3` or an alias names, with `files`, `made_by` and `used_by`."""
        return self._get("artifact-versions", "find", project=project, name=name, reference=reference)

    def get_artifact_version(self, version_id: str) -> Json:
        return self._get("artifact-versions", version_id)

    def set_artifact_alias(self, project: str, name: str, alias: str, version: int) -> Json:
        """Point an alias (`champion`) of an artifact at one of its versions."""
        params, route = {"project": project, "name": name}, API + path("artifact-aliases", alias)
        answer: Json = self._transport.json("PUT", route, params=params, json={"version": version})
        return answer

    def delete_artifact_alias(self, project: str, name: str, alias: str) -> None:
        params = {"project": project, "name": name}
        self._transport.send("DELETE", API + path("artifact-aliases", alias), params=params)

    def download_artifact_version(self, version_id: str, folder: Path | str) -> Path:
        """Fetch the files of a version into a folder, each checked by its hash; what is there is not fetched again."""
        place = Path(folder)
        for file in self.get_artifact_version(version_id)["files"]:
            target = place / file["path"]
            if not target.resolve().is_relative_to(place.resolve()):
                raise TunescopeError(f"The file '{file['path']}' would lie outside of {place}.")
            if target.is_file() and sha256_of(target) == file["sha256"]:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.partial")
            route = API + path("artifact-versions", version_id, "files", *file["path"].split("/"))
            self._transport.download(route, partial)
            if sha256_of(partial) != file["sha256"]:
                raise TunescopeError(f"The file '{file['path']}' did not come whole: try again.")
            partial.replace(target)
        return place
