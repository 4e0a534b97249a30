"""`tunescope runs`: list runs, delete them and their projects, bring them back, and purge them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tunescope._client import Client
from tunescope._exceptions import TunescopeError
from tunescope.commands import ApiKey, Url, explained

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="List runs, delete them (into a bin first), bring them back, or purge them for good.",
    add_completion=False,
    epilog="Example: tunescope runs list --project tries --query 'metrics.loss < 2 order by metrics.loss'",
)
console = Console(highlight=False)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of runs.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Project = Annotated[str | None, typer.Option(help="Runs of this project.")]


@app.command(name="list")
def show(
    project: Project = None,
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="What to find, in the search language, and in which order.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Show its last value; repeat for several.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Runs to show.", min=1, max=1000)] = 20,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Find runs: their ids, state and metrics, the newest first.

    Example: tunescope runs list --project support
    Example: tunescope runs list -q "params.method = lora order by metrics.eval/f1 desc" -m eval/f1
    """
    keys = metric or []
    # Ids of imported runs say nothing of when they were made.
    order = None if "order by" in (query or "").lower() else "created desc"
    with explained(console), Client(url, api_key) as client:
        page = client.list_runs(project, query, order, limit, metrics=keys)
    table = Table(Column("run", no_wrap=True, min_width=32), "name", "project", "status", "started")
    for key in keys:
        table.add_column(escape(key), justify="right")
    for run in page["items"]:
        started = datetime.fromtimestamp(run["created_at"]).isoformat(" ", "minutes")
        values = [_value(run["metrics"].get(key, {}).get("last")) for key in keys]
        table.add_row(run["id"], escape(run["name"]), escape(run["project"]), run["status"], started, *values)
    if not page["items"]:
        console.print("No run is like that.")
        return
    console.print(table)
    if page["next_cursor"] is not None:
        console.print(f"There are more: --limit {min(10 * limit, 1000)}, or a narrower --query.")


def _value(last: float | str | None) -> str:
    return "" if last is None else last if isinstance(last, str) else f"{last:.6g}"


@app.command()
def delete(
    ids: Ids = None,
    query: Annotated[str | None, typer.Option(help="Every run that this finds, in the search language.")] = None,
    project: Annotated[
        str | None, typer.Option(help="Runs of this project; without a query or ids, the project itself.")
    ] = None,
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Put runs into the bin. They can be restored until they are purged.

    Example: tunescope runs delete 0198f0c2a7 0198f0c3b1
    Example: tunescope runs delete --project tries --query "status = crashed"
    """
    with explained(console), Client(url, api_key) as client:
        if not ids and query is None and project is None:
            raise TunescopeError("Say which runs: their ids, or --query, or --project.")
        what = f"{len(ids)} runs" if ids else f"the project '{project}'" if query is None else f"all runs with {query}"
        if not ids and not yes:
            typer.confirm(f"Put {what} into the bin?", abort=True)
        if ids or query is not None:
            done = client.delete_runs(ids, query, project)
        else:
            done = client.delete_project(str(project))
    for missing in done["missing"]:
        console.print(f"[yellow]There is no run '{escape(missing)}'.[/]")
    console.print(f"{done['runs']:,} runs are in the bin now. Back: tunescope runs restore")
    if done["missing"]:
        raise typer.Exit(1)


@app.command()
def restore(ids: Ids = None, project: Project = None, url: Url = None, api_key: ApiKey = None) -> None:
    """Take runs out of the bin, or a project with the runs that were deleted with it.

    Example: tunescope runs restore 0198f0c2a7
    Example: tunescope runs restore --project tries
    """
    with explained(console), Client(url, api_key) as client:
        if bool(ids) == (project is not None):
            raise TunescopeError("Say what comes back: ids of runs, or --project.")
        if ids and len(ids) == 1:  # says why, if it cannot
            client.restore_run(ids[0])
            back = 1
        else:
            back = (client.restore_runs(ids) if ids else client.restore_project(str(project)))["runs"]
    console.print(f"{back:,} runs are back.")


@app.command(name="bin")
def show_bin(
    project: Project = None,
    limit: Annotated[int, typer.Option(help="Runs to show.", min=1, max=1000)] = 100,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """What is in the bin, last deleted first, and what purging it gives back.

    Example: tunescope runs bin
    """
    with explained(console), Client(url, api_key) as client:
        page = client.bin(project=project, limit=limit)
    # An id is there to be copied: it is never cut.
    table = Table(Column("run", no_wrap=True, min_width=32), "name", "project", "deleted", "size", "kept because")
    for run in page["items"]:
        deleted = datetime.fromtimestamp(run["deleted_at"]).isoformat(" ", "minutes")
        kept = escape(run["kept"] or "")
        table.add_row(run["id"], escape(run["name"]), escape(run["project"]), deleted, _size(run["bytes"]), kept)
    if page["items"]:
        console.print(table)
    for one in page["projects"]:
        console.print(f"The project '{escape(one['name'])}' is in the bin, with {one['n_runs']:,} runs.")
    console.print(f"{page['n_runs']:,} runs, about {_size(page['bytes'])}; kept for {page['keep_days']:g} days.")
    if page["n_purging"]:
        console.print(f"{page['n_purging']:,} more are being purged.")


@app.command()
def purge(
    ids: Ids = None,
    project: Project = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is in the bin.")] = False,
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Delete for good what is in the bin. There is no way back.

    Evaluations go with their run. Runs that a model version or an audit rests on are kept, and named.

    Example: tunescope runs purge 0198f0c2a7
    Example: tunescope runs purge --all --yes
    """
    with explained(console), Client(url, api_key) as client:
        if [bool(ids), project is not None, everything].count(True) != 1:
            raise TunescopeError("Say what to purge: ids of runs, or --project, or --all.")
        if not yes:
            held = client.bin(limit=1)
            what = f"all {held['n_runs']:,} runs in the bin" if everything else project or f"{len(ids or [])} runs"
            typer.confirm(f"Delete {what} for good?", abort=True)
        started = client.purge_bin(ids or None, project)
    _say_purged(started)


def _say_purged(started: dict[str, Any]) -> None:
    for run in started["kept"]:
        console.print(f"[yellow]{run['id']} is kept: {escape(run['reason'])}.[/]", soft_wrap=True)
    if started["n_kept"] > len(started["kept"]):
        console.print(f"[yellow]… and {started['n_kept'] - len(started['kept']):,} more.[/]")
    console.print(f"{started['purging']:,} runs are being deleted for good.")


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"
