"""What the Experiments page shows before and after a test: the planner, and the rollout of a winner."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import charts, components, data, formats, verdicts
from dashboard.components import Cell, number_head, numeric
from tunescope import ApiError

Json = dict[str, Any]
DAYS = [3, 7, 14, 28, 56]
ANALYSES = {"always_valid": "looked at any time", "fixed": "one look at the end"}
HOLDOUT = "(holdout)"
"""The arm that held-out units are recorded under."""
LACKS = {"too_few_units": "too few users", "effect_impossible": "no difference shows"}


# --- before ---


def planner() -> None:
    """How long a test of a share must run, for the traffic that there is."""
    components.section("Planner", "Before the start: what so much traffic can show, and how long a difference takes.")
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        units = _number("New users a day", 500.0, "users", 1.0, 1e9, step=50.0)
        base = _number("Satisfied now, %", 60.0, "base", 0.1, 99.9)
        effect = _number("Worth finding, points", 5.0, "effect", 0.1, 99.0)
        rated = _number("Answers rated, %", 20.0, "rated", 0.1, 100.0)
        requests = _number("Questions a user", 3.0, "questions", 1.0, 1e6)
        alike = _number(
            "Alike within a user", 0.2, "alike", 0.0, 1.0, step=0.05,
            help="How alike one user's answers are: 0 as strangers', 1 always the same (intra-class correlation).",
        )  # fmt: skip
        analysis = st.selectbox(
            "Analysis", list(ANALYSES), key="plan_analysis", bind="query-params", width=190,
            format_func=lambda name: ANALYSES[name],
        )  # fmt: skip
    plan = data.plan_experiment(
        units_per_day=units,
        base_rate=base / 100,
        effect=effect / 100,
        rating_rate=rated / 100,
        requests_per_unit=requests,
        intra_unit_correlation=alike,
        analysis=analysis,
        days=tuple(DAYS),
    )
    st.html(f"<p><b>{html.escape(plan['sentence'])}</b></p>")
    rows: list[list[str | Cell]] = [
        [
            numeric(f"{horizon['days']:g}"),
            numeric(formats.count(horizon["units"])),
            numeric(
                formats.points(horizon["minimum_detectable_effect"]).lstrip("+")
                if horizon["reason"] is None
                else LACKS[horizon["reason"]]
            ),
            numeric(formats.relative(horizon["relative"])),
        ]
        for horizon in plan["horizons"]
    ]
    head: list[str | Cell] = [
        number_head("Days"), number_head("Users"), number_head("Smallest difference shown"), number_head("Relative"),
    ]  # fmt: skip
    note = f"With two equal arms, {formats.percent(plan['power'], 0)} power, at level {plan['level']:g}."
    components.data_table("What each duration shows", head, rows, pd.DataFrame(plan["horizons"]), key="plan",
                          sentence=note)  # fmt: skip


def _number(
    label: str, value: float, key: str, low: float, high: float, step: float = 1.0, help: str | None = None
) -> float:
    return float(
        st.number_input(
            label,
            min_value=low,
            max_value=high,
            value=value,
            step=step,
            format="%g",
            width=165,
            key=f"plan_{key}",
            bind="query-params",
            help=help,
        )
    )


# --- meanwhile ---


def arm_head(arm: Json) -> str:
    if arm["variant"] == HOLDOUT:
        return "held out"
    return f"{arm['variant']}{' (control)' if arm['is_control'] else ''}"


def past_of(experiment: Json) -> str:
    days = experiment["covariate_days"]
    return f"{days:g} days before the exposure" if days else formats.NONE


def bandit_of(experiment: Json) -> str:
    bandit = experiment["bandit"]
    if not bandit:
        return formats.NONE
    every = formats.duration(bandit["every_seconds"])
    return f"{bandit['metric'].replace('_', ' ')}, every {every}, at least {formats.percent(bandit['floor'], 0)}"


def ages_part(readout: Json) -> None:
    """Whether the effect fades as units get used to an arm: a row for each age of the units, once there are two."""
    points = [point for point in readout["by_age"] if point["absolute"] is not None]
    if len({point["from_day"] for point in points}) < 2:
        return
    several = len({(point["metric"], point["variant"]) for point in points}) > 1
    reach = 1.1 * (max(abs(end) for point in points for end in (*(point["interval"] or ()), point["absolute"])) or 1.0)
    rows: list[list[str | Cell]] = [
        [
            _days(point) + (f" · {point['metric'].replace('_', ' ')}, {point['variant']}" if several else ""),
            numeric(formats.count(point["units"])),
            Cell(
                f"<b>{formats.change(point['metric'], point['absolute'])}</b> "
                f"{formats.interval(point['metric'], point['interval'], difference=True)}",
                "num",
            ),
            verdicts.mini_interval(point["absolute"], point["interval"], (-reach, reach)),
        ]
        for point in points
    ]
    metrics = ", ".join(dict.fromkeys(point["metric"].replace("_", " ") for point in points))
    head: list[str | Cell] = [
        "Since the first exposure", number_head("Units"), number_head("Difference, interval"), Cell("Relative to zero"),
    ]  # fmt: skip
    components.data_table(
        "Does the effect last?", head, rows, pd.DataFrame(points), key="ages",
        sentence=f"The effect on {metrics} by how long a unit has known its arm: over the units that came back then.",
    )  # fmt: skip


def _days(point: Json) -> str:
    first, end = point["from_day"], point["to_day"]
    if end is None:
        return f"day {first} and later"
    if end == first + 1:
        return "first day" if first == 0 else f"day {first}"
    return f"days {first} to {end - 1}"


def shares_part(readout: Json) -> None:
    """What a bandit has made of the shares."""
    history = readout["shares_over_time"]
    if len(history) < 2:
        return
    # Each share holds until the next one begins: a line of steps.
    ends = [*(point["at"] for point in history[1:]), readout["computed_at"]]
    frame = pd.DataFrame(
        [
            {"at": at, "variant": arm, "absolute": share, "low": None, "high": None}
            for point, end in zip(history, ends, strict=True)
            for at in (point["at"], end)
            for arm, share in point["shares"].items()
        ]
    )
    components.chart(
        charts.timeline(frame, share=True), frame, title="Share of new users, %", key="shares",
        note="Shares follow the results; effects are weighted by the share that each unit's arm had when it came in.",
    )  # fmt: skip


# --- after ---


def rollout_part(experiment: Json) -> None:
    """How far the winner has come, what it waits for, or why it was ended."""
    rollout, winner = experiment["rollout"], experiment["decision"]["winner"]
    control = experiment["variants"][0]["key"]
    components.section("Rollout")
    share, state = formats.percent(rollout["share"], 0), rollout["state"]
    said = {
        "rolling": ("ts-blue", "trending_up", f"{share} of users get {winner}, the others {control}"),
        "done": ("ts-green", "check_circle", f"everybody gets {winner}"),
        "halted": ("ts-red", "front_hand", f"halted at {share}: everybody gets {control} again"),
    }
    color, icon, words = said[state]
    chip = f'<span class="ts-chip {color}"><span class="ts-icon">{icon}</span>{html.escape(words)}</span>'
    pairs = [("Steps", _steps(rollout))]
    if rollout["reason"]:
        pairs.append(("Why", rollout["reason"]))
    if state == "rolling":
        observed = data.readout(experiment["key"], experiment["phase"])["split"]["observed"]
        pairs.append(("Users at this step", " · ".join(f"{arm} {n:,}" for arm, n in observed.items())))
        pairs.append(("Next step waits for", rollout["waiting_for"] or "the first look"))
        pairs.append(("Looked at", formats.ago(rollout["checked_at"]) if rollout["checked_at"] else "not yet"))
    st.html(chip + components.facts(pairs))
    if state == "rolling":
        with st.container(horizontal=True, gap="small"):
            if st.button("Next step", icon=":material/skip_next:"):
                _advance(experiment)
            if st.button("Halt", icon=":material/front_hand:"):
                _halt(experiment, control)


def _steps(rollout: Json) -> str:
    reached = rollout["step"]
    marked = [
        f"{'✓ ' if place < reached or rollout['state'] == 'done' else '● ' if place == reached else ''}"
        f"{formats.percent(share, 0)}"
        for place, share in enumerate(rollout["steps"])
    ]
    return "  →  ".join(marked)


@st.dialog("Take the next step?")
def _advance(experiment: Json) -> None:
    rollout = experiment["rollout"]
    share = formats.percent(rollout["steps"][rollout["step"] + 1], 0)
    st.markdown(f"**{share} of users get the winner from now on**, without waiting for more evidence.")
    if st.button("Yes, next step", type="primary"):
        _do(lambda: data.advance_rollout(experiment["key"]))


@st.dialog("Halt the rollout?")
def _halt(experiment: Json, control: str) -> None:
    st.markdown(f"**Everybody gets {control} again.** A halted rollout cannot go on.")
    reason = st.text_area("Why", placeholder="What was seen.")
    if st.button("Yes, halt", type="primary", disabled=not reason):
        _do(lambda: data.halt_rollout(experiment["key"], reason))


def _do(action: Any) -> None:
    try:
        action()
    except ApiError as refused:
        st.error(refused.message)
        return
    st.rerun()
