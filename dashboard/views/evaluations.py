"""See where a model is wrong: scores with intervals, confusions, slices, items, and what flipped between two models."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, evaluation_parts, formats, items, navigate, readings, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
VIEWS = ["Items", "Confusion", "Slices", "Flips"]
PAGE = 25
ALL = "All"


def render() -> None:
    evaluation_id = st.query_params.get("id")
    if evaluation_id is None:
        overview()
    else:
        one(evaluation_id)


# --- all of them ---


def overview() -> None:
    components.header("Evaluations", "How each model did on each suite; open one to see where it is wrong.")
    suites = data.suites()
    if not suites:
        components.empty(
            "No suite yet",
            "A suite is a versioned set of items; an evaluation is a model's answers to it.",
            'client.create_suite(name="intents", task_type="classification", items=[…], metrics=["accuracy"])',
            icon="fact_check",
            code="python",
        )
        return
    names = list(dict.fromkeys(suite["name"] for suite in suites))
    chosen = st.pills("Suite", names, key="suite", bind="query-params")
    found = data.evaluations(suite=chosen)
    if not found:
        components.empty(
            "No evaluation yet",
            "Send a model's answers to a suite:",
            "client.create_evaluation(suite_id=suite['id'], run_id=run.id, predictions=[…])",
            icon="fact_check",
            code="python",
        )
        return
    bar = st.container(horizontal=True, vertical_alignment="center")
    ticked = [found[row] for row in evaluation_table(found) if row < len(found)]
    with bar:
        flip_button(ticked)
    if chosen is not None:
        score_chart(found)


def evaluation_table(found: list[Json]) -> list[int]:
    first = [evaluation["scores"][0] if evaluation["scores"] else None for evaluation in found]
    rows = pd.DataFrame(
        {
            "Evaluation": [evaluation_parts.title(evaluation) for evaluation in found],
            "Suite": [evaluation_parts.suite_title(evaluation) for evaluation in found],
            "Metric": [score["name"] if score else None for score in first],
            "Score": [formats.measured(score["name"], score["value"]) if score else None for score in first],
            "95 % interval": [formats.interval(score["name"], score["interval"]) if score else None for score in first],
            "Items": [evaluation["n"] for evaluation in found],
            "No answer": [evaluation["n_missing"] + evaluation["n_unparsed"] for evaluation in found],
            "When": pd.to_datetime([evaluation["created_at"] for evaluation in found], unit="s", utc=True),
        }
    )
    return components.link_table(
        rows,
        key="evaluations",
        column="Evaluation",
        page="evaluations",
        targets=[{"id": evaluation["id"]} for evaluation in found],
        columns={
            "When": st.column_config.DatetimeColumn("When", format="distance"),
            "Items": st.column_config.NumberColumn("Items", format="localized"),
            "No answer": st.column_config.NumberColumn(
                "No answer", format="localized", help="No output, or none that could be parsed: counted as wrong."
            ),
            "Score": st.column_config.TextColumn("Score", alignment="right"),
        },
        select=True,
        height="content" if len(found) < 15 else 520,
    )  # fmt: skip


def flip_button(ticked: list[Json]) -> None:
    same = len(ticked) == 2 and ticked[0]["suite_id"] == ticked[1]["suite_id"]
    if len(ticked) == 2 and not same:
        st.caption("These two answered different suites.", width="content")
    elif not same:
        st.caption("Tick two of one suite to see what flipped between them.", width="content")
    if same and st.button("See what flipped", type="primary", icon=":material/swap_vert:"):
        newer, older = ticked
        navigate.go_to("evaluations", id=newer["id"], versus=older["id"], tab="Flips")


def score_chart(found: list[Json]) -> None:
    """The primary scores of one suite beside each other."""
    rows = [
        (evaluation_parts.title(evaluation), evaluation["scores"][0]) for evaluation in found[:30]
        if evaluation["scores"] and evaluation["scores"][0]["value"] is not None
    ]  # fmt: skip
    if not rows:
        return
    metric = rows[0][1]["name"]
    frame = pd.DataFrame(
        {
            "label": [name for name, _ in rows],
            "value": [score["value"] for _, score in rows],
            "low": [score["interval"][0] if score["interval"] else None for _, score in rows],
            "high": [score["interval"][1] if score["interval"] else None for _, score in rows],
        }
    )
    figure = charts.intervals(frame, share=formats.is_share(metric))
    components.chart(figure, frame, title=f"{metric} with its 95 % interval", key="suite-scores")


# --- one of them ---


def one(evaluation_id: str) -> None:
    evaluation = data.evaluation(evaluation_id)
    navigate.link("evaluations", "All evaluations", "arrow_back")
    components.header(
        f"{evaluation_parts.title(evaluation)} on {evaluation_parts.suite_title(evaluation)}",
        "What the model scored, how sure that is, and where it is wrong.",
    )  # fmt: skip
    lineage(evaluation)
    scores_part(evaluation)
    is_labels = evaluation["suite"]["task_type"] in {"classification", "multiple_choice"}
    items_tab, confusion_tab, slices_tab, flips_tab = st.tabs(VIEWS, key="tab", on_change="rerun", bind="query-params")
    if items_tab.open:
        with items_tab:
            items_part(evaluation)
    if confusion_tab.open:
        with confusion_tab:
            if is_labels:
                evaluation_parts.confusion_part(evaluation)
            else:
                st.caption("A confusion matrix needs labels; this suite asks for text.")
    if slices_tab.open:
        with slices_tab:
            evaluation_parts.slices_part(evaluation, is_labels)
    if flips_tab.open:
        with flips_tab:
            evaluation_parts.flips_part(evaluation)


def lineage(evaluation: Json) -> None:
    run_id, version_id = evaluation["run_id"], evaluation["model_version_id"]
    links = data.model_version_links(version_id) if version_id else None
    score = evaluation["scores"][0] if evaluation["scores"] else {"name": None, "value": None}
    here = {
        "id": evaluation["id"],
        "suite": evaluation["suite"]["name"],
        "metric": score["name"],
        "value": score["value"],
    }
    verdicts.record(
        key="evaluation",
        run=data.run(run_id) if run_id else links["run"] if links else None,
        versions=[data.model_version(version_id)] if version_id else [],
        evaluations=[here],
        audits=links["audits"] if links else [],
        experiments=links["experiments"] if links else [],
    )


def scores_part(evaluation: Json) -> None:
    suite, settings = data.suite(evaluation["suite_id"]), formats.flatten(evaluation["settings"])
    scores = evaluation["scores"]
    rows: list[list[str | Cell]] = []
    for score in scores:
        bounds, value = score["interval"], score["value"]
        rows.append(
            [
                text_cell(score["name"], "key"),
                numeric(formats.measured(score["name"], value), "best"),
                numeric(formats.interval(score["name"], bounds)),
                verdicts.mini_interval(value, bounds, score_domain(scores, value), zero=None)
                if value is not None
                else text_cell(score["reason"] or formats.NONE, "ts-dim"),
                text_cell(score["method"].replace("_", " "), "ts-dim"),
                text_cell(score["signature"], "ts-mono ts-dim key"),
            ]
        )
    head: list[str | Cell] = [
        "Metric",
        number_head("Score"),
        number_head("95 % interval"),
        "",
        "Interval by",
        "Signature",
    ]
    components.table(head, rows)
    st.html(
        components.facts(
            [
                ("Items", f"{evaluation['n']:,}"),
                ("No output", f"{evaluation['n_missing']:,}"),
                ("Unparsed", f"{evaluation['n_unparsed']:,}"),
                ("Suite hash", formats.short(suite["hash"])),
                ("Predictions hash", formats.short(evaluation["prediction_hash"])),
                *[(name.replace("_", " "), value) for name, value in settings.items()][:6],
            ]
        )
    )  # fmt: skip


def score_domain(scores: list[Json], value: float) -> tuple[float, float]:
    """The range that scores of this one's size span, with room at both ends: shares apart from scores out of 100."""
    alike = [s for s in scores if s["value"] is not None and (abs(s["value"]) <= 1) == (abs(value) <= 1)]
    ends = [end for s in alike for end in (*(s["interval"] or ()), s["value"])]
    room = max(0.35 * (max(ends) - min(ends)), 0.01 * abs(value), 1e-9)
    return min(ends) - room, max(ends) + room


