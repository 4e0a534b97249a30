"""Policies and audits."""

from __future__ import annotations

from typing import Any, Literal

from tunescope._client.calls import API, Calls, Json
from tunescope._transport import path


class Forgetting(Calls):
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
