"""An audit as the terminal shows it: the verdict, worst task first, and what stands beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from tunescope._client import Json

__all__ = ["card", "day"]

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INVALID": "magenta"}
WAIVERS = {"valid": "green", "expired": "yellow", "revoked": "red"}
LOST_GROUPS = 5


def card(audit: Json) -> Panel:
    colour = COLOURS.get(audit["verdict"], "white")
    policy = audit["policy"]
    parts: list[RenderableType] = [f"[bold]{escape(audit['sentence'])}[/]", "", _tasks(audit["tasks"])]
    for title, lines in (
        ("What was lost", list(_lost(audit["tasks"]))),
        ("Noise floor", list(_floors(audit["tasks"]))),
        ("Drift on general text", list(_drift(audit.get("drift")))),
        ("Not valid because", [escape(problem) for problem in audit["problems"]]),
        ("Notes", [escape(note) for note in audit["notes"]]),
        ("What usually helps", [escape(f"{one['text']} {one['evidence']}") for one in audit["advice"]]),
        ("Waivers", list(_waivers(audit["waivers"]))),
    ):
        if lines:
            parts += ["", f"[dim]{title}[/]", *(f"  {line}" for line in lines)]
    intact = "" if audit["intact"] else "   [bold red]the stored record does not match its hash[/]"
    parts += ["", f"[dim]audit {audit['id']}   SHA-256 {audit['hash']}[/]{intact}"]
    title = f"[bold {colour}]{audit['verdict']}[/] · policy {escape(policy['name'])} v{policy['version']}"
    return Panel(Group(*parts), title=Text.from_markup(title, emoji=False), title_align="left", border_style=colour)


def _tasks(tasks: Sequence[Json]) -> Table:
    right = {"justify": "right", "no_wrap": True}
    table = Table(
        "verdict",
        Column("task", overflow="fold"),
        Column("n", **right),  # type: ignore[arg-type]
        Column("before → after", **right),  # type: ignore[arg-type]
        Column("change, interval", **right),  # type: ignore[arg-type]
        Column("margin", **right),  # type: ignore[arg-type]
        Column("lost/gained", **right),  # type: ignore[arg-type]
        Column("p", **right),  # type: ignore[arg-type]
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for task in tasks:
        table.add_row(
            f"[{COLOURS.get(task['verdict'], 'white')}]{task['verdict']}[/]",
            escape(task["suite"]) + (" [dim](lower is better)[/]" if task.get("direction") == "lower" else ""),
            f"{task['n']:,}",
            f"{_number(task['before'])} → {_number(task['after'])}",
            f"{_signed(task['difference'])} {_interval(task['interval'])}",
            f"{task['margin']:g}",
            f"{task['lost']:,}/{task['gained']:,}",
            "–" if task["p_adjusted"] is None else f"{task['p_adjusted']:.2g}",
        )
    return table


def _lost(tasks: Sequence[Json]) -> Iterator[str]:
    for task in tasks:
        if not task["lost"]:
            continue
        groups = [f"{escape(one['group'])} {one['lost']:,}" for one in task["by_group"] if one["lost"]][:LOST_GROUPS]
        share = "" if task["F"] is None else f", F {task['F']:.3f}"
        chance = "" if task["F_true"] is None or not task["F_chance"] else f" ({task['F_true']:.3f} beyond chance)"
        where = f": {', '.join(groups)}" if groups else ""
        yield f"{escape(task['suite'])}: {task['lost']:,} of {task['n']:,}{share}{chance}{where}"


def _floors(tasks: Sequence[Json]) -> Iterator[str]:
    for task in tasks:
        if (floor := task.get("floor")) is not None:
            called = "forgetting" if floor["called"] else "not called forgetting"
            yield (
                f"{escape(task['suite'])}: the base against itself lost {floor['n10']:,}, gained {floor['n01']:,}; "
                f"above it {_signed(floor['above'])} {_interval(floor['interval'])}: {called}"
            )


def _drift(drift: Json | None) -> Iterator[str]:
    if drift is None:
        return
    names = {"delta_nll": "ΔNLL per token", "perplexity_ratio": "perplexity ratio", "kl": "KL(base‖tuned)"}
    told = (f"{name} {drift[key]['value']:.4g} {_interval(drift[key]['interval'])}" for key, name in names.items())
    yield "   ".join(told)
    yield f"{drift['n_tokens']:,} tokens of {drift['n_texts']:,} texts; a warning, not part of the verdict"


def _waivers(waivers: Sequence[Json]) -> Iterator[str]:
    for one in waivers:
        what = "all tasks" if one["suite"] is None else escape(one["suite"])
        taken = f" by {escape(one['revoked']['who'])}" if one["revoked"] else ""
        yield (
            f"[{WAIVERS.get(one['state'], 'white')}]{one['state']}{taken}[/]  {what}, until {day(one['until'])}  "
            f"{escape(one['who'])}: {escape(one['why'])}  [dim]{one['id']}[/]"
        )


def day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _interval(bounds: Sequence[Any] | None) -> str:
    return "" if bounds is None else rf"\[{bounds[0]:+.3f}, {bounds[1]:+.3f}]"