def items_part(evaluation: Json) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        which = st.segmented_control("Show", [ALL, "wrong", "right"], default=ALL, required=True, key="show",
                                     bind="query-params")  # fmt: skip
        group = st.text_input("Group", key="group", bind="query-params", width=180, placeholder="any")
        cell = narrowed()
    correct = {ALL: None, "wrong": False, "right": True}[which]
    true, predicted = cell
    cursor = st.query_params.get("cursor")
    page = data.evaluation_items(
        evaluation["id"],
        correct=correct,
        true=true,
        predicted=predicted,
        group=group or None,
        limit=PAGE,
        cursor=cursor,
    )
    if not page["items"]:
        components.empty("No item is like that", "Take a filter away.", icon="search_off")
        return
    items.answers(page["items"])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right"):
        components.csv_popover(readings.items_frame(page["items"]), "items", "items")
        if cursor is not None:
            navigate.link("evaluations", "First page", "first_page", id=evaluation["id"], tab="Items", true=true,
                            predicted=predicted)  # fmt: skip
        if page["next_cursor"] and st.button("Next", icon=":material/chevron_right:", icon_position="right"):
            st.query_params["cursor"] = page["next_cursor"]
            st.rerun()


def narrowed() -> tuple[str | None, str | None]:
    """The cell of the confusion matrix the items are narrowed to, and the way out of it."""
    true, predicted = st.query_params.get("true"), st.query_params.get("predicted")
    if true is not None or predicted is not None:
        said = " and ".join(
            f"{what} **{value}**" for what, value in (("true", true), ("predicted", predicted)) if value is not None
        )
        st.markdown(said, width="content")
        if st.button("Show all", icon=":material/close:", type="tertiary"):
            for name in ("true", "predicted", "cursor"):
                st.query_params.pop(name, None)
            st.rerun()
    return true, predicted


render()
