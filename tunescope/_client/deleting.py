"""The bin: in, out again, and out for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunescope._client.calls import API, Calls, Json, listed
from tunescope._transport import path


class Deleting(Calls):
    def delete_run(self, run_id: str) -> None:
        """Put a run into the bin: it can be restored until it is purged."""
        self._transport.send("DELETE", API + path("runs", run_id))

    def restore_run(self, run_id: str) -> None:
        """Take a run out of the bin, and its project if that is there too."""
        self._transport.send("POST", API + path("runs", run_id, "restore"))

    def delete_runs(
        self, ids: Sequence[str] | None = None, query: str | None = None, project: str | None = None
    ) -> Json:
        """Put many runs into the bin: those named, or all that a query finds. `{"runs", "missing"}`."""
        body = {"ids": ids and list(ids), "query": query or "", "project": project}
        return self._post("runs", "delete", body=body)

    def restore_runs(self, ids: Sequence[str]) -> Json:
        """Take many runs out of the bin. `{"runs"}`: how many came back."""
        return self._post("runs", "restore", body={"ids": list(ids)})

    def delete_project(self, name: str) -> Json:
        """Put a project and its runs into the bin. `{"runs"}`: how many went."""
        answer: Json = self._transport.json("DELETE", API + path("projects", name))
        return answer

    def restore_project(self, name: str) -> Json:
        """Take a project out of the bin, with the runs that went in with it."""
        return self._post("projects", name, "restore")

    def bin(self, **params: Any) -> Json:
        """What is in the bin, last deleted first; filter by `project`, page with `limit`, `cursor`."""
        return self._get("bin", **params)

    def purge_bin(self, run_ids: str | Sequence[str] | None = None, project: str | None = None) -> Json:
        """Delete for good what is in the bin: these runs, those of a project, or all. There is no way back.

        `{"purging", "n_kept", "kept"}`: a run that a model version or an audit rests on is kept,
        evaluations that no audit names go with their run.
        """
        params = {"run_id": None if run_ids is None else listed(run_ids), "project": project}
        answer: Json = self._transport.json("DELETE", API + path("bin"), params=params)
        return answer
