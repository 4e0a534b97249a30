"""The registry: models, versions, aliases."""

from __future__ import annotations

from typing import Any

from tunescope._client.calls import API, Calls, Json
from tunescope._transport import path


class Models(Calls):
    def register_model(self, name: str, **body: Any) -> Json:
        """Add a version: `run_id`, `base_version_id`, `source`, `method`, `description`, `tags`, `aliases`.

        One that was registered elsewhere keeps its number and time with `version` and `created_at`.
        """
        return self._post("models", name, "versions", body=body)

    def list_models(self, prompts: bool = False) -> Json:
        """All models with their newest version; with `prompts`, the prompts that MLflow clients registered instead."""
        return self._get("models", prompts=prompts or None)

    def get_model(self, name: str) -> Json:
        return self._get("models", name)

    def put_model(self, name: str, **body: Any) -> Json:
        """Make a model without versions, or change one: `description`, `tags`, `created_at`."""
        answer: Json = self._transport.json("PUT", API + path("models", name), json=body)
        return answer

    def update_model(self, name: str, /, **changes: Any) -> Json:
        """Change `name` or `description`; `tags` are merged into what is there, and None takes one away."""
        answer: Json = self._transport.json("PATCH", API + path("models", name), json=changes)
        return answer

    def delete_model(self, name: str) -> None:
        """Delete a model and its versions. Evaluations and audits keep the versions that they name."""
        self._transport.send("DELETE", API + path("models", name))

    def model_versions(self, name: str) -> Json:
        return self._get("models", name, "versions")

    def get_model_version(self, version_id: str) -> Json:
        return self._get("model-versions", version_id)

    def update_model_version(self, version_id: str, **changes: Any) -> Json:
        """Change `description`; `tags` are merged into what is there, and None takes one away."""
        answer: Json = self._transport.json("PATCH", API + path("model-versions", version_id), json=changes)
        return answer

    def delete_model_version(self, version_id: str) -> None:
        """Hide a version. What names it can still show it, and its number is not given again."""
        self._transport.send("DELETE", API + path("model-versions", version_id))

    def model_version_links(self, version_id: str) -> Json:
        """Where a version comes from and where it is used: run, data sets, base, evaluations, audits, experiments."""
        return self._get("model-versions", version_id, "links")

    def set_alias(self, name: str, alias: str, version: int) -> Json:
        """Point an alias (`champion`) of a model at one of its versions."""
        route = API + path("models", name, "aliases", alias)
        answer: Json = self._transport.json("PUT", route, json={"version": version})
        return answer

    def get_alias(self, name: str, alias: str) -> Json:
        """The version that an alias points at."""
        return self._get("models", name, "aliases", alias)

    def delete_alias(self, name: str, alias: str) -> None:
        self._transport.send("DELETE", API + path("models", name, "aliases", alias))

    # --- logged models ---

    def put_logged_model(self, model_id: str, **body: Any) -> Json:
        """Bring a logged model over from elsewhere: `project`, `name`, `run_id`, `params`, `tags`, `metrics`, …"""
        answer: Json = self._transport.json("PUT", API + path("logged-models", model_id), json=body)
        return answer

    def get_logged_model(self, model_id: str) -> Json:
        """A logged model: what a run saved, with its params, metrics, and the runs that made and used it."""
        return self._get("logged-models", model_id)

    def logged_model_files(self, model_id: str) -> Json:
        return self._get("logged-models", model_id, "files")
