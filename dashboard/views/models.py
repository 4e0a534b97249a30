"""What runs where: model versions, what made them, how they were judged and which experiment they serve in."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data, formats, navigate, verdicts

Json = dict[str, Any]
# Versions whose links a list reads: what is on the screen.
LINKED = 20


def render() -> None:
    name = st.query_params.get("name")
    if name is None:
        overview()
    else:
        model(name)


def overview() -> None:
    components.header("Models", "Every registered model, its newest version, and which version carries which alias.")
    models = [entry for entry in data.models() if entry["latest"]]
    if not models:
        components.empty(
            "No model yet", "Register what a run made:", 'client.register_model("support-intent", run_id=run.id)',
            icon="deployed_code", code="python",
        )  # fmt: skip
        return
    newest = [entry["latest"] for entry in models]
    rows = pd.DataFrame(
        {
            "Model": [entry["name"] for entry in models],
            "Versions": [entry["n_versions"] for entry in models],
            "Newest": [f"v{version['version']}" for version in newest],
            "Method": [version["method"] for version in newest],
            "Aliases": [
                [f"{alias} v{version}" for alias, version in sorted(entry["aliases"].items())] for entry in models
            ],
            "Made": pd.to_datetime([version["created_at"] for version in newest], unit="s", utc=True),
        }
    )
    components.link_table(
        rows,
        key="models",
        column="Model",
        page="models",
        targets=[{"name": entry["name"]} for entry in models],
        columns={
            "Aliases": st.column_config.ListColumn("Aliases", width="medium"),
            "Made": st.column_config.DatetimeColumn("Made", format="distance"),
        },
    )


def model(name: str) -> None:
    navigate.link("models", "All models", "arrow_back")
    components.header(name, "The versions of a model: what made each, how it was judged, and where it serves.")
    versions = data.model_versions(name)
    if not versions:
        st.caption("It has no version.")
        return
    wanted = st.query_params.get("version")
    shown = next((version for version in versions if str(version["version"]) == wanted), versions[0])
    version_table(name, versions, shown)
    detail(shown)


def version_table(name: str, versions: list[Json], shown: Json) -> None:
    """What stands behind each version: its run, its newest score on each suite, its newest audit, where it serves."""
    links: list[Json | None] = [data.model_version_links(version["id"]) for version in versions[:LINKED]]
    links += [None] * (len(versions) - len(links))
    judged = [link["audits"][0]["verdict"] if link and link["audits"] else None for link in links]
    rows = pd.DataFrame(
        {
            "Version": [f"v{version['version']}" + ("  ◂" if version is shown else "") for version in versions],
            "Aliases": [version["aliases"] for version in versions],
            "Made by": [link["run"]["name"] if link and link["run"] else None for link in links],
            "Method": [version["method"] for version in versions],
            "Scores": [newest_scores(link["evaluations"]) if link else [] for link in links],
            "Audit": [[verdict] if verdict else [] for verdict in judged],
            "Serves in": [[one["name"] for one in link["experiments"]] if link else [] for link in links],
            "Made": pd.to_datetime([version["created_at"] for version in versions], unit="s", utc=True),
        }
    )
    for column in ("Aliases", "Scores", "Audit", "Serves in"):
        if not any(rows[column]):
            rows = rows.drop(columns=column)
    components.link_table(
        rows,
        key="versions",
        column="Version",
        page="models",
        targets=[{"name": name, "version": str(version["version"])} for version in versions],
        columns={
            "Aliases": st.column_config.ListColumn("Aliases"),
            "Scores": st.column_config.ListColumn("Scores", width=300, help="The newest on each suite"),
            "Audit": components.state_column("Audit", [verdict for verdict in judged if verdict]),
            "Serves in": st.column_config.ListColumn("Serves in", width=180),
            "Made": st.column_config.DatetimeColumn("Made", format="distance"),
        },
        height="content" if len(versions) < 9 else 320,
    )
    if len(versions) > LINKED:
        st.caption(f"Scores, audits and experiments of the newest {LINKED} versions; of an older one, when it is open.")


def newest_scores(evaluations: list[Json]) -> list[str]:
    """`intents 94.5 %`, of each suite the newest."""
    found: dict[str, str] = {}
    for one in sorted(evaluations, key=lambda evaluation: -evaluation["created_at"]):
        found.setdefault(one["suite"], f"{one['suite']} {formats.measured(one['metric'] or '', one['value'])}")
    return list(found.values())


def detail(version: Json) -> None:
    links = data.model_version_links(version["id"])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="head-version"):
        components.section(f"{version['name']} v{version['version']}", width="content")
        for alias in version["aliases"]:
            st.badge(alias, color="violet", icon=":material/sell:")
    verdicts.record(
        key="version",
        run=links["run"],
        versions=[version],
        evaluations=links["evaluations"],
        audits=links["audits"],
        experiments=links["experiments"],
    )
    facts = [
        ("Method", version["method"] or formats.NONE),
        ("Made", formats.ago(version["created_at"])),
        ("Weights", version["source"] or formats.NONE),
    ]
    st.html(components.facts([fact for fact in facts if fact[1] != formats.NONE]))
    if version["description"]:
        st.markdown(version["description"])
    left, right = st.columns(2, gap="medium")
    with left:
        origin(links)
        experiments(links["experiments"])
    with right:
        evaluations(links["evaluations"])
        audits(links["audits"])


def origin(links: Json) -> None:
    components.section("Made by")
    run, base = links["run"], links["base"]
    if run is None and base is None:
        st.caption("Registered without a run or base.")
    if run is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            components.badge(run["status"])
            navigate.link("run", run["name"], "timeline", id=run["id"])
            st.caption(f"data {formats.short(run['data_hash'])}", width="content")
    if base is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption("tuned from", width="content")
            verdicts.version_link(base)


def evaluations(found: list[Json]) -> None:
    components.section("Evaluations")
    if not found:
        st.caption("None yet.")
    for evaluation in found:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            verdicts.evaluation_link(evaluation)
            metric = evaluation["metric"] or ""
            st.caption(f"{metric} {formats.interval(metric, evaluation['interval'])}", width="content")


def audits(found: list[Json]) -> None:
    components.section("Audits")
    if not found:
        st.caption("None yet.")
    for audit in found:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            components.badge(audit["verdict"])
            navigate.link("forgetting", f"policy {audit['policy']}", id=audit["id"])
            st.caption(formats.ago(audit["created_at"]), width="content")


def experiments(found: list[Json]) -> None:
    components.section("Serves in")
    if not found:
        st.caption("No experiment.")
    for experiment in found:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            components.badge(experiment["status"])
            navigate.link("experiments", experiment["name"], "call_split", key=experiment["key"])
            st.caption(f"arm {experiment['variant']}", width="content")


render()
