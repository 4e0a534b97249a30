"""What a log call costs the training loop, beside TensorBoard, Trackio, SwanLab, W&B and MLflow.

    python benchmarks/client.py            # about 5 minutes; the first run also installs the peers
    python benchmarks/client.py --quick

Each tracker runs in a process of its own and logs the same ten scalars a call, back to back and with 500 µs of busy
work between calls, as a training loop that keeps the interpreter busy. They take turns, in another order each round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import psutil
import typer
from client_loop import KEYS
from peers import mlflow
from report import OURS, REPOSITORY, Figures, Report, Row
from rich.console import Console
from script import THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import CLIENTS, MLFLOW, clients_environment, peers_environment

from tunescope.importers import find
from tunescope.importers._record import LeftOut

OFFLINE = f"{OURS}, offline"
MIB = 2**20
NOTES = [
    "One process each, alone while it runs; every call carries the same ten random scalars. The work between calls "
    "spins: background threads must wait for the interpreter, as in training.",
    f"{OURS} ships to a running service, which takes its share of the two cores; MLflow waits for its server and "
    "makes a twentieth of the calls. The others, and offline, write local files.",
    "A call is ten add_scalar for TensorBoard (torch.utils.tensorboard). Memory and CPU time: the process and its "
    "children, not the servers. TensorBoard's includes PyTorch.",
    "What was logged was read back and counted, except SwanLab's files, which are in a format of its own.",
]
MODES = {"back to back": 0, "500 µs of work between": 500}


class PointsLost(RuntimeError):
    """A tracker does not hold what was logged: no figure may come of it."""


@dataclass(frozen=True)
class Tracker:
    """How a tracker is called here, in `client_loop.py`, and by the importer that reads what it kept."""

    name: str
    function: str
    python: Path
    importer: str | None = None
    url: str = ""
    share: float = 1.0
    """Of the calls: one that waits for a server makes fewer."""


@dataclass(frozen=True)
class Taken:
    """What one process took. Memory and CPU time are its own and its children's."""

    microseconds: list[float]
    loop_seconds: float
    finish_seconds: float
    resident_bytes: int
    cpu_seconds: float
    """During the loop."""
    disk_bytes: int


def run(tracker: Tracker, calls: int, busy: int, folder: Path) -> Taken:
    folder.mkdir(parents=True)
    calls = max(20, round(calls * tracker.share))
    outward, inward = os.pipe()
    script = Path(__file__).with_name("client_loop.py")
    command = [tracker.python, script, tracker.function, folder, tracker.url, calls, busy, inward]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TUNESCOPE_", "MLFLOW_", "WANDB_"))}
    with (folder.with_suffix(".log")).open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[inward],
            env=kept | {"PYTHONPATH": str(REPOSITORY), "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"},
        )
        os.close(inward)
        with os.fdopen(outward, "rb") as pipe, process:
            try:
                return converse(tracker, calls, process, pipe, folder)
            except (json.JSONDecodeError, BrokenPipeError) as error:
                text = folder.with_suffix(".log").read_text(errors="replace")[-2000:]
                raise PointsLost(f"{tracker.name} ended before its time:\n{text}") from error
            finally:
                process.kill()


def converse(tracker: Tracker, calls: int, process: subprocess.Popen[bytes], pipe: IO[bytes], folder: Path) -> Taken:
    """Leads the process through its loop, and measures it from outside where it stands still."""

    def go_on() -> None:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()

    json.loads(pipe.readline())
    _, cpu_before = usage(process.pid)
    go_on()
    looped: dict[str, Any] = json.loads(pipe.readline())
    resident, cpu_after = usage(process.pid)
    go_on()
    finished: dict[str, Any] = json.loads(pipe.readline())
    process.wait(timeout=60)
    points = finished["points"] if finished["points"] is not None else read_back(tracker, folder)
    # Online the service may hold more: the client's own readings of the machine.
    if points is not None and points < calls * len(KEYS):
        raise PointsLost(f"{tracker.name}: {calls * len(KEYS):,} points were logged, {points:,} are kept")
    return Taken(
        microseconds=looped["microseconds"],
        loop_seconds=looped["loop_seconds"] / calls,
        finish_seconds=finished["finish_seconds"],
        resident_bytes=resident,
        cpu_seconds=(cpu_after - cpu_before) / calls,
        disk_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )


