"""The `tunescope` command. Its sub-commands are entry points, so that each package brings its own.

A sub-command is imported only when it is called or its help is shown: `tunescope sync` never loads the service.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

__all__ = ["app", "main"]

GROUP = "tunescope.commands"


class Commands(TyperGroup):
    """Finds sub-commands among the installed entry points."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(found())

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        entry = found().get(cmd_name)
        return None if entry is None else command(entry)


def found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def command(entry: EntryPoint) -> Any:
    """The sub-command of an entry point: a plain function, or a Typer app of several.

    If its package is not installed, one that says so.
    """
    single = typer.Typer(add_completion=False)
    try:
        gc.disable()  # an import makes many objects and no garbage: looking for some would take a sixth of its time
        function = entry.load()
        gc.enable()
    except ModuleNotFoundError as error:
        package = entry.module.partition(".")[0]
        if (error.name or "").partition(".")[0] == package:
            raise  # a fault of ours, not something that is not installed
        needs = f'tunescope {entry.name} needs: pip install "tunescope[{package}]"'
        options = {"ignore_unknown_options": True, "allow_extra_args": True}
        single.command(entry.name, help=escape(needs), context_settings=options, add_help_option=False)(_refusal(needs))
    else:
        if isinstance(function, typer.Typer):
            several = typer.main.get_command(function)
            several.name = entry.name
            return several
        single.command(entry.name)(function)
    return typer.main.get_command(single)


def _refusal(needs: str) -> Callable[[], None]:
    def refuse() -> None:
        typer.echo(needs, err=True)
        raise typer.Exit(1)

    return refuse


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Did it learn, is it better, what did it forget, do users prefer it.",
    epilog="Example: tunescope serve, and in another terminal: tunescope demo",
    pretty_exceptions_show_locals=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunescope {version('tunescope')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Did it learn, is it better, what did it forget, do users prefer it."""


def main() -> None:
    """Entry point of the `tunescope` command."""
    app(prog_name="tunescope")
