"""What the Data page shows of a set: warnings, balance, lengths, repeated texts, doubtful labels, leakage."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import components, data_charts, formats
from dashboard.components import Cell, number_head, numeric, text_cell
from dashboard.items import marked

Json = dict[str, Any]
LABELS_SHOWN = 24
SHARES_SHOWN = 12
PAIRS_SHOWN = 25
MODELS_SHOWN = 6
WORDS = {
    "too_small": "too small",
    "empty_text": "empty",
    "conflicting_answers": "contradiction",
    "duplicates": "repeated",
    "near_duplicates": "nearly repeated",
    "near_duplicates_incomplete": "not all compared",
    "unlabelled": "no label",
    "unbalanced": "out of balance",
    "rare_labels": "rare labels",
    "leakage": "leakage",
    "near_leakage": "near leakage",
    "leakage_incomplete": "not all compared",
    "labels_only_in_test": "unseen labels",
    "labels_not_in_every_part": "labels missing in a part",
    "labels_differ": "labels differ",
    "lengths_differ": "lengths differ",
}
SERIOUS = {"leakage", "conflicting_answers"}
REASONS = {
    "no_labels": "Its items have no labels.",
    "no_evaluations": "No model has answered this suite yet: send evaluations, and come back.",
    "too_few_items": "Too few items to learn from some and check the others.",
    "cannot_judge_labels": "Its labels are too few, too rare or too many to learn from.",
    "too_many_characters": "The texts are too long together to be compared with one another.",
    "one_label": "There is one label only.",
    "several_labels": "Items have several labels each: there is no test of their shares.",
    "no_items": "There are no items.",
}


def warnings(found: Sequence[Json]) -> None:
    """What is to be looked at, as a list; a word if it is nothing."""
    if not found:
        st.html(
            '<p><span class="ts-chip ts-green"><span class="ts-icon">check_circle</span>nothing to look at</span></p>'
        )
        return
    rows = "".join(
        f'<tr><td style="width:1%">{_warned(one["code"])}</td><td>{html.escape(one["message"])}</td></tr>'
        for one in found
    )
    st.html(f'<div class="ts-scroll"><table class="ts-table"><tbody>{rows}</tbody></table></div>')


def _warned(code: str) -> str:
    tone, icon = ("red", "error") if code in SERIOUS else ("orange", "warning")
    word = html.escape(WORDS.get(code, code.replace("_", " ")))
    return f'<span class="ts-chip ts-{tone}"><span class="ts-icon">{icon}</span>{word}</span>'


def reason(code: str | None) -> str:
    return REASONS.get(code or "", (code or "").replace("_", " "))


# --- overview ---


def balance_part(balance: Json) -> None:
    frame = pd.DataFrame(balance["labels"], columns=["label", "n"])
    hidden = len(frame) - LABELS_SHOWN
    half = LABELS_SHOWN // 2
    shown = frame if hidden <= 0 else pd.concat([frame.head(half), frame.tail(half)])
    ratio = ""
    if balance["ratio"]:
        ratio = f"The most frequent label has {balance['ratio']:.3g} times the items of the rarest. "
    if balance["ratio"] == 1:
        ratio = "All labels have as many items. "
    note = ratio + (f"The {half} most frequent and the {half} rarest; {hidden} more between." if hidden > 0 else "")
    figure = data_charts.balance(shown, gap=max(0, hidden))
    components.chart(figure, frame, title="Items a label", key="balance", note=note or None)


def lengths_frame(sets: Sequence[tuple[str, Json | None]]) -> pd.DataFrame:
    rows = [
        {"set": name, "low": low, "high": high, "n": n}
        for name, one in sets
        if one is not None
        for low, high, n in zip(one["edges"][:-1], one["edges"][1:], one["counts"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["set", "low", "high", "n"])


def lengths_part(title: str, lengths: Json | None, key: str) -> None:
    if lengths is None:
        return
    at = lengths["quantiles"]
    note = f"Half have up to {at['median']:,}, 95 % up to {at['p95']:,}, the longest {at['max']:,}."
    frame = lengths_frame([(title, lengths)])
    components.chart(data_charts.lengths(frame), frame.drop(columns="set"), title=title, key=key, note=note)


def coverage_part(coverage: Json, n_items: int) -> None:
    tags = coverage["tags"]
    if not tags and not coverage["n_groups"]:
        return
    if tags:
        rows: list[list[str | Cell]] = [
            [one["tag"], numeric(f"{one['n']:,}"), numeric(formats.percent(one["n"] / n_items))] for one in tags[:40]
        ]
        rows.append(
            ["(no tag)", numeric(f"{coverage['untagged']:,}"), numeric(formats.percent(coverage["untagged"] / n_items))]
        )
        head: list[str | Cell] = ["Tag", number_head("Items"), number_head("Share")]
        components.data_table("Covered by tag", head, rows, pd.DataFrame(tags), key="tags")
    if coverage["n_groups"]:
        largest = formats.plural(coverage["largest_group"], "item")
        st.caption(f"{formats.plural(coverage['n_groups'], 'group')}; the largest has {largest}.")


# --- repeated texts ---


def near_part(near: Json) -> None:
    if near["n_pairs"] is None:
        components.section("Nearly the same")
        st.caption(reason(near["reason"]))
        return
    sentence = (
        f"{'' if near['complete'] else 'At least '}{formats.plural(near['n_pairs'], 'pair')} of different texts with a "
        f"similarity of {near['threshold']:g} or more: the share of five-character pieces they have in common."
    )
    pairs_table("Nearly the same", sentence, near["pairs"], ("One", "The other"), key="near", total=near["n_pairs"])


def pairs_table(
    title: str, sentence: str, pairs: Sequence[Json], names: tuple[str, str], *, key: str, total: int | None = None
) -> None:
    """Two texts side by side, with the words that the other does not have marked."""
    frame = pd.DataFrame(
        [
            {"similarity": pair["similarity"]}
            | {f"{side}_{name}": pair[side][name] for side in ("first", "second") for name in ("id", "input", "answer")}
            for pair in pairs
        ]
    )
    if not pairs:
        components.section(title, sentence)
        st.caption("None.")
        return
    rows: list[list[str | Cell]] = [
        [
            numeric(f"{pair['similarity']:.2f}"),
            *(_side(pair[own], pair[other], pair) for own, other in (("first", "second"), ("second", "first"))),
        ]
        for pair in pairs[:PAIRS_SHOWN]
    ]
    components.data_table(title, [number_head("Similarity"), *names], rows, frame, key=key, sentence=sentence)
    if len(pairs) > PAIRS_SHOWN:
        of = "" if total is None else f" of {total:,}"
        st.caption(f"The first {PAIRS_SHOWN}{of}; the CSV has {len(pairs):,}.")


def _side(own: Json, other: Json, pair: Json) -> Cell:
    text = html.escape(own["input"]) if pair["similarity"] == 1 else marked(other["input"], own["input"])
    differ = own["answer"] != other["answer"] and own["answer"] is not None
    tone = "ts-chip ts-orange" if differ else "ts-dim"
    answer = "" if own["answer"] is None else f' · <span class="{tone}">{html.escape(own["answer"][:200])}</span>'
    return Cell(f'{text.strip()}<br><span class="ts-dim ts-mono">{html.escape(own["id"])}</span>{answer}', "text")


def repeated_part(duplicates: Json) -> None:
    groups = duplicates["groups"]
    sentence = "Case, width of characters and white space make no difference."
    if not groups:
        components.section("The same text", sentence)
        st.caption("None.")
        return
    rows: list[list[str | Cell]] = [
        [
            numeric(f"{group['n']:,}"),
            text_cell(group["items"][0]["input"].strip(), "text"),
            Cell(_answers(group)),
            text_cell(_ids(group), "ts-mono"),
        ]
        for group in groups[:PAIRS_SHOWN]
    ]
    frame = pd.DataFrame([{"times": group["n"], **item} for group in groups for item in group["items"]])
    head: list[str | Cell] = [number_head("Times"), "Text", "Answer", "Items"]
    components.data_table("The same text", head, rows, frame, key="repeated", sentence=sentence)
    if duplicates["n_groups"] > PAIRS_SHOWN:
        st.caption(f"The first {PAIRS_SHOWN} of {formats.plural(duplicates['n_groups'], 'text')}.")


def _answers(group: Json) -> str:
    answers = list(dict.fromkeys(item["answer"] or formats.NONE for item in group["items"]))
    listed = "<br>".join(html.escape(answer[:200]) for answer in answers[:5])
    return f"{_warned('conflicting_answers')}<br>{listed}" if group["conflicting"] else listed


def _ids(group: Json) -> str:
    ids = [item["id"] for item in group["items"]]
    return ", ".join(ids[:5]) + (", …" if group["n"] > 5 else "")


# --- doubtful labels ---


def noise_part(noise: Json) -> None:
    if noise["reason"] is not None:
        components.empty("Cannot tell", reason(noise["reason"]), icon="help")
        return
    st.caption(noise_method(noise))
    if not noise["candidates"]:
        components.empty("No label is doubtful", "The models agree with the labels, or do not agree with one another.",
                         icon="verified")  # fmt: skip
        return
    rows: list[list[str | Cell]] = [
        [
            text_cell(one["id"], "ts-mono"),
            text_cell(one["input"].strip(), "text"),
            one["answer"] or formats.NONE,
            Cell(_suggested(one)),
            *(numeric(_measured(one, column)) for column in _columns(noise)),
        ]
        for one in noise["candidates"][:PAIRS_SHOWN]
    ]
    head: list[str | Cell] = [
        "Item", "Input", "Its labels" if noise["multi_label"] else "Its label",
        "The models say" if noise["models"] else "The model says", *map(number_head, _columns(noise)),
    ]  # fmt: skip
    frame = pd.DataFrame(
        [
            {key: value for key, value in one.items() if key not in ("answers", "doubts")}
            | {answer["model"]: answer["answer"] for answer in one["answers"]}
            for one in noise["candidates"]
        ]
    )
    n = noise["n_candidates"]
    what = (
        f"{formats.plural(n, 'item')} with doubtful labels"
        if noise["multi_label"]
        else formats.plural(n, "doubtful label")
    )
    title = f"{what}, most certain first"
    components.data_table(title, head, rows, frame, key="noise")
    if noise["n_candidates"] > PAIRS_SHOWN:
        st.caption(f"The first {PAIRS_SHOWN} of {noise['n_candidates']:,}.")


def _columns(noise: Json) -> list[str]:
    """Of several labels each has its probability beside it."""
    by_models = noise["method"] == "evaluations" and noise["basis"] == "answers"
    first = ["Models"] if by_models else [] if noise["multi_label"] else ["Its label has"]
    return first if noise["multi_label"] else [*first, "Probability"]


def _measured(one: Json, column: str) -> str:
    if column == "Models":
        # Of several labels: how many doubt the first one in doubt.
        models = one["doubts"][0]["models"] if one["doubts"] else one["models"]
        return f"{models} of {len(one['answers'])}"
    return formats.percent(one["label_probability" if column == "Its label has" else "probability"])


def _suggested(one: Json) -> str:
    """What the models answer, and which of them."""
    said = "<br>".join(
        f'<span class="ts-dim">{html.escape(answer["model"])}: {html.escape(_answer(answer["answer"]))}'
        + ("" if answer["probability"] is None else f" ({formats.percent(answer['probability'])})")
        + "</span>"
        for answer in one["answers"][:MODELS_SHOWN]
    )
    suggested = "<br>".join(map(html.escape, map(_change, one["doubts"]))) or html.escape(one["suggested"])
    return f"<b>{suggested}</b>" + (f"<br>{said}" if said else "")


def _change(doubt: Json) -> str:
    """What becomes of a label, and how certain that is."""
    has, given = doubt["probability"], doubt["given"]
    sure = "" if has is None else f" ({formats.percent(1 - has if given else has)})"
    return f"{'without' if given else 'with'} {doubt['label']}{sure}"


def _answer(answer: str | None) -> str:
    return "no answer" if answer is None else answer or "no label"


def noise_method(noise: Json) -> str:
    each = " Each label is judged by itself, as one that an item has or has not." if noise["multi_label"] else ""
    return _judged_by(noise) + each


def _judged_by(noise: Json) -> str:
    if noise["method"] == "evaluations" and noise["basis"] == "label_scores":
        asked = formats.plural(len(noise["models"]), "model")
        return (
            f"By confident learning (Northcutt et al. 2021), over the mean probabilities of {asked} "
            f"({', '.join(noise['models'][:6])}): listed is where another label is at least as likely as it is on "
            "average where it is right, and likelier than the item's own."
        )
    if noise["method"] == "evaluations":
        asked = formats.plural(len(noise["models"]), "model")
        return (
            f"Asked: {asked} ({', '.join(noise['models'][:6])}). Listed is what more than half of them answer alike, "
            "and otherwise than the label"
            + ("." if noise["multi_label"] else "; an answer with a probability under 90 % does not count.")
        )
    whats = "items, in all their labels" if noise["multi_label"] else "labels"
    return (
        f"By confident learning (Northcutt et al. 2021): a simple model, taught on four fifths of the data at a time, "
        f"judges the rest. It agrees with {formats.percent(noise['accuracy'])} of {noise['judged']:,} {whats}; what it "
        "is surest about otherwise is worth a look."
    )


# --- train against test ---


def leakage_part(found: Json) -> None:
    warnings(found["warnings"])
    near = formats.NONE if found["n_near"] is None else f"{found['n_near']:,}"
    n = found["test"]["n_items"]
    st.html(
        components.facts(
            [
                ("Test items in training", f"{found['n_exact']:,} ({formats.percent(found['n_exact'] / n)})"),
                ("Nearly in training", near if found["n_near"] is None
                 else f"{near} ({formats.percent(found['n_near'] / n)})"),
                ("Labels, chi-square", _difference(found["label_difference"], "V")),
                ("Lengths, Kolmogorov-Smirnov", _difference(found["length_difference"], "D")),
            ]
        )
    )  # fmt: skip
    left, right = st.columns(2, gap="small")
    with left:
        shares_chart(found)
    with right:
        names = [("training", found["train_lengths"]), ("test", found["test_lengths"])]
        frame = lengths_frame(names)
        components.chart(data_charts.lengths(frame), frame, title="Characters an input", key="leakage-lengths")
    sentence = "A score on these is memory: take them out of one of the two sets."
    pairs_table("In both", sentence, found["pairs"], ("Training", "Test"), key="leaked")


def _difference(one: Json, letter: str) -> str:
    if one["p_value"] is None:
        return (one["reason"] or formats.NONE).replace("_", " ")
    p = formats.p_value(one["p_value"])
    return f"p {p if p.startswith('<') else f'= {p}'}, {letter} = {one['effect']:.2f}"


def shares_chart(found: Json) -> None:
    labels = pd.DataFrame(found["labels"], columns=["label", "train", "test"])
    if found["label_difference"]["reason"] == "no_labels":
        components.section("Share of each label")
        st.caption("One of the two sets has no labels: there is nothing to compare.")
        return
    shares = labels.assign(**{side: 100 * labels[side] / max(1, labels[side].sum()) for side in ("train", "test")})
    order = (shares["train"] - shares["test"]).abs().sort_values(ascending=False, kind="stable").index
    shown = shares.loc[order[:SHARES_SHOWN]]
    figure = data_charts.label_shares(shown, train="training", test="test")
    note = f"The {len(shown)} labels that differ most, of {len(labels)}." if len(labels) > SHARES_SHOWN else None
    components.chart(figure, labels, title="Share of each label", key="shares", note=note)
