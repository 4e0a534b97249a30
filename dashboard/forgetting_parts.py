"""The parts of one audit, in the order an auditor reads them."""

from __future__ import annotations

import html
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import (
    charts,
    components,
    curve_data,
    data,
    forgetting_charts,
    formats,
    items,
    navigate,
    readings,
    verdicts,
)
from dashboard.components import Cell, number_head, numeric

Json = dict[str, Any]


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
    apart = ("by_group", "compared", "floor")
    frame = pd.DataFrame([{k: v for k, v in task.items() if k not in apart} for task in tasks])
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


def floor_part(audit: Json) -> None:
    """The base against itself, where it was run twice: what of F to call forgetting."""
    tasks = [task for task in audit["tasks"] if task.get("floor")]
    if not tasks:
        return
    rows: list[list[str | Cell]] = [
        [
            task["suite"],
            numeric(f"{task['floor']['n10']:,} / {task['floor']['n01']:,}"),
            numeric(formats.percent(task["floor"]["share"])),
            numeric(formats.percent(task["lost"] / task["n"])),
            Cell(
                f"<b>{formats.points(task['floor']['above']).removesuffix(' points')}</b> "
                f"{formats.interval('accuracy', task['floor']['interval'], difference=True)}",
                "num",
            ),
            numeric(formats.p_value(task["floor"]["p_adjusted"])),
            "forgetting" if task["floor"]["called"] else "within the floor",
        ]
        for task in tasks
    ]
    head: list[str | Cell] = [
        "Task", number_head("Base lost / gained"), number_head("Floor"), number_head("F"),
        number_head("F − floor, points"), number_head("p"), "Called",
    ]  # fmt: skip
    components.data_table(
        "Noise floor: the base run twice",
        head,
        rows,
        pd.DataFrame([{"suite": task["suite"], **task["floor"]} for task in tasks]),
        key="floors",
        sentence="What a model loses against itself is not called forgetting. The verdict does not rest on it.",
    )


def drift_part(audit: Json) -> None:
    drift = audit.get("drift")
    if drift is None:
        return
    components.section("Drift on general text", "A warning, not part of the verdict.")
    names = (("delta_nll", "ΔNLL per token, nats"), ("perplexity_ratio", "Perplexity, tuned / base"),
             ("kl", "KL(base ‖ tuned), nats"))  # fmt: skip
    pairs = [
        (label, f"{formats.number(drift[name]['value'], 3)} {_bounds(drift[name]['interval'])}")
        for name, label in names
    ]
    pairs += [("Tokens", f"{drift['n_tokens']:,}"), ("Texts", f"{drift['n_texts']:,}")]
    st.html(components.facts([*pairs, ("Texts' hash", formats.short(drift["text_hash"]))]))


def _bounds(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{formats.number(interval[0], 3)}, {formats.number(interval[1], 3)}]"


def conditions_part(task: Json) -> None:
    """How the answers were made on both sides, folded away unless something differs."""
    compared = task.get("compared") or []
    if not compared:
        return
    differing = [row["aspect"] for row in compared if row["state"] == "differs"]
    told = f"differs: {', '.join(differing)}" if differing else "what is recorded agrees"
    with st.expander(f"How the answers to {task['suite']} were made: {told}"):
        rows: list[list[str | Cell]] = [
            [
                row["aspect"],
                Cell(html.escape(row["before"] or "not recorded"), "ts-mono key"),
                Cell(html.escape(row["after"] or "not recorded"), "ts-mono key"),
                row["state"],
            ]
            for row in compared
        ]
        components.table(["Aspect", "Before", "After", "Compared"], rows)
        counted = [
            ("Unmatched items", f"{task['unmatched_before']:,} → {task['unmatched_after']:,}"),
            ("No output", f"{task['missing_before']:,} → {task['missing_after']:,}"),
            ("Unparsed", f"{task['unparsed_before']:,} → {task['unparsed_after']:,}"),
        ]
        st.html(components.facts(counted))


def events_part(audit: Json, task: Json) -> None:
    """Which items were learned and lost again, where the run was evaluated at several steps."""
    if not audit["run_id"]:
        return
    found = data.forgetting_events(audit["run_id"], task["suite"])
    if found["events"] is None:
        return
    frame = pd.DataFrame(found["checkpoints"])
    sentence = "Items that went from right to wrong between checkpoints (Toneva et al. 2019)."
    components.section("Forgetting events", sentence)
    st.html(
        components.facts(
            [
                ("Events", f"{found['events']:,}"),
                ("Learned at some step", f"{found['learned']:,} of {found['n']:,}"),
                ("Of these never forgotten", f"{found['never_forgotten']:,}"),
                ("Never learned", f"{found['never_learned']:,}"),
            ]
        )
    )
    components.chart(
        forgetting_charts.events(frame), frame, title=f"{task['suite']} from checkpoint to checkpoint", key="events"
    )
    if found["most_forgotten"]:
        with st.expander(f"Forgotten most often, of {formats.plural(found['n'], 'item')}"):
            rows: list[list[str | Cell]] = [
                [
                    Cell(html.escape(item["id"]), "ts-mono"),
                    Cell(html.escape(item["input"][: items.LONGEST]), "text"),
                    numeric(f"{item['events']:,}"),
                    Cell(" ".join("✓" if right else "✕" for right in item["right"]), "ts-mono nowrap"),
                ]
                for item in found["most_forgotten"]
            ]
            components.table(["Item", "Input", number_head("Events"), "At each checkpoint"], rows)


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
        components.chart(
            forgetting_charts.by_category(frame), frame, title=f"{task['suite']} by category", key="by-category"
        )
    with right:
        metric = task["metric"] or ""
        rows: list[list[str | Cell]] = [
            [
                group["group"],
                numeric(f"{group['n']:,}"),
                numeric(formats.measured(metric, group["before"])),
                numeric(formats.measured(metric, group["after"])),
                numeric(formats.interval(metric, group.get("interval"), difference=True)),
            ]
            for group in groups
        ]
        head = [number_head(name) for name in ("n", "Before", "After", "Change, 95 %")]
        components.table(["Category", *head], rows)


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
            param = f"{kind}_after_{task['suite']}"
            page = data.audit_items(audit["id"], kind, task["suite"], cursor=st.query_params.get(param))
            found = page["items"]
            if not found:
                st.caption("None.")
                continue
            with st.container(height=420 if len(found) > 3 else "content", border=False):
                items.flips(found, before="before_output", after="after_output", names=("before", "after"))
            with components.pager(param, page["next_cursor"], f"{len(found):,} of {task[kind]:,}"):
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
                ("Second run of the base", "required" if body.get("require_aa") else "not required"),
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
    st.caption("The signed file carries the record; this computes its hash anew:", width="content")
    st.code(f"tunescope audit verify {audit['id']}", language="bash")
