"""The page at the service's root. Clients print links to it, `/#/experiments/1/runs/…` (MLflow's) and `/#/runs/…`: it
leads on to the dashboard. What follows the `#` never reaches the service, so the page itself reads it."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from fastapi.responses import HTMLResponse

_SCRIPT = """
const dashboard = document.body.dataset.dashboard;
const follow = async () => {
  const parts = location.hash.slice(1).split("?")[0].split("/").map(decodeURIComponent);
  const after = (word) => encodeURIComponent(parts[parts.indexOf(word) + 1] || "");
  if (parts.includes("runs")) location.replace(`${dashboard}/run?id=${after("runs")}`);
  else if (["models", "prompts"].includes(parts[1])) location.replace(`${dashboard}/models`);
  else if (parts[1] === "experiments") {
    const asked = await fetch(`api/2.0/mlflow/experiments/get?experiment_id=${after("experiments")}`).catch(() => null);
    const name = asked && asked.ok ? (await asked.json()).experiment.name : null;
    location.replace(`${dashboard}/runs${name ? `?project=${encodeURIComponent(name)}` : ""}`);
  }
};
addEventListener("hashchange", follow);
follow();
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_HASH}'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tunescope</title>
<style>
body { font: 16px/1.6 system-ui, sans-serif; color: #1f2933; max-width: 34rem; margin: 15vh auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin-bottom: .2rem }
a { color: #1d4ed8 }
</style>
<body data-dashboard="{dashboard}">
<h1>Tunescope</h1>
<p>The service is up. Runs, evaluations, audits and experiments are in the
<a href="{dashboard}">dashboard</a> (start it with <code>tunescope dashboard</code>); the API is documented at
<a href="docs">/docs</a>.</p>
<script>{script}</script>
</html>
"""


def page(dashboard_url: str) -> HTMLResponse:
    """The root page; `dashboard_url` is where its links and those of MLflow clients lead."""
    html = _PAGE.replace("{dashboard}", escape(dashboard_url.rstrip("/"))).replace("{script}", _SCRIPT)
    return HTMLResponse(html, headers={"content-security-policy": _POLICY, "x-content-type-options": "nosniff"})