def usage(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process and its children."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in family]
    return sum(one.memory_info().rss for one in family), sum(one.user + one.system for one in times)


def read_back(tracker: Tracker, folder: Path) -> int | None:
    """How many points of the logged metrics a tracker's own files hold."""
    if tracker.importer is None:
        return None
    source = find(tracker.importer)(str(folder), LeftOut())
    return sum(
        len(column) for one in source.runs for columns in one.points() for column in columns if column.key in KEYS
    )


def measure(trackers: Sequence[Tracker], rounds: int, calls: int, folder: Path) -> Iterator[Figures]:
    for number, (mode, busy) in enumerate(MODES.items()):
        rows = {
            "p50": Figures(Row(f"{number}-p50", f"log of 10 scalars, {mode}, p50", "µs")),
            "p99": Figures(Row(f"{number}-p99", f"log of 10 scalars, {mode}, p99", "µs")),
            "loop": Figures(Row(f"{number}-loop", f"the loop, {mode}, a call", "µs")),
            "cpu": Figures(Row(f"{number}-cpu", f"CPU time of all its processes, {mode}, a call", "µs")),
            "finish": Figures(Row(f"{number}-finish", f"finish after the loop, {mode}", "s")),
            "memory": Figures(Row(f"{number}-memory", f"resident memory after the loop, {mode}", "MiB")),
            "disk": Figures(Row(f"{number}-disk", f"files left, {mode}, a point", "bytes")),
        }
        for turn in range(rounds):
            shift = turn % len(trackers)
            for tracker in [*trackers[shift:], *trackers[:shift]]:
                taken = run(tracker, calls, busy, folder / f"{number}-{turn}-{tracker.function}")
                points = len(taken.microseconds) * len(KEYS)
                values = {
                    "p50": statistics.median(taken.microseconds),
                    "p99": statistics.quantiles(taken.microseconds, n=100)[98],
                    "loop": taken.loop_seconds * 1e6,
                    "cpu": taken.cpu_seconds * 1e6,
                    "finish": taken.finish_seconds,
                    "memory": taken.resident_bytes / MIB,
                }
                if not tracker.url:
                    values["disk"] = taken.disk_bytes / points
                for name, value in values.items():
                    rows[name].samples.setdefault(tracker.name, []).append(value)
        yield from rows.values()


@contextmanager
def trackers(tunescope: str, clients: Path, peers: Path, folder: Path) -> Iterator[list[Tracker]]:
    """Every tracker, with the two servers that some of them log to."""
    here = Path(sys.executable)
    with ExitStack() as stack:
        own = stack.enter_context(service(tunescope, folder / "service", ready="/readyz"))
        other = stack.enter_context(mlflow(peers, folder / "mlflow"))
        address = f"http://127.0.0.1:{other.port}"
        yield [
            Tracker("TensorBoard", "tensorboard", here, "tensorboard"),
            Tracker("Trackio", "trackio", clients / "python", "trackio"),
            Tracker("SwanLab", "swanlab", clients / "python"),
            Tracker("W&B", "wandb", clients / "python", "wandb"),
            Tracker("MLflow", "mlflow", peers / "python", url=address, share=0.05),
            Tracker("MLflow, async", "mlflow_async", peers / "python", url=address, share=0.05),
            Tracker(OFFLINE, "tunescope_offline", here),
            Tracker(OURS, "tunescope_online", here, url=f"http://127.0.0.1:{own.port}"),
        ]


def main(
    quick: Quick = False,
    out: Out = None,
    clients: Annotated[Path, typer.Option(help="Where the peers are installed.")] = REPOSITORY / ".venv-clients",
    peers: Annotated[Path, typer.Option(help="Where MLflow is installed.")] = REPOSITORY / ".venv-peers",
    command: Command = THIS_CHECKOUT,
) -> None:
    """Measure the cost of a log call for each tracker and print the ratios."""
    rounds, calls = (1, 500) if quick else (3, 3_000)
    console = Console()
    programs = clients_environment(clients.absolute(), console), peers_environment(peers.absolute(), console)

    def measured(folder: Path, say: Say) -> Report:
        say("measuring")
        with trackers(command, *programs, folder) as taking_part:
            figures = list(measure(taking_part, rounds, calls, folder / "runs"))
        names = [tracker.name for tracker in taking_part]
        return Report("client", names, figures, {"rounds": rounds, "calls": calls}, NOTES)

    carry_out(
        "client",
        measured,
        whole=not quick,
        out=out,
        packages=("tunescope", "torch", "tensorboard", "httpx2", "msgspec"),
        versions=dict(pinned.split("==") for pinned in (*CLIENTS, MLFLOW)),
        width=200,
    )


if __name__ == "__main__":
    typer.run(main)
