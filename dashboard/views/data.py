"""Trust the data: balance, lengths, repeated texts, labels that are probably wrong, and what leaks into the test."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from dashboard import components, data, data_parts, formats, navigate

Json = dict[str, Any]
Kind = Literal["dataset", "suite"]
VIEWS = ["Overview", "Repeated", "Labels", "Leakage"]
# Of how many runs that were trained on a set it is asked what they were tested on.
RUNS_ASKED = 20
SENTENCE = "Is this fit to train or to test on: balance, lengths, repeated texts, doubtful labels, leakage."


def render() -> None:
    components.header("Data", SENTENCE)
    sets: dict[str, tuple[Kind, Json]] = {one["id"]: ("dataset", one) for one in data.datasets()}
    sets |= {one["id"]: ("suite", one) for one in data.suites()}
    if not sets:
        components.empty(
            "No data yet",
            "Check what you train on; it is stored as a data set and shown here. Suites are shown too.",
            "tunescope data check train.csv --test test.csv",
            icon="dataset",
        )
        return
    set_id = components.pick("Data set or suite", list(sets), {key: title(*one) for key, one in sets.items()}, "id")
    kind, chosen = sets[set_id]
    with st.spinner("Comparing every text with every other…", show_time=True):
        found = data.quality(kind, set_id)
    summary(kind, chosen, found)
    overview, repeated, labels, leakage = st.tabs(VIEWS, key="tab", on_change="rerun", bind="query-params")
    if overview.open:
        with overview:
            overview_part(found)
    if repeated.open:
        with repeated:
            data_parts.repeated_part(found["duplicates"])
            data_parts.near_part(found["near_duplicates"])
    if labels.open:
        with labels, st.spinner("Asking what the labels should be…", show_time=True):
            data_parts.noise_part(data.label_noise(kind, set_id))
    if leakage.open:
        with leakage:
            leakage_part(kind, set_id, sets)


def title(kind: Kind, one: Json) -> str:
    return f"{one['name']} v{one['version']} · {'data set' if kind == 'dataset' else 'suite'}, {one['n_items']:,}"


def summary(kind: Kind, chosen: Json, found: Json) -> None:
    near = found["near_duplicates"]["n_items"]
    facts = [
        ("Items", f"{found['n_items']:,}"),
        ("Labels", formats.count(found["balance"]["n_labels"] or None)),
        ("Evenness", formats.number(found["balance"]["evenness"], 3)),
        ("Repeated", f"{found['duplicates']['n_extra']:,}"),
        ("Nearly repeated", formats.NONE if near is None else f"{near:,}"),
        ("Hash", formats.short(chosen["hash"])),
    ]
    if kind == "dataset" and chosen["source"]:
        facts.append(("File", chosen["source"]))
    st.html(components.facts(facts))
    if kind == "suite":
        return
    runs = data.dataset(chosen["id"])["runs"]
    if runs:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="record-runs"):
            st.markdown("Trained on it:", width="content")
            for run in runs[:6]:
                navigate.link("run", run["name"], "timeline", id=run["id"])
            if len(runs) > 6:
                st.markdown(f"and {len(runs) - 6} more", width="content")


def overview_part(found: Json) -> None:
    data_parts.warnings(found["warnings"])
    left, right = st.columns(2, gap="small")
    labelled = bool(found["balance"]["labels"])
    with left:
        if labelled:
            data_parts.balance_part(found["balance"])
        else:
            data_parts.lengths_part("Characters an input", found["input_lengths"], "input-lengths")
    with right:
        if labelled:
            data_parts.lengths_part("Characters an input", found["input_lengths"], "input-lengths")
        data_parts.lengths_part("Characters an answer", found["answer_lengths"], "answer-lengths")
        data_parts.coverage_part(found["coverage"], found["n_items"])


def leakage_part(kind: Kind, set_id: str, sets: dict[str, tuple[Kind, Json]]) -> None:
    """What is in this set and in another. A suite is tested on, so the other is what was trained on."""
    others = {key: title(*one) for key, one in sets.items() if key != set_id}
    if not others:
        components.empty(
            "Nothing to compare with",
            "Store the other set too: the one that is tested on, or trained on.",
            "tunescope data check train.csv --test test.csv",
            icon="compare_arrows",
        )
        return
    wanted: Kind = "dataset" if kind == "suite" else "suite"
    answered = answered_by_its_runs(set_id) if kind == "dataset" else set()
    order = sorted(others, key=lambda key: (key not in answered, sets[key][0] != wanted))
    label = "Trained on" if kind == "suite" else "Tested on"
    other = components.pick(label, order, others, "against")
    train, test = (other, set_id) if kind == "suite" else (set_id, other)
    with st.spinner("Comparing the two sets…", show_time=True):
        found = data.leakage(train, test)
    data_parts.leakage_part(found)


def answered_by_its_runs(dataset_id: str) -> set[str]:
    """The suites that models trained on this set were tested on: those are to be free of it."""
    runs = [run["id"] for run in data.dataset(dataset_id)["runs"]][:RUNS_ASKED]
    return {one["suite_id"] for one in data.evaluations_of_runs(runs)} if runs else set()


render()
