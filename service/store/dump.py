"""A database as one file, taken beside a service that runs, and back.

SQLite by its own online backup, PostgreSQL by the programs that come with it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, create_engine, inspect, make_url, text

from service.store.migrate import REVISIONS, DatabaseTooNew
from service.store.mounts import sqlite_file

PAGES = 2_048  # of SQLite's file that are copied between two words of progress: 8 MiB
Progress = Callable[[int, int], object]
"""Told what is done, of how much."""


class CannotDump(RuntimeError):
    """The database cannot be copied, or not be put back. The message says what to do."""


def dump(url: str, to: Path, environment: Mapping[str, str], progress: Progress) -> str:
    """Copy the database as it is at one moment into the file `to`; return its schema's revision.

    Writers go on meanwhile; what they commit after that moment is not in the copy. `environment`: for PostgreSQL's
    programs, which read PGSSLMODE and its like there.

    Raises:
        CannotDump: there is no such database, the copy is damaged, or PostgreSQL's programs fail or are not there.
    """
    source = sqlite_file(url)
    if source is None:
        revision = _postgresql_revision(make_url(url))
        _run("pg_dump", make_url(url), environment, "--format=custom", "--no-owner", f"--file={to}")
        return revision
    if not source.is_file():
        raise CannotDump(f"There is no database at {source}. Name the folder of the service with --data-dir.")
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reading,
        closing(sqlite3.connect(to)) as copy,
    ):
        # Held open, so that every page is of this moment, whatever is committed before the last one is copied.
        reading.execute("BEGIN")
        revision = _sqlite_revision(reading, source)
        reading.backup(copy, pages=PAGES, progress=lambda _, left, total: progress(total - left, total))
        if (found := copy.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
            raise CannotDump(f"{source} is damaged, and so would be its copy: {found}.")
    return revision


def check_empty(url: str) -> None:
    """Make sure that nothing would be lost by `load`.

    Raises:
        CannotDump: there is a database.
    """
    file = sqlite_file(url)
    if file is not None:
        if file.exists():
            raise CannotDump(f"{file} exists. Restore into another --data-dir, or move this one away.")
        return
    engine = create_engine(url)
    try:
        if inspect(engine).get_table_names():
            raise CannotDump(f"The database '{make_url(url).database}' is not empty. Restore into a new one.")
    finally:
        engine.dispose()


def check_revision(revision: str) -> None:
    """Make sure that this version can open what it puts back.

    Raises:
        DatabaseTooNew: a newer Tunescope wrote it.
    """
    if revision not in REVISIONS:
        raise DatabaseTooNew(f"The copy is at schema {revision}, newer than this Tunescope knows. Upgrade Tunescope.")


def load(dumped: Path, url: str, environment: Mapping[str, str]) -> None:
    """Put what `dump` wrote into an empty database of the same kind.

    Raises:
        CannotDump: PostgreSQL's programs fail or are not there; nothing has been written.
    """
    file = sqlite_file(url)
    if file is None:
        options = ("--no-owner", "--exit-on-error", "--single-transaction", str(dumped))
        _run("pg_restore", make_url(url), environment, *options)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    arriving = file.with_name(f"{file.name}.restoring")
    shutil.copyfile(dumped, arriving)
    with arriving.open("rb+") as handle:
        os.fsync(handle.fileno())
    arriving.rename(file)


def _sqlite_revision(connection: sqlite3.Connection, source: Path) -> str:
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise CannotDump(f"{source} is no database of Tunescope ({error}).") from None
    return str(row[0])


def _postgresql_revision(url: URL) -> str:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if "alembic_version" not in inspect(connection).get_table_names():
                raise CannotDump(f"The database '{url.database}' holds nothing of Tunescope.")
            return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
    finally:
        engine.dispose()


def _run(program: str, url: URL, environment: Mapping[str, str], *options: str) -> None:
    """One of PostgreSQL's programs on the database. The password goes through the environment, which `ps` does not
    show."""
    found = shutil.which(program)
    if found is None:
        raise CannotDump(
            f"{program} is not on the PATH. Install PostgreSQL's client programs, of the server's version or newer."
        )
    address = url.set(drivername="postgresql", password=None).render_as_string()
    password = {} if url.password is None else {"PGPASSWORD": url.password}
    done = subprocess.run(  # noqa: S603  (no shell; the URL is the admin's)
        [found, f"--dbname={address}", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, **password},
    )
    if done.returncode != 0:
        raise CannotDump(f"{program}: {done.stderr.strip() or f'exit status {done.returncode}'}")
