"""Release or not: what a fine-tune lost of its base's abilities, and whether that is more than noise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, forgetting_charts, formats, navigate, stage_parts, verdicts
from dashboard import forgetting_parts as parts
from dashboard.waiver_parts import waivers

Json = dict[str, Any]
VERDICTS = ["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]


def render() -> None:
    audit_id = st.query_params.get("id")
    if audit_id is None:
        components.header("Forgetting", "What each fine-tune lost of what its base could do, and whether it may ship.")
        shown = st.segmented_control(
            "Shown", ["Audits", "Stages"], default="Audits", required=True, key="part", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
        if shown == "Stages":
            stage_parts.view()
        else:
            overview()
    else:
        one(data.audit(audit_id))


# --- all of them ---


def overview() -> None:
    verdict = st.segmented_control(
        "Verdict", VERDICTS, format_func=lambda v: components.mark(v).word, key="verdict", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    audits = data.audits(verdict=verdict)
    if not audits:
        components.empty(
            "No audit" + (" with this verdict" if verdict else " yet"),
            "An audit judges evaluations before and after a fine-tune under a policy written down beforehand.",
            "client.create_audit(policy_id=…, before=[…], after=[…], run_id=run.id)",
            icon="verified_user",
            code="python",
        )
        return
    audit_table(audits)
    plane_part(audits)


def audit_table(audits: list[Json]) -> None:
    worst = [audit["tasks"][0] if audit["tasks"] else None for audit in audits]
    rows = pd.DataFrame(
        {
            "Audit": [audit_name(audit) for audit in audits],
            "Verdict": [[audit["verdict"]] for audit in audits],
            "Worst task": [task["suite"] if task else None for task in worst],
            "Change": [formats.change(task["metric"] or "", task["difference"]) if task else None for task in worst],
            "Margin": [
                formats.change(task["metric"] or "accuracy", -task["margin"]) if task else None for task in worst
            ],
            "Lost": [task["lost"] if task else None for task in worst],
            "Gained": [task["gained"] if task else None for task in worst],
            "Policy": [f"{audit['policy']['name']} v{audit['policy']['version']}" for audit in audits],
            "Waived": ["until " + _day(audit) if audit["waived"] else None for audit in audits],
            "When": pd.to_datetime([audit["created_at"] for audit in audits], unit="s", utc=True),
        }
    )
    components.link_table(
        rows,
        key="audits",
        column="Audit",
        page="forgetting",
        targets=[{"id": audit["id"]} for audit in audits],
        columns={
            "Verdict": components.state_column("Verdict", [audit["verdict"] for audit in audits]),
            "Change": st.column_config.TextColumn("Change", alignment="right"),
            "Margin": st.column_config.TextColumn("Margin", alignment="right"),
            "Lost": st.column_config.NumberColumn("Lost", format="localized", help="Right before, wrong after"),
            "Gained": st.column_config.NumberColumn("Gained", format="localized", help="Wrong before, right after"),
            "When": st.column_config.DatetimeColumn("When", format="distance"),
        },
        height="content" if len(audits) < 15 else 520,
    )


def _day(audit: Json) -> str:
    """The last day on which all that did not pass is waived."""
    ends = [one["until"] for one in audit["waivers"] if one["state"] == "valid"]
    return f"{datetime.fromtimestamp(min(ends), UTC):%Y-%m-%d}"


def audit_name(audit: Json) -> str:
    return verdicts.run_name(audit["run_id"]) or f"audit {audit['id'][-6:]}"


def plane_part(audits: list[Json]) -> None:
    """Learning against forgetting: what was learned on a suite nobody protects, against the worst protected loss."""
    components.section("Learning against forgetting", "One point a run: up is learned more, left is forgot less.")
    protected = {entry["suite"] for audit in audits for entry in audit["policy"]["body"]["protected"]}
    judged = [audit for audit in audits if audit["tasks"] and (audit["run_id"] or audit["after_version_id"])]
    by_suite: dict[str, list[Json]] = {}
    for evaluation in data.evaluations(limit=500):
        if evaluation["suite"]["name"] not in protected:
            by_suite.setdefault(evaluation["suite"]["name"], []).append(evaluation)
    frames = {name: plane_frame(judged, evaluations) for name, evaluations in by_suite.items()}
    # Only suites with something to show, the one that most of the audited runs were scored on first.
    targets = sorted((name for name, frame in frames.items() if len(frame)), key=lambda name: -len(frames[name]))
    if not targets:
        st.caption("It needs an audited run, and its evaluation on a suite that no policy protects.")
        return
    with st.container(horizontal=True):
        target = components.pick("Learned on", targets, {name: name for name in targets}, "learned")
    frame = frames[target]
    unit = "%" if frame["share"].all() else ""
    figure = forgetting_charts.plane(
        frame,
        x_title="lost on the worst protected task, points",
        y_title=f"{frame['metric'].iloc[0]} on {target}{', ' + unit if unit else ''}",
    )
    components.chart(figure, frame, title=f"What {target} cost", key="plane", leads=("run", run_target))


def run_target(point: Json) -> dict[str, str]:
    return {"id": str(point["customdata"][0])}


def plane_frame(audits: list[Json], evaluations: list[Json]) -> pd.DataFrame:
    """A row a run, from its newest audit and evaluation: learned and lost in percent and points."""
    by_run: dict[str | None, Json] = {}
    by_version: dict[str | None, Json] = {}
    for evaluation in evaluations:
        by_run.setdefault(evaluation["run_id"], evaluation)
        by_version.setdefault(evaluation["model_version_id"], evaluation)
    rows: dict[str, Json] = {}
    for audit in audits:
        key = audit["run_id"] or audit["after_version_id"]
        found = (audit["run_id"] and by_run.get(audit["run_id"])) or by_version.get(audit["after_version_id"])
        score = next(iter(found["scores"]), None) if found else None
        losses = [task["difference"] for task in audit["tasks"] if task["difference"] is not None]
        if key in rows or not losses or score is None or score["value"] is None:
            continue
        share = formats.is_share(score["name"])
        rows[key] = {
            "name": audit_name(audit),
            "learned": score["value"] * (100 if share else 1),
            "lost": -100 * min(losses),
            "verdict": audit["verdict"],
            "run_id": audit["run_id"],
            "metric": score["name"],
            "share": share,
        }
    return pd.DataFrame(list(rows.values()))


# --- one of them ---


def one(audit: Json) -> None:
    navigate.link("forgetting", "All audits", "arrow_back")
    components.header(
        f"Forgetting audit of {audit_name(audit)}",
        "Which abilities of its base this fine-tune lost, whether that is more than noise, and whether it may ship.",
    )
    parts.verdict_part(audit)
    parts.lineage(audit)
    waivers(audit)
    parts.tasks_part(audit)
    parts.floor_part(audit)
    parts.drift_part(audit)
    chosen = parts.choose_task(audit)
    parts.category_part(chosen)
    parts.items_part(audit, chosen)
    parts.conditions_part(chosen)
    parts.probe_part(audit)
    parts.events_part(audit, chosen)
    left, right = st.columns(2, gap="medium")
    with left:
        parts.policy_part(audit)
    with right:
        parts.advice_part(audit)
        parts.report_part(audit)


render()
