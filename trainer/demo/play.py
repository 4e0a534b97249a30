"""The demo from its first line to its last: starts the servers, takes the steps, says what came of each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from trainer.demo import show, steps
from trainer.demo.memory import Memory, forget
from trainer.demo.plan import FINE_TUNES
from trainer.demo.processes import Servers, free_port
from trainer.demo.scoring import Scorer
from trainer.demo.steps import Stage
from trainer.demo.world import build_world
from trainer.progress import quiet
from trainer.report import duration
from tunescope import Client

Json = dict[str, Any]
MODELS_PORT = 8100
WATCH = 1.0
THREADS = 1
"""Of PyTorch: a model this small gains little from two, and where cores are shared two wait for each other: measured on
two busy cores, a step took 190 to 300 ms with one thread and 1,100 to 2,900 ms with two."""
WIDTH = 110
"""Of a log; a terminal has its own."""


def play(folder: Path, *, port: int, dashboard_port: int, requests: int, fresh: bool, leave: bool) -> None:
    """Raises `TrainerError` or `TunescopeError` for what goes wrong; whatever was started is stopped."""
    quiet()
    torch.set_num_threads(THREADS)
    folder = folder.expanduser().absolute()
    if fresh:
        forget(folder)
    world = build_world()
    memory = Memory(folder, steps.fingerprint(world))
    # Journals of the runs stay with the demo, and nothing reaches a service that the environment names.
    os.environ |= {"TUNESCOPE_DIR": str(folder / "journals")}
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    started = time.monotonic()
    with Servers(folder / "logs") as servers:
        console.print(f"[bold]Tunescope demo[/] in {folder}")
        url, dashboard = start(servers, folder, port, dashboard_port, console)
        with Client(url) as client:
            stage = Stage(client, memory, console, world, folder)
            run(stage, servers, requests)
        console.print(f"\nDone in {duration(time.monotonic() - started)}.")
        show.addresses(console, url, dashboard, steps.EXPERIMENT)
        if not leave:
            wait(servers, console)


def start(servers: Servers, folder: Path, port: int, dashboard_port: int, console: Console) -> tuple[str, str]:
    """The service on SQLite, and the dashboard."""
    with line(console, "Service on SQLite"):
        service = servers.start("service", free_port(port), "/readyz", ["serve", "--data-dir", folder / "service"])
    with line(console, "Dashboard"):
        port = free_port(dashboard_port)
        dashboard = servers.start("dashboard", port, "/_stcore/health", ["dashboard", "--url", service])
    return service, dashboard


def run(stage: Stage, servers: Servers, requests: int) -> None:
    """All steps in order, and the table at the end."""
    console = stage.console
    with line(console, "Questions, tickets, and a policy: what may be forgotten, written down before training"):
        prepared = steps.prepare(stage)
    scorer = Scorer(stage.client, stage.world, prepared["suites"])
    text = "Base model: half a million parameters, from random weights until it knows its facts"
    with line(console, text, kept=stage.memory.has("base")):
        base = steps.build_base(stage, scorer)
    show.base(console, base)
    tuned = {}
    for one in FINE_TUNES:
        text = f"Fine-tune on {len(stage.world.train)} tickets: {one.title}"
        with line(console, text, kept=stage.memory.has(one.name)):
            tuned[one.name] = steps.fine_tune(stage, scorer, base, one)
        show.fine_tune(console, tuned[one.name])
    with line(console, "Verdicts: is one better than the other?"):
        cards = steps.compare(stage, base, tuned)
    show.cards(console, cards)
    with line(console, "Audits: what did each fine-tune forget?"):
        audits = {name: steps.audit(stage, prepared["policy"], base, one) for name, one in tuned.items()}
    show.audits(console, audits, tuned)
    chosen = tuned[steps.choose(tuned, audits)]
    readout = traffic(stage, servers, base, chosen, requests)
    console.print()
    show.table(console, base, tuned, audits, {name: steps.by_tag(stage, one) for name, one in tuned.items()})
    show.verdict(console, readout, chosen)


def traffic(stage: Stage, servers: Servers, base: Json, chosen: Json, requests: int) -> Json:
    """Base and fine-tune behind the gateway, and simulated users who do not know which one answers."""
    # A running experiment's models keep their address: a second start takes the port of the first.
    port = stage.memory.once("models port", lambda: free_port(MODELS_PORT))
    folders = [one["result"]["model_folder"] for one in (base, chosen)]
    with line(stage.console, f"Model server: the base and '{chosen['title']}'"):
        names = ["--name", steps.CONTROL, "--name", steps.VARIANT]
        url = servers.start("models", port, "/healthz", ["serve-model", *folders, *names])
    steps.launch(stage, base, chosen, url)
    text = "A/B test: simulated users ask through the gateway and rate what they are told"
    with line(stage.console, text, kept=stage.memory.has("traffic")):
        count = steps.meet_users(stage, requests)
    readout = stage.client.readout(steps.EXPERIMENT)
    show.readout(stage.console, readout, count)
    return readout


@contextmanager
def line(console: Console, text: str, *, kept: bool = False) -> Iterator[None]:
    """A step: its line, and afterwards how long it took, or that it was `kept` from an earlier start."""
    console.print(f"[bold cyan]▸[/] {text}")
    started = time.monotonic()
    yield
    console.print("  [dim]kept from an earlier start[/]" if kept else f"  [dim]{time.monotonic() - started:.1f} s[/]")


def wait(servers: Servers, console: Console) -> None:
    """Until Ctrl-C, or until a server ends by itself."""
    console.print("Ctrl-C stops everything; another start is back in seconds.")
    with suppress(KeyboardInterrupt):
        while (ended := servers.stopped()) is None:
            time.sleep(WATCH)
        console.print(f"[red]The {ended} has ended; its log is in the demo's folder.[/]")
