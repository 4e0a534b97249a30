"""Bring a database to this version's schema: empty and older ones are upgraded, newer ones refused."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

MIGRATIONS = Path(__file__).parent / "migrations"


class DatabaseTooNew(RuntimeError):
    """The database was written by a newer Tunescope."""


def upgrade(engine: Engine) -> None:
    """Apply the migrations that are missing, in one transaction.

    Raises:
        DatabaseTooNew: the database carries a revision this version does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current == script.get_current_head():
            return
        known = {revision.revision for revision in script.walk_revisions()}
        if current is not None and current not in known:
            raise DatabaseTooNew(
                f"The database is at schema {current}, which is newer than this Tunescope knows. "
                "Upgrade Tunescope, or open another database."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
