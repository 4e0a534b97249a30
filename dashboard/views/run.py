"""One run: how it went, with what, where, and what came of it."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import (
    alert_parts,
    artifact_parts,
    charts,
    components,
    console_parts,
    curve_data,
    data,
    formats,
    live_parts,
    media_parts,
    navigate,
    readings,
    verdicts,
)
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
VIEWS = ["Curves", "System", "Console", "Diagnoses", "Config", "Results", "Artifacts", "Environment"]
# Only where there are some: most runs of language models log numbers alone.
MEDIA = "Media"
CHARTS_AT_ONCE = 24
# With more metrics than this, one looks for a chart by name.
FILTERED_FROM, FIND = 8, "metric"
# A few charts need no headings between them.
SECTIONS_FROM = 6


def render() -> None:
    run_id = st.query_params.get("id")
    if not run_id:
        components.header("Run", "How one run went, with what, and what came of it.")
        components.empty("No run chosen", "Open one from the Runs page.", icon="timeline")
        navigate.link("runs", "All runs", "table_rows")
        return
    on = data.run(run_id)["status"] in {"running", "silent"}
    st.fragment(show, run_every=live_parts.every(2.0, on=on))(run_id)


def show(run_id: str) -> None:
    with components.guard():
        run = data.run(run_id)
        head(run)
        alert_parts.cards(alert_parts.of_runs([run_id])[run_id])
        links = data.run_links(run_id)
        verdicts.record(
            key="run",
            run=run,
            versions=links["model_versions"],
            evaluations=links["evaluations"],
            audits=links["audits"],
            experiments=links["experiments"],
        )
        names = [*VIEWS[:2], MEDIA, *VIEWS[2:]] if data.media_keys(run_id) else VIEWS
        tabs = dict(zip(names, st.tabs(names, key="view", on_change="rerun", bind="query-params"), strict=True))
        draw: dict[str, Callable[[Json], None]] = {
            "Curves": curves,
            "System": system,
            MEDIA: media_parts.media,
            "Console": console_parts.console,
            "Diagnoses": alert_parts.diagnoses,
            "Config": config,
            "Results": partial(results, links=links),
            "Artifacts": partial(artifacts, links=links),
            "Environment": environment,
        }
        for name, tab in tabs.items():
            if tab.open:
                with tab:
                    draw[name](run)


def head(run: Json) -> None:
    components.titled(run["name"], run["status"], "How one run went, with what, and what came of it.")
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        navigate.link("runs", run["project"], "folder", project=run["project"])
        if run["group"]:
            navigate.link("sweeps", f"group {run['group']}", "tune", of=f"group:{run['group']}", within=run["project"],
                          help="The runs of this group as a sweep")  # fmt: skip
        if run["parent_run_id"]:
            navigate.link("run", "parent run", "account_tree", id=run["parent_run_id"])
            navigate.link("sweeps", "its other trials", "tune", of=f"parent:{run['parent_run_id']}")
        if data.any_run(readings.condition("parent", run["id"])):
            navigate.link("sweeps", "its trials", "tune", of=f"parent:{run['id']}")
    progress = readings.progress(run, time.time())
    if progress is not None and run["status"] in {"running", "silent"}:
        left = f", about {formats.duration(progress.seconds_left)} left" if progress.seconds_left else ""
        st.progress(progress.share, text=f"step {progress.done:,} of {progress.total:,}{left}")
    sent = run["points_sent"]
    refused = f", {sent - run['points_stored']:,} refused" if sent and sent > run["points_stored"] else ""
    pairs = [
        ("Started", formats.ago(run["created_at"])),
        ("Took" if run["finished_at"] else "On for", formats.duration(run["duration"])),
        ("Steps", f"{max((s['last_step'] for s in run['metrics'].values()), default=0):,}"),
        ("Points stored", formats.count(run["points_stored"]) + refused),
        ("Peak memory", formats.size(readings.peak_memory(run))),
        ("Trainable parameters", formats.count(readings.trainable_parameters(run))),
        ("Data", formats.short(run["data_hash"])),
        ("Id", run["id"]),
    ]
    st.html(components.facts([pair for pair in pairs if pair[1] != formats.NONE]) + components.tags(run["tags"]))
    if run["notes"]:
        st.markdown(run["notes"])
    if run["error"] or run["exit_code"]:
        code = f"Exit code {run['exit_code']}. " if run["exit_code"] else ""
        trace = (run["error"] or "").strip()
        st.error(f"{code}{trace.splitlines()[-1] if trace else ''}", icon=":material/bolt:")
        if "\n" in trace:
            with st.expander("Traceback and last lines"):
                st.code(trace, language=None)


# --- curves ---


def curve_controls(run: Json) -> tuple[str, float, bool, curve_data.Rank]:
    axes = ["step", "time", *(["epoch"] if any(charts.is_epoch(key) for key in run["metrics"]) else [])]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        x = st.segmented_control("Across", axes, default="step", required=True, key="x", bind="query-params")
        smoothing = st.slider(
            "Smoothing", 0.0, 0.99, 0.0, 0.01, key="smooth", bind="query-params", width=220,
            help=components.SMOOTHING,
        )  # fmt: skip
        log_y = st.toggle("Log axis", key="log", bind="query-params")
        by_rank = has_ranks(run) and st.toggle(
            "Ranks", key="ranks", bind="query-params", help="A curve for each process of the run; off: rank 0."
        )
        if len(run["metrics"]) > FILTERED_FROM:
            st.text_input("Metrics", key=FIND, bind="query-params", width=240, icon=":material/search:",
                          placeholder=f"Filter {len(run['metrics'])} metrics")  # fmt: skip
    return x, float(smoothing), log_y, "all" if by_rank else 0


def wanted_groups(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: keys for name, keys in groups.items() if wanted_keys([name, *keys])}


def wanted_keys(keys: list[str]) -> list[str]:
    """The metrics whose name holds what was typed."""
    typed = (st.session_state.get(FIND) or "").strip().lower()
    return [key for key in keys if typed in key.lower()]


def has_ranks(run: Json) -> bool:
    """Whether other processes than rank 0 logged metrics of their own, beside those of the machine."""
    return any(one["rank"] and not charts.is_system(one["key"]) for one in data.run_series(run["id"]))


def curves(run: Json) -> None:
    groups = readings.chart_groups(list(run["metrics"]))
    probes = [key for key in run["metrics"] if charts.is_probe(key)]
    if not groups and not probes:
        components.empty(
            "No metric yet", "A curve begins with the first number logged:", 'run.log({"loss": loss}, step=step)',
            icon="show_chart", code="python",
        )  # fmt: skip
        return
    x, smoothing, log_y, rank = curve_controls(run)
    if len(run["metrics"]) > FILTERED_FROM:
        groups, probes = wanted_groups(groups), wanted_keys(probes)
        if not groups and not probes:
            components.empty("No metric is called that", "Take the filter away.", icon="search_off")
            return
    drawn = {name: keys for name, keys in groups.items() if max(run["metrics"][key]["count"] for key in keys) > 1}
    found = read(run, [key for keys in list(drawn.values())[:CHARTS_AT_ONCE] for key in keys], x, smoothing, rank)
    alerts = alert_parts.of_runs([run["id"]])[run["id"]] if x == "step" else []
    unfit = found.not_finite
    if unfit:
        st.warning(
            f"{formats.plural(unfit, 'point')} on this page cannot be drawn: NaN or infinite.",
            icon=":material/warning:",
        )
    sections: dict[str, list[str]] = {title: [] for title in readings.SECTIONS}
    for name in list(drawn)[:CHARTS_AT_ONCE]:
        title = readings.section_of(name, drawn[name]) if len(drawn) > SECTIONS_FROM else readings.SECTIONS[0]
        sections[title].append(name)
    for title, names in sections.items():
        if names and title != readings.SECTIONS[0]:
            components.section(title)
        grid = st.grid(2, min_column_width=340)
        for name in names:
            part = found.of(drawn[name])
            with grid:
                figure = charts.curves(part, names={}, x=x, log_y=log_y)
                alert_parts.mark_steps(figure, alerts, drawn[name])
                components.chart(figure, charts.as_measured(part, x), title=name, key=f"curve-{name}")
    if len(drawn) > CHARTS_AT_ONCE:
        st.caption(f"The first {CHARTS_AT_ONCE} of {len(drawn)} charts are shown: filter for others.")
    singles(run, [key for name, keys in groups.items() if name not in drawn for key in keys])
    if probes:
        components.section("Forgetting probe", "General abilities, measured while the run was learning something else.")
        part = read(run, probes, x).frame
        figure = charts.curves(part, names={}, x=x, height=300)
        components.chart(figure, charts.as_measured(part, x), title="Probe scores", key="probe")


def singles(run: Json, keys: list[str]) -> None:
    """Metrics logged once are numbers, not curves."""
    if keys:
        rows: list[list[str | Cell]] = [
            [text_cell(key, "key"), numeric(readings.value_text(key, run["metrics"][key]["last"]))]
            for key in sorted(keys)
        ]
        components.table(["Logged once", number_head("Value")], rows)


def read(run: Json, keys: list[str], x: str, smoothing: float = 0.0, rank: curve_data.Rank = 0) -> curve_data.Curves:
    summaries = data.run_series(run["id"]) if rank == "all" else [{"key": key, **run["metrics"][key]} for key in keys]
    counts = [one["count"] for one in summaries if one["key"] in keys]
    return curve_data.curves([run["id"]], keys, counts, x=x, smoothing=smoothing, rank=rank)


def system(run: Json) -> None:
    """A chart for each reading, with a line for each rank that has it."""
    keys = sorted({one["key"] for one in data.run_series(run["id"]) if charts.is_system(one["key"])})
    if not keys:
        components.empty(
            "Nothing measured", "The client samples processor, memory and GPU while a run is on, unless told not to.",
            icon="memory",
        )  # fmt: skip
        return
    found = read(run, keys, "time", rank="all")
    grid = st.grid(3, min_column_width=260)
    for key in keys:
        part = found.of([key])
        with grid:
            # Against nothing and all of it: a share or memory that hardly moves must not look as if it did.
            from_zero = readings.unit(key) in {"%", "MiB", "W"}
            figure = charts.curves(part, names={}, x="time", from_zero=from_zero, height=170)
            components.chart(
                figure, charts.as_measured(part, "time"), title=readings.system_title(key), key=f"system-{key}"
            )


# --- what it was made of ---


def config(run: Json) -> None:
    flat = formats.flatten(run["config"])
    if not flat:
        components.empty("No config", "Give it to tunescope.init(config={…}).", icon="tune")
    else:
        wanted = st.text_input(
            "Filter", key="find", bind="query-params", placeholder="learning_rate", icon=":material/search:", width=320,
            label_visibility="collapsed",
        )  # fmt: skip
        rows: list[list[str | Cell]] = [
            [text_cell(key, "key ts-mono"), text_cell(value, "text ts-mono")]
            for key, value in flat.items()
            if not wanted or wanted.lower() in f"{key} {value}".lower()
        ]
        components.table(["Setting", "Value"], rows)
        st.download_button(
            "Download as JSON", readings.config_json(run), f"{run['name']}.json", "application/json",
            icon=":material/download:", type="tertiary", on_click="ignore",
        )  # fmt: skip
    components.section("Data")
    if run["data_hash"]:
        st.html(f'<span class="ts-dim">The hash of the training data:</span> '
                f'<span class="ts-mono">{html.escape(run["data_hash"])}</span>')  # fmt: skip
    else:
        st.caption("No data hash was recorded.")


def environment(run: Json) -> None:
    again = readings.reproduce(run)
    if again:
        components.section("Run it again")
        st.code(again, language="bash")
    rows = readings.environment(run)
    if not rows:
        components.empty("Nothing recorded", "The Python client records git, host, packages and GPUs.", icon="dns")
        return
    changes(run)
    components.section("Recorded")
    components.table(["What", "Value"], [[text_cell(k, "key"), text_cell(v, "text ts-mono")] for k, v in rows])
    found = readings.packages(run)
    if found:
        with st.expander(f"{formats.plural(len(found), 'package')}"):
            components.table(["Package", "Version"], [[name, text_cell(v, "ts-mono")] for name, v in found])


def changes(run: Json) -> None:
    """The uncommitted changes that the client kept."""
    kept = [one for one in data.artifacts(run["id"]) if one["kind"] == "code" and one["path"] == "git.diff"]
    for artifact in kept:
        with st.expander(f"Uncommitted changes, {formats.size(artifact['size'])}", icon=":material/difference:"):
            text = data.code(run["id"], artifact["path"], artifact["sha256"])
            st.code(text, language="diff", height=420 if text.count("\n") > 20 else "content")


def artifacts(run: Json, links: Json) -> None:
    found = data.artifacts(run["id"])
    artifact_parts.versions("Made here", links["artifacts_made"], made_here=True)
    artifact_parts.versions("Used here", links["artifacts_used"], made_here=False)
    has_versions = links["artifacts_made"] or links["artifacts_used"]
    if found and has_versions:
        components.section("Files of this run")
    if not found and has_versions:
        return
    if not found:
        components.empty(
            "No artifact", "Keep a file with the run:", 'run.log_artifact("checkpoint-1200", kind="checkpoint")',
            icon="inventory_2", code="python",
        )  # fmt: skip
        return
    rows: list[list[str | Cell]] = [
        [
            text_cell(artifact["path"], "key"),
            artifact["kind"],
            numeric(formats.size(artifact["size"])),
            text_cell(formats.short(artifact["sha256"]), "ts-mono"),
            formats.ago(artifact["created_at"]),
        ]
        for artifact in found
    ]
    components.table(["Path", "Kind", number_head("Size"), "SHA-256", "Stored"], rows)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.selectbox("Download", [artifact["path"] for artifact in found], width=420)
        if path is not None:
            st.download_button(
                "Get file", lambda: data.artifact(run["id"], path), path.rsplit("/", 1)[-1],
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip


# --- what came of it ---


def results(run: Json, links: Json) -> None:
    if not any(links[what] for what in ("evaluations", "audits", "model_versions", "experiments")):
        components.empty(
            "Not judged yet", "Evaluations, audits and model versions of this run appear here.",
            f'client.create_evaluation(suite_id=…, run_id="{run["id"]}", predictions=[…])', icon="fact_check",
            code="python",
        )  # fmt: skip
        return
    if links["evaluations"]:
        components.section("Evaluations")
        evaluation_links_table(links["evaluations"])
    if links["audits"]:
        components.section("Audits")
        for audit in links["audits"]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                components.badge(audit["verdict"])
                navigate.link("forgetting", f"policy {audit['policy']}", id=audit["id"])
                st.caption(formats.ago(audit["created_at"]), width="content")
    if links["model_versions"]:
        components.section("Model versions")
        for version in links["model_versions"]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                verdicts.version_link(version)
                for alias in version["aliases"]:
                    st.badge(alias, color="violet", icon=":material/sell:")
    if links["experiments"]:
        components.section("Experiments")
        for experiment in links["experiments"]:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                components.badge(experiment["status"])
                navigate.link("experiments", experiment["name"], key=experiment["key"])
                st.caption(f"arm {experiment['variant']}", width="content")


def evaluation_links_table(evaluations: list[Json]) -> None:
    rows = pd.DataFrame(
        {
            "Suite": [f"{e['suite']} v{e['suite_version']}" for e in evaluations],
            "Name": [e["name"] or "" for e in evaluations],
            "Metric": [e["metric"] for e in evaluations],
            "Score": [formats.measured(e["metric"] or "", e["value"]) for e in evaluations],
            "95 % interval": [formats.interval(e["metric"] or "", e["interval"]) for e in evaluations],
            "Step": [e["step"] for e in evaluations],
            "When": pd.to_datetime([e["created_at"] for e in evaluations], unit="s", utc=True),
        }
    )
    components.link_table(
        rows,
        key="evaluation-links",
        column="Suite",
        page="evaluations",
        targets=[{"id": e["id"]} for e in evaluations],
        columns={"When": st.column_config.DatetimeColumn("When", format="distance")},
    )


render()
