"""What the scripts have in common: their options, the service they start, and where their figures go."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from report import OURS, REPOSITORY, Report, machine_facts, show, write
from rich.console import Console
from servers import Server, running

Quick = Annotated[bool, typer.Option("--quick", help="Smaller sizes and fewer repetitions.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the JSON and Markdown files; default: results/, for whole runs only.")
]
Command = Annotated[
    str, typer.Option("--tunescope", help="How Tunescope is started; another checkout's command measures that one.")
]
THIS_CHECKOUT = f"{shlex.quote(sys.executable)} -m tunescope serve"
PACKAGES = ("tunescope", "fastapi", "sqlmodel", "sqlalchemy", "uvicorn", "msgspec", "httpx2")
Say = Callable[[str], object]
"""Tells whoever waits what is being done."""


def service(command: str, folder: Path, *options: str, ready: str = "/healthz") -> AbstractContextManager[Server]:
    """`tunescope serve` on `folder/data`, of this checkout unless `command` says otherwise."""
    full = [*shlex.split(command), "--port", "{port}", "--data-dir", str(folder / "data"), *options]
    return running(OURS, full, folder, ready, PYTHONPATH=str(REPOSITORY))


def carry_out(
    theme: str,
    measure: Callable[[Path, Say], Report],
    *,
    whole: bool,
    out: Path | None,
    packages: tuple[str, ...] = PACKAGES,
    versions: Mapping[str, str] | None = None,
    width: int = 160,
) -> None:
    """Measure in a folder that is deleted afterwards, print the table, and write it.

    `measure` gives the report without its facts. A run that is not `whole` is written only where `out` says so.
    `versions` are of what else took part.
    """
    console = Console(width=None if sys.stdout.isatty() else width)
    facts = machine_facts(*packages)
    facts["versions"] |= versions or {}
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix=f"tunescope-{theme}-") as name,
        console.status("starting") as status,
    ):
        report = measure(Path(name), status.update)
    facts |= {"load_after": round(os.getloadavg()[0], 2), "seconds": time.monotonic() - begun}
    report = replace(report, facts=facts)
    show(report, console)
    folder = out or (REPOSITORY / "benchmarks/results" if whole else None)
    for path in write(report, folder) if folder else ():
        console.print(f"  wrote {path}", style="dim")
