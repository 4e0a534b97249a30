"""The verdict card, its drawn interval, and the strip that shows how a record links up. A verdict looks the same on
every page: word, icon and colour; the sentence; the interval; what it rests on."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from dashboard import components, data, formats, navigate
from dashboard.components import Cell

Json = dict[str, Any]


def interval_bar(
    value: float, bounds: Sequence[float], label: Callable[[float], str], *, margin: float = 0.0, tone: str = "blue"
) -> str:
    """The interval of a difference against zero, drawn: what lies within the margin is shaded."""
    place = _scale([*bounds, value, 0.0, -margin, margin])
    low, high = (place(bound) for bound in bounds)
    shaded = ""
    if margin > 0:
        left, right = place(-margin), place(margin)
        shaded = f'<span class="allowed" style="left:{left:.2f}%;width:{right - left:.2f}%"></span>'
    labels = [(low, label(bounds[0]), ""), (high, label(bounds[1]), "")]
    if high - low > 22:
        labels.append((place(value), label(value), "strong"))
    if min(abs(place(0.0) - at) for at, _, _ in labels) > 12:
        labels.append((place(0.0), "0", ""))
    texts = "".join(
        f'<span class="label {kind}" style="left:{min(max(at, 4), 96):.2f}%">{html.escape(text)}</span>'
        for at, text, kind in labels
    )
    return (
        f'<div class="ts-interval ts-{tone}"><span class="axis"></span>{shaded}'
        f'<span class="zero" style="left:{place(0.0):.2f}%"></span>'
        f'<span class="range" style="left:{low:.2f}%;width:{high - low:.2f}%"></span>'
        f'<span class="point" style="left:{place(value):.2f}%"></span>{texts}</div>'
    )


def mini_interval(
    value: float | None,
    bounds: Sequence[float | None] | None,
    domain: tuple[float, float],
    *,
    zero: float | None = 0.0,
    limit: float | None = None,
    tone: str = "blue",
) -> Cell:
    """An interval small enough for a table row, on the domain all rows share. A missing bound runs to the edge."""
    if value is None:
        return components.text_cell(formats.NONE, "ts-dim")
    width = (domain[1] - domain[0]) or 1.0

    def place(at: float) -> float:
        return min(100.0, max(0.0, (at - domain[0]) / width * 100))

    parts = ['<span class="axis"></span>']
    if zero is not None and domain[0] <= zero <= domain[1]:
        parts.append(f'<span class="zero" style="left:{place(zero):.2f}%"></span>')
    if limit is not None:
        parts.append(f'<span class="limit" style="left:{place(limit):.2f}%"></span>')
    if bounds is not None:
        low = 0.0 if bounds[0] is None else place(bounds[0])
        high = 100.0 if bounds[1] is None else place(bounds[1])
        parts.append(f'<span class="range" style="left:{low:.2f}%;width:{high - low:.2f}%"></span>')
    parts.append(f'<span class="point" style="left:{place(value):.2f}%"></span>')
    return Cell(f'<span class="ts-mini ts-{tone}">{"".join(parts)}</span>')


def _scale(marks: Sequence[float]) -> Callable[[float], float]:
    low, high = min(marks), max(marks)
    room = (high - low or 1.0) * 0.12
    low, high = low - room, high + room
    return lambda at: (at - low) / (high - low) * 100


def headline(state: str, sentence: str, *, aside: str = "", large: bool = False) -> str:
    color, icon, word = components.mark(state)
    size = " ts-large" if large else ""
    return (
        f'<div class="ts-verdict ts-{color}{size}"><span class="ts-icon">{icon}</span>{html.escape(word)}'
        f'<small>{html.escape(aside)}</small></div><div class="ts-sentence">{html.escape(sentence)}</div>'
    )


def comparison_card(card: Json, *, key: str, links: bool = True) -> None:
    """The verdict on two evaluations, as the service gives it."""
    color = components.mark(card["verdict"]).color
    metric = card["metric"]
    suite = card["candidate"]["suite"]
    body = headline(card["verdict"], card["sentence"], aside=f"{suite['name']} v{suite['version']} · {metric}")
    body += _drawn(card) + components.facts(comparison_facts(card))
    with st.container(border=True, key=f"verdict-{color}-{key}", gap="xsmall"):
        st.html(body)
        if links:
            with st.container(horizontal=True, gap="small"):
                candidate, baseline = card["candidate"]["id"], card["baseline"]["id"]
                navigate.link("evaluations", "Items that flipped", "swap_vert", id=candidate, versus=baseline,
                                tab="Flips")  # fmt: skip
                navigate.link("evaluations", "Evaluation", "fact_check", id=candidate)


def configuration_card(card: Json, labels: tuple[str, str], *, key: str) -> None:
    """The verdict on two configurations, each by its runs; `labels` are the baseline's and the candidate's."""
    color = components.mark(card["verdict"]).color
    metric = card["metric"]
    suite = card["candidate"]["evaluations"][0]["suite"]
    body = headline(card["verdict"], card["sentence"], aside=f"{suite['name']} v{suite['version']} · {metric}")
    body += _drawn(card)
    facts = [
        (f"{label}, {formats.plural(len(spread['values']), 'run')}", spread_text(spread, metric))
        for label, spread in zip(labels, (card["baseline"], card["candidate"]), strict=True)
    ]
    facts += [("Items", f"{card['n']:,}"), ("p", formats.p_value(card["p_value"]))]
    if card["share_of_seeds"] is not None:
        facts.append(("Variance from seeds", formats.percent(card["share_of_seeds"], 0)))
    facts.append(("Test", card["test"].replace("_", " ").replace("-", " ")))
    body += components.facts(facts)
    with st.container(border=True, key=f"verdict-{color}-{key}", gap="xsmall"):
        st.html(body)


def spread_text(spread: Json, metric: str) -> str:
    """Mean ± standard deviation between runs: 94.5 ± 0.8 %."""
    mean, sd = (formats.measured(metric, spread[name]) for name in ("mean", "sd"))
    if spread["sd"] is None:
        return mean
    return f"{mean.removesuffix(' %')} ± {sd}" if mean.endswith(" %") else f"{mean} ± {sd}"


def _drawn(card: Json) -> str:
    if card["interval"] is None or card["difference"] is None:
        return ""
    return interval_bar(
        card["difference"],
        card["interval"],
        lambda bound: formats.change(card["metric"], bound).removesuffix(" points"),
        margin=card["margin"],
        tone=components.mark(card["verdict"]).color,
    )


def comparison_facts(card: Json) -> list[tuple[str, str]]:
    metric = card["metric"]
    pairs = [
        ("Baseline", formats.measured(metric, card["baseline_value"])),
        ("Candidate", formats.measured(metric, card["candidate_value"])),
        ("n", f"{card['n']:,}"),
        ("p", formats.p_value(card["p_value"])),
    ]
    if card.get("p_adjusted") is not None:
        pairs.append(("p, Holm", formats.p_value(card["p_adjusted"])))
    if card["gained"] is not None and card["lost"] is not None:
        pairs.append(("Gained / lost", f"{card['gained']:,} / {card['lost']:,}"))
    if card["smallest_detectable"] is not None:
        pairs.append(("Smallest detectable", formats.change(metric, card["smallest_detectable"]).lstrip("+")))
    if card["n_needed"] is not None:
        pairs.append(("Would settle it", f"{card['n_needed']:,} items"))
    if card["test"] is not None:
        pairs.append(("Test", card["test"].replace("_", " ").replace("-", " ")))
    return pairs


# --- the record links up ---


def record(
    *,
    key: str,
    run: Json | None,
    versions: Sequence[Json],
    evaluations: Sequence[Json],
    audits: Sequence[Json],
    experiments: Sequence[Json],
) -> None:
    """data → run → model version → evaluation → audit → experiment: every step a link, what is missing left out.

    Of `evaluations`, newest first, the first on each suite is shown.
    """
    steps: list[tuple[str, Callable[[], None]]] = []
    if run is not None:
        if run.get("data_hash"):
            steps.append(("data", partial(_data_step, run)))
        steps.append(("run", partial(navigate.link, "run", run["name"], "timeline", id=run["id"])))
    steps.extend(("version", partial(version_link, version)) for version in versions[:2])
    newest: dict[str, Json] = {}
    for evaluation in evaluations:
        newest.setdefault(evaluation["suite"], evaluation)
    steps.extend(("evaluation", partial(evaluation_link, one)) for one in list(newest.values())[:3])
    steps.extend(("audit", partial(audit_link, audit)) for audit in audits[:2])
    steps.extend(("experiment", partial(experiment_link, experiment)) for experiment in experiments[:2])
    if len(steps) < 2:
        return
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key=f"record-{key}"):
        previous = None
        for kind, draw in steps:
            if previous is not None:
                st.markdown("·" if kind == previous else "›", width="content")
            draw()
            previous = kind


def _data_step(run: Json) -> None:
    navigate.link("run", f"data {formats.short(run['data_hash'])}", "database", id=run["id"], view="Config",
                    help="The hash of the training data, beside the config it was used with")  # fmt: skip


def version_link(version: Json) -> None:
    navigate.link("models", f"{version['name']} v{version['version']}", "deployed_code", name=version["name"],
                    version=str(version["version"]))  # fmt: skip


def evaluation_link(evaluation: Json) -> None:
    value = formats.measured(evaluation["metric"] or "", evaluation["value"])
    navigate.link("evaluations", f"{evaluation['suite']} {value}", "fact_check", id=evaluation["id"])


def audit_link(audit: Json) -> None:
    mark = components.mark(audit["verdict"])
    navigate.link("forgetting", f"audit: {mark.word}", mark.icon, id=audit["id"])


def experiment_link(experiment: Json) -> None:
    navigate.link("experiments", experiment["key"], "call_split", key=experiment["key"])


def run_name(run_id: str | None) -> str | None:
    """The name of a run an object points at."""
    return None if run_id is None else str(data.run(run_id)["name"])


def run_names(of: Iterable[Json]) -> dict[str, str]:
    """The names of the runs that some objects point at, read together."""
    return data.run_names(list(dict.fromkeys(one["run_id"] for one in of if one["run_id"] is not None)))
