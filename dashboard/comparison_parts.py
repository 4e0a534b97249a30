"""Evaluations of one suite judged together: each against one baseline, or configurations by their runs' seeds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from dashboard import components, data, formats, readings, verdicts
from dashboard.components import Cell, number_head, numeric, text_cell

Json = dict[str, Any]
EACH = ""
# More verdicts than this are rows of a table, not cards.
CARDS_UP_TO = 6
TESTS = {"bootstrap": "paired bootstrap", "randomisation": "approximate randomisation"}


class Side(NamedTuple):
    """A configuration and the evaluations of its runs."""

    label: str
    evaluations: list[Json]


def judge_by(runs: Sequence[Json], *, label: str = "Judge", param: str = "by") -> str:
    """Whether each run is judged by itself, or which runs count as one configuration. It stands in the URL."""
    options = {EACH: "each by itself", **readings.groupings(runs)}
    return components.pick(
        label, list(options), options, param, width=190,
        help="Runs of one configuration, such as its seeds, are judged together: by their mean, with the spread "
        "between them in the interval.",
    )  # fmt: skip


def sides(evaluations: Sequence[Json], runs: Sequence[Json], by: str) -> list[Side]:
    """The evaluations by configuration. One that belongs to no run is a side of its own."""
    by_run: dict[str, Json] = {}
    for one in evaluations:
        # Of several evaluations of a run the first one given stands for it: they are not independent.
        if one["run_id"] is not None:
            by_run.setdefault(one["run_id"], one)
    found = [
        Side(label, [by_run[run["id"]] for run in held if run["id"] in by_run])
        for label, held in readings.configurations(runs, by)
    ]
    alone = [one for one in evaluations if one["run_id"] is None]
    found += [Side(one["name"] or f"evaluation {one['id'][-6:]}", [one]) for one in alone]
    return [side for side in found if side.evaluations]


# --- chosen evaluations of one suite ---


def chosen_part(evaluations: Sequence[Json], titles: Sequence[str]) -> None:
    """What the chosen evaluations are judged by, and the verdicts."""
    names = dict(zip([one["id"] for one in evaluations], titles, strict=True))
    runs = data.runs_of(list(dict.fromkeys(one["run_id"] for one in evaluations if one["run_id"] is not None)))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        against = components.pick("Baseline", list(names), names, "against", width=200)
        baseline = next(one for one in evaluations if one["id"] == against)
        others = [one for one in evaluations if one["id"] != against]
        metric = pick_metric(baseline)
        share = formats.is_share(metric)
        margin = st.number_input(
            "Margin, points" if share else "Margin", 0.0, None, 0.0, 0.5 if share else 0.01, key="within",
            bind="query-params", width=130,
            help="Differences within ± this do not matter. With a margin, models can be found equivalent.",
        )  # fmt: skip
        by = judge_by(runs, param="together")
        margin = margin / 100 if share else margin
        test = pick_test(baseline, others, metric, margin) if by == EACH else None
    if by == EACH:
        titles = [names[one["id"]] for one in others]
        several_part(baseline, others, key="several", metric=metric, margin=margin, test=test, titles=titles)
        return
    found = sides([baseline, *others], runs, by)
    own = next(side for side in found if baseline in side.evaluations)
    rest = [side for side in found if side is not own]
    if not rest:
        st.caption("All of these are one configuration: there is nothing to compare it with.")
        return
    configurations_part(own, rest, key="configurations", metric=metric, margin=margin)


def pick_metric(evaluation: Json) -> str:
    """One of a suite's metrics, the primary one first. It stands in the URL."""
    metrics = [score["name"] for score in evaluation["scores"]]
    return components.pick("Metric", metrics, {name: name for name in metrics}, "score", width=150)


def pick_test(baseline: Json, candidates: Sequence[Json], metric: str, margin: float) -> str | None:
    """How a metric of the whole set, such as BLEU, is tested. It stands in the URL. None where there is one test."""
    found = data.comparisons(baseline["id"], [one["id"] for one in candidates], metric, margin)
    usual = TESTS["bootstrap"]
    if isinstance(found, str) or not any((card["test"] or "").startswith(usual) for card in found["items"]):
        return None
    return components.pick(
        "Test", list(TESTS), TESTS, "test", width=215,
        help="Both as sacrebleu's for texts; the interval is the bootstrap's either way.",
    )  # fmt: skip


# --- each against one baseline ---


