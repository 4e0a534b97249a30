"""`tunescope sync` and `tunescope compare`: the commands that need nothing but the client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

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
    console = Console(stderr=False, highlight=False, emoji=False)
    place = directory if directory is not None else _settings.directory()
    points = left = failed = 0
    with explained(console), Client(url, api_key) as client:
        for done in sync_journals(place, client, clean=clean):
            points, left = points + done.points, left + done.left
            failed += done.outcome == "failed"
            if done.outcome != "nothing new" or done.unreadable:
                console.print(_line(done), soft_wrap=True, markup=False)
    console.print(f"{points:,} points sent, {left:,} left in {place}", soft_wrap=True, markup=False)
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
    candidates: Annotated[
        list[str], typer.Argument(help="Ids of the runs to judge. Ids joined by commas are seeds of one configuration.")
    ],
    suite: Annotated[
        str | None, typer.Option(help="Name of the suite; needed if the runs share several.", show_default="the shared")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric to judge by.", show_default="the suite's")] = None,
    margin: Annotated[float | None, typer.Option(help="Largest difference that does not matter.", min=0.0)] = None,
    test: Annotated[
        Literal["bootstrap", "randomisation"] | None,
        typer.Option(
            help="How metrics of the whole set, such as BLEU, are tested: by the paired bootstrap, or by approximate "
            "randomisation.",
            show_default="bootstrap",
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Is one run better than another? Better, worse, equivalent or inconclusive, with the evidence.

    Several runs against one: the verdicts are adjusted for their number. Seeds: means are compared, over items and
    seeds.

    Example: tunescope compare 0198f0c2a7 0198f0c3b1 --suite intents --metric accuracy --margin 0.01
    Example: tunescope compare 0198f0c2a7 0198f0c3b1 0198f0c3b2 0198f0c3b3
    Example: tunescope compare 0198f0c2a7 0198f0c3b1 --metric bleu --test randomisation
    Example: tunescope compare 0198f0c2a7,0198f0c2a8 0198f0c3b1,0198f0c3b2,0198f0c3b3
    """
    console = Console(highlight=False, emoji=False)
    given = [one.split(",") for one in (baseline, *candidates)]
    options: dict[str, Any] = {"metric": metric, "margin": margin}
    with explained(console), Client(url, api_key) as client:
        if any(len(runs) > 1 for runs in given) and len(given) > 2:
            raise TunescopeError("Seeds are compared for two configurations at a time.")
        if any(len(runs) > 1 for runs in given) and test:
            raise TunescopeError("Configurations are compared by a t-test over items and seeds: leave --test out.")
        shared = _shared_evaluations(client, [run for runs in given for run in runs], suite)
        if any(len(runs) > 1 for runs in given):
            ids = [one["id"] for one in shared]
            card = client.compare_configurations(ids[: len(given[0])], ids[len(given[0]) :], **options)
            console.print(_configurations(card))
        elif len(given) > 2:
            several = client.compare_several(shared[0]["id"], [one["id"] for one in shared[1:]], test=test, **options)
            console.print(_several(several, [escape(client.get_run(runs[0])["name"]) for runs in given[1:]]))
        else:
            card = client.compare(shared[0]["id"], shared[1]["id"], test=test, **options)
            console.print(_card(card, *(escape(client.get_run(runs[0])["name"]) for runs in given)))


class explained:  # noqa: N801  (reads as a word at its call)
    """Ends the command with one sentence instead of a traceback."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TunescopeError):
            self._console.print(str(error), style="red", soft_wrap=True, markup=False)
            raise typer.Exit(1) from None


def _shared_evaluations(client: Client, run_ids: list[str], suite: str | None) -> list[Json]:
    """The newest evaluation of each run on one version of one suite."""
    runs = [
        {e["suite_id"]: e for e in reversed(client.list_evaluations(run_id=run_id, suite=suite, limit=1000)["items"])}
        for run_id in run_ids
    ]
    shared = sorted(set(runs[0]).intersection(*runs[1:]))
    where = f"on suite '{suite}'" if suite else "on a common suite"
    if not shared:
        these = "two runs" if len(runs) == 2 else f"{len(runs)} runs"
        raise TunescopeError(f"The {these} have no evaluations {where} (in the same version).")
    names = sorted({runs[0][suite_id]["suite"]["name"] for suite_id in shared})
    if len(names) > 1:
        raise TunescopeError(f"The runs share several suites: choose one with --suite ({', '.join(names)}).")
    newest = max(shared, key=lambda suite_id: runs[0][suite_id]["suite"]["version"])
    return [found[newest] for found in runs]


def _several(cards: Json, names: list[str]) -> Table:
    """Candidates against one baseline, a line each."""
    suite = cards["baseline"]["suite"]
    where = f"{cards['metric']} on {escape(suite['name'])} v{suite['version']}"
    title = f"{where}, p adjusted for {len(names)} candidates (Holm)"
    columns = ("candidate", "verdict", cards["metric"], "difference", "interval", "p", "p adjusted", "gained", "lost")
    tests = sorted({card["test"] for card in cards["items"] if card["test"]})
    table = Table(*columns, title=title, caption=f"p by {', '.join(tests)}" if tests else None)
    for name, card in zip(names, cards["items"], strict=True):
        table.add_row(
            name,
            f"[{COLOURS.get(card['verdict'], 'white')}]{card['verdict']}[/]",
            _number(card["candidate_value"]),
            _number(card["difference"], sign=True),
            _interval(card["interval"]),
            _number(card["p_value"]),
            _number(card["p_adjusted"]),
            _count(card["gained"]),
            _count(card["lost"]),
        )
    return table


def _configurations(card: Json) -> Panel:
    table = Table.grid(padding=(0, 3))
    for side in ("baseline", "candidate"):
        spread = card[side]
        seeds = ", ".join(_number(value) for value in spread["values"])
        table.add_row(
            f"[dim]{side}[/]",
            f"{_number(spread['mean'])}   sd {_number(spread['sd'])} over {len(spread['values'])}: {seeds}",
        )
    percent = round(100 * card["confidence"])
    interval = f"{_number(card['difference'], sign=True)}   {percent} % interval {_interval(card['interval'])}"
    table.add_row("[dim]difference[/]", interval)
    table.add_row("[dim]p-value[/]", f"{_number(card['p_value'])}   {card['test']}")
    if card["share_of_seeds"] is not None:
        table.add_row("[dim]uncertainty[/]", f"{card['share_of_seeds']:.0%} from seeds, the rest from items")
    if card["reason"]:
        table.add_row("[dim]reason[/]", card["reason"])
    suite = card["baseline"]["evaluations"][0]["suite"]
    return _panel(card, table, suite)


def _card(card: Json, baseline_name: str, candidate_name: str) -> Panel:
    """A verdict card for the terminal."""
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
    return _panel(card, table, suite)


def _panel(card: Json, table: Table, suite: Json) -> Panel:
    colour = COLOURS.get(card["verdict"], "white")
    outer = Table.grid()
    outer.add_row(f"[bold]{escape(card['sentence'])}[/]")
    outer.add_row("")
    outer.add_row(table)
    title = (
        f"[bold {colour}]{card['verdict'].upper()}[/] · {card['metric']} on {escape(suite['name'])} v{suite['version']}"
    )
    return Panel(
        outer, title=Text.from_markup(title, emoji=False), title_align="left", border_style=colour, expand=False
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:+.4g}" if sign else f"{value:.4g}"


def _interval(bounds: list[float] | None) -> str:
    return "–" if bounds is None else f"[{bounds[0]:+.4g}, {bounds[1]:+.4g}]".replace("[", r"\[")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
