"""Tunescope beside MLflow and FastTrackML: the same work, one machine, one run, ratios.

    python benchmarks/peers.py            # about 6 minutes; the first run also installs the peers
    python benchmarks/peers.py --quick    # about 1 minute, smaller
    python benchmarks/peers.py --rows log-batch --rows history

Each server starts on an empty SQLite database. Systems take turns in short blocks, in a different order every
round, so that noise of a shared machine hits all of them; a figure is the median of its blocks, a ratio the
median of the rounds' ratios. Every answer is checked against what was sent: a system that dropped, refused
or misread anything ends the run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from report import OURS, REPOSITORY, Figures, Report, Row
from rich.console import Console
from script import THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import FASTTRACKML, MLFLOW, Server, peers_environment, running
from systems import Mlflow, MlflowFace, Stored, System, Tunescope, TunescopeArrow, Wire, stored
from workload import BATCH_KEYS, BATCH_STEPS, Points, batch, expected_search, run_content

FAST = "FastTrackML"
SLOW = "MLflow"
FACE = f"{OURS}, MLflow calls"
BATCH = BATCH_KEYS * BATCH_STEPS
NOTES = [
    "One kept-alive connection each; from the first byte sent to the last received; answers checked.",
    "The peers through the MLflow REST protocol, Tunescope through its own and through theirs; SQLite behind each.",
    "A – means the system is left out at this size, for filling it would take minutes.",
]
ROWS = ("log-batch", "log-metric", "create-run", "history", "search", "list")


class WrongAnswer(RuntimeError):
    """A system stored or found something else than it was given."""


@dataclass(frozen=True)
class Size:
    """How much is measured. MLflow takes part only in what it finishes in seconds."""

    rounds: int = 5
    block_seconds: float = 1.0
    history_points: int = 40_000
    few_runs: int = 200
    some_runs: int = 1_000
    many_runs: int = 10_000
    minutes: float = 7.0  # no more runs are added after this; what follows takes half a minute


QUICK = Size(
    rounds=3, block_seconds=0.3, history_points=10_000, few_runs=60, some_runs=300, many_runs=1_000, minutes=1.5
)


class Bench:
    """The systems under test and the figures so far."""

    def __init__(self, systems: Sequence[System], size: Size, say: Say) -> None:
        self.systems = systems
        self.fast = [system for system in systems if system.name != SLOW]
        self.size = size
        self.say = say
        self.figures: list[Figures] = []
        self.deadline = time.monotonic() + 60 * size.minutes

    # --- measuring --------------------------------------------------------------------------------------

    def turns(self, systems: Sequence[System]) -> Iterator[System]:
        """Every system once a round, in an order that changes with the round."""
        for round_number in range(self.size.rounds):
            shift = round_number % len(systems)
            yield from [*systems[shift:], *systems[:shift]]

    def measure(self, row: Row, systems: Sequence[System], call: Callable[[System], float], work: int = 1) -> Figures:
        """Blocks of calls. `call` gives its seconds and does `work` of a rate's units; a latency row takes p50."""
        self.say(row.title)
        figures = Figures(row)
        for system in systems:
            for _ in range(2):
                call(system)  # warm: connection, caches, compiled statements
        for system in self.turns(systems):
            seconds: list[float] = []
            while not seconds or sum(seconds) < self.size.block_seconds:
                seconds.append(call(system))
            value = work * len(seconds) / sum(seconds) if row.more_is_better else 1000 * statistics.median(seconds)
            figures.samples.setdefault(system.name, []).append(value)
        self.figures.append(figures)
        return figures

    # --- rows -------------------------------------------------------------------------------------------

    def log_batch(self) -> None:
        runs = {system: system.create_run("ingest", run_content(0))[1] for system in self.systems}
        sent: dict[System, list[list[Points]]] = {system: [] for system in self.systems}

        def call(system: System) -> float:
            columns = batch(len(sent[system]) * BATCH_STEPS)
            sent[system].append(columns)
            return system.wire.timed(system.log(runs[system], columns))[0]

        row = Row("log-batch", f"log-batch, {BATCH:,} metrics a call", "points/s", times_of=(4, FAST))
        self.measure(row, self.systems, call, work=BATCH)
        for system in self.systems:
            for index in (0, BATCH_KEYS - 1):
                values = [value for columns in sent[system] for value in columns[index].values]
                self.check_history(system, runs[system], f"train/metric_{index}", stored(values))

    def log_metric(self) -> None:
        runs = {system: system.create_run("ingest", run_content(1))[1] for system in self.systems}
        sent: dict[System, list[float]] = {system: [] for system in self.systems}

        def call(system: System) -> float:
            step = len(sent[system])
            sent[system].append(1 / (step + 1))
            return system.wire.timed(system.log_one(runs[system], "loss", step, sent[system][-1]))[0]

        row = Row("log-metric", "one log-metric call, p50", "ms", times_of=(1, FAST))
        self.measure(row, self.systems, call)
        for system in self.systems:
            self.check_history(system, runs[system], "loss", stored(sent[system]))

    def create_runs(self) -> None:
        """Make the runs that search and list read: few on every system, timed."""
        row = Row("create-run", "create a run + 20 params + 20 metrics", "runs/s", times_of=(2, FAST))
        self.say(row.title)
        for system in self.systems:
            for number in range(3):
                system.create_run("ingest", run_content(number))
        figures = Figures(row)
        share = self.size.few_runs // self.size.rounds
        for turn, system in enumerate(self.turns(self.systems)):
            first = turn // len(self.systems) * share
            self._fill(figures, system, range(first, first + share))
        self.figures.append(figures)
        for system in self.systems:
            self.check_list(system, self.size.few_runs)

    def more_runs(self, held: int, wanted: int) -> int:
        """Bring the fast systems from `held` runs to `wanted`, or as far as time allows; how many there are then.

        The pace at the end is a row of its own.
        """
        self.say(f"{wanted:,} runs for search")
        paces = Figures(Row("", "", "runs/s"))
        while held < wanted and time.monotonic() < self.deadline:
            following = min(held + 50, wanted)
            for system in self.fast:
                self._fill(paces, system, range(held, following))
            held = following
        title = f"create a run + 20 params + 20 metrics, at {held:,} runs"
        row = Row(f"create-run-{held}", title, "runs/s", times_of=(2, FAST))
        last = {name: values[-2 * self.size.rounds :] for name, values in paces.samples.items()}
        if last:
            self.figures.append(Figures(row, last))
        return held

    def _fill(self, figures: Figures, system: System, numbers: range) -> None:
        seconds = sum(system.create_run("search", run_content(number))[0] for number in numbers)
        figures.samples.setdefault(system.name, []).append(len(numbers) / seconds)

    def history(self) -> None:
        points = self.size.history_points
        runs: dict[System, str] = {}
        columns = [batch(first, keys=1, steps=BATCH)[0] for first in range(0, points, BATCH)]
        expected = stored([value for column in columns for value in column.values])
        self.say(f"{points:,} points for get-history")
        for system in self.systems:
            runs[system] = system.create_run("ingest", run_content(2))[1]
            for column in columns:
                system.wire.send(system.log(runs[system], [column]))
        arrows: list[System] = []
        for system in self.systems:
            self.check_history(system, runs[system], columns[0].key, expected)
            if isinstance(system, Tunescope):
                arrow = TunescopeArrow(f"{system.name}, Arrow", system.wire)
                runs[arrow] = runs[system]
                self.check_history(arrow, runs[arrow], columns[0].key, expected)
                arrows.append(arrow)

        def call(system: System) -> float:
            return system.wire.timed(system.history(runs[system], columns[0].key))[0]

        row = Row("history", f"get-history of {points:,} points, JSON", "points/s", times_of=(10, FAST))
        figures = self.measure(row, [*self.systems, *arrows], call, work=points)
        for asked in arrows:
            samples = figures.samples.pop(asked.name)
            as_arrow = replace(row, key="history-arrow", title="the same, Tunescope as Arrow")
            self.figures.append(Figures(as_arrow, figures.samples | {OURS: samples}))

    def search(self, systems: Sequence[System], n_runs: int, aim: float | None) -> None:
        def call(system: System) -> float:
            return system.wire.timed(system.search("search"))[0]

        row = Row(
            f"search-{n_runs}", f"search, 3 conditions, order by a metric, {n_runs:,} runs, p50", "ms", at_most=aim
        )
        self.measure(row, systems, call)
        expected = expected_search(n_runs)
        for system in systems:
            found = [run.name for run in system.read_runs(system.wire.send(system.search("search")))]
            if found != expected:
                raise WrongAnswer(f"{system.name}: search over {n_runs:,} runs gave {found}, not {expected}")

    def list_runs(self, systems: Sequence[System], n_runs: int, aim: float | None) -> None:
        def call(system: System) -> float:
            return system.wire.timed(system.list_runs("search", n_runs))[0]

        self.measure(Row(f"list-{n_runs}", f"list {n_runs:,} runs, p50", "ms", at_most=aim), systems, call)
        for system in systems:
            self.check_list(system, n_runs)

    # --- checking ---------------------------------------------------------------------------------------

    def check_history(self, system: System, run_id: str, key: str, expected: Stored) -> None:
        found = system.read_history(system.wire.send(system.history(run_id, key)))
        if found != expected:
            raise WrongAnswer(f"{system.name}: '{key}' came back as {found}, {expected} was sent")

    def check_list(self, system: System, n_runs: int) -> None:
        """All runs are there, whole: params, metrics and tags as they were sent."""
        found = {run.name: run for run in system.read_runs(system.wire.send(system.list_runs("search", n_runs)))}
        for number in range(n_runs):
            sent = run_content(number)
            sent = replace(sent, params={key: str(value) for key, value in sent.params.items()})
            if found.get(sent.name) != sent:
                raise WrongAnswer(f"{system.name}: {sent.name} came back as {found.get(sent.name)}")


