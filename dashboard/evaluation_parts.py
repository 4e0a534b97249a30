"""Where one evaluation is wrong: its confusions, its slices, and what flipped against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, comparison_parts, components, data, formats, items, navigate, readings, verdicts

Json = dict[str, Any]
LABELS_SHOWN = 20
SLICES_SHOWN = 40
FLIPS_SHOWN = 50
# Slices whose items can be asked for, and by what.
SLICE_FILTERS = {"group": "group", "tag": "tag", "label": "true"}


def title(evaluation: Json) -> str:
    return titles([evaluation])[0]


def titles(evaluations: Sequence[Json]) -> list[str]:
    """What each is called: its own name, its run's, or the end of its id; and the step."""
    runs = verdicts.run_names(one for one in evaluations if not one["name"])
    found = []
    for one in evaluations:
        name = one["name"] or runs.get(one["run_id"]) or f"evaluation {one['id'][-6:]}"
        found.append(name if one["step"] is None else f"{name}, step {one['step']:,}")
    return found


def suite_title(evaluation: Json) -> str:
    return f"{evaluation['suite']['name']} v{evaluation['suite']['version']}"


def score_of(evaluation: Json, metric: str | None) -> Json | None:
    """The score by a metric, or by the suite's primary one; None where there is none."""
    found: Json | None = next((one for one in evaluation["scores"] if metric in (None, one["name"])), None)
    return found


def value_of(evaluation: Json, metric: str) -> float | None:
    score = score_of(evaluation, metric)
    return None if score is None else score["value"]


def best_first(evaluations: Sequence[Json], metric: str) -> list[Json]:
    """Ranked by a metric; who has no value comes last."""
    scores = [score_of(one, metric) for one in evaluations]
    sign = -1 if all(score["higher_is_better"] for score in scores if score) else 1
    values = [score["value"] if score else None for score in scores]
    order = sorted(range(len(values)), key=lambda at: (values[at] is None, sign * (values[at] or 0.0)))
    return [evaluations[at] for at in order]


def calibration_part(evaluation: Json) -> None:
    """How often the model is right when it is this sure."""
    found = data.calibration(evaluation["id"])
    if not found["bins"]:
        why = {
            "no_probabilities": "The predictions carry no probability. Send each with how sure the model was of it:",
            "not_right_or_wrong": "No metric of this suite calls an item right or wrong; accuracy would.",
        }
        lacks = found["reason"] == "no_probabilities"
        example = '{"id": "17", "output": "refund", "probability": 0.93}' if lacks else None
        components.empty("No calibration curve", why[found["reason"]], example, icon="show_chart", code="python")
        return
    frame = pd.DataFrame(
        [{key: value for key, value in one.items() if key != "interval"} for one in found["bins"]]
    ).assign(accuracy_low=[one["interval"][0] for one in found["bins"]],
             accuracy_high=[one["interval"][1] for one in found["bins"]])  # fmt: skip
    mean, right = ((frame[column] * frame["n"]).sum() / found["n"] for column in ("confidence", "accuracy"))
    st.html(
        components.facts(
            [
                (
                    "Expected calibration error",
                    f"{formats.number(found['ece'], 3)} {_bounds(found['interval'])}".strip(),
                ),
                ("Mean probability", formats.percent(mean)),
                ("Right", formats.percent(right)),
                ("Items with a probability", f"{found['n']:,} of {found['n'] + found['n_without']:,}"),
            ]
        )
    )
    components.chart(
        charts.calibration(frame), frame, title="Calibration curve", key="calibration",
        note="Each point is the answers of one bin: how sure the model was, how often it was right, with its 95 % "
        "interval. On the dotted line the two agree; below it the model is over-confident. Bars: items in each bin.",
    )  # fmt: skip


