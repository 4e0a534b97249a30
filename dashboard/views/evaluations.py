"""See where a model is wrong: scores with intervals, confusions, slices, items, and what flipped between two models."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, formats, items, readings, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
VIEWS = ["Items", "Confusion", "Slices", "Flips"]
LABELS_SHOWN = 20
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
    bar = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right")
    ticked = [found[row] for row in evaluation_table(found) if row < len(found)]
    with bar:
        flip_button(ticked)
    if chosen is not None:
        score_chart(found)


def evaluation_table(found: list[Json]) -> list[int]:
    first = [evaluation["scores"][0] if evaluation["scores"] else None for evaluation in found]
    rows = pd.DataFrame(
        {
            "Evaluation": [title(evaluation) for evaluation in found],
            "Suite": [suite_title(evaluation) for evaluation in found],
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
        components.go_to("evaluations", id=newer["id"], versus=older["id"], view="Flips")


def score_chart(found: list[Json]) -> None:
    """The primary scores of one suite beside each other."""
    rows = [
        (title(evaluation), evaluation["scores"][0]) for evaluation in found[:30]
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


def title(evaluation: Json) -> str:
    name = evaluation["name"] or verdicts.run_name(evaluation["run_id"]) or f"evaluation {evaluation['id'][-6:]}"
    return name if evaluation["step"] is None else f"{name}, step {evaluation['step']:,}"


def suite_title(evaluation: Json) -> str:
    return f"{evaluation['suite']['name']} v{evaluation['suite']['version']}"


# --- one of them ---


def one(evaluation_id: str) -> None:
    evaluation = data.evaluation(evaluation_id)
    components.link("evaluations", "All evaluations", "arrow_back")
    components.header(
        f"{title(evaluation)} on {suite_title(evaluation)}", "What the model scored, how sure that is, where it errs."
    )  # fmt: skip
    lineage(evaluation)
    scores_part(evaluation)
    is_labels = evaluation["suite"]["task_type"] in {"classification", "multiple_choice"}
    items_tab, confusion_tab, slices_tab, flips_tab = st.tabs(VIEWS, key="view", on_change="rerun", bind="query-params")
    if items_tab.open:
        with items_tab:
            items_part(evaluation)
    if confusion_tab.open:
        with confusion_tab:
            if is_labels:
                confusion_part(evaluation)
            else:
                st.caption("A confusion matrix needs labels; this suite asks for text.")
    if slices_tab.open:
        with slices_tab:
            slices_part(evaluation, is_labels)
    if flips_tab.open:
        with flips_tab:
            flips_part(evaluation)


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
        high = 1.0 if max(value or 0.0, *(bounds or [0.0])) <= 1 else 100.0
        low = -1.0 if min(value or 0.0, *(bounds or [0.0])) < 0 else 0.0
        rows.append(
            [
                text_cell(score["name"], "key"),
                numeric(formats.measured(score["name"], value), "best"),
                numeric(formats.interval(score["name"], bounds)),
                verdicts.mini_interval(value, bounds, (low, high), zero=None)
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
            components.link("evaluations", "First page", "first_page", id=evaluation["id"], view="Items", true=true,
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


def confusion_part(evaluation: Json) -> None:
    matrix = data.confusion(evaluation["id"])
    labels, counts = matrix["labels"], matrix["counts"]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        with st.container(horizontal=True, vertical_alignment="center"):
            share = st.toggle("Share of the row", key="share", bind="query-params")
            everything = len(labels) > LABELS_SHOWN and st.toggle(f"All {len(labels)} labels", key="labels",
                                                                   bind="query-params")  # fmt: skip
        keep = list(range(len(labels))) if everything else charts.most_confused(labels, counts, LABELS_SHOWN)
        shown = [labels[i] for i in keep]
        part = [[counts[i][j] for j in keep] for i in keep]
        frame = pd.DataFrame(counts, index=pd.Index(labels, name="true"), columns=labels).reset_index()
        hidden = len(labels) - len(keep)
        note = "Rows are the truth. Click a cell to see its items." + (
            f" The {len(keep)} labels with the most errors; {hidden} more are hidden." if hidden else ""
        )
        picked = components.chart(
            charts.confusion(shown, part, share=share), frame, title="Confusion matrix", key="confusion", note=note,
            selectable=True,
        )  # fmt: skip
    cell = next((point["customdata"] for point in picked if point.get("customdata")), None)
    if cell is not None:
        components.go_to("evaluations", id=evaluation["id"], view="Items", true=str(cell[0]), predicted=str(cell[1]))
    with right:
        most_confused_part(evaluation, matrix)
        classes_part(matrix)


def most_confused_part(evaluation: Json, matrix: Json) -> None:
    pairs = matrix["most_confused"]
    components.section("Most confused")
    if not pairs:
        st.caption("No label is taken for another.")
        return
    rows = pd.DataFrame(pairs).rename(columns={"true": "True", "predicted": "Predicted", "n": "Items"})
    components.link_table(
        rows,
        key="confused",
        column="True",
        page="evaluations",
        targets=[
            {"id": evaluation["id"], "view": "Items", "true": pair["true"], "predicted": pair["predicted"]}
            for pair in pairs
        ],
    )


def classes_part(matrix: Json) -> None:
    rows = pd.DataFrame(matrix["classes"]).sort_values("f1")
    rows.columns = pd.Index([column.capitalize() for column in rows.columns])
    components.section("By class, worst first")
    number = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        rows, hide_index=True, height=260, column_config={"Precision": number, "Recall": number, "F1": number},
        placeholder=formats.NONE,
    )  # fmt: skip


def slices_part(evaluation: Json, is_labels: bool) -> None:
    options = ["group", "tag", *(["label"] if is_labels else [])]
    by = st.segmented_control("By", options, default="group", required=True, key="by", bind="query-params")
    found = [part for part in data.slices(evaluation["id"], by) if part["value"] is not None]
    if not found:
        st.caption(f"The items of this suite have no {by}.")
        return
    worst = sorted(found, key=lambda part: part["value"])[:40]
    metric = evaluation["scores"][0]["name"]
    frame = pd.DataFrame(
        {
            "label": [f"{part['slice']}  (n = {part['n']:,})" for part in worst],
            "value": [part["value"] for part in worst],
            "low": [part["interval"][0] if part["interval"] else None for part in worst],
            "high": [part["interval"][1] if part["interval"] else None for part in worst],
        }
    )
    figure = charts.intervals(frame, share=formats.is_share(metric), reference=evaluation["scores"][0]["value"])
    note = "Worst first; the dotted line is the whole suite." + (
        f" {len(found) - len(worst)} better slices are left out." if len(found) > len(worst) else ""
    )
    components.chart(figure, frame, title=f"{metric} by {by}", key="slices", note=note)


def flips_part(evaluation: Json) -> None:
    others = [other for other in data.evaluations(suite_id=evaluation["suite_id"]) if other["id"] != evaluation["id"]]
    if not others:
        st.caption("No other evaluation of this suite version to compare with.")
        return
    names = {other["id"]: title(other) for other in others}
    baseline = st.selectbox(
        "Against",
        list(names),
        format_func=lambda one: names.get(one, one),
        key="versus",
        bind="query-params",
        width=360,
    )
    card = data.comparison(baseline, evaluation["id"])
    if isinstance(card, str):
        st.warning(card, icon=":material/block:")
        return
    verdicts.comparison_card(card, key="flips", links=False)
    lost, gained = st.tabs(
        [f"Lost {_count(card['lost'])}", f"Gained {_count(card['gained'])}"], key="flip-kind", on_change="rerun"
    )
    kinds: tuple[tuple[Any, Literal["lost", "gained"]], ...] = ((lost, "lost"), (gained, "gained"))
    for tab, kind in kinds:
        if tab.open:
            with tab:
                found = data.comparison_items(baseline, evaluation["id"], kind)["items"]
                if not found:
                    st.caption(f"No item was {kind}.")
                    continue
                items.flips(found, before="baseline_output", after="candidate_output",
                            names=(names[baseline], title(evaluation)))  # fmt: skip
                components.csv_popover(readings.items_frame(found), kind, f"flips-{kind}")


def _count(n: int | None) -> str:
    return "" if n is None else f"({n:,})"


render()