def several_part(
    baseline: Json,
    candidates: Sequence[Json],
    *,
    key: str,
    metric: str | None = None,
    margin: float | None = None,
    test: str | None = None,
    titles: Sequence[str] | None = None,
) -> None:
    """Verdicts on the candidates, corrected for their number. With `titles`, a table of them besides the cards."""
    found = data.comparisons(baseline["id"], [one["id"] for one in candidates], metric, margin, test)
    if isinstance(found, str):
        st.warning(found, icon=":material/block:")
        return
    cards = found["items"]
    if len(cards) == 1:
        # Of one comparison there is nothing to allow for.
        cards = [cards[0] | {"p_adjusted": None}]
    if titles is not None or len(cards) > CARDS_UP_TO:
        verdict_table(cards, titles or [_called(card["candidate"]) for card in cards], key=key)
    if len(cards) <= CARDS_UP_TO:
        grid = st.grid(2, min_column_width=340)
        for card in cards:
            with grid:
                verdicts.comparison_card(card, key=f"{key}-{card['candidate']['id']}")


# --- every pair ---


def pairs_part(suite: str, evaluations: Sequence[Json], titles: Sequence[str], *, key: str) -> None:
    """Each evaluation of the suite against each other: a row is judged against a column as its baseline."""
    ids = [one["id"] for one in evaluations]
    cards: dict[tuple[str, str], Json] = {}
    for baseline in ids:
        found = data.comparisons(baseline, [other for other in ids if other != baseline])
        if isinstance(found, str):
            st.warning(found, icon=":material/block:")
            return
        cards |= {(card["candidate"]["id"], baseline): card for card in found["items"]}
    metric = cards[ids[1], ids[0]]["metric"]
    rows: list[list[str | Cell]] = [
        [
            text_cell(title, "key"),
            score_cell(one, metric),
            *(Cell("", "ts-dim") if one["id"] == other else pair_cell(cards[one["id"], other]) for other in ids),
        ]
        for one, title in zip(evaluations, titles, strict=True)
    ]
    names = dict(zip(ids, titles, strict=True))
    frame = pd.DataFrame(
        [
            {"candidate": names[one], "baseline": names[other]}
            | {name: value for name, value in card.items() if name not in {"baseline", "candidate"}}
            for (one, other), card in cards.items()
        ]
    )
    head: list[str | Cell] = ["Is", number_head("Score, 95 %"), *(f"than {title}" for title in titles)]
    components.data_table(
        f"Every pair on {suite} by {metric}", head, rows, frame, key=key,
        sentence="Read along a row: what it is against each column. The verdicts in a column allow for their number "
        "(Holm).",
    )  # fmt: skip


def pair_cell(card: Json) -> Cell:
    change = html.escape(formats.change(card["metric"], card["difference"]).removesuffix(" points"))
    bounds = "" if card["interval"] is None else formats.interval(card["metric"], card["interval"], difference=True)
    p = formats.p_value(card["p_adjusted"])
    aside = f"p {p}" if p.startswith("<") else f"p = {p}"
    return Cell(
        f"{components.chip(card['verdict'])} <b>{change}</b> "
        f'<span class="ts-dim">{html.escape(bounds)}<br>{aside}, n = {card["n"]:,}</span>'
    )


def _called(evaluation: Json) -> str:
    return evaluation["name"] or verdicts.run_name(evaluation["run_id"]) or f"evaluation {evaluation['id'][-6:]}"


def verdict_table(cards: Sequence[Json], titles: Sequence[str], *, key: str) -> None:
    domain = difference_domain(cards)
    rows = [verdict_row(card, title, domain) for card, title in zip(cards, titles, strict=True)]
    metric = cards[0]["metric"]
    head: list[str | Cell] = [
        "Verdict", "Evaluation", number_head("Score, 95 %"), number_head(_difference_head(metric)), "",
        number_head("p"), number_head("p, Holm"), number_head("Gained / lost"), number_head("Settled by"),
    ]  # fmt: skip
    frame = pd.DataFrame(
        [
            {"evaluation": title, "id": card["candidate"]["id"]}
            | {name: value for name, value in card.items() if name not in {"baseline", "candidate"}}
            for card, title in zip(cards, titles, strict=True)
        ]
    )
    components.data_table(
        f"Against the baseline by {metric}, {cards[0]['n']:,} items", head, rows, frame, key=key,
        sentence=f"{formats.plural(len(cards), 'comparison')}; the verdict goes by p after Holm, which allows for "
        "their number. Each interval is its comparison's own.",
    )  # fmt: skip


