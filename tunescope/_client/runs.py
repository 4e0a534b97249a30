"""Runs: made, changed, found, compared; their console, alerts and webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunescope._client.calls import API, ARROW, Calls, Json, listed
from tunescope._transport import path


class Runs(Calls):
    def create_run(self, **body: Any) -> Json:
        """Create a run (`project`, `name`, `id`, `config`, `tags`, …, `resume`). `tunescope.init` is the usual way."""
        return self._post("runs", body=body)

    def get_run(self, run_id: str) -> Json:
        return self._get("runs", run_id)

    def update_run(self, run_id: str, **changes: Any) -> Json:
        """Change `name`, `notes`, `group`, `status`, …; `tags` and `config` are merged into what is there."""
        answer: Json = self._transport.json("PATCH", API + path("runs", run_id), json=changes)
        return answer

    def list_runs(
        self,
        project: str | None = None,
        query: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        metrics: Sequence[str] | None = None,
    ) -> Json:
        """Search runs, e.g. `query='metrics.eval_loss < 0.4 and status = finished'`.

        With `metrics`, each run carries only these metric summaries.
        """
        names = None if metrics is None else list(metrics)
        return self._get("runs", project=project, q=query, order_by=order_by, limit=limit, cursor=cursor, metric=names)

    def list_projects(self) -> Json:
        return self._get("projects")

    def run_links(self, run_id: str) -> Json:
        """What came of a run: model versions, evaluations, audits, experiments."""
        return self._get("runs", run_id, "links")

    def diagnoses(self, run_id: str) -> Json:
        """What every rule says of a run now: found, clear, or why it cannot tell; with the numbers it used."""
        return self._get("runs", run_id, "diagnoses")

    def list_alerts(self, **params: Any) -> Json:
        """Filter by `project`, `run_id` (one or several), `open`, `rule`, `severity`; page with `limit`, `cursor`."""
        return self._get("alerts", **params)

    def send_batch(self, run_id: str, body: bytes) -> Json:
        """Store one numbered batch of points (msgpack). Batches at or below the last one stored are dropped."""
        route = API + path("runs", run_id, "batches")
        answer: Json = self._transport.json(
            "POST", route, content=body, headers={"Content-Type": "application/msgpack"}
        )
        return answer

    def create_webhook(self, url: str, project: str | None = None, secret_ref: str | None = None) -> Json:
        """Alerts go to `url`, of one project or of all; `secret_ref` (`env:`, `file:`) names the signing key."""
        return self._post("webhooks", body={"url": url, "project": project, "secret_ref": secret_ref})

    def list_webhooks(self) -> Json:
        return self._get("webhooks")

    def test_webhook(self, webhook_id: str) -> Json:
        """Send a made-up alert now: `{"delivered", "status", "error", "seconds"}`."""
        return self._post("webhooks", webhook_id, "test")

    def delete_webhook(self, webhook_id: str) -> None:
        self._transport.send("DELETE", API + path("webhooks", webhook_id))

    def compare_runs(
        self,
        run_ids: Sequence[str],
        metrics: Sequence[str] | None = None,
        directions: Mapping[str, Literal["min", "max"]] | None = None,
    ) -> Json:
        """What differs between runs (config, environment, tags, data), and their metric summaries, the best marked."""
        body = {"run_ids": list(run_ids), "metrics": metrics and list(metrics), "directions": dict(directions or {})}
        return self._post("runs", "compare", body=body)

    def curves(self, run_ids: str | Sequence[str], keys: str | Sequence[str], **options: Any) -> Json:
        """Curves on one axis: `x` (step, time, epoch), `max_points`, `smoothing`, `group_by`, `after` (a cursor).

        `{"curves", "groups", "group_curves", "missing", "cursor"}`; with `group_by` (`["params.lr"]`, `["seed"]`)
        mean, sd, n, min and max of groups instead of curves of runs.
        """
        return self._post("runs", "curves", body={"run_ids": listed(run_ids), "keys": listed(keys), **options})

    def curves_arrow(self, run_ids: str | Sequence[str], keys: str | Sequence[str], **options: Any) -> bytes:
        """The same as an Arrow IPC stream; what is not a column is in the schema's metadata, as JSON under `about`."""
        body = {"run_ids": listed(run_ids), "keys": listed(keys), **options}
        headers = {"Accept": ARROW}
        content: bytes = self._transport.send("POST", f"{API}/runs/curves", json=body, headers=headers).content
        return content

    def importance(self, metric: str, **options: Any) -> Json:
        """How much of a metric's variation each config key explains: over `run_ids`, or a `project` and `query`.

        `by` is the value that counts: last, min, max or best; `direction` says which way is better.
        """
        return self._post("runs", "importance", body={"metric": metric, **options})

    def list_filters(self, project: str) -> Json:
        """The saved filters of a project's runs."""
        return self._get("filters", project=project)

    def save_filter(self, project: str, name: str, **body: Any) -> Json:
        """Keep `query`, `order_by`, `columns` and `group_by` under a name, for everyone who reads the project."""
        params, filter_ = {"project": project}, {"name": name, **body}
        answer: Json = self._transport.json("PUT", API + path("filters"), params=params, json=filter_)
        return answer

    def delete_filter(self, project: str, name: str) -> None:
        self._transport.send("DELETE", API + path("filters"), params={"project": project, "name": name})
