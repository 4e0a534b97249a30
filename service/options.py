"""Options that several commands of the service share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.settings import Settings

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of everything the service keeps.", envvar="TUNESCOPE_DATA_DIR")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database", help="SQLAlchemy URL; absent: SQLite in the data folder.", envvar="TUNESCOPE_DATABASE_URL"
    ),
]
ArtifactsUrl = Annotated[
    str | None,
    typer.Option(
        "--artifacts",
        help="fsspec URL of the artifact store; absent: the data folder.",
        envvar="TUNESCOPE_ARTIFACTS_URL",
    ),
]


def settings_of(**given: object) -> Settings:
    """The settings, those that are given before the environment's."""
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def shown_place(settings: Settings) -> str:
    return "PostgreSQL" if settings.resolved_database_url.startswith("postgresql") else str(settings.data_dir)
