"""Bring a database to this version's schema: empty ones get it whole, older ones are upgraded, newer ones refused.

Alembic is imported when there is something to upgrade: it costs 0.2 s and 10 MB, and hardly any start needs it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlmodel import SQLModel

from service.store import tables, views  # noqa: F401  (tables: registers every one)
from service.store.tables.columns import for_postgresql

MIGRATIONS = Path(__file__).parent / "migrations"
# Revisions are numbered, and a file is named by its revision.
REVISIONS = sorted(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


class DatabaseTooNew(RuntimeError):
    """The database was written by a newer Tunescope."""


def prepare(engine: Engine) -> None:
    """Make sure that the database has the schema of this version, in one transaction.

    Raises:
        DatabaseTooNew: the database carries a revision this version does not know.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for_postgresql(SQLModel.metadata)
            # Replicas that start together take turns.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tunescope schema'))"))
        existing = inspect(connection).get_table_names()
        current = _revision(connection) if "alembic_version" in existing else None
        if current == REVISIONS[-1]:
            return
        if current is not None and current not in REVISIONS:
            raise DatabaseTooNew(
                f"The database is at schema {current}, which is newer than this Tunescope knows. "
                "Upgrade Tunescope, or open another database."
            )
        if existing:
            views.drop(connection)
            upgrade(connection)
        else:
            _create(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Apply the migrations that are missing, up to `revision`: all of them to an empty database."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _create(connection: Connection) -> None:
    """What all the migrations together would make."""
    SQLModel.metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISIONS[-1]})


def _revision(connection: Connection) -> str | None:
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision
