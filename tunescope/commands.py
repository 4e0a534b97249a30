"""`tunescope sync` and `tunescope compare`: the commands that need nothing but the client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from tunescope import _settings
from tunescope._client import Client, Json
from tunescope._exceptions import TunescopeError
from tunescope._sync import Synced
from tunescope._sync import sync as sync_journals

__all__ = ["compare", "sync"]

COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}

Url = Annotated[
    str | None, typer.Option(help="The service.", envvar="TUNESCOPE_URL", show_default=_settings.DEFAULT_URL)
]
ApiKey = Annotated[str | None, typer.Option(help="Key, if the service asks for one.", envvar="TUNESCOPE_API_KEY")]


def sync(
    directory: Annotated[
        Path | None, typer.Argument(help="A folder of journals, of one run or of many.", envvar="TUNESCOPE_DIR")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    clean: Annotated[bool, typer.Option("--clean", help="Remove journals that are stored completely.")] = False,
) -> None:
    """Send what runs have recorded and the service does not have yet: offline runs, killed runs, runs still on.

    May be repeated at any time: nothing is stored twice.

    Example: tunescope sync ~/.local/state/tunescope
    """
    console = Console(stderr=False, highlight=False)
    place = directory if directory is not None else _settings.directory()
    points = left = failed = 0
    with explained(console), Client(url, api_key) as client:
        for done in sync_journals(place, client, clean=clean):
            points, left = points + done.points, left + done.left
            failed += done.outcome == "failed"
            if done.outcome != "nothing new" or done.unreadable:
                console.print(_line(done), soft_wrap=True)
    console.print(f"{points:,} points sent, {left:,} left in {place}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _line(done: Synced) -> str:
    text = f"{done.run_id}  {done.outcome}, {done.points:,} points"
    if done.outcome == "busy":
        text = f"{done.run_id}  is being sent by another process"
    if done.unreadable:
        text += f", {done.unreadable:,} bytes at the end are not readable (cut by a kill)"
    return f"{text}: {done.problem}" if done.problem else text


def compare(
    baseline: Annotated[str, typer.Argument(help="Id of the run to compare with.")],
    candidate: Annotated[str, typer.Argument(help="Id of the run to judge.")],
    suite: Annotated[
        str | None, typer.Option(help="Name of the suite; needed if the runs share several.", show_default="the shared")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to judge by.", show_default="the suite's")] = None,
    margin: Annotated[float | None, typer.Option(help="Largest difference that does not matter.", min=0.0)] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Is one run better than another? Better, worse, equivalent or inconclusive, with the evidence.

    Example: tunescope compare 0198f0c2a7 0198f0c3b1 --suite intents --metric accuracy --margin 0.01
    """
    console = Console(highlight=False)
    with explained(console), Client(url, api_key) as client:
        first, second = _shared_evaluations(client, baseline, candidate, suite)
        card = client.compare(first["id"], second["id"], metric=metric, margin=margin)
        names = [client.get_run(run_id)["name"] for run_id in (baseline, candidate)]
    console.print(_card(card, *names))


class explained:  # noqa: N801  (reads as a word at its call)
    """Ends the command with one sentence instead of a traceback."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TunescopeError):
            self._console.print(f"[red]{error}[/]", soft_wrap=True)
            raise typer.Exit(1) from None


def _shared_evaluations(client: Client, baseline: str, candidate: str, suite: str | None) -> tuple[Json, Json]:
    """The newest evaluation of each run on one version of one suite."""
    runs = [
        {e["suite_id"]: e for e in reversed(client.list_evaluations(run_id=run_id, suite=suite, limit=1000)["items"])}
        for run_id in (baseline, candidate)
    ]
    shared = sorted(runs[0].keys() & runs[1].keys())
    where = f"on suite '{suite}'" if suite else "on a common suite"
    if not shared:
        raise TunescopeError(f"The two runs have no evaluations {where} (in the same version).")
    names = sorted({runs[0][suite_id]["suite"]["name"] for suite_id in shared})
    if len(names) > 1:
        raise TunescopeError(f"The runs share several suites: choose one with --suite ({', '.join(names)}).")
    newest = max(shared, key=lambda suite_id: runs[0][suite_id]["suite"]["version"])
    return runs[0][newest], runs[1][newest]


def _card(card: Json, baseline_name: str, candidate_name: str) -> Panel:
    """A verdict card for the terminal."""
    colour = COLOURS.get(card["verdict"], "white")
    table = Table.grid(padding=(0, 3))
    suite = card["baseline"]["suite"]
    percent = round(100 * card["confidence"])
    rows: list[tuple[str, Any]] = [
        (f"{baseline_name} (baseline)", _number(card["baseline_value"])),
        (f"{candidate_name} (candidate)", _number(card["candidate_value"])),
        (
            "difference",
            f"{_number(card['difference'], sign=True)}   {percent} % interval {_interval(card['interval'])}",
        ),
        ("p-value", f"{_number(card['p_value'])}   {card['test'] or ''}"),
        ("items", f"{card['n']:,}   gained {_count(card['gained'])}, lost {_count(card['lost'])}"),
    ]
    if card.get("smallest_detectable") is not None:
        rows.append(("smallest difference seen", _number(card["smallest_detectable"])))
    if card["verdict"] == "inconclusive" and card.get("n_needed"):
        rows.append(("items needed", f"{card['n_needed']:,}"))
    if card.get("reason"):
        rows.append(("reason", str(card["reason"])))
    for name, value in rows:
        table.add_row(f"[dim]{name}[/]", value)
    outer = Table.grid()
    outer.add_row(f"[bold]{card['sentence']}[/]")
    outer.add_row("")
    outer.add_row(table)
    title = f"[bold {colour}]{card['verdict'].upper()}[/] · {card['metric']} on {suite['name']} v{suite['version']}"
    return Panel(outer, title=title, title_align="left", border_style=colour, expand=False)


def _number(value: float | None, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+.4g}" if sign else f"{value:.4g}"


def _interval(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"[{bounds[0]:+.4g}, {bounds[1]:+.4g}]".replace("[", r"\[")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
