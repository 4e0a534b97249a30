"""Release or not: what a fine-tune lost of its base's abilities, and whether that is more than noise."""

from __future__ import annotations

import html
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, components, curve_data, data, formats, items, navigate, readings, verdicts
from dashboard.components import Cell, number_head, numeric

Json = dict[str, Any]
VERDICTS = ["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]


def render() -> None:
    audit_id = st.query_params.get("id")
    if audit_id is None:
        overview()
    else:
        one(data.audit(audit_id))


# --- all of them ---


def overview() -> None:
    components.header("Forgetting", "What each fine-tune lost of what its base could do, and whether it may ship.")
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
    figure = charts.plane(
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
    verdict_part(audit)
    lineage(audit)
    if audit["tasks"]:
        tasks_part(audit)
        chosen = choose_task(audit)
        category_part(chosen)
        items_part(audit, chosen)
    probe_part(audit)
    left, right = st.columns(2, gap="medium")
    with left:
        policy_part(audit)
    with right:
        advice_part(audit)
        report_part(audit)


def verdict_part(audit: Json) -> None:
    policy = audit["policy"]
    color = components.mark(audit["verdict"]).color
    with st.container(border=True, key=f"verdict-{color}-audit"):
        aside = f"policy {policy['name']} v{policy['version']} · {formats.ago(audit['created_at'])}"
        body = verdicts.headline(audit["verdict"], audit["sentence"], aside=aside, large=True)
        said = [*audit["problems"], *audit["notes"]]
        if not audit["intact"]:
            said.insert(0, "The stored record no longer matches its hash: it was changed after it was written.")
        if said:
            body += '<ul class="ts-plain">' + "".join(f"<li>{html.escape(line)}</li>" for line in said) + "</ul>"
        st.html(body)


def lineage(audit: Json) -> None:
    version_id, run_id = audit["after_version_id"], audit["run_id"]
    links = data.model_version_links(version_id) if version_id else data.run_links(run_id) if run_id else None
    here = {"id": audit["id"], "verdict": audit["verdict"]}
    run = data.run(run_id) if run_id else (links or {}).get("run")
    verdicts.record(
        key="audit",
        run=run,
        versions=[data.model_version(version_id)] if version_id else [],
        evaluations=links["evaluations"] if links else [],
        audits=[here],
        experiments=links["experiments"] if links else [],
    )


def tasks_part(audit: Json) -> None:
    """The protected tasks, worst first, each with its change drawn against the margin on one scale."""
    tasks = audit["tasks"]
    ends = [end for task in tasks for end in (*(task["interval"] or ()), task["difference"] or 0.0, -task["margin"])]
    ends.append(0.0)
    reach = (max(ends) - min(ends)) or 1.0
    domain = (min(ends) - 0.06 * reach, max(ends) + 0.06 * reach)
    rows: list[list[str | Cell]] = [task_row(task, domain) for task in tasks]
    head: list[str | Cell] = [
        "Verdict", "Task", number_head("n"), number_head("Before → after"), number_head("Change, 95 %"),
        Cell('<span class="ts-dim">orange: margin</span>'), number_head("Lost / gained"), number_head("p"),
        number_head("F (beyond chance)"), number_head("Unparsed"),
    ]  # fmt: skip
    frame = pd.DataFrame([{k: v for k, v in task.items() if k != "by_group"} for task in tasks])
    components.data_table("Protected tasks, worst first", head, rows, frame, key="tasks")
    for task in tasks:
        if task["reason"] or task["n_needed"]:
            needed = f" {task['n_needed']:,} items would settle it." if task["n_needed"] else ""
            why = (task["reason"] or "not settled").replace("_", " ").rstrip(".")
            st.caption(f"{task['suite']}: {why}.{needed}")
    st.caption(
        "Change in points where the metric is a share. F: share of items right before and wrong after; beyond chance: "
        "less what guessing explains (arXiv 2510.17776). p: Holm-adjusted over the protected tasks."
    )


def task_row(task: Json, domain: tuple[float, float]) -> list[str | Cell]:
    metric = task["metric"] or ""
    tone = components.mark(task["verdict"]).color
    change = formats.change(metric, task["difference"]).removesuffix(" points")
    return [
        Cell(components.chip(task["verdict"])),
        Cell(f'{html.escape(task["suite"])}<br><span class="ts-dim">{html.escape(metric)}</span>', "nowrap"),
        numeric(f"{task['n']:,}"),
        numeric(f"{formats.measured(metric, task['before'])} → {formats.measured(metric, task['after'])}"),
        Cell(f"<b>{change}</b> {formats.interval(metric, task['interval'], difference=True)}", "num"),
        verdicts.mini_interval(task["difference"], task["interval"], domain, limit=-task["margin"], tone=tone),
        numeric(f"{formats.count(task['lost'])} / {formats.count(task['gained'])}"),
        numeric(formats.p_value(task["p_adjusted"])),
        numeric(f"{formats.percent(task['F'])} ({formats.percent(task['F_true'])})"),
        numeric(f"{formats.count(task['unparsed_before'])} → {formats.count(task['unparsed_after'])}"),
    ]


def choose_task(audit: Json) -> Json:
    suites = [task["suite"] for task in audit["tasks"]]
    chosen = suites[0]
    if len(suites) > 1:
        chosen = st.segmented_control(
            "Items of", suites, default=suites[0], required=True, key="suite", bind="query-params"
        )
    task: Json = next(task for task in audit["tasks"] if task["suite"] == chosen)
    before, after = task["before_evaluation_id"], task["after_evaluation_id"]
    with st.container(horizontal=True, gap="small"):
        if before:
            navigate.link("evaluations", "Evaluation before", "fact_check", id=before)
        if after:
            navigate.link("evaluations", "Evaluation after", "fact_check", id=after, versus=before)
    return task


def category_part(task: Json) -> None:
    groups = task["by_group"]
    if len(groups) < 2:
        return
    frame = pd.DataFrame(groups).sort_values("lost", ascending=False)
    left, right = st.columns([3, 2], gap="small")
    with left:
        components.chart(charts.by_category(frame), frame, title=f"{task['suite']} by category", key="by-category")
    with right:
        metric = task["metric"] or ""
        rows: list[list[str | Cell]] = [
            [
                group["group"],
                numeric(f"{group['n']:,}"),
                numeric(formats.measured(metric, group["before"])),
                numeric(formats.measured(metric, group["after"])),
            ]
            for group in frame.to_dict("records")
        ]
        components.table(["Category", number_head("n"), number_head("Before"), number_head("After")], rows)


def items_part(audit: Json, task: Json) -> None:
    if task["verdict"] == "INVALID":
        return
    left, right = st.columns(2, gap="small")
    sides: tuple[tuple[Any, Literal["lost", "gained"], str], ...] = (
        (left, "lost", "Right before, wrong after."),
        (right, "gained", "Wrong before, right after."),
    )
    for column, kind, sentence in sides:
        with column:
            components.section(f"{kind.capitalize()}: {formats.plural(task[kind], 'item')}", sentence)
            found = data.audit_items(audit["id"], kind, task["suite"])["items"]
            if not found:
                st.caption("None.")
                continue
            with st.container(height=420 if len(found) > 3 else "content", border=False):
                items.flips(found, before="before_output", after="after_output", names=("before", "after"))
            components.csv_popover(readings.items_frame(found), f"{task['suite']}-{kind}", f"audit-{kind}")


def probe_part(audit: Json) -> None:
    if not audit["run_id"]:
        return
    run = data.run(audit["run_id"])
    keys = [key for key in run["metrics"] if charts.is_probe(key)]
    if not keys:
        return
    frame = curve_data.curves([run["id"]], keys, [run["metrics"][key]["count"] for key in keys]).frame
    components.section("While it trained", "The forgetting probe: a small general suite, asked every so many steps.")
    components.chart(
        charts.curves(frame, names={}, height=280),
        charts.as_measured(frame, "step"),
        title="Probe scores over steps",
        key="audit-probe",
    )


def policy_part(audit: Json) -> None:
    policy = audit["policy"]
    body = policy["body"]
    components.section("Policy", "Written down before the result was seen.")
    rows: list[list[str | Cell]] = [
        [
            entry["suite"],
            entry.get("metric") or "primary",
            numeric(formats.change(entry.get("metric") or "accuracy", entry["margin"]).lstrip("+")),
            numeric(formats.count(entry.get("minimum_n"))),
            numeric(formats.count(entry.get("options"))),
        ]
        for entry in body["protected"]
    ]
    head: list[str | Cell] = [
        "Protected",
        "Metric",
        number_head("May lose"),
        number_head("Least n"),
        number_head("Options"),
    ]
    components.table(head, rows)
    st.html(
        components.facts(
            [
                ("Policy", f"{policy['name']} v{policy['version']}"),
                ("Alpha", formats.number(body["alpha"])),
                ("Policy hash", formats.short(policy["hash"])),
                ("Audit hash", formats.short(audit["hash"])),
            ]
        )
    )


def advice_part(audit: Json) -> None:
    if audit["advice"]:
        components.section("What usually helps")
        listed = "".join(
            f"<li>{html.escape(advice['text'])}<br><small>{html.escape(str(advice['evidence']))}</small></li>"
            for advice in audit["advice"]
        )
        st.html(f'<ul class="ts-plain">{listed}</ul>')


def report_part(audit: Json) -> None:
    components.section("Report", "One file to sign and keep: verdict, tasks, policy and hashes.")
    kinds: tuple[tuple[Literal["html", "markdown"], str, str], ...] = (
        ("html", "html", "text/html"),
        ("markdown", "md", "text/markdown"),
    )
    with st.container(horizontal=True):
        for kind, ending, mime in kinds:
            st.download_button(
                {"html": "HTML", "markdown": "Markdown"}[kind],
                lambda kind=kind: data.audit_report(audit["id"], kind),  # type: ignore[misc]
                f"audit-{audit['id'][-8:]}.{ending}",
                mime,
                icon=":material/download:",
                on_click="ignore",
            )


render()
