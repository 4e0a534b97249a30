"""Artifacts and media of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunescope._client.calls import API, Calls, Json, listed, pieces
from tunescope._client.sent import sha256_of
from tunescope._exceptions import ApiError
from tunescope._transport import path


class Files(Calls):
    def upload_artifact(self, run_id: str, path_: str, data: bytes | Path, kind: str = "file") -> Json:
        """Store bytes, or a file (streamed), under a path of the run. What the service has is not sent again."""
        route = API + path("runs", run_id, "artifacts", *path_.split("/"))
        return self._upload(route, data, {"kind": kind}, "application/octet-stream")

    def upload_logged_model_file(self, model_id: str, path_: str, data: bytes | Path) -> Json:
        """Store bytes, or a file (streamed), under a path of a logged model."""
        route = API + path("logged-models", model_id, "files", *path_.split("/"))
        return self._upload(route, data, {}, "application/octet-stream")

    def _upload(self, route: str, data: bytes | Path, params: Json, content_type: str) -> Json:
        """Bytes that the service has are named by their hash and not sent again."""
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        sha256 = sha256_of(data)
        headers = {"Content-Type": content_type, "Content-Length": "0"}
        if size and self._sent.worth_asking(sha256, size):
            try:
                answer: Json = self._transport.json("PUT", route, params={**params, "sha256": sha256}, headers=headers)
            except ApiError as error:
                if error.code == "content_missing":
                    params = {**params, "sha256": sha256}
                elif error.status in {400, 422} and "sha256" in error.message:  # an older service
                    self._sent.understood = False
                else:
                    raise
            else:
                if answer["sha256"] == sha256:
                    return answer
                self._sent.understood = False  # an older service, which took it for an empty file
        content = data if isinstance(data, bytes) else pieces(data)
        headers["Content-Length"] = str(size)
        answer = self._transport.json("PUT", route, params=params, content=content, headers=headers)
        self._sent.add(sha256)
        return answer

    def list_artifacts(self, run_id: str) -> Json:
        return self._get("runs", run_id, "artifacts")

    def download_artifact(self, run_id: str, path_: str) -> bytes:
        return self._bytes(API + path("runs", run_id, "artifacts", *path_.split("/")))

    def upload_media(
        self,
        run_id: str,
        data: bytes | Path,
        *,
        key: str,
        step: int,
        kind: str,
        content_type: str,
        details: Mapping[str, Any] | None = None,
        **place: Any,
    ) -> Json:
        """Store one medium of a run, as `run.log` does in the background. The same place again replaces it.

        `place`: `position` and `of` (in a gallery), `rank`, `time`, `caption`.
        """
        about = {"key": key, "step": step, "kind": kind, **place, "details": json.dumps(details or {})}
        return self._upload(API + path("runs", run_id, "media"), data, about, content_type)

    def media_keys(self, run_id: str) -> Json:
        """What media a run has: `{"items": [{"key", "kinds", "n", "first_step", "last_step"}]}`."""
        return self._get("runs", run_id, "media", "keys")

    def media_steps(self, run_id: str, key: str) -> Json:
        """`{"n", "steps"}`: the steps at which a key has something, upwards; of more than 1,000, as many evenly."""
        return self._get("runs", run_id, "media", "steps", key=key)

    def list_media(self, run_id: str, key: str | Sequence[str] | None = None, **params: Any) -> Json:
        """Media of a run, the newest step first.

        Filter by `key`, `step` (one or several), `first_step`, `last_step`, `rank`; page with `limit`, `cursor`.
        `inline=True` brings small contents of JSON or text with them, as `content`.
        """
        return self._get("runs", run_id, "media", key=key and listed(key), **params)

    def download_media(self, media_id: str) -> bytes:
        return self._bytes(API + path("media", media_id, "content"))
