"""What people said: scores, verdicts, how far reviewers agree, and what they disagree on."""

from __future__ import annotations

import html
from typing import Any, Literal

import pandas as pd
import streamlit as st

from dashboard import components, data, formats, items, navigate, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell
from tunescope import ApiError

Json = dict[str, Any]
NAMES = {"human_good": "called good", "human_good_mean": "called good, mean", "human_win_rate": "won, ties half"}
AGREEMENTS = {"cohen_kappa": "Cohen's kappa", "krippendorff_alpha": "Krippendorff's alpha"}
WHY = {
    "no_overlap": "No task was judged by two reviewers: agreement cannot be told. Give the review an overlap of 2.",
    "one_category": "All gave the same answer throughout: agreement beyond chance cannot be told.",
}
DISAGREED = 50


def result_part(review: Json) -> None:
    progress = review["progress"]
    if not progress["done"]:
        components.empty("Nothing is judged yet", "The result appears with the first judgements.", icon="rate_review")
        return
    _state(review)
    with st.container(horizontal=True):
        margin = st.number_input(
            "Margin, points", 0.0, 50.0, 0.0, 1.0, key="margin", width=160,
            help="Differences within ± this do not matter. With a margin, models can be found equivalent.",
        )  # fmt: skip
    found = data.review_result(review["id"], progress["said"], review["closed_at"], margin / 100)
    for place, card in enumerate(found["verdicts"]):
        verdicts.comparison_card(card, key=f"review-{place}", links=False)
    scores_part(found)
    _left_behind(review, found)
    if len(found["strengths"]) > 2:
        strengths_part(found)
    agreement_part(found)
    reviewers_part(found)
    left, right = st.columns(2, gap="medium")
    with left:
        slices_part(found)
    with right:
        reasons_part(found)


def _state(review: Json) -> None:
    progress = review["progress"]
    if review["closed_at"] is not None:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        whole = progress["done"] >= progress["wanted"]
        said = f"by {formats.plural(progress['reviewers'], 'reviewer')}"
        st.markdown(
            f"**All {progress['wanted']:,} judgements are in**, {said}. Close the review to make the result final."
            if whole
            else f"**So far:** {progress['done']:,} of {progress['wanted']:,} judgements, {said}. Who stops as soon as "
            "the result pleases is wrong more often than the intervals say.",
            width="stretch",
        )
        if st.button("Close the review", icon=":material/lock:", type="primary" if whole else "secondary"):
            confirm_close(review)


