"""32 trainers at once: how much is stored, how long they wait, what the service takes, and that nothing is lost.

    python benchmarks/trainers.py            # about 3 minutes; the first run also installs the peers
    python benchmarks/trainers.py --quick    # fewer seconds, without MLflow

Every trainer is a process of its own (`trainers_loop.py`) that logs ten scalars a step of two milliseconds: through
Tunescope's client, or in MLflow's protocol by plain HTTP, a thousand metrics a call. One system after the other, each
alone with its trainers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from peers import FACE, FAST, SLOW, fasttrackml, mlflow
from report import OURS, REPOSITORY, Figures, Report, Row
from rich.console import Console
from script import THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import FASTTRACKML, MLFLOW, Server, Watch, peers_environment
from systems import Mlflow, Tunescope, Wire
from trainers_loop import BATCH_STEPS, KEYS, STEP
from workload import run_content

TRAINERS = 32
PROJECT = "trainers"


class TrainerFailed(RuntimeError):
    """A trainer ended before its time."""


@dataclass
class Outcome:
    """What the trainers of one system said, and what the service held and took meanwhile."""

    told: list[dict[str, Any]]
    found: int
    seconds: float
    """From the first step to the last acknowledgement."""
    cpu_seconds: float
    peak_mib: float
    waits: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.waits = [wait for one in self.told for wait in one["waits"]]

    def figures(self) -> dict[str, float]:
        def total(name: str) -> float:
            return sum(float(one[name]) for one in self.told)

        cuts = statistics.quantiles(self.waits, n=100, method="inclusive")
        return {
            "stored": self.found / self.seconds,
            "step": 1000 * total("loop_seconds") / total("steps"),
            "p50": cuts[49],
            "p99": cuts[98],
            "lost": total("logged") - total("refused") - self.found,
            "refused": total("refused"),
            "finish": max(one["finish_seconds"] for one in self.told),
            "cpu": 1e6 * self.cpu_seconds / self.found,
            "memory": self.peak_mib,
        }


ROWS = (
    Row("stored", "points stored by all trainers", "points/s"),
    Row("step", f"a step of {1000 * STEP:g} ms with its logging", "ms"),
    Row("p50", "a batch until it is acknowledged, p50", "ms"),
    Row("p99", "a batch until it is acknowledged, p99", "ms"),
    Row("lost", "acknowledged and not found", "points", at_most=0),
    Row("refused", "logged and not acknowledged", "points", at_most=0),
    Row("finish", "the last to finish after its last step", "s"),
    Row("cpu", "CPU time of the service, a point", "µs"),
    Row("memory", "peak memory of the service", "MiB"),
)


def train(server: Server, kind: str, names: Sequence[str], seconds: float, folder: Path) -> Outcome:
    """Start a trainer for each of these names, let them begin together, and count what is found when all are done.

    `names`: of the runs that the client makes, or the ids of those that are there."""
    url = f"http://127.0.0.1:{server.port}"
    with processes(kind, url, names, seconds, folder) as started:
        watch = Watch(server)
        watch.start()
        before, begun = server.cpu_seconds(), time.monotonic()
        for one in started:
            assert one.stdin is not None
            one.stdin.write(b"\n")
            one.stdin.flush()
        told = [said(one, folder) for one in started]
        took, spent = time.monotonic() - begun, server.cpu_seconds() - before
        watch.ended = True
    return Outcome(told, 0, took, spent, watch.peak)


@contextmanager
def processes(
    kind: str, url: str, names: Sequence[str], seconds: float, folder: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Trainers that are ready to begin."""
    folder.mkdir(parents=True)
    script = Path(__file__).with_name("trainers_loop.py")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TUNESCOPE_", "MLFLOW_"))}
    started: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "trainers.log").open("ab") as log:
            for name in names:
                command = [sys.executable, str(script), kind, url, name, str(folder / name), str(seconds)]
                started.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=kept | {"PYTHONPATH": str(REPOSITORY)},
                    )
                )
        for one in started:
            assert one.stdout is not None
            if one.stdout.readline() != b"ready\n":
                raise TrainerFailed((folder / "trainers.log").read_text()[-2000:])
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def said(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise TrainerFailed((folder / "trainers.log").read_text()[-2000:])
    found: dict[str, Any] = json.loads(line)
    return found


def through_client(server: Server, seconds: float, folder: Path) -> Outcome:
    outcome = train(server, "client", [f"trainer-{number}" for number in range(TRAINERS)], seconds, folder)
    system = Tunescope(OURS, Wire(server.port))
    page = json.loads(system.wire.send(system.list_runs(PROJECT, 1000)))
    summaries = [run["metrics"].get(key) for run in page["items"] for key in KEYS]
    outcome.found = sum(summary["count"] for summary in summaries if summary is not None)
    return outcome


def through_protocol(server: Server, seconds: float, folder: Path) -> Outcome:
    system = Mlflow(server.name, Wire(server.port))
    system.open_project(PROJECT)
    ids = [
        system.read_run_id(system.wire.send(system.new_run(PROJECT, run_content(number)))) for number in range(TRAINERS)
    ]
    outcome = train(server, "mlflow", ids, seconds, folder)
    for run_id in ids:
        outcome.found += sum(system.read_history(system.wire.send(system.history(run_id, key))).count for key in KEYS)
    return outcome


def measure(command: str, programs: Path, folder: Path, seconds: float, quick: bool, say: Say) -> list[Figures]:
    figures = {row.key: Figures(row) for row in ROWS}

    def keep(system: str, outcome: Outcome) -> None:
        for key, value in outcome.figures().items():
            figures[key].samples[system] = [value]

    say("Tunescope's client")
    with service(command, folder / "client", ready="/readyz") as server:
        keep(OURS, through_client(server, seconds, folder / "client/trainers"))
    say("Tunescope in MLflow's protocol")
    with service(command, folder / "face", ready="/readyz") as server:
        keep(FACE, through_protocol(server, seconds, folder / "face/trainers"))
    say("FastTrackML")
    with fasttrackml(programs, folder / "fasttrackml") as server:
        keep(FAST, through_protocol(server, seconds, folder / "fasttrackml/trainers"))
    if not quick:
        say("MLflow")
        with mlflow(programs, folder / "mlflow") as server:
            keep(SLOW, through_protocol(server, seconds, folder / "mlflow/trainers"))
    return list(figures.values())


def main(
    quick: Quick = False,
    out: Out = None,
    environment: Annotated[Path, typer.Option(help="Where the peers are installed.")] = REPOSITORY / ".venv-peers",
    command: Command = THIS_CHECKOUT,
) -> None:
    """Measure what 32 trainers and the service make of one another."""
    seconds = 5.0 if quick else 15.0
    programs = peers_environment(environment.absolute(), Console())

    def measured(folder: Path, say: Say) -> Report:
        figures = measure(command, programs, folder, seconds, quick, say)
        names = [FAST, FACE, OURS] if quick else [SLOW, FAST, FACE, OURS]
        return Report("trainers", names, figures, {"trainers": TRAINERS, "seconds of training": seconds}, NOTES)

    versions = dict(pinned.split("==") for pinned in (MLFLOW, FASTTRACKML))
    carry_out("trainers", measured, whole=not quick, out=out, versions=versions)


NOTES = [
    f"A step sleeps {1000 * STEP:g} ms, as a loop does that waits for its GPU, and logs {len(KEYS)} scalars. All "
    "trainers and the service share the cores.",
    "Tunescope's client ships in the background; what is acknowledged is seen by its thread, and steps do not wait. "
    f"In MLflow's protocol {BATCH_STEPS} steps go in one call, and the loop waits for it.",
    "Every point was looked for afterwards: the runs' summaries, or the history of every metric of every run.",
    "A – means the system was left out.",
]


if __name__ == "__main__":
    typer.run(main)
