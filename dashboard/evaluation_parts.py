"""Where one evaluation is wrong: its confusions, its slices, and what flipped against another."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, formats, items, readings, verdicts

Json = dict[str, Any]
LABELS_SHOWN = 20
FLIPS_SHOWN = 100


def title(evaluation: Json) -> str:
    name = evaluation["name"] or verdicts.run_name(evaluation["run_id"]) or f"evaluation {evaluation['id'][-6:]}"
    return name if evaluation["step"] is None else f"{name}, step {evaluation['step']:,}"


def suite_title(evaluation: Json) -> str:
    return f"{evaluation['suite']['name']} v{evaluation['suite']['version']}"


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
        components.chart(
            charts.confusion(shown, part, share=share), frame, title="Confusion matrix", key="confusion", note=note,
            leads=("evaluations", partial(cell_target, evaluation["id"])),
        )  # fmt: skip
    with right:
        most_confused_part(evaluation, matrix)
        classes_part(matrix)


def cell_target(evaluation_id: str, point: Json) -> dict[str, str]:
    """Where a click on a cell of the confusion matrix leads: to its items."""
    true, predicted, *_ = point["customdata"]
    return {"id": evaluation_id, "tab": "Items", "true": str(true), "predicted": str(predicted)}


def most_confused_part(evaluation: Json, matrix: Json) -> None:
    pairs = matrix["most_confused"]
    components.section("Most confused")
    if not pairs:
        st.caption("No label is taken for another.")
        return
    rows = pd.DataFrame(pairs, columns=["true", "predicted", "n"])
    rows.columns = pd.Index(["True", "Predicted", "Items"])
    components.link_table(
        rows,
        key="confused",
        column="True",
        page="evaluations",
        targets=[
            {"id": evaluation["id"], "tab": "Items", "true": pair["true"], "predicted": pair["predicted"]}
            for pair in pairs
        ],
    )


def classes_part(matrix: Json) -> None:
    rows = pd.DataFrame(matrix["classes"]).sort_values("f1")
    rows.columns = pd.Index([column.capitalize() for column in rows.columns])
    components.section("By class, worst first")
    number = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        rows, hide_index=True, height="content" if len(rows) < 9 else 300,
        column_config={"Precision": number, "Recall": number, "F1": number},
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
    baseline = components.pick("Against", list(names), names, "versus")
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
                found = data.comparison_items(baseline, evaluation["id"], kind, limit=FLIPS_SHOWN)["items"]
                if not found:
                    st.caption(f"No item was {kind}.")
                    continue
                with st.container(height=620 if len(found) > 18 else "content", border=False):
                    items.flips(
                        found,
                        before="baseline_output",
                        after="candidate_output",
                        names=(names[baseline], title(evaluation)),
                    )
                if (card[kind] or 0) > len(found):
                    st.caption(f"The first {len(found)} of {card[kind]:,}.")
                components.csv_popover(readings.items_frame(found), kind, f"flips-{kind}")


def _count(n: int | None) -> str:
    return "" if n is None else f"({n:,})"