def perform(bench: Bench, rows: Sequence[str]) -> None:
    """The rows in order; search and list need the runs that create-run makes."""
    size = bench.size
    for system in bench.systems:
        system.open_project("ingest")
        system.open_project("search")
    if "log-batch" in rows:
        bench.log_batch()
    if "log-metric" in rows:
        bench.log_metric()
    if "history" in rows:
        bench.history()
    if not {"create-run", "search", "list"} & set(rows):
        return
    bench.create_runs()
    if "list" in rows:
        bench.list_runs(bench.systems, size.few_runs, aim=None)
    if "search" in rows:
        bench.search(bench.systems, size.few_runs, aim=None)
    held = size.few_runs
    if "list" in rows:
        held = bench.more_runs(held, size.some_runs)
        bench.list_runs(bench.fast, held, aim=60)
    if "search" in rows:
        held = bench.more_runs(held, size.many_runs)
        bench.search(bench.fast, held, aim=10)


def mlflow(environment: Path, folder: Path) -> AbstractContextManager[Server]:
    command = [
        *(str(environment / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return running(SLOW, command, folder, "/health", **quiet)


def fasttrackml(environment: Path, folder: Path) -> AbstractContextManager[Server]:
    command = [str(environment / "fml"), "server", "--listen-address", "127.0.0.1:{port}"]
    command += ["--database-uri", f"sqlite://{folder / 'fasttrackml.db'}"]
    return running(FAST, command, folder, "/health", FML_LOG_LEVEL="warn")


@contextmanager
def peers(environment: Path, tunescope: str, folder: Path) -> Iterator[list[Server]]:
    """All three servers, each on an empty database of its own."""
    with ExitStack() as stack:
        start = stack.enter_context
        yield [
            start(mlflow(environment, folder / "mlflow")),
            start(fasttrackml(environment, folder / "fasttrackml")),
            start(service(tunescope, folder / "tunescope", ready="/readyz")),
        ]


def server_rows(servers: Sequence[Server]) -> list[Figures]:
    """What the servers themselves cost, once all the work is done."""
    return [
        Figures(Row("start", "start to the first answer", "s"), {s.name: [s.seconds_to_answer] for s in servers}),
        Figures(Row("memory", "memory at the end", "MiB"), {s.name: [s.memory() / 2**20] for s in servers}),
    ]


def main(
    quick: Quick = False,
    rows: Annotated[list[str] | None, typer.Option(help=f"Only these, repeatable: {', '.join(ROWS)}.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Blocks per system and row.")] = None,
    out: Out = None,
    environment: Annotated[Path, typer.Option(help="Where the peers are installed.")] = REPOSITORY / ".venv-peers",
    command: Command = THIS_CHECKOUT,
) -> None:
    """Measure Tunescope, MLflow and FastTrackML on the same work and print the ratios."""
    unknown = set(rows or ()) - set(ROWS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(ROWS)}.", param_hint="--rows")
    size = QUICK if quick else Size()
    size = replace(size, rounds=rounds) if rounds else size
    programs = peers_environment(environment.absolute(), Console())

    def measured(folder: Path, say: Say) -> Report:
        with peers(programs, command, folder) as servers:
            kinds: list[type[System]] = [Mlflow, Mlflow, Tunescope]
            systems = [kind(server.name, Wire(server.port)) for kind, server in zip(kinds, servers, strict=True)]
            systems.append(MlflowFace(FACE, Wire(servers[-1].port)))
            bench = Bench(systems, size, say)
            perform(bench, rows or ROWS)
            figures = [*bench.figures, *server_rows(servers)]
        sizes = {"rounds": size.rounds, "seconds a block": size.block_seconds}
        return Report("peers", [SLOW, FAST, FACE, OURS], figures, sizes, NOTES)

    carry_out(
        "peers",
        measured,
        whole=not quick and rows is None and rounds is None,
        out=out,
        versions=dict(pinned.split("==") for pinned in (MLFLOW, FASTTRACKML)),
    )


if __name__ == "__main__":
    typer.run(main)
