"""What the demo prints: a sentence or a table for each step, in the service's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from trainer.demo.scoring import GENERAL, TICKETS, value
from trainer.demo.world import HELD_OUT
from trainer.report import COLOURS, count, duration

Json = dict[str, Any]
AUDIT_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "INVALID": "magenta"}
DECISION_COLOURS = COLOURS | {"not_worse": "green", "no_difference": "cyan", "broken": "red"}


def base(console: Console, made: Json) -> None:
    general = value(made["evaluations"][GENERAL])
    tickets = value(made["evaluations"][TICKETS])
    console.print(
        f"  knows {round(general['value'] * general['n'])} of {general['n']} facts; "
        f"tickets right: {tickets['value']:.3f}; {count(made['result']['total_parameters'])} parameters"
    )


def fine_tune(console: Console, made: Json) -> None:
    tickets, general = (value(made["evaluations"][suite]) for suite in (TICKETS, GENERAL))
    console.print(f"  tickets {with_interval(tickets)}; general knowledge {with_interval(general)}")


def cards(console: Console, cards: Sequence[Json]) -> None:
    for card in cards:
        colour = COLOURS.get(card["verdict"], "white")
        console.print(
            f"  [bold {colour}]{card['verdict'].upper():12}[/] {card['candidate_name']} against "
            f"{card['baseline_name']}, {card['suite']}"
        )
        console.print(f"  {'':12} [dim]{card['sentence']}[/]")


def audits(console: Console, audits: Mapping[str, Json], tuned: Mapping[str, Json]) -> None:
    for name, audit in audits.items():
        colour = AUDIT_COLOURS[audit["verdict"]]
        console.print(f"  [bold {colour}]{audit['verdict']:12}[/] {tuned[name]['title']}: {audit['sentence']}")


def readout(console: Console, readout: Json, traffic: Json) -> None:
    console.print(
        f"  {traffic['requests']:,} requests of {traffic['users']:,} simulated users in "
        f"{duration(traffic['seconds'])}: {traffic['right']:,} answered rightly, {traffic['rated']:,} rated, "
        f"{traffic['failed']:,} failed"
    )
    split = readout["split"]
    seen = ", ".join(f"{variant} {units:,}" for variant, units in split["observed"].items())
    sound = "as planned" if split["ok"] else "[red]not as planned[/]"
    p_value = "–" if split["p_value"] is None else f"{split['p_value']:.2f}"
    console.print(f"  split {sound}: {seen} users (p = {p_value})")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("  arm", "users", "requests", "satisfied", "task success", "seconds", "USD per 1,000"):
        table.add_column(heading, justify="left" if heading.strip() == "arm" else "right")
    for arm in readout["arms"]:
        metrics = arm["metrics"]
        table.add_row(
            f"  {arm['variant']}",
            f"{arm['units']:,}",
            f"{arm['requests']:,}",
            *(
                mean(metrics, name, digits)
                for name, digits in (("satisfaction", 3), ("task_success", 3), ("latency", 3))
            ),
            mean(metrics, "cost", 4, scale=1000),
        )
    console.print(table)
    declared = {metric["name"] for metric in readout["experiment"]["metrics"]}
    for effect in (one for one in readout["effects"] if one["metric"] in declared):
        console.print(f"  [dim]{effect['role']}: {effect['sentence']}[/]")


def table(
    console: Console,
    base: Json,
    tuned: Mapping[str, Json],
    audits: Mapping[str, Json],
    kept: Mapping[str, Mapping[str, float]],
) -> None:
    """One row a method: did it learn, what did it forget, what did it cost."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("method", no_wrap=True)
    headings = (
        "tickets",
        "general\nkept",
        "never\nreplayed",
        "audit",
        "training",
        "peak\nmemory",
        "parameters\ntrained",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("base", *row(base), "", "", *cost(base))
    for name, one in tuned.items():
        verdict = audits[name]["verdict"]
        colour = AUDIT_COLOURS[verdict]
        table.add_row(
            one["title"], *row(one), f"{kept[name][HELD_OUT]:.3f}", f"[bold {colour}]{verdict}[/]", *cost(one)
        )
    console.print(table)


def row(one: Json) -> tuple[str, str]:
    tickets, general = (value(one["evaluations"][suite]) for suite in (TICKETS, GENERAL))
    return with_interval(tickets), f"{general['value']:.3f}"


def cost(one: Json) -> tuple[str, str, str]:
    result = one["result"]
    memory = f"{result['peak_memory_bytes'] / 1e6:,.0f} MB"
    return f"{one['seconds']:.1f} s", memory, count(result["trainable_parameters"])


def verdict(console: Console, readout: Json, chosen: Json) -> None:
    found = readout["verdict"]
    colour = DECISION_COLOURS.get(found["decision"], "yellow")
    decision = found["decision"].replace("_", " ").upper()
    console.print(f"A/B test, base against '{chosen['title']}': [bold {colour}]{decision}[/]. {found['sentence']}")


def addresses(console: Console, service: str, dashboard: str, experiment: str) -> None:
    console.print(f"  dashboard  [bold]{dashboard}[/]")
    console.print(f"  service    {service}  (API: {service}/docs)")
    console.print(f"  gateway    POST {service}/v1/chat/completions with model exp:{experiment}")


def with_interval(score: Json) -> str:
    low, high = score["interval"]
    return f"{score['value']:.3f} ({low:.2f} to {high:.2f})"


def mean(metrics: Mapping[str, Json], name: str, digits: int, scale: float = 1.0) -> str:
    found = metrics.get(name, {}).get("value")
    return "–" if found is None else f"{found * scale:.{digits}f}"
