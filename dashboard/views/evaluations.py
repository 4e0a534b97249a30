"""See where a model is wrong: scores with intervals, confusions, slices, items, and what flipped between two models."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import (
    charts,
    comparison_parts,
    components,
    data,
    evaluation_parts,
    formats,
    items,
    navigate,
    readings,
    verdicts,
)
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
VIEWS = ["Items", "Confusion", "Calibration", "Slices", "Flips"]
# Items on a page, evaluations on a page, the most that are compared at once and that a chart shows.
PAGE, EVALUATIONS, MOST_COMPARED, CHARTED = 25, 100, 50, 30
PILLS_UP_TO = 12
ALL = "All"
NEWEST, BEST = "newest first", "best first"


def render() -> None:
    evaluation_id, chosen = st.query_params.get("id"), st.query_params.get("ids")
    if evaluation_id is not None:
        one(evaluation_id)
    elif chosen:
        several(list(dict.fromkeys(part for part in chosen.split(",") if part))[:MOST_COMPARED])
    else:
        overview()


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
    chosen = choose_suite(names)
    cursor = st.query_params.get("cursor") if chosen is None else None
    page = data.evaluation_page(
        suite=chosen, limit=EVALUATIONS if chosen is None else data.MOST_IN_A_PAGE, cursor=cursor
    )
    found = page["items"]
    if not found:
        components.empty(
            "No evaluation yet",
            "Send a model's answers to a suite:",
            "client.create_evaluation(suite_id=suite['id'], run_id=run.id, predictions=[…])",
            icon="fact_check",
            code="python",
        )
        return
    metric = None
    if chosen is not None:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            metric = comparison_parts.pick_metric(found[0])
            order = st.segmented_control(
                "Order", [NEWEST, BEST], default=NEWEST, required=True, key="order_by", bind="query-params",
                help=f"Best first goes by {metric}.",
            )  # fmt: skip
        if order == BEST:
            found = evaluation_parts.best_first(found, metric)
    titles = evaluation_parts.titles(found)
    bar = st.container(horizontal=True, vertical_alignment="center")
    ticked = [found[row] for row in evaluation_table(found, titles, metric) if row < len(found)]
    with bar:
        compare_buttons(ticked)
    if chosen is None:
        with components.pager("cursor", page["next_cursor"], f"{formats.plural(len(found), 'evaluation')} here"):
            pass
        return
    if page["next_cursor"] is not None:
        st.caption(f"The newest {len(found):,} evaluations of this suite.")
    score_chart(found, metric or "")


def choose_suite(names: list[str]) -> str | None:
    """Pills while they fit on the screen, a list to search in when there are more."""
    if len(names) <= PILLS_UP_TO:
        return st.pills("Suite", names, key="suite", bind="query-params")
    return st.selectbox(
        "Suite", names, index=None, key="suite", bind="query-params", placeholder="All suites", width=340
    )


def evaluation_table(found: list[Json], titles: list[str], metric: str | None) -> list[int]:
    """The primary score of each, or that of one metric."""
    scores = [evaluation_parts.score_of(evaluation, metric) for evaluation in found]
    rows = pd.DataFrame(
        {
            "Evaluation": titles,
            "Score": [formats.measured(score["name"], score["value"]) if score else None for score in scores],
            "95 % interval": [
                formats.interval(score["name"], score["interval"]) if score else None for score in scores
            ],
            "Metric": [score["name"] if score else None for score in scores],
            "Suite": [evaluation_parts.suite_title(evaluation) for evaluation in found],
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


def compare_buttons(ticked: list[Json]) -> None:
    """What can be done with the ticked evaluations: two or more of one suite version are compared."""
    if len(ticked) < 2:
        st.caption("Tick two or more of one suite to compare them.", width="content")
        return
    if len({evaluation["suite"]["hash"] for evaluation in ticked}) > 1:
        st.caption("These answered different suites.", width="content")
        return
    *newer, oldest = sorted(ticked, key=lambda evaluation: -evaluation["created_at"])
    flips = len(ticked) == 2
    if flips and st.button("See what flipped", type="primary", icon=":material/swap_vert:"):
        navigate.go_to("evaluations", id=newer[0]["id"], versus=oldest["id"], tab="Flips")
    if st.button("Compare", type="secondary" if flips else "primary", icon=":material/compare_arrows:"):
        ids = [evaluation["id"] for evaluation in [*newer, oldest][-MOST_COMPARED:]]
        navigate.go_to("evaluations", ids=",".join(ids), against=oldest["id"])
    if len(ticked) > MOST_COMPARED:
        st.caption(f"The oldest {MOST_COMPARED} of {len(ticked)}.", width="content")


def score_chart(found: list[Json], metric: str) -> None:
    """The scores of one version of a suite, the best on top."""
    newest = max(found, key=lambda evaluation: evaluation["suite"]["version"])
    same = [evaluation for evaluation in found if evaluation["suite"]["hash"] == newest["suite"]["hash"]]
    ranked = [
        one for one in evaluation_parts.best_first(same, metric) if evaluation_parts.value_of(one, metric) is not None
    ]
    shown = ranked[:CHARTED]
    if not shown:
        return
    scores = [evaluation_parts.score_of(evaluation, metric) or {} for evaluation in shown]
    frame = pd.DataFrame(
        {
            "label": formats.told_apart(evaluation_parts.titles(shown)),
            "value": [score["value"] for score in scores],
            "low": [score["interval"][0] if score["interval"] else None for score in scores],
            "high": [score["interval"][1] if score["interval"] else None for score in scores],
        }
    )
    left_out = [
        f"The best {len(shown)} of {len(ranked):,}." if len(ranked) > len(shown) else "",
        f"Only version {newest['suite']['version']}: scores on other versions do not compare."
        if len(same) < len(found)
        else "",
    ]
    figure = charts.intervals(frame, share=formats.is_share(metric))
    components.chart(
        figure, frame, title=f"{metric} with its 95 % interval, best first", key="suite-scores",
        note=" ".join(part for part in left_out if part) or None,
    )  # fmt: skip


# --- several of one suite ---


def several(ids: list[str]) -> None:
    found = [data.evaluation(evaluation_id) for evaluation_id in ids]
    navigate.link("evaluations", "All evaluations", "arrow_back")
    if len(found) < 2:
        components.header("Compare evaluations", "Which models are better than a baseline on one suite.")
        components.empty("Choose evaluations", "Tick two or more of one suite on the list and press Compare.",
                         icon="compare_arrows")  # fmt: skip
        return
    components.header(
        f"{len(found)} evaluations on {evaluation_parts.suite_title(found[0])}",
        "Which are better than the baseline, their number allowed for; or which configuration is, whatever the seed.",
    )
    comparison_parts.chosen_part(found, formats.told_apart(evaluation_parts.titles(found)))


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
    tabs = st.tabs(VIEWS, key="tab", on_change="rerun", bind="query-params")
    items_tab, confusion_tab, calibration_tab, slices_tab, flips_tab = tabs
    if items_tab.open:
        with items_tab:
            items_part(evaluation)
    if confusion_tab.open:
        with confusion_tab:
            if is_labels:
                evaluation_parts.confusion_part(evaluation)
            else:
                st.caption("A confusion matrix needs labels; this suite asks for text.")
    if calibration_tab.open:
        with calibration_tab:
            evaluation_parts.calibration_part(evaluation)
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
                else text_cell((score["reason"] or formats.NONE).replace("_", " "), "ts-dim"),
                text_cell(score["method"].replace("_", " "), "ts-dim nowrap"),
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
                                     bind="query-params", on_change=from_the_start)  # fmt: skip
        group, tag = (
            st.text_input(name.capitalize(), key=name, bind="query-params", width=160, placeholder="any",
                          on_change=from_the_start)
            for name in ("group", "tag")
        )  # fmt: skip
        true, predicted = narrowed()
    page = data.evaluation_items(
        evaluation["id"],
        correct={ALL: None, "wrong": False, "right": True}[which],
        true=true,
        predicted=predicted,
        group=group or None,
        tag=tag or None,
        limit=PAGE,
        cursor=st.query_params.get("cursor"),
    )
    if not page["items"]:
        components.empty("No item is like that", "Take a filter away.", icon="search_off")
        return
    items.answers(page["items"])
    with components.pager("cursor", page["next_cursor"], f"{formats.plural(len(page['items']), 'item')} here"):
        components.csv_popover(readings.items_frame(page["items"]), "items", "items")


def from_the_start() -> None:
    """Other items: the place in the list means nothing any more."""
    st.query_params.pop("cursor", None)


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