@st.dialog("Close the review?")
def confirm_close(review: Json) -> None:
    left = review["progress"]["wanted"] - review["progress"]["done"]
    st.write(
        (f"{formats.plural(left, 'judgement')} of those asked for will not be made. " if left else "")
        + "Nothing is judged any more after this, and it cannot be opened again."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel"):
            st.rerun()
        if st.button("Close it", type="primary", icon=":material/lock:"):
            try:
                data.close_review(review["id"])
            except ApiError as refused:
                st.error(refused.message, icon=":material/error:")
                return
            st.rerun()


def scores_part(found: Json) -> None:
    scores = found["scores"]
    ends = [end for score in scores for end in (score["interval"] or ())]
    domain = (min([0.0, *ends]), max([1.0, *ends]))
    rows: list[list[str | Cell]] = [
        [
            text_cell(score["evaluation"], "key"),
            text_cell(NAMES.get(score["name"], score["name"]), "ts-dim"),
            numeric(formats.percent(score["value"]), "best"),
            numeric(formats.interval(score["name"], score["interval"])),
            verdicts.mini_interval(score["value"], score["interval"], domain, zero=None),
            numeric(f"{score['n']:,}"),
            numeric(f"{score['judgements']:,}"),
            text_cell((score["method"] or score["reason"] or formats.NONE).replace("_", " "), "ts-dim"),
        ]
        for score in scores
    ]
    head: list[str | Cell] = [
        "Model", "Share", number_head("Value"), number_head("95 % interval"), "", number_head("Items"),
        number_head("Judgements"), "Interval by",
    ]  # fmt: skip
    components.data_table("Scores", head, rows, pd.DataFrame(scores), key="review-scores")
    notes = []
    if found["n_identical"]:
        notes.append(
            f"{formats.plural(found['n_identical'], 'pair')} of the same text count as ties; nobody was asked."
        )
    if found["n_left_out"]:
        notes.append(f"{formats.plural(found['n_left_out'], 'item')} not rated for every model are left out.")
    if found["review"]["definition"]["sample"]["only"] != "all":
        notes.append("The sample was chosen by its answers: these shares say nothing of the whole suite.")
    if notes:
        st.caption(" ".join(notes))


def _left_behind(review: Json, found: Json) -> None:
    """Links to the evaluations that a closed rating became."""
    outcome = review["outcome"]
    if not outcome:
        return
    names = {score["evaluation_id"]: score["evaluation"] for score in found["scores"]}
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown("As evaluations, to compare and audit like any other:", width="content")
        for rated, made in outcome["evaluations"].items():
            navigate.link("evaluations", names.get(rated, "evaluation"), "fact_check", id=made)


def strengths_part(found: Json) -> None:
    ranked = sorted(found["strengths"], key=lambda one: -(one["strength"] if one["strength"] is not None else -1e9))
    ends = [end for one in ranked for end in (*(one["interval"] or ()), one["strength"] or 0.0)]
    room = 0.06 * ((max(ends) - min(ends)) or 1.0)
    rows: list[list[str | Cell]] = [
        [
            one["evaluation"],
            numeric(formats.signed(one["strength"]), "best"),
            numeric(_bounds(one["interval"])),
            verdicts.mini_interval(one["strength"], one["interval"], (min(ends) - room, max(ends) + room)),
            text_cell((one["reason"] or "").replace("_", " "), "ts-dim"),
        ]
        for one in ranked
    ]
    head: list[str | Cell] = ["Model", number_head("Strength"), number_head("95 % interval"), "", ""]
    sentence = "Bradley-Terry, in log-odds: +1.1 over another model is winning three times of four."
    components.data_table("Ranking", head, rows, pd.DataFrame(ranked), key="review-strengths", sentence=sentence)


def _bounds(interval: list[float] | None) -> str:
    return formats.NONE if interval is None else f"[{formats.signed(interval[0])}, {formats.signed(interval[1])}]"


def agreement_part(found: Json) -> None:
    agreement, position = found["agreement"], found["position"]
    pairs = [
        (AGREEMENTS.get(agreement["method"], "Agreement"), formats.number(agreement["value"], 2)),
        ("Same answer", formats.percent(agreement["observed"])),
        ("Tasks judged by two or more", f"{agreement['n_overlap']:,}"),
        ("Reviewers", f"{agreement['n_reviewers']:,}"),
    ]
    if position is not None:
        pairs.append(("Left / right preferred", f"{position['a']:,} / {position['b']:,}"))
        pairs.append(("Even sides, p", formats.p_value(position["p_value"])))
    components.section("Agreement", "1: always the same answer. 0: no more than chance would give.")
    st.html(components.facts(pairs))
    if agreement["reason"]:
        st.caption(WHY[agreement["reason"]])


def reviewers_part(found: Json) -> None:
    reviewers = found["reviewers"]
    answers = list(reviewers[0]["answers"]) if reviewers else []
    rows: list[list[str | Cell]] = [
        [
            one["reviewer"],
            numeric(f"{one['judged']:,}"),
            *(numeric(f"{one['answers'][answer]:,}") for answer in answers),
            numeric(f"{one['skipped']:,}"),
            numeric(formats.percent(one["agrees"])),
            numeric(formats.duration(one["seconds"])),
        ]
        for one in reviewers
    ]
    head: list[str | Cell] = [
        "Reviewer", number_head("Judged"), *(number_head(answer.capitalize()) for answer in answers),
        number_head("Skipped"), number_head("Agrees with others"), number_head("Median time"),
    ]  # fmt: skip
    components.data_table("Reviewers", head, rows, pd.DataFrame(reviewers), key="review-reviewers")


def slices_part(found: Json) -> None:
    slices = found["slices"]
    if not slices:
        return
    names = {score["evaluation_id"]: score["evaluation"] for score in found["scores"]}
    metric = found["scores"][0]["name"]
    rows: list[list[str | Cell]] = [
        [
            one["slice"],
            names[one["evaluation_id"]],
            numeric(formats.percent(one["value"])),
            numeric(formats.interval(metric, one["interval"])),
            numeric(f"{one['n']:,}"),
        ]
        for one in slices[:40]
    ]
    head: list[str | Cell] = ["Group", "Model", number_head("Value"), number_head("95 % interval"), number_head("n")]
    components.data_table("By group, worst first", head, rows, pd.DataFrame(slices), key="review-slices")


def reasons_part(found: Json) -> None:
    if not found["reasons"]:
        return
    names = {score["evaluation_id"]: score["evaluation"] for score in found["scores"]}
    rows: list[list[str | Cell]] = [
        [
            one["reason"],
            Cell(components.chip(one["answer"])),
            names.get(one["evaluation_id"], formats.NONE),
            numeric(f"{one['n']:,}"),
        ]
        for one in found["reasons"]
    ]
    head: list[str | Cell] = ["Reason", "Said with", "Of", number_head("Times")]
    components.data_table("Reasons", head, rows, pd.DataFrame(found["reasons"]), key="review-reasons")


# --- the items ---


def items_part(review: Json) -> None:
    kinds: dict[str, Literal["all", "disagreed", "skipped"]] = {
        "Disagreed": "disagreed", "Skipped": "skipped", "All": "all",
    }  # fmt: skip
    which = st.segmented_control("Show", list(kinds), default="Disagreed", required=True, key="said",
                                 bind="query-params")  # fmt: skip
    found = data.review_items(review["id"], kinds[which], limit=DISAGREED)
    if not found["items"]:
        sentence = (
            "Disagreement shows where two reviewers judged one task." if which == "Disagreed" else "Nothing here."
        )
        components.empty("No item is like that", sentence, icon="search_off")
        return
    names = {one: _name(one) for one in review["definition"]["evaluations"]}
    st.html(f'<div class="ts-items">{"".join(_item(item, names) for item in found["items"])}</div>')
    if found["next_cursor"]:
        st.caption(f"The first {DISAGREED}; the API has all.")


def _name(evaluation_id: str) -> str:
    evaluation = data.evaluation(evaluation_id)
    return evaluation["name"] or verdicts.run_name(evaluation["run_id"]) or f"evaluation {evaluation_id[-6:]}"


def _item(item: Json, names: dict[str, str]) -> str:
    expected = items.expected(item)
    rows = [] if expected is None else [("expected", html.escape(expected))]
    rows += [(names[one], items.marked(None, text)) for one, text in item["outputs"].items()]
    cells = "".join(f"<span>{html.escape(name)}</span><span>{markup}</span>" for name, markup in rows)
    said = "".join(f"<span>{_judgement(one, names)}</span>" for one in item["judgements"])
    return (
        f'<div class="ts-item"><p>{html.escape(item["input"][: items.LONGEST])}</p><div>{cells}</div>'
        f'<section class="ts-said">{said}</section></div>'
    )


def _judgement(one: Json, names: dict[str, str]) -> str:
    whom = "" if one["evaluation_id"] is None or one["answer"] in {"tie", "skip"} else names[one["evaluation_id"]]
    words = "; ".join(part for part in (*one["reasons"], one["comment"]) if part)
    tail = f' <span class="ts-dim">{html.escape(words)}</span>' if words else ""
    return f"{html.escape(one['reviewer'])} {components.chip(one['answer'])} {html.escape(whom)}{tail}"
