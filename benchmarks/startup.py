"""What Tunescope costs by being there: start and memory of the service, `run.log()` in a training loop.

    python benchmarks/startup.py          # about a minute
    python benchmarks/startup.py --quick

The service is started on empty folders; the client logs into a running one, and what it logged is counted there.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import typer
from report import OURS, REPOSITORY, Figures, Report, Row
from script import THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from systems import Tunescope, TunescopeArrow, Wire
from workload import batch, run_content

import tunescope

IMPORT = "import time; begun = time.perf_counter(); from tunescope import init; print(time.perf_counter() - begun)"


class PointsLost(RuntimeError):
    """The service does not hold what the client says it logged."""


def starts(command: str, folder: Path, times: int) -> list[Figures]:
    """Seconds to the first answer, on nothing and on what the first start made, and memory before and after work."""
    fresh = Figures(Row("start-empty", "start to the first /healthz, empty folder", "s", at_most=1.5))
    again = Figures(Row("start-again", "the same on an existing database", "s"))
    idle = Figures(Row("memory-idle", "memory, idle", "MiB"))
    worked = Figures(Row("memory-worked", "memory after reads and writes of every kind", "MiB", at_most=200))
    for number in range(times):
        with service(command, folder / str(number)) as server:
            _add(fresh, server.seconds_to_answer)
            _add(idle, server.memory() / 2**20)
            if number == 0:
                smoke(Tunescope(OURS, Wire(server.port)))
                _add(worked, server.memory() / 2**20)
        with service(command, folder / str(number)) as server:
            _add(again, server.seconds_to_answer)
    return [fresh, again, idle, worked]


def smoke(system: Tunescope) -> None:
    """200 runs, 100,000 points, and every kind of read."""
    for number in range(200):
        _, run_id = system.create_run("smoke", run_content(number))
    for step in range(0, 10_000, 100):
        system.wire.send(system.log(run_id, batch(step)))
    arrow = TunescopeArrow(OURS, system.wire)
    for call in (
        system.search("smoke"),
        system.list_runs("smoke", 200),
        system.history(run_id, "train/metric_0"),
        arrow.history(run_id, "train/metric_0"),
    ):
        system.wire.send(call)


def imports(times: int) -> Figures:
    figures = Figures(Row("import", "from tunescope import init", "ms"))
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, cwd=REPOSITORY
        )
        _add(figures, 1000 * float(done.stdout))
    return figures


def logging_calls(url: str, folder: Path, rounds: int, calls: int) -> list[Figures]:
    """`run.log()` of 10 scalars: calls in a row, and with a training step of a millisecond between them."""
    scalars = {f"train/metric_{index}": index + 0.5 for index in range(10)}

    def pause() -> None:
        time.sleep(0.001)

    def nothing() -> None: ...

    kinds: list[tuple[str, str, Callable[[], None], int]] = [
        ("log", "run.log() of 10 scalars, back to back", nothing, calls),
        ("log-paced", "run.log() of 10 scalars, a 1 ms step between", pause, calls // 10),
    ]
    found: list[Figures] = []
    for key, title, between, count in kinds:
        middle = Figures(Row(f"{key}-p50", f"{title}, p50", "µs", at_most=5))
        tail = Figures(Row(f"{key}-p99", f"{title}, p99", "µs", at_most=50))
        for round_number in range(rounds):
            run = tunescope.init(
                project="startup", name=f"{key}-{round_number}", url=url, mode="online", dir=folder, quiet=True
            )
            microseconds = []
            for step in range(count):
                scalars["train/metric_0"] = step / count
                begun = time.perf_counter_ns()
                run.log(scalars, step=step)
                microseconds.append((time.perf_counter_ns() - begun) / 1000)
                between()
            report = run.finish(timeout=120)
            if report.left or report.stored < count * len(scalars):
                raise PointsLost(f"{count * len(scalars):,} points were logged, the service holds {report.stored:,}")
            _add(middle, statistics.median(microseconds))
            _add(tail, statistics.quantiles(microseconds, n=100)[98])
        found += [middle, tail]
    return found


def _add(figures: Figures, value: float) -> None:
    figures.samples.setdefault(OURS, []).append(value)


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure start, memory and the cost of a log call."""
    times, rounds, calls = (2, 2, 2_000) if quick else (5, 5, 20_000)

    def measured(folder: Path, say: Say) -> Report:
        say("starts")
        figures = [*starts(command, folder, times), imports(times)]
        say("log calls")
        with service(command, folder / "logging") as server:
            figures += logging_calls(f"http://127.0.0.1:{server.port}", folder / "journals", rounds, calls)
        sizes = {"starts": times, "rounds of log calls": rounds, "log calls a round": calls}
        return Report("startup", [OURS], figures, sizes, notes)

    notes = [
        "The journal and the shipping threads run beside the log calls, as they do in training.",
        "Every logged point was found in the service afterwards.",
    ]
    carry_out("startup", measured, whole=not quick, out=out)


if __name__ == "__main__":
    typer.run(main)
