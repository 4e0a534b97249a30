"""A/B tests: upstreams, lifecycle, events, readout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunescope._client.calls import API, Calls, Json
from tunescope._transport import path


class Experiments(Calls):
    def create_upstream(self, **body: Any) -> Json:
        """Allow the gateway a model endpoint: `name`, `base_url`, `model`, `api_key_ref`, prices."""
        return self._post("upstreams", body=body)

    def list_upstreams(self) -> Json:
        return self._get("upstreams")

    def plan_experiment(self, **question: Any) -> Json:
        """Before the start: the smallest difference that `units_per_day` show at this `base_rate` (or `sd`) after some
        `days`, and the days that an `effect` takes. `rating_rate`, `requests_per_unit` and `intra_unit_correlation`
        make it longer than one hopes."""
        return self._post("experiments", "plan", body=question)

    def create_experiment(self, **body: Any) -> Json:
        """Plan an A/B test: `key`, `name`, `variants` (the first is the control), `metrics`, …."""
        return self._post("experiments", body=body)

    def list_experiments(self, **params: Any) -> Json:
        return self._get("experiments", **params)

    def get_experiment(self, key: str) -> Json:
        return self._get("experiments", key)

    def edit_experiment(self, key: str, **changes: Any) -> Json:
        """Change `weights`, `coverage`, `targeting`, `forced`, `name` or `hypothesis`; what moves units between arms
        begins a new phase."""
        answer: Json = self._transport.json("PATCH", API + path("experiments", key), json=changes)
        return answer

    def start_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "start")

    def pause_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "pause")

    def stop_experiment(self, key: str) -> Json:
        return self._post("experiments", key, "stop")

    def decide_experiment(self, key: str, winner: str, reason: str, rollout: Mapping[str, Any] | None = None) -> Json:
        """Name the winner: everybody gets it, at once or by the steps of a `rollout` (`{}` for the usual ones)."""
        body = {"winner": winner, "reason": reason, "rollout": None if rollout is None else dict(rollout)}
        return self._post("experiments", key, "decide", body=body)

    def advance_rollout(self, key: str) -> Json:
        """Take the next step of a rollout now."""
        return self._post("experiments", key, "rollout", "advance")

    def halt_rollout(self, key: str, reason: str) -> Json:
        """End a rollout: everybody gets the control again."""
        return self._post("experiments", key, "rollout", "halt", body={"reason": reason})

    def experiment_changes(self, key: str) -> Json:
        """Who did what to an experiment, when."""
        return self._get("experiments", key, "changes")

    def readout(self, key: str, phase: int | None = None) -> Json:
        """What an experiment says so far: verdict, split check, arms, effects, timeline; or what one `phase` of it
        says, such as a step of its rollout."""
        return self._get("experiments", key, "readout", phase=phase)

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
