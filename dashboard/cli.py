"""`tunescope dashboard`: Streamlit's server on our app, with our configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tunescope import Client

APP = Path(__file__).parent / "app.py"


def dashboard(
    port: Annotated[int, typer.Option(help="Port of the dashboard.", min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    url: Annotated[str | None, typer.Option(help="The service; TUNESCOPE_URL when absent.")] = None,
) -> None:
    """Open the dashboard: runs, evaluations, audits, experiments and models, in the browser."""
    with Client(url) as client:
        service = client.url
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::"} else host  # noqa: S104
    at_terminal = sys.stdout.isatty()
    console = Console(highlight=False)
    console.print(f"[bold]Tunescope dashboard[/]  http://{shown}:{port}  (service: {service}; Ctrl-C stops it)")
    sys.stdout.flush()
    os.environ["TUNESCOPE_URL"] = service
    # The process becomes Streamlit's, so that signals and exit codes are its own. The configuration is found
    # beside app.py.
    os.execv(sys.executable, command(port, host, open_browser=at_terminal))  # noqa: S606


def command(port: int, host: str, *, open_browser: bool) -> list[str]:
    """The command line that serves the dashboard."""
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(APP),
        f"--server.port={port}",
        f"--server.address={host}",
        f"--server.headless={'false' if open_browser else 'true'}",
    ]
