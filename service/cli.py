"""`tunescope serve` and `tunescope keys`."""

from __future__ import annotations

import gc
import resource
import sys
from importlib.abc import MetaPathFinder
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import OperationalError

from service.app import create_app, create_judge
from service.auth import SCOPES, Scope, create_key
from service.judge import Judge
from service.options import ArtifactsUrl, DatabaseUrl, DataDir, settings_of, shown_place
from service.patience import PatientProtocol
from service.settings import Settings
from service.store.database import Database, DatabaseBusy
from service.store.migrate import DatabaseTooNew
from service.store.mounts import network_file_system, sqlite_file

MOST_SOCKETS = 65_536
console = Console(highlight=False)


class WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, where that is installed, to turn a list into a column: 50 MB for nothing."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("the service does without pandas", name="pandas")


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", envvar="TUNESCOPE_HOST", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.", envvar="TUNESCOPE_PORT", show_default="8000")
    ] = None,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
    artifacts: ArtifactsUrl = None,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth", help="Ask for API keys; default: only off a loopback address.", envvar="TUNESCOPE_AUTH"
        ),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Log each request.")] = False,
) -> None:
    """Start the service: API, gateway and documentation on one port.

    Example: tunescope serve --port 8000 --data-dir ./tunescope-data
    """
    sys.meta_path.insert(0, WithoutPandas())
    settings = settings_of(
        host=host, port=port, data_dir=data_dir, database_url=database, artifacts_url=artifacts, auth=auth
    )
    console.print(f"Tunescope on http://{settings.host}:{settings.port}  (API: /docs, data: {shown_place(settings)})")
    if not settings.loopback and not settings.auth_required:
        console.print("[yellow]Anyone who reaches this address can read and write: authentication is off.[/]")
    warn_of_network(settings)
    _allow_many_sockets()
    gc.freeze()  # what stands now stands until the end: no collection need look at it
    judge = Judge(lambda: create_judge(settings), settings.judge_idle_seconds)
    try:
        app = create_app(settings, Database(settings.resolved_database_url), judge.socket_path)
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=access_log,
            http=PatientProtocol,
            ws="none",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=10,
        )
    except (DatabaseBusy, DatabaseTooNew) as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from None
    except (OSError, OperationalError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        console.print(f"[red]Cannot open {shown_place(settings)}: {cause}[/]", soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        judge.close()


def _allow_many_sockets() -> None:
    """Each call of a model needs two; a login shell's limit of 1,024 would end new connections long before ours do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_SOCKETS if hard == resource.RLIM_INFINITY else min(MOST_SOCKETS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def warn_of_network(settings: Settings) -> None:
    """SQLite wants a local disk: on a network file system its locks may not hold."""
    file = sqlite_file(settings.resolved_database_url)
    kind = None if file is None else network_file_system(file)
    if kind is not None:
        console.print(
            f"[yellow]{escape(str(file))} is on a network file system ({kind}), where SQLite's locks may not hold "
            "and a database can be damaged. Keep it on a local disk (--data-dir), or use PostgreSQL (--database).[/]",
            soft_wrap=True,
        )


def keys(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(SCOPES)}; repeat for several.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires; absent: never.", min=0.0)] = None,
    data_dir: DataDir = None,
    database: DatabaseUrl = None,
) -> None:
    """Make an API key and print it once. Stop an embedded (SQLite) service first.

    Example: tunescope keys trainer --scope write
    """
    wanted: list[Scope] = [known for known in SCOPES if known in (scope or ["write"])]
    unknown = set(scope or []) - set(SCOPES)
    if unknown:
        console.print(f"[red]Unknown scope {', '.join(sorted(unknown))}: choose from {', '.join(SCOPES)}.[/]")
        raise typer.Exit(2)
    settings = settings_of(data_dir=data_dir, database_url=database)
    try:
        opened = Database(settings.resolved_database_url)
    except (DatabaseBusy, DatabaseTooNew) as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from None
    with opened.write() as session:
        key = create_key(session, name, wanted, days)
    opened.close()
    print(key)
