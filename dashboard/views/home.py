"""What needs attention, what is on, what was judged last."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import streamlit as st

from dashboard import alert_parts, components, data, formats, navigate, readings, verdicts

Json = dict[str, Any]
RECENT = 7 * 86_400
DUE = {"better", "worse", "not_worse", "no_difference"}


class Notice(NamedTuple):
    """Something to look at: what state, what it is, why, when, and where to go."""

    state: str
    title: str
    detail: str
    at: float | None
    page: navigate.PageName
    params: dict[str, str]


def render() -> None:
    components.header("Home", "What is running, what went wrong, and what was decided.")
    if not data.projects() and not data.experiments():
        components.empty(
            "No runs yet",
            "Log a run from your own code with tunescope.init, or see the whole story in one go:",
            "tunescope demo",
            icon="rocket_launch",
        )
        return
    overview()


@st.fragment(run_every=10.0)
def overview() -> None:
    with components.guard():
        running = data.runs(query='status in ("running", "silent")', limit=12)["items"]
        broken = data.runs(query='status in ("failed", "crashed")', limit=8)["items"]
        audits = data.audits(limit=8)
        experiments = data.experiments()
        readouts = {
            experiment["key"]: data.readout(experiment["key"])
            for experiment in experiments
            if experiment["status"] in {"running", "paused", "stopped"}
        }
        left, right = st.columns([3, 2], gap="medium")
        with left:
            names = {experiment["key"]: experiment["name"] for experiment in experiments}
            attention(notices(running, broken, data.alerts(limit=50), audits, readouts, names))
            live = [run for run in running if run["status"] == "running"]
            going(live)
        with right:
            last_verdicts(audits)
            traffic(experiments, readouts)


def notices(
    running: list[Json],
    broken: list[Json],
    alerts: list[Json],
    audits: list[Json],
    readouts: dict[str, Json],
    names: dict[str, str],
) -> list[Notice]:
    """What to look at; `names` are the experiments' by key."""
    found = [run_notice(run) for run in running if run["status"] == "silent"]
    found += [run_notice(run) for run in broken if run["created_at"] > time.time() - RECENT]
    found += alert_notices(alerts, {notice.params["id"] for notice in found})
    for audit in audits:
        at = audit["created_at"]
        if audit["verdict"] in {"FAIL", "INVALID"} and at > time.time() - RECENT:
            title = verdicts.run_name(audit["run_id"]) or audit["policy"]["name"]
            found.append(
                Notice(
                    audit["verdict"], title, audit["sentence"], audit["created_at"], "forgetting", {"id": audit["id"]}
                )
            )
    for key, readout in readouts.items():
        decision = readout["verdict"]["decision"]
        if decision == "broken" or (decision in DUE and readout["status"] != "decided"):
            sentence = readout["verdict"]["sentence"]
            found.append(Notice(decision, names[key], sentence, None, "experiments", {"key": key}))
    return found


def alert_notices(alerts: list[Json], told: set[str]) -> list[Notice]:
    """One notice a run that is not in `told`: its worst alert, and how many more there are."""
    by_run: dict[str, list[Json]] = {}
    for alert in alert_parts.worst_first(alerts):
        if alert["run_id"] not in told and alert["opened_at"] > time.time() - RECENT:
            by_run.setdefault(alert["run_id"], []).append(alert)
    found = []
    for run_id, (worst, *others) in by_run.items():
        more = f" And {formats.plural(len(others), 'more alert')}." if others else ""
        at = worst["opened_at"]
        found.append(Notice(worst["rule"], worst["run_name"], worst["message"] + more, at, "run", {"id": run_id}))
    return found


def run_notice(run: Json) -> Notice:
    if run["status"] == "silent":
        detail = f"No heartbeat since {formats.ago(run['heartbeat_at'])}."
    else:
        error = (run["error"] or "").strip().splitlines()
        code = run["exit_code"]
        detail = error[-1] if error else f"Ended with exit code {code}." if code is not None else "Ended early."
    return Notice(
        run["status"], run["name"], detail, run["finished_at"] or run["heartbeat_at"], "run", {"id": run["id"]}
    )


def attention(found: list[Notice]) -> None:
    components.section("Needs attention")
    if not found:
        with st.container(border=True):
            st.markdown(":green[:material/check_circle:] Nothing: no crashed run, alert, failed audit or decision due.")
        return
    with st.container(border=True, key="list-attention", gap="xsmall"):
        for index, notice in enumerate(found[:10]):
            with st.container(key=f"notice-{index}", gap=None):
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    components.badge(notice.state)
                    navigate.link(notice.page, f"**{notice.title}**", **notice.params)
                    if notice.at is not None:
                        st.caption(formats.ago(notice.at), width="content")
                st.caption(notice.detail if len(notice.detail) < 220 else notice.detail[:219] + "…")


def going(live: list[Json]) -> None:
    components.section("Running now")
    if not live:
        st.caption("No run is on.")
        return
    with st.container(border=True, key="list-running", gap="xsmall"):
        for index, run in enumerate(live[:8]):
            with st.container(key=f"going-{index}", gap=None):
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    components.badge(run["status"])
                    navigate.link("run", f"**{run['name']}**", id=run["id"])
                    st.caption(f"{run['project']} · {formats.duration(run['duration'])}", width="content")
                progress = readings.progress(run, time.time())
                if progress is not None:
                    left = f", about {formats.duration(progress.seconds_left)} left" if progress.seconds_left else ""
                    st.progress(progress.share, text=f"step {progress.done:,} of {progress.total:,}{left}")


def last_verdicts(audits: list[Json]) -> None:
    components.section("Last verdicts")
    if not audits:
        components.empty(
            "No audit yet", "An audit says what a fine-tune forgot.", "tunescope demo", icon="verified_user"
        )
        return
    with st.container(border=True, key="list-verdicts", gap="xsmall"):
        for index, audit in enumerate(audits[:5]):
            with st.container(key=f"judged-{index}", gap=None):
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    components.badge(audit["verdict"])
                    name = verdicts.run_name(audit["run_id"]) or f"audit {formats.short(audit['id'][-8:])}"
                    navigate.link("forgetting", f"**{name}**", id=audit["id"])
                    st.caption(formats.ago(audit["created_at"]), width="content")
                st.caption(worst(audit))


def worst(audit: Json) -> str:
    """The worst protected task in a few words."""
    task = next(iter(audit["tasks"]), None)
    if task is None or task["difference"] is None:
        return str(audit["sentence"])
    change, margin = (formats.change(task["metric"], part) for part in (task["difference"], -task["margin"]))
    return f"Worst: {task['suite']} {change}; down to {margin} is allowed."


def traffic(experiments: list[Json], readouts: dict[str, Json]) -> None:
    components.section("Experiments")
    if not experiments:
        components.empty(
            "No experiment yet",
            "An experiment sends users to one model or another.",
            "tunescope demo",
            icon="call_split",
        )
        return
    with st.container(border=True, key="list-experiments", gap="xsmall"):
        for index, experiment in enumerate(experiments[:6]):
            readout = readouts.get(experiment["key"])
            with st.container(key=f"experiment-{index}", gap=None):
                with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                    components.badge(experiment["status"])
                    navigate.link("experiments", f"**{experiment['name']}**", key=experiment["key"])
                if readout is not None:
                    units = sum(readout["split"]["observed"].values())
                    decision = components.mark(readout["verdict"]["decision"])
                    st.caption(f":{decision.color}[:material/{decision.icon}: {decision.word}] · {units:,} units")


render()
