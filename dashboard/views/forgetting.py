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
    cursor = st.query_params.get("cursor")
    page = data.audit_page(verdict=verdict, cursor=cursor)
    audits = page["items"]
    if not audits and cursor is not None:
        # Of another verdict: the place in its list means nothing here.
        del st.query_params["cursor"]
        st.rerun()
    if not audits:
        components.empty(
            "No audit" + (" with this verdict" if verdict else " yet"),
            "An audit judges evaluations before and after a fine-tune under a policy written down beforehand.",
            "client.create_audit(policy_id=…, before=[…], after=[…], run_id=run.id)",
            icon="verified_user",
            code="python",
        )
        return
    names = audit_names(audits)
    audit_table(audits, names)
    if cursor is not None or page["next_cursor"] is not None:
        with components.pager("cursor", page["next_cursor"], f"{formats.plural(len(audits), 'audit')} on this page"):
            pass
    plane_part(audits, names)


def audit_table(audits: list[Json], names: list[str]) -> None:
    worst = [audit["tasks"][0] if audit["tasks"] else None for audit in audits]
    waived = ["until " + _day(audit) if audit["waived"] else None for audit in audits]
    rows = pd.DataFrame(
        {
            "Audit": names,
            "Verdict": [[audit["verdict"]] for audit in audits],
            "Worst task": [task["suite"] if task else None for task in worst],
            "Change, 95 %": [change_text(task) if task else None for task in worst],
            "Margin": [
                formats.change(task["metric"] or "accuracy", -task["margin"]) if task else None for task in worst
            ],
            "Lost / gained": [
                f"{task['lost']:,} / {task['gained']:,}" if task and task["lost"] is not None else None
                for task in worst
            ],
            "Policy": [f"{audit['policy']['name']} v{audit['policy']['version']}" for audit in audits],
            **({"Waived": waived} if any(waived) else {}),
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
            "Change, 95 %": st.column_config.TextColumn("Change, 95 %", alignment="right"),
            "Margin": st.column_config.TextColumn("Margin", alignment="right"),
            "Lost / gained": st.column_config.TextColumn(
                "Lost / gained", alignment="right", help="Right before and wrong after / wrong before and right after"
            ),
            "When": st.column_config.DatetimeColumn("When", format="distance"),
        },
        height="content" if len(audits) < 15 else 520,
    )


def change_text(task: Json) -> str:
    """−5.2 [−7.9, −3.5] points."""
    change = formats.change(task["metric"] or "", task["difference"])
    if task["interval"] is None:
        return change
    number, unit, _ = change.partition(" points")
    return f"{number} {formats.interval(task['metric'] or '', task['interval'], difference=True)}{unit}"


def _day(audit: Json) -> str:
    """The last day on which all that did not pass is waived."""
    ends = [one["until"] for one in audit["waivers"] if one["state"] == "valid"]
    return f"{datetime.fromtimestamp(min(ends), UTC):%Y-%m-%d}"


def audit_name(audit: Json) -> str:
    return audit_names([audit])[0]


def audit_names(audits: list[Json]) -> list[str]:
    """What each is called: its run's name, or the end of its id."""
    runs = verdicts.run_names(audits)
    return [runs.get(audit["run_id"]) or f"audit {audit['id'][-6:]}" for audit in audits]


def plane_part(audits: list[Json], names: list[str]) -> None:
    """Learning against forgetting: what was learned on a suite nobody protects, against the worst protected loss."""
    components.section(
        "Learning against forgetting",
        "One point a run, with its 95 % intervals: up is learned more, left is forgot less.",
    )
    protected = {entry["suite"] for audit in audits for entry in audit["policy"]["body"]["protected"]}
    judged = [
        (audit, name)
        for audit, name in zip(audits, names, strict=True)
        if audit["tasks"] and (audit["run_id"] or audit["after_version_id"])
    ]
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


def plane_frame(audits: list[tuple[Json, str]], evaluations: list[Json]) -> pd.DataFrame:
    """A row a run, from its newest audit (with its name) and evaluation: learned and lost in percent and points."""
    by_run: dict[str | None, Json] = {}
    by_version: dict[str | None, Json] = {}
    for evaluation in evaluations:
        by_run.setdefault(evaluation["run_id"], evaluation)
        by_version.setdefault(evaluation["model_version_id"], evaluation)
    rows: dict[str, Json] = {}
    for audit, name in audits:
        key = audit["run_id"] or audit["after_version_id"]
        found = (audit["run_id"] and by_run.get(audit["run_id"])) or by_version.get(audit["after_version_id"])
        score = next(iter(found["scores"]), None) if found else None
        judged = [task for task in audit["tasks"] if task["difference"] is not None]
        if key in rows or not judged or score is None or score["value"] is None:
            continue
        share = formats.is_share(score["name"])
        worst = min(judged, key=lambda task: task["difference"])
        scale = 100 if share else 1
        low, high = score["interval"] or (score["value"], score["value"])
        most, least = worst["interval"] or (worst["difference"], worst["difference"])
        rows[key] = {
            "name": name,
            "learned": score["value"] * scale,
            "learned_low": low * scale,
            "learned_high": high * scale,
            "lost": -100 * worst["difference"],
            "lost_low": -100 * least,
            "lost_high": -100 * most,
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