def difference_domain(cards: Sequence[Json]) -> tuple[float, float]:
    """The range that all differences and zero span, with room at both ends."""
    ends = [end for card in cards for end in (*(card["interval"] or ()), card["difference"] or 0.0)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def verdict_row(card: Json, title: str, domain: tuple[float, float]) -> list[str | Cell]:
    metric, tone = card["metric"], components.mark(card["verdict"]).color
    flipped = card["gained"] is not None and card["lost"] is not None
    return [
        Cell(components.chip(card["verdict"])),
        text_cell(title, "key"),
        score_cell(card["candidate"], metric),
        difference_cell(card),
        verdicts.mini_interval(card["difference"], card["interval"], domain, tone=tone),
        numeric(formats.p_value(card["p_value"])),
        numeric(formats.p_value(card["p_adjusted"])),
        numeric(f"{card['gained']:,} / {card['lost']:,}" if flipped else formats.NONE),
        numeric(formats.NONE if card["n_needed"] is None else f"{card['n_needed']:,} items"),
    ]


def score_cell(evaluation: Json | None, metric: str | None = None) -> Cell:
    """A score with its interval; the suite's first metric where none is named."""
    scores = evaluation["scores"] if evaluation else []
    score = next((one for one in scores if metric in (None, one["name"])), None)
    if score is None:
        return numeric(formats.NONE)
    bounds = "" if score["interval"] is None else formats.interval(score["name"], score["interval"])
    value = html.escape(formats.measured(score["name"], score["value"]))
    return Cell(f'<b>{value}</b> <span class="ts-dim">{html.escape(bounds)}</span>', "num")


def _difference_head(metric: str) -> str:
    return "Difference, points, 95 %" if formats.is_share(metric) else "Difference, 95 %"


def difference_cell(card: Json) -> Cell:
    metric = card["metric"]
    change = formats.change(metric, card["difference"]).removesuffix(" points")
    bounds = "" if card["interval"] is None else formats.interval(metric, card["interval"], difference=True)
    return Cell(f"<b>{html.escape(change)}</b> {html.escape(bounds)}", "num")


# --- configurations ---


def configurations_part(
    baseline: Side,
    others: Sequence[Side],
    *,
    key: str,
    metric: str | None = None,
    margin: float | None = None,
) -> None:
    """Each configuration against the baseline's, by all their runs."""
    before = [one["id"] for one in baseline.evaluations]
    cards: list[tuple[Side, Json]] = []
    for side in others:
        found = data.configurations(before, [one["id"] for one in side.evaluations], metric, margin)
        if isinstance(found, str):
            st.warning(f"{side.label}: {found}", icon=":material/block:")
        else:
            cards.append((side, found))
    if not cards:
        return
    configuration_table(baseline, cards, key=key)
    if len(cards) <= CARDS_UP_TO:
        grid = st.grid(2, min_column_width=340)
        for place, (side, card) in enumerate(cards):
            with grid:
                verdicts.configuration_card(card, (baseline.label, side.label), key=f"{key}-{place}")


def configuration_table(baseline: Side, cards: Sequence[tuple[Side, Json]], *, key: str) -> None:
    told = [card for _, card in cards]
    domain = difference_domain(told)
    metric = told[0]["metric"]
    head: list[str | Cell] = [
        "Verdict", "Configuration", number_head("Runs"), number_head("Mean ± sd"),
        number_head(_difference_head(metric)), "",
        number_head("p"), number_head("Variance from seeds"),
    ]  # fmt: skip
    rows: list[list[str | Cell]] = [
        [
            text_cell("baseline", "ts-dim"), text_cell(baseline.label, "key"),
            *_spread_cells(told[0]["baseline"], metric), *[text_cell(formats.NONE, "num ts-dim")] * 4,
        ]
    ]  # fmt: skip
    for side, card in cards:
        tone = components.mark(card["verdict"]).color
        rows.append(
            [
                Cell(components.chip(card["verdict"])),
                text_cell(side.label, "key"),
                *_spread_cells(card["candidate"], metric),
                difference_cell(card),
                verdicts.mini_interval(card["difference"], card["interval"], domain, tone=tone),
                numeric(formats.p_value(card["p_value"])),
                numeric(formats.percent(card["share_of_seeds"], 0)),
            ]
        )
    spreads = [(baseline.label, told[0]["baseline"]), *((side.label, card["candidate"]) for side, card in cards)]
    frame = pd.DataFrame(
        [
            {"configuration": label, "run": name, metric: value}
            for label, spread in spreads
            for name, value in zip(spread["names"], spread["values"], strict=True)
        ]
    )
    components.data_table(
        f"Configurations by {metric}", head, rows, frame, key=key,
        sentence="Means over runs; intervals over items and seeds. Each comparison is at 95 % on its own.",
    )  # fmt: skip


def _spread_cells(spread: Json, metric: str) -> list[Cell]:
    return [numeric(f"{len(spread['values']):,}"), numeric(verdicts.spread_text(spread, metric))]
