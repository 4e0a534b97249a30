"""`tunescope backup` and `tunescope restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from sqlalchemy.exc import OperationalError

from service.backup import Outcome, Say, back_up
from service.backup import restore as put_back
from service.options import ArtifactsUrl, DatabaseUrl, DataDir, settings_of, shown_place
from service.store.dump import CannotDump
from service.store.migrate import DatabaseTooNew

console = Console(highlight=False)


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to: a new folder, or that of an earlier backup.")],
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    artifacts: ArtifactsUrl = None,
) -> None:
    """Copy everything a service keeps into a folder, while it runs: the database as it is at one moment, and all files.

    Into the folder of an earlier backup, only new files are copied. PostgreSQL needs pg_dump on the PATH.

    Example: tunescope backup /backups/tunescope --data-dir ./tunescope-data
    """
    settings = settings_of(data_dir=data_dir, database_url=database, artifacts_url=artifacts)
    outcome = _carry_out(lambda say: back_up(settings, folder, say))
    _report(outcome, f"Backed up {shown_place(settings)} to {folder}")
    console.print(f"Back: tunescope restore {escape(str(folder))} --data-dir NEW-FOLDER", soft_wrap=True)


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `tunescope backup` has written.")],
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    artifacts: ArtifactsUrl = None,
) -> None:
    """Put a backup into an empty place, and check every file's SHA-256 on the way. Nothing is overwritten.

    A database of an older version is upgraded by the first `tunescope serve`.

    Example: tunescope restore /backups/tunescope --data-dir ./tunescope-data
    """
    settings = settings_of(data_dir=data_dir, database_url=database, artifacts_url=artifacts)
    outcome = _carry_out(lambda say: put_back(folder, settings, say))
    made = datetime.fromtimestamp(outcome.manifest.made_at, UTC)
    _report(outcome, f"Restored the backup of {made:%Y-%m-%d %H:%M:%S} UTC to {shown_place(settings)}")


def _carry_out(job: Callable[[Say], Outcome]) -> Outcome:
    try:
        with _progress() as say:
            return job(say)
    except (CannotDump, DatabaseTooNew, OSError) as error:
        console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
    except OperationalError as error:
        console.print(f"[red]Cannot open the database: {escape(str(error.orig).splitlines()[0])}[/]", soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[Say]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def say(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=of)

        yield say


def _report(outcome: Outcome, done: str) -> None:
    manifest = outcome.manifest
    files = f"{manifest.files:,} file{'' if manifest.files == 1 else 's'}, {manifest.file_bytes / 2**20:,.1f} MiB"
    console.print(f"{escape(done)} (schema {manifest.schema}, {files}).", soft_wrap=True)
    if outcome.damaged:
        console.print(
            f"[red]{len(outcome.damaged)} damaged and left out, their bytes have another SHA-256: "
            f"{', '.join(outcome.damaged[:10])}{' …' if len(outcome.damaged) > 10 else ''}[/]",
            soft_wrap=True,
        )
        raise typer.Exit(1)
