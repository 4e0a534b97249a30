"""`tunescope import` and `tunescope export`: runs and evaluations in from other tools, runs out as files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tunescope import importers
from tunescope._client import Client
from tunescope._exceptions import ConnectionFailed, TunescopeError
from tunescope.commands import ApiKey, Url
from tunescope.exports import Exported, export
from tunescope.importers._record import LeftOut, Source
from tunescope.importers._result_sink import Results, Stored
from tunescope.importers._sink import Sink, Tally

__all__ = ["export_runs", "import_runs"]

MOST_LINES = 30


class FileFormat(StrEnum):
    parquet = "parquet"
    csv = "csv"
    json = "json"


def import_runs(
    kind: Annotated[str, typer.Argument(help=f"What recorded it: {', '.join(importers.kinds())}.")],
    source: Annotated[
        str | None,
        typer.Argument(
            help="mlflow: URI, database or mlruns folder. tensorboard: log folder. wandb: folder of runs. "
            "trackio: project or folder. neptune: folder of neptune-exporter. tunescope: folder of an export. "
            "lm-eval: folder of results_*.json and samples_*.jsonl. helm: folder of a run, or of several. "
            "inspect: log (.eval or .json), or folder of logs.",
            show_default="where that tool keeps its records",
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Put all runs into this project.", show_default="the source's own")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="helm, inspect, lm-eval: id of the run that made the model.", metavar="ID")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="helm, inspect, lm-eval: id of the model version.", metavar="ID")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count everything, send nothing.")] = False,
) -> None:
    """Bring over what another tool recorded.

    Of a tracker: runs, every point, params, tags, notes, console, files, media; of MLflow also registered models,
    prompts and logged models. Of an evaluation harness (helm,
    inspect, lm-eval): its tasks as suites, its answers as evaluations, right or wrong as it judged them; what it
    reported is kept and compared with what is computed here.

    May be cut off and repeated at any time: what is stored already is not stored again.

    Example: tunescope import mlflow sqlite:///mlflow.db --project intents

    Example: tunescope import lm-eval results/my__model --run RUN
    """
    console = Console(highlight=False)
    left_out = LeftOut()
    with (
        _explained(console, "Repeat the command to go on where it stopped."),
        nullcontext() if dry_run else Client(url, api_key) as client,
    ):
        if client is not None:
            client.health()
        found = importers.find(kind)(source, left_out)
        _check_options(kind, found, project, run or version)
        if found.results is not None:
            results = Results(client, left_out, run_id=run, model_version_id=version)
            with _progress(console, "evaluations", len(found.results)) as show:
                results.write_all(found.results, lambda name, done: show(name, done, None))
        else:
            sink = Sink(client, kind, project, left_out)
            with _progress(console, "runs", found.total) as show:
                sink.write_all(found, lambda name, tally: show(name, tally.runs, tally.points + tally.known_points))
    if found.results is not None:
        _say_results(console, results.stored, dry_run)
    else:
        _say_imported(console, sink.tally, dry_run)
    _say_left_out(console, left_out)


def _check_options(kind: str, found: Source, project: str | None, link: str | None) -> None:
    if found.results is not None and project is not None:
        raise TunescopeError("--project is for runs. Evaluations are in the project of their run: --run ID.")
    if found.results is None and link is not None:
        raise TunescopeError(f"--run and --version are for evaluations, and {kind} has runs.")


def _say_results(console: Console, stored: Stored, dry_run: bool) -> None:
    for line in stored.lines:
        console.print(line, soft_wrap=True, markup=False, style="yellow" if line in stored.differing else None)
    verb = "would be imported" if dry_run else "imported"
    known = f" ({stored.known:,} more were there already)" if stored.known else ""
    console.print(f"{stored.evaluations:,} evaluations of {len(stored.suites):,} tasks {verb}{known}", soft_wrap=True)
    if stored.differing:
        console.print(f"not as reported: {len(stored.differing):,} of {len(stored.lines):,}", style="yellow")


def _say_imported(console: Console, tally: Tally, dry_run: bool) -> None:
    verb = "would be imported" if dry_run else "imported"
    known = [
        f"{count:,} {what}"
        for count, what in (
            (tally.runs - tally.new_runs, "runs"),
            (tally.known_points, "points"),
            (tally.known_lines, "lines"),
            (tally.known_artifacts, "artifacts"),
            (tally.known_media, "media"),
            (tally.known_evaluations, "evaluations"),
            (tally.known_logged_models, "logged models"),
            (tally.known_versions, "versions of models"),
        )
        if count
    ]
    console.print(
        f"{tally.runs:,} runs, {tally.points:,} points, {tally.params:,} params, {tally.tags:,} tags, "
        f"{tally.lines:,} lines, {tally.artifacts:,} artifacts, {tally.media:,} media, "
        f"{tally.evaluations:,} evaluations {verb}" + (f" ({', '.join(known)} were there already)" if known else ""),
        soft_wrap=True,
    )
    if tally.models or tally.prompts or tally.logged_models or tally.known_logged_models:
        console.print(
            f"{tally.models:,} registered models and {tally.prompts:,} prompts with {tally.versions:,} versions, "
            f"{tally.logged_models:,} logged models {verb}",
            soft_wrap=True,
        )


def _say_left_out(console: Console, left_out: LeftOut) -> None:
    if left_out.counts:
        console.print("left out:")
        for (name, reason), count in left_out.counts.most_common(MOST_LINES):
            times = f" ({count:,} times)" if count > 1 else ""
            console.print(f"  {name}{times}: {reason}", soft_wrap=True, markup=False)
        if len(left_out.counts) > MOST_LINES:
            console.print(f"  and {len(left_out.counts) - MOST_LINES:,} more")


def export_runs(
    target: Annotated[
        str | None, typer.Argument(help="Id of a run, or a project.", show_default="every project")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")] = Path("tunescope-export"),
    format: Annotated[FileFormat, typer.Option(help="Format of the tables.")] = FileFormat.parquet,
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="Only these runs, e.g. 'metrics.f1 > 0.8 and tags.team = nlp'.")
    ] = None,
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Also fetch the files of artifacts and media.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Write runs to files: config, tags, environment, every metric point, console, evaluations, artifacts, media.

    `tunescope import tunescope FOLDER` reads them back.

    Example: tunescope export intents --format parquet --output intents-export
    """
    console = Console(highlight=False)
    with (
        _explained(console, "The export is not complete."),
        Client(url, api_key) as client,
        _progress(console, "runs", None) as show,
    ):

        def tell(name: str, done: Exported, total: int | None) -> None:
            show(name, done.runs, done.points, total)

        done = export(client, output, format.value, target=target, query=query, files=artifacts, progress=tell)
    console.print(
        f"{done.runs:,} runs, {done.points:,} points, {done.lines:,} lines, {done.evaluations:,} evaluations, "
        f"{done.artifacts:,} artifacts, {done.media:,} media in {output}",
        soft_wrap=True,
    )
    for line in done.left_out[:MOST_LINES]:
        console.print(f"left out: {line}", soft_wrap=True, markup=False)


@contextmanager
def _explained(console: Console, advice: str) -> Iterator[None]:
    """Ends the command with one sentence instead of a traceback."""
    try:
        yield
    except TunescopeError as error:
        more = f" {advice}" if isinstance(error, ConnectionFailed) else ""
        console.print(f"{error}{more}", style="red", soft_wrap=True, markup=False)
        raise typer.Exit(1) from None


@contextmanager
def _progress(console: Console, what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A bar on a terminal; nothing elsewhere."""
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(what),
        TextColumn("{task.fields[points]}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total, points="")

        def show(name: str, done: int, points: int | None, of: int | None = None) -> None:
            counted = "" if points is None else f"{points:,} points"
            bar.update(task, description=name[:60], completed=done, points=counted, total=of or total)

        yield show
