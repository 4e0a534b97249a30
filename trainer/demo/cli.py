"""`tunescope demo`. What needs PyTorch is loaded by name when the command runs: see `trainer.cli`."""

from __future__ import annotations

import importlib
import logging
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from trainer.errors import TrainerError
from tunescope import TunescopeError

USUAL_REQUESTS = 3000


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End when done, instead of keeping the dashboard up.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier demo and make everything anew.")] = False,
    dir_: Annotated[Path, typer.Option("--dir", help="Folder of the demo: its database, models and logs.")] = Path(
        ".tunescope-demo"
    ),
    port: Annotated[int, typer.Option(help="Port of the service; another one if it is taken.", max=65535)] = 8000,
    dashboard_port: Annotated[
        int, typer.Option(help="Port of the dashboard; another one if it is taken.", max=65535)
    ] = 8501,
    requests: Annotated[int, typer.Option(help="Requests of simulated users.", min=1)] = USUAL_REQUESTS,
) -> None:
    """Show the whole product on this machine: train, evaluate, audit, and let simulated users choose.

    A second start goes on where the first one stopped.

    Example: tunescope demo --exit --dir /tmp/demo
    """
    # bitsandbytes remarks, while it is imported, on a kernel that it can do without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        play = importlib.import_module("trainer.demo.play").play
        play(dir_, port=port, dashboard_port=dashboard_port, requests=requests, fresh=fresh, leave=leave)
    except (TrainerError, TunescopeError) as error:
        typer.echo(f"tunescope: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("stopped; another start goes on from here", err=True)
        raise typer.Exit(130) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """An ordinary kill ends the demo as Ctrl-C does, with its servers; Ctrl-C also where a shell has it ignored."""
    raise KeyboardInterrupt
