"""`Client`: every route of the service as a thin method. Answers are the JSON of the service, as dictionaries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from tunescope import _settings
from tunescope._transport import Transport, path

__all__ = ["Client", "Json"]

Json = dict[str, Any]

API = "/api/v1"
ARROW = "application/vnd.apache.arrow.stream"
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
PIECE = 1 << 20


class Client:
    """A connection to a Tunescope service.

    `url` and `api_key` default to `TUNESCOPE_URL` and `TUNESCOPE_API_KEY`. Every method raises `ConnectionFailed`
    when the service does not answer and `ApiError` when it refuses. A client may be used from several threads.
    Lists answer `{"items": [...], "next_cursor": str | None}`: pass `next_cursor` back as `cursor` for more.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0) -> None:
        self._transport = Transport(url or _settings.url(), api_key or _settings.api_key(), timeout=timeout)

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, *parts: str, **params: Any) -> Json:
        answer: Json = self._transport.json("GET", API + path(*parts), params=params)
        return answer

    def _post(self, *parts: str, body: Any = None) -> Json:
        answer: Json = self._transport.json("POST", API + path(*parts), json={} if body is None else body)
        return answer

    def _bytes(self, route: str, **options: Any) -> bytes:
        content: bytes = self._transport.send("GET", route, **options).content
        return content

    def health(self) -> Json:
        """Is the service up? Raises `ConnectionFailed` if not."""
        answer: Json = self._transport.json("GET", "/healthz")
        return answer

    # --- runs ---

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

    # --- deleting ---

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
        params = {"run_id": None if run_ids is None else _list(run_ids), "project": project}
        answer: Json = self._transport.json("DELETE", API + path("bin"), params=params)
        return answer

    # --- webhooks ---

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

    # --- metrics ---

    def run_series(self, run_id: str) -> Json:
        """The summary of every series of a run, of every rank: `key`, `rank`, `count`, `last`, ….

        What `get_run` shows as `metrics` are those of rank 0.
        """
        return self._get("runs", run_id, "series")

    def console(self, run_id: str, after: int | None = None, **params: Any) -> Json:
        """What a run printed: `{"items": [{time, stream, rank, text}], "cursor", "more"}`.

        The last lines (`limit`); or those that follow a cursor, from the beginning with 0. `rank` names a process.
        """
        return self._get("runs", run_id, "console", after=after, **params)

    def history(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        max_points: int | None = None,
        rank: int | Literal["all"] = 0,
    ) -> list[Json]:
        """Series of runs: `{run_id, key, rank, count, sampled, steps, times, values}` each, values as floats.

        Without `keys`, every metric of the runs. `max_points` thins each series to that many buckets, spikes kept;
        without it every point is returned. `rank`: of which process of a run, or of all.
        """
        series: list[Json] = self.history_since(run_ids, keys, max_points=max_points, rank=rank)["series"]
        return series

    def history_since(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        after: str | None = None,
        max_points: int | None = None,
        rank: int | Literal["all"] = 0,
    ) -> Json:
        """`{"series", "cursor"}`: pass `cursor` back as `after` to read only what came since."""
        answer = self._get(
            "metrics", run_id=_list(run_ids), key=keys and _list(keys), max_points=max_points, after=after, rank=rank
        )
        for series in answer["series"]:
            series["values"] = [SPECIAL.get(v, v) if isinstance(v, str) else v for v in series["values"]]
        return answer

    def history_arrow(
        self,
        run_ids: str | Sequence[str],
        keys: str | Sequence[str] | None = None,
        max_points: int | None = None,
        *,
        whole: bool = False,
        rank: int | Literal["all"] = 0,
    ) -> bytes:
        """The same as an Arrow IPC stream: run_id, key, rank, segment, step, time, value. Needs no parsing to read.

        `whole`: also the points that a resumed run replaced, in the order they were logged.
        """
        params: Json = {"run_id": _list(run_ids), "key": keys and _list(keys), "max_points": max_points}
        params |= {"whole": whole or None, "rank": rank}
        return self._bytes(f"{API}/metrics", params=params, headers={"Accept": ARROW})

    # --- comparing runs ---

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
        return self._post("runs", "curves", body={"run_ids": _list(run_ids), "keys": _list(keys), **options})

    def curves_arrow(self, run_ids: str | Sequence[str], keys: str | Sequence[str], **options: Any) -> bytes:
        """The same as an Arrow IPC stream; what is not a column is in the schema's metadata, as JSON under `about`."""
        body = {"run_ids": _list(run_ids), "keys": _list(keys), **options}
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

    # --- artifacts ---

    def upload_artifact(self, run_id: str, path_: str, data: bytes | Path, kind: str = "file") -> Json:
        """Store bytes, or a file (streamed), under a path of the run."""
        route = API + path("runs", run_id, "artifacts", *path_.split("/"))
        return self._upload(route, data, {"kind": kind}, "application/octet-stream")

    def _upload(self, route: str, data: bytes | Path, params: Json, content_type: str) -> Json:
        content = data if isinstance(data, bytes) else _pieces(data)
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        answer: Json = self._transport.json("PUT", route, params=params, content=content, headers=headers)
        return answer

    def list_artifacts(self, run_id: str) -> Json:
        return self._get("runs", run_id, "artifacts")

    def download_artifact(self, run_id: str, path_: str) -> bytes:
        return self._bytes(API + path("runs", run_id, "artifacts", *path_.split("/")))

    # --- media ---

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
        return self._get("runs", run_id, "media", key=key and _list(key), **params)

    def download_media(self, media_id: str) -> bytes:
        return self._bytes(API + path("media", media_id, "content"))

    # --- models ---

    def register_model(self, name: str, **body: Any) -> Json:
        """Add a version: `run_id`, `base_version_id`, `source`, `method`, `description`, `tags`, `aliases`."""
        return self._post("models", name, "versions", body=body)

    def list_models(self, prompts: bool = False) -> Json:
        """All models with their newest version; with `prompts`, the prompts that MLflow clients registered instead."""
        return self._get("models", prompts=prompts or None)

    def get_model(self, name: str) -> Json:
        return self._get("models", name)

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

    # --- evaluation ---

    def create_suite(self, **body: Any) -> Json:
        """Store an evaluation set: `name`, `task_type`, `items`, `metrics`, …. The same content is the same version."""
        return self._post("suites", body=body)

    def list_suites(self, **params: Any) -> Json:
        return self._get("suites", **params)

    def get_suite(self, suite_id: str) -> Json:
        return self._get("suites", suite_id)

    def suite_items(self, suite_id: str, limit: int | None = None, cursor: str | None = None) -> Json:
        return self._get("suites", suite_id, "items", limit=limit, cursor=cursor)

    def create_evaluation(self, **body: Any) -> Json:
        """Score predictions: `suite_id`, `predictions`, and what they belong to (`run_id`, `model_version_id`)."""
        return self._post("evaluations", body=body)

    def list_evaluations(self, **params: Any) -> Json:
        """Filter by `run_id`, `suite_id`, `suite`, `model_version_id`; page with `limit`, `cursor`."""
        return self._get("evaluations", **params)

    def get_evaluation(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id)

    def evaluation_items(self, evaluation_id: str, **params: Any) -> Json:
        """Items with their outputs; filter by `correct`, `tag`, `group`, `true`, `predicted`."""
        return self._get("evaluations", evaluation_id, "items", **params)

    def confusion(self, evaluation_id: str) -> Json:
        return self._get("evaluations", evaluation_id, "confusion")

    def slices(self, evaluation_id: str, by: str) -> Any:
        """Scores by `group`, `tag` or `label`, each with its interval."""
        return self._get("evaluations", evaluation_id, "slices", by=by)

    def compare(
        self,
        baseline: str,
        candidate: str,
        metric: str | None = None,
        margin: float | None = None,
        confidence: float | None = None,
    ) -> Json:
        """The verdict card of two evaluations (ids) of one suite: better, worse, equivalent or inconclusive."""
        return self._get(
            "comparisons", baseline=baseline, candidate=candidate, metric=metric, margin=margin, confidence=confidence
        )

    def comparison_items(self, baseline: str, candidate: str, **params: Any) -> Json:
        """The items behind a comparison; `kind` is `lost` or `gained`."""
        return self._get("comparisons", "items", baseline=baseline, candidate=candidate, **params)

    # --- forgetting ---

    def create_policy(self, **body: Any) -> Json:
        """Write down what may be lost: `name`, `protected`, `alpha`."""
        return self._post("policies", body=body)

    def list_policies(self, **params: Any) -> Json:
        return self._get("policies", **params)

    def create_audit(self, **body: Any) -> Json:
        """Judge `before` against `after` (evaluation ids) under `policy_id`."""
        return self._post("audits", body=body)

    def list_audits(self, **params: Any) -> Json:
        """Filter by `run_id`, `verdict`, `after_version_id`."""
        return self._get("audits", **params)

    def get_audit(self, audit_id: str) -> Json:
        return self._get("audits", audit_id)

    def audit_items(self, audit_id: str, **params: Any) -> Json:
        """The items an audit rests on; `kind` is `lost` or `gained`, `suite` one protected suite."""
        return self._get("audits", audit_id, "items", **params)

    def audit_report(self, audit_id: str, format: Literal["markdown", "html"] = "markdown") -> str:
        route = API + path("audits", audit_id, "report")
        return str(self._transport.send("GET", route, params={"format": format}).text)

    # --- experiments ---

    def create_upstream(self, **body: Any) -> Json:
        """Allow the gateway a model endpoint: `name`, `base_url`, `model`, `api_key_ref`, prices."""
        return self._post("upstreams", body=body)

    def list_upstreams(self) -> Json:
        return self._get("upstreams")

    def create_experiment(self, **body: Any) -> Json:
        """Plan an A/B test: `key`, `name`, `variants` (the first is the control), `metrics`, …."""
        return self._post("experiments", body=body)

    def list_experiments(self, **params: Any) -> Json:
        return self._get("experiments", **params)

    def get_experiment(self, key: str) -> Json:
        return self._get("experiments", key)

    def start_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "start")

    def pause_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "pause")

    def stop_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "stop")

    def decide_experiment(self, key: str, winner: str, reason: str) -> Json:
        return self._post("experiments", key, "decide", body={"winner": winner, "reason": reason})

    def experiment_changes(self, key: str) -> Json:
        """Who did what to an experiment, when."""
        return self._get("experiments", key, "changes")

    def readout(self, key: str) -> Json:
        """What an experiment says so far: verdict, split check, arms, effects, timeline."""
        return self._get("experiments", key, "readout")

    def send_events(self, events: Iterable[Mapping[str, Any]]) -> Json:
        """Report exposures and outcomes. A repeated event is counted once."""
        return self._post("events", body={"events": list(events)})

    def experiment_snapshot(self, etag: str | None = None) -> Json | None:
        """All experiments as an `Assigner` needs them; `None` when they still are what `etag` names."""
        headers = {} if etag is None else {"If-None-Match": etag}
        response = self._transport.send("GET", f"{API}/experiments/snapshot", headers=headers)
        if response.status_code == 304:
            return None
        snapshot: Json = response.json()
        return {**snapshot, "etag": response.headers.get("etag", snapshot.get("etag"))}


def _list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            yield piece
