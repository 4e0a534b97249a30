"""Policies, audits, waivers; sequences of fine-tunes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tunescope._client.calls import API, Calls, Json
from tunescope._transport import path


class Forgetting(Calls):
    def create_policy(self, **body: Any) -> Json:
        """Write down what may be lost: `name`, `protected`, `alpha`, `require_aa`."""
        return self._post("policies", body=body)

    def list_policies(self, **params: Any) -> Json:
        return self._get("policies", **params)

    def create_audit(self, **body: Any) -> Json:
        """Judge `before` against `after` (evaluation ids) under `policy_id`, or `policy`, a name or `name@version`.

        `aa`: evaluations of a second run of the base, for the noise floor. `drift`: what `tunescope drift` measured.
        """
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

    def audit_record(self, audit_id: str) -> bytes:
        """The record to the byte: its SHA-256 is the audit's `hash`."""
        return self._bytes(API + path("audits", audit_id, "record"))

    def audit_gate(self, audit_id: str, accept_waivers: bool = False) -> Json:
        """May it ship? `verdict`, `waived`, and the `exit_code` a pipeline ends with."""
        return self._get("audits", audit_id, "gate", accept_waivers=accept_waivers)

    def waive(self, audit_id: str, *, who: str, why: str, until: float, suite: str | None = None) -> Json:
        """Answer for what an audit found (or one suite of it) until then, in Unix seconds. The verdict stays."""
        return self._post("audits", audit_id, "waivers", body={"who": who, "why": why, "until": until, "suite": suite})

    def list_waivers(self, audit_id: str) -> Json:
        return self._get("audits", audit_id, "waivers")

    def revoke_waiver(self, audit_id: str, waiver_id: str, *, who: str, why: str) -> Json:
        return self._post("audits", audit_id, "waivers", waiver_id, "revoke", body={"who": who, "why": why})

    def stages(self, stages: Sequence[Json], suites: Sequence[str], **options: Any) -> Json:
        """R[i][j], the score on suite j after stage i, and every score of it under its convention's name.

        A stage is `{"run_id": …}` (with `"step"`), `{"model_version_id": …}` or `{"evaluation_ids": […]}`, with a
        `"name"`. Options: `base` and `reference` (stages), `tasks` (the suite each stage was trained for), `metric`.
        """
        return self._post("stages", body={"stages": list(stages), "suites": list(suites), **options})

    def forgetting_events(self, run_id: str, suite: str, **params: Any) -> Json:
        """Items lost and learned over a run's evaluations at steps, and those never forgotten (Toneva et al. 2019)."""
        return self._get("forgetting-events", run_id=run_id, suite=suite, **params)
