"""Run and read A/B tests: the verdict, the split, the effects, and the knobs."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, effect_parts, experiment_parts, formats, navigate, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell
from tunescope import ApiError

Json = dict[str, Any]
STATES = ("running", "paused", "stopped", "draft", "decided")


def render() -> None:
    key = st.query_params.get("key")
    if key is None:
        overview()
        return
    navigate.link("experiments", "All experiments", "arrow_back")
    now = data.experiment(key)
    on = now["status"] == "running" or (now["rollout"] or {}).get("state") == "rolling"
    st.fragment(one, run_every=5.0 if on else None)(key)


def overview() -> None:
    components.header("Experiments", "A/B tests in production: which model each user meets, and what came of it.")
    # What is on comes first: it may wait for a decision.
    experiments = sorted(data.experiments(), key=lambda experiment: STATES.index(experiment["status"]))
    if not experiments:
        components.empty(
            "No experiment yet",
            "Plan one: variants (the first is the control), metrics, guardrails.",
            'client.create_experiment(key="support-bot", name="…", variants=[…], metrics=[…])',
            icon="call_split",
            code="python",
        )
        experiment_parts.planner()
        return
    readouts = {e["key"]: data.readout(e["key"]) for e in experiments[:25] if e["status"] != "draft"}
    said = [readouts.get(experiment["key"]) for experiment in experiments]
    rows = pd.DataFrame(
        {
            "Experiment": [experiment["name"] for experiment in experiments],
            "State": [[experiment["status"]] for experiment in experiments],
            "Verdict": [[readout["verdict"]["decision"]] if readout else [] for readout in said],
            "Units": [sum(readout["split"]["observed"].values()) if readout else None for readout in said],
            "Arms": [" / ".join(variant["key"] for variant in experiment["variants"]) for experiment in experiments],
            "Key": [experiment["key"] for experiment in experiments],
            "Started": pd.to_datetime([experiment["started_at"] for experiment in experiments], unit="s", utc=True),
        }
    )
    components.link_table(
        rows,
        key="experiments",
        column="Experiment",
        page="experiments",
        targets=[{"key": experiment["key"]} for experiment in experiments],
        columns={
            "State": components.state_column("State", [experiment["status"] for experiment in experiments]),
            "Verdict": components.state_column("Verdict", [r["verdict"]["decision"] for r in said if r]),
            "Units": st.column_config.NumberColumn("Units", format="localized"),
            "Started": st.column_config.DatetimeColumn("Started", format="distance"),
        },
    )
    experiment_parts.planner()


def one(key: str) -> None:
    with components.guard():
        experiment, readout = data.experiment(key), data.readout(key)
        sentence = experiment["hypothesis"] or "What users made of each model, and whether it is more than noise."
        components.titled(experiment["name"], experiment["status"], sentence)
        controls(experiment)
        verdict_part(readout)
        if experiment["decision"]:
            decision = experiment["decision"]
            st.info(f"Decided: **{decision['winner']}**. {decision.get('reason') or ''}", icon=":material/gavel:")
        if experiment["rollout"]:
            experiment_parts.rollout_part(experiment)
        split_part(readout)
        if readout["effects"]:
            effect_parts.effects_part(readout)
        arms_part(experiment, readout)
        if readout["timeline"]:
            timeline_part(readout)
        experiment_parts.shares_part(readout)
        experiment_parts.ages_part(readout)
        left, right = st.columns(2, gap="medium")
        with left:
            plan_part(experiment)
        with right:
            changes_part(key)


# --- the knobs ---


def controls(experiment: Json) -> None:
    status, key = experiment["status"], experiment["key"]
    with st.container(horizontal=True, gap="small"):
        if status in {"draft", "paused"} and st.button("Start", type="primary", icon=":material/play_arrow:"):
            confirm(key, "start", "Users are split between the arms from now on.")
        if status == "running" and st.button("Pause", icon=":material/pause:"):
            confirm(key, "pause", "Everyone gets the control until it is started again.")
        if status in {"running", "paused"} and st.button("Stop", icon=":material/stop:"):
            confirm(key, "stop", "Traffic is no longer split. A stopped experiment cannot be started again.")
        if status == "stopped" and st.button("Decide", type="primary", icon=":material/gavel:"):
            decide(experiment)


@st.dialog("Are you sure?")
def confirm(key: str, action: Any, consequence: str) -> None:
    st.markdown(f"**{str(action).capitalize()} {key}.** {consequence}")
    with st.container(horizontal=True):
        if st.button(f"Yes, {action}", type="primary"):
            try:
                data.change_experiment(key, action)
            except ApiError as refused:
                st.error(refused.message)
                return
            st.rerun()
        if st.button("No"):
            st.rerun()


@st.dialog("Who won?")
def decide(experiment: Json) -> None:
    winner = st.radio("Winner", [variant["key"] for variant in experiment["variants"]], horizontal=True)
    reason = st.text_area("Why", placeholder="What the readout said, and what else counted.")
    by_steps = winner != experiment["variants"][0]["key"] and st.toggle(
        "Roll it out by steps", value=True,
        help="5 %, 20 %, 50 %, then everybody: an hour each at least. Harm gives everybody the control again.",
    )  # fmt: skip
    if st.button("Record the decision", type="primary", disabled=not reason):
        try:
            data.decide_experiment(experiment["key"], str(winner), reason, {} if by_steps else None)
        except ApiError as refused:
            st.error(refused.message)
            return
        st.rerun()


# --- what it says ---


def verdict_part(readout: Json) -> None:
    verdict = readout["verdict"]
    color = components.mark(verdict["decision"]).color
    with st.container(border=True, key=f"verdict-{color}-readout"):
        aside = f"phase {readout['phase']} · computed {formats.ago(readout['computed_at'])}"
        body = verdicts.headline(verdict["decision"], verdict["sentence"], aside=aside, large=True)
        if verdict["reasons"]:
            listed = "".join(f"<li>{html.escape(reason['message'])}</li>" for reason in verdict["reasons"])
            body += f'<ul class="ts-plain">{listed}</ul>'
        st.html(body)


def split_part(readout: Json) -> None:
    split = readout["split"]
    observed, expected = split["observed"], split["expected"]
    total = sum(observed.values())
    if not total:
        return
    ok = bool(split["ok"])
    chip = (
        '<span class="ts-chip ts-green"><span class="ts-icon">check_circle</span>split as planned</span>'
        if ok
        else '<span class="ts-chip ts-red"><span class="ts-icon">error</span>split is off</span>'
    )
    shares = [
        (f"{variant} (planned {formats.percent(expected.get(variant), 0)})", f"{n:,} · {formats.percent(n / total)}")
        for variant, n in observed.items()
    ]
    pairs = [
        *shares,
        ("Sample-ratio p", formats.p_value(split["p_value"])),
        ("Seen in two arms", f"{split['crossed_units']:,}"),
    ]
    if readout["holdout"]:
        pairs.append(("Held out", f"{readout['holdout']['units']:,}"))
    st.html(chip + components.facts(pairs))


def arms_part(experiment: Json, readout: Json) -> None:
    arms = readout["arms"] + ([readout["holdout"]] if readout["holdout"] else [])
    if not readout["arms"]:
        components.section("Arms")
        total = sum(variant["weight"] for variant in experiment["variants"])
        for variant in experiment["variants"]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{variant['key']}** · {formats.percent(variant['weight'] / total, 0)}", width="content")
                if variant.get("model_version_id"):
                    verdicts.version_link(data.model_version(variant["model_version_id"]))
        return
    known = [name for arm in arms for name in arm["metrics"]]
    listed = [(name, label) for name, label in effect_parts.ARM_METRICS if name in known]
    listed += [
        (name, effect_parts.named(name))
        for name in dict.fromkeys(known)
        if (name, effect_parts.named(name)) not in listed
    ]
    rows: list[list[str | Cell]] = [
        ["Units", *(numeric(f"{arm['units']:,}") for arm in arms)],
        ["Requests", *(numeric(f"{arm['requests']:,}") for arm in arms)],
    ]
    for name, label in listed:
        rows.append([label, *(numeric(arm_value(name, arm["metrics"].get(name))) for arm in arms)])
    head: list[str | Cell] = [
        "",
        *(number_head(experiment_parts.arm_head(arm)) for arm in arms),
    ]
    export = pd.DataFrame(
        [
            {"variant": arm["variant"], "metric": name, "value": cell["value"], "count": cell["count"]}
            for arm in arms
            for name, cell in arm["metrics"].items()
        ]
    )
    components.data_table(
        "Arms", head, rows, export, key="arms",
        sentence="Satisfaction beside how many rated: a model that only annoys the silent must show.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for arm in arms:
            if arm["model_version"]:
                st.caption(f"{arm['variant']} is", width="content")
                verdicts.version_link(arm["model_version"])


def arm_value(name: str, cell: Json | None) -> str:
    if cell is None or cell["value"] is None:
        return formats.NONE
    text = formats.measured(name, cell["value"])
    return text if cell["interval"] is None else f"{text}  {formats.interval(name, cell['interval'])}"


def timeline_part(readout: Json) -> None:
    metrics = list(dict.fromkeys(point["metric"] for point in readout["timeline"]))
    chosen = metrics[0]
    if len(metrics) > 1:
        chosen = st.segmented_control(
            "Over time", metrics, default=metrics[0], required=True, key="metric", bind="query-params",
            format_func=lambda metric: metric.replace("_", " "),
        )  # fmt: skip
    points = [point for point in readout["timeline"] if point["metric"] == chosen]
    frame = pd.DataFrame(
        {
            "at": [point["at"] for point in points],
            "variant": [point["variant"] for point in points],
            "absolute": [point["absolute"] for point in points],
            "low": [point["interval"][0] if point["interval"] else None for point in points],
            "high": [point["interval"][1] if point["interval"] else None for point in points],
        }
    ).dropna(subset="absolute")
    note = (
        "The band holds at every moment at once, so it may be looked at as often as one likes."
        if readout["experiment"]["analysis"] == "always_valid"
        else "The band holds at the planned end only."
    )
    if readout["experiment"]["covariate_days"]:
        note += " Over time nothing is taken out for what units did before."
    components.chart(
        charts.timeline(frame, share=formats.is_share(chosen)), frame,
        title=f"Difference in {chosen.replace('_', ' ')} from control", key="timeline", note=note,
    )  # fmt: skip


# --- how it was planned ---


def plan_part(experiment: Json) -> None:
    components.section("Plan")
    rows: list[list[str | Cell]] = [
        [
            variant["key"],
            numeric(formats.percent(experiment["shares"][variant["key"]], 0)),
            text_cell(variant.get("upstream") or formats.NONE),
        ]
        for variant in experiment["variants"]
    ]
    components.table(["Arm", number_head("Share"), "Upstream"], rows)
    pairs = [
        ("Key", experiment["key"]),
        ("Coverage", formats.percent(experiment["coverage"], 0)),
        ("Analysis", experiment["analysis"].replace("_", " ")),
        ("Alpha", formats.number(experiment["alpha"])),
        ("Least units", formats.count(experiment["minimum_units"])),
        ("Expected units", formats.count(experiment["expected_units"])),
        ("Safe upstream", experiment["fallback_upstream"] or formats.NONE),
        ("Held out", formats.percent(experiment["holdout"], 0) if experiment["holdout"] else formats.NONE),
        ("Units keep their arm", "yes" if experiment["sticky"] or experiment["bandit"] else formats.NONE),
        ("Past explains (CUPED)", experiment_parts.past_of(experiment)),
        ("Shares follow", experiment_parts.bandit_of(experiment)),
        ("Phase", str(experiment["phase"])),
    ]
    st.html(components.facts([pair for pair in pairs if pair[1] != formats.NONE]))
    metrics: list[list[str | Cell]] = [
        [
            metric["name"].replace("_", " "),
            metric["role"],
            f"{metric['direction']} is better",
            numeric(formats.change(metric["name"], metric["margin"]).lstrip("+")),
        ]
        for metric in experiment["metrics"]
    ]
    components.table(["Metric", "Role", "Direction", number_head("Margin")], metrics)


def changes_part(key: str) -> None:
    components.section("Change log")
    changes = sorted(data.experiment_changes(key), key=lambda change: change["at"], reverse=True)
    if not changes:
        st.caption("Nothing was changed yet.")
        return
    rows: list[list[str | Cell]] = [
        [
            text_cell(formats.ago(change["at"]), "nowrap"),
            change["action"].replace("_", " "),
            change["actor"],
            text_cell(told(change["details"]), "key ts-dim"),
        ]
        for change in changes
    ]
    components.table(["When", "What", "Who", "Details"], rows)


def told(details: Json) -> str:
    """What a change was about: plain values as they are, of the rest the names."""
    said = [
        f"{key}: {value}" if isinstance(value, str | int | float) else key
        for key, value in details.items()
        if value not in (None, [], {})
    ]
    return ", ".join(said).replace("_", " ")


render()