def _bounds(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"[{formats.number(interval[0], 3)}, {formats.number(interval[1], 3)}]"


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
        classes_part(evaluation, matrix)


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


def classes_part(evaluation: Json, matrix: Json) -> None:
    """Scores of each class, with intervals where the service gives them; a label leads to its items."""
    classes = sorted(matrix["classes"], key=lambda one: -1.0 if one["f1"] is None else one["f1"])
    rows = pd.DataFrame({"Label": [str(one["label"]) for one in classes]})
    columns: dict[str, Any] = {}
    for name in ("precision", "recall", "f1"):
        title = name.capitalize()
        rows[title] = [one[name] for one in classes]
        columns[title] = st.column_config.NumberColumn(title, format="%.3f")
        bounds = [one.get(f"{name}_interval") for one in classes]
        if any(bounds):
            rows[f"{title}, 95 %"] = ["" if one is None else f"[{one[0]:.2f}, {one[1]:.2f}]" for one in bounds]
            columns[f"{title}, 95 %"] = st.column_config.TextColumn("95 %", help=f"Of {name}")
    rows["Support"] = [one["support"] for one in classes]
    components.section("By class, worst first")
    components.link_table(
        rows,
        key="classes",
        column="Label",
        page="evaluations",
        targets=[{"id": evaluation["id"], "tab": "Items", "true": label} for label in rows["Label"]],
        columns=columns,
        height="content" if len(rows) < 9 else 300,
    )


def slices_part(evaluation: Json, is_labels: bool) -> None:
    options = ["group", "tag", *(["label"] if is_labels else []), "length"]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        by = st.segmented_control("By", options, default="group", required=True, key="by", bind="query-params")
        metric = comparison_parts.pick_metric(evaluation)
    # The service has the worst first, whichever way the metric is better.
    found = [part for part in data.slices(evaluation["id"], by, metric) if part["value"] is not None]
    if not found or {part["slice"] for part in found} == {"(none)"}:
        components.empty(
            f"No {by} to slice by", f"The items of this suite have no {by}. Give them one in the suite:",
            '{"id": "17", "input": "…", "label": "refund", "group": "cards", "tags": ["short"]}',
            icon="data_array", code="python",
        )  # fmt: skip
        return
    worst = found[:SLICES_SHOWN]
    frame = pd.DataFrame(
        {
            "label": [f"{part['slice']}  (n = {part['n']:,})" for part in worst],
            "value": [part["value"] for part in worst],
            "low": [part["interval"][0] if part["interval"] else None for part in worst],
            "high": [part["interval"][1] if part["interval"] else None for part in worst],
        }
    )
    figure = charts.intervals(frame, share=formats.is_share(metric), reference=value_of(evaluation, metric))
    note = "Worst first; the dotted line is the whole suite." + (
        f" {len(found) - len(worst)} better slices are left out." if len(found) > len(worst) else ""
    )
    leads = None
    if by in SLICE_FILTERS:
        # The chart's rows are labels with their counts: the slice itself stands before them.
        places = {label: str(part["slice"]) for label, part in zip(frame["label"], worst, strict=True)}
        figure.update_layout(clickmode="event+select")
        for trace in figure.data:
            trace.customdata = [[places[label]] for label in trace.y]
        note += " Click a dot to see the items."
        leads = slice_link(evaluation["id"], by)
    components.chart(figure, frame, title=f"{metric} by {by}", key="slices", note=note, leads=leads)


def slice_link(evaluation_id: str, by: str) -> tuple[navigate.PageName, Callable[[Json], dict[str, str]]]:
    """Where a click on a slice leads: to its items."""

    def target(point: Json) -> dict[str, str]:
        return {"id": evaluation_id, "tab": "Items", SLICE_FILTERS[by]: str(point["customdata"][0])}

    return "evaluations", target


def flips_part(evaluation: Json) -> None:
    others = [other for other in data.evaluations(suite_id=evaluation["suite_id"]) if other["id"] != evaluation["id"]]
    if not others:
        components.empty(
            "Nothing to compare with",
            "This is the only evaluation of this version of the suite. Let another model answer the same items:",
            f'client.create_evaluation(suite_id="{evaluation["suite_id"]}", run_id=…, predictions=[…])',
            icon="swap_vert", code="python",
        )  # fmt: skip
        return
    names = dict(zip([other["id"] for other in others], titles(others), strict=True))
    baseline = components.pick("Against", list(names), names, "versus")
    card = data.comparison(baseline, evaluation["id"])
    if isinstance(card, str):
        st.warning(card, icon=":material/block:")
        return
    verdicts.comparison_card(card, key="flips", links=False)
    names_of_kinds = [f"Lost {_count(card['lost'])}", f"Gained {_count(card['gained'])}"]
    asked = st.query_params.get("flips")
    lost, gained = st.tabs(
        names_of_kinds, default=names_of_kinds[asked == "gained"], key=f"flip-kind-{baseline}", on_change="rerun"
    )
    kinds: tuple[tuple[Any, Literal["lost", "gained"]], ...] = ((lost, "lost"), (gained, "gained"))
    for tab, kind in kinds:
        if tab.open:
            if kind == "gained" or asked is not None:
                st.query_params["flips"] = kind
            with tab:
                param = f"{kind}_after_{baseline[-6:]}"
                cursor = st.query_params.get(param)
                page = data.comparison_items(baseline, evaluation["id"], kind, limit=FLIPS_SHOWN, cursor=cursor)
                found = page["items"]
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
                with components.pager(param, page["next_cursor"], f"{len(found):,} of {card[kind] or len(found):,}"):
                    components.csv_popover(readings.items_frame(found), kind, f"flips-{kind}")


def _count(n: int | None) -> str:
    return "" if n is None else f"({n:,})"
