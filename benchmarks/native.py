"""Tunescope's own API against its aims: ingest, raw history, charts, the run table, bytes on disk.

    python benchmarks/native.py            # about 2 minutes
    python benchmarks/native.py --quick    # a run table of 10,000 runs instead of 100,000; about half a minute

SQLite, one kept-alive connection, requests built before the clock starts. What a core does is told by the CPU time of
the service's processes, which other work on the machine hardly changes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import filler
import numpy as np
import pyarrow as pa
import typer
from report import OURS, Figures, Report, Row
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import Server
from systems import ARROW, Call, Tunescope, Wire
from workload import ORDER, PAGE, loss

CHART_RUNS, CHART_POINTS, PIXELS = 50, 100_000, 1_000
CALLS = 10  # of what takes milliseconds
LOSS = "train/loss"
PATIENCE = 120.0


class WrongAnswer(RuntimeError):
    """The service does not hold, or does not give, what it was sent."""


@dataclass(frozen=True)
class Size:
    rounds: int = 3
    ingested: int = 1_000_000  # points a round
    read: int = 4_000_000
    kept: int = 2_000_000
    runs: int = 100_000


QUICK = Size(rounds=2, ingested=300_000, read=1_000_000, kept=500_000, runs=10_000)


@dataclass(frozen=True)
class Shape:
    """What a batch is: points of each of so many metrics."""

    metrics: int
    points: int

    @property
    def size(self) -> int:
        return self.metrics * self.points

    def __str__(self) -> str:
        return f"{self.metrics} × {self.points:,}" if self.metrics > 1 else f"{self.points:,} of one metric"


SHAPES = (Shape(1, 1_000), Shape(10, 100), Shape(10, 1_000))


class Asking:
    """A service with a connection to it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.system = Tunescope(OURS, Wire(server.port))
        self.database = folder / "data/tunescope.db"

    def new_run(self, name: str) -> str:
        given = {"project": "native", "name": name}
        return self.system.read_run_id(self.system.wire.send(filler.call("POST", "/runs", given)))

    def batches(self, run_id: str, shape: Shape, points: int, kind: type[np.floating] = np.float64) -> list[Call]:
        """The requests that log so many points in batches of this shape."""
        keys = [LOSS, *(f"train/metric_{index}" for index in range(1, shape.metrics))]
        return [
            self.system.log(run_id, [loss(first, shape.points, key, kind) for key in keys])
            for first in range(0, points // shape.metrics, shape.points)
        ]

    def send(self, calls: Sequence[Call]) -> float:
        """Seconds from the first byte to the last acknowledgement, building and reading left out."""
        return sum(self.system.wire.timed(call)[0] for call in calls)

    def settle(self, run_id: str) -> None:
        """End the run, and wait until its small chunks are joined."""
        self.system.wire.send(filler.call("PATCH", f"/runs/{run_id}", {"status": "finished"}))
        deadline = time.monotonic() + PATIENCE
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM series WHERE run_id = ? AND open_chunks >= 2"
            while connection.execute(query, [run_id]).fetchone()[0]:
                if time.monotonic() > deadline:
                    raise WrongAnswer(f"the chunks of {run_id} were not joined within {PATIENCE:g} s")
                time.sleep(0.02)

    def times(self, call: Call, rounds: int) -> list[float]:
        """Seconds of each of so many calls, after two to warm."""
        for _ in range(2):
            self.system.wire.send(call)
        return [self.system.wire.timed(call)[0] for _ in range(rounds)]


def ingest(asking: Asking, shape: Shape, size: Size) -> list[Figures]:
    """Points a second of the clock and of a core, until the last is acknowledged and until all chunks are joined."""
    title = f"ingest, batches of {shape}"
    key = f"ingest-{shape.metrics}x{shape.points}"
    core = Figures(Row(f"{key}-core", f"{title}, a core", "points/s", at_least=1e6))
    whole = Figures(Row(f"{key}-joined", f"{title}, a core, with joining the chunks afterwards", "points/s"))
    clock = Figures(Row(f"{key}-clock", f"{title}, by the clock", "points/s"))
    for number in range(size.rounds):
        run_id = asking.new_run(f"{key}-{number}")
        calls = asking.batches(run_id, shape, size.ingested)
        points = len(calls) * shape.size
        before = asking.server.cpu_seconds()
        seconds = asking.send(calls)
        acknowledged = asking.server.cpu_seconds()
        asking.settle(run_id)
        _add(core, points / (acknowledged - before))
        _add(whole, points / (asking.server.cpu_seconds() - before))
        _add(clock, points / seconds)
    return [core, whole, clock]


def raw_history(asking: Asking, size: Size) -> list[Figures]:
    """Whole histories as Arrow: one long metric, and ten."""
    found = []
    for key, title, shape in (("one", "of one metric", Shape(1, 10_000)), ("ten", "of 10 metrics", Shape(10, 1_000))):
        run_id = asking.new_run(f"history-{key}")
        asking.send(asking.batches(run_id, shape, size.read))
        asking.settle(run_id)
        asked = Call("GET", f"{Tunescope.ROOT}/metrics?run_id={run_id}", headers={"Accept": ARROW})
        table = pa.ipc.open_stream(asking.system.wire.send(asked)).read_all()
        if table.num_rows != size.read:
            raise WrongAnswer(f"{size.read:,} points were sent, {table.num_rows:,} came back")
        clock = Figures(
            Row(f"history-{key}", f"raw history {title}, {size.read:,} points, Arrow", "points/s", at_least=1e7)
        )
        core = Figures(Row(f"history-{key}-core", "the same, a core", "points/s"))
        for _ in range(size.rounds):
            before = asking.server.cpu_seconds()
            _add(clock, size.read / asking.system.wire.timed(asked)[0])
            _add(core, size.read / (asking.server.cpu_seconds() - before))
        found += [clock, core]
    return found


def chart(asking: Asking, size: Size) -> list[Figures]:
    ids = []
    for number in range(CHART_RUNS):
        ids.append(asking.new_run(f"chart-{number}"))
        asking.send(asking.batches(ids[-1], Shape(1, 10_000), CHART_POINTS))
        asking.settle(ids[-1])
    given = {"run_ids": ids, "keys": [LOSS], "max_points": PIXELS}
    title = f"chart of {CHART_RUNS} runs × {CHART_POINTS:,} points, {PIXELS:,} pixels"
    found = []
    for key, kind, accept, aim in (("chart", "Arrow", ARROW, 150.0), ("chart-json", "JSON", "application/json", None)):
        asked = filler.call("POST", "/runs/curves", given, Accept=accept)
        if accept == ARROW:
            curves = pa.ipc.open_stream(asking.system.wire.send(asked)).read_all()
            if len(set(curves["run_id"].to_pylist())) != CHART_RUNS:
                raise WrongAnswer(f"a chart of {CHART_RUNS} runs came back with {curves.num_rows} entries")
        seconds = asking.times(asked, CALLS)
        row = Row(key, f"{title}, {kind}, p50", "ms", at_most=aim)
        found.append(Figures(row, {OURS: [1000 * one for one in seconds]}))
    return found


def run_table(command: str, folder: Path, size: Size) -> list[Figures]:
    database = folder / "data/tunescope.db"
    database.parent.mkdir(parents=True)
    filler.fill(f"sqlite:///{database}", size.runs)
    found = []
    with service(command, folder) as server:
        asking = Asking(server, folder)
        for key, title, order in (("newest", "newest first", ""), ("ordered", "ordered by a metric", ORDER)):
            asked = asking.system.find(project=filler.PROJECT, limit=PAGE, order_by=order)
            page = asking.system.read_runs(asking.system.wire.send(asked))
            if len(page) != PAGE or any(len(run.metrics) != len(filler.content(0).metrics) for run in page):
                raise WrongAnswer(f"a page of {PAGE} runs came back with {len(page)}")
            row = Row(f"table-{key}", f"run table at {size.runs:,} runs, a page, {title}, p50", "ms", at_most=50)
            seconds = asking.times(asked, CALLS)
            found.append(Figures(row, {OURS: [1000 * one for one in seconds]}))
    return found


def disk(command: str, folder: Path, size: Size) -> list[Figures]:
    """Growth of the database file by a run of noisy losses, once its chunks are joined."""
    found = []
    for kind in (np.float64, np.float32):
        place = folder / kind.__name__
        database = place / "data/tunescope.db"
        with service(command, place) as server:
            run_id = Asking(server, place).new_run("kept")
        before = database.stat().st_size  # a service that has ended leaves no journal beside the file
        with service(command, place) as server:
            asking = Asking(server, place)
            asking.send(asking.batches(run_id, Shape(10, 100), size.kept, kind))
            asking.settle(run_id)
        after = database.stat().st_size
        with closing(sqlite3.connect(database)) as connection:
            free, page = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
            )
        title = f"on disk, losses in {kind.__name__}, joined"
        row = Row(f"disk-{kind.__name__}", f"{title}, a point", "bytes", at_most=10)
        found.append(Figures(row, {OURS: [(after - before) / size.kept]}))
        used = Row(f"disk-{kind.__name__}-used", "the same without the pages that are free again", "bytes")
        found.append(Figures(used, {OURS: [(after - free * page - before) / size.kept]}))
    return found


def _add(figures: Figures, value: float) -> None:
    figures.samples.setdefault(OURS, []).append(value)


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure the native API against its aims."""
    size = QUICK if quick else Size()

    def measured(folder: Path, say: Say) -> Report:
        figures: list[Figures] = []
        with service(command, folder / "points") as server:
            asking = Asking(server, folder / "points")
            for shape in SHAPES:
                say(f"ingest, batches of {shape}")
                figures += ingest(asking, shape, size)
            say("raw history")
            figures += raw_history(asking, size)
            say("charts")
            figures += chart(asking, size)
        say("bytes on disk")
        figures += disk(command, folder / "disk", size)
        say(f"a table of {size.runs:,} runs")
        figures += run_table(command, folder / "table", size)
        sizes = {"rounds": size.rounds, "points a round": size.ingested, "points on disk": size.kept}
        return Report("native", [OURS], figures, sizes, NOTES)

    carry_out("native", measured, whole=not quick, out=out, packages=(*PACKAGES, "pyarrow", "numpy"))


NOTES = [
    "A core: points by the CPU time of the service's processes, which the client, in a process of its own, is not in.",
    "Every batch is acknowledged after it is committed (SQLite, WAL, synchronous=NORMAL), and the next is sent then.",
    "Losses fall and are noisy, by a clock that jitters by 2 ms: every value and time differs in its last bits.",
    "The runs of the table were written straight into the database; growth.py holds the rows against the API's.",
]


if __name__ == "__main__":
    typer.run(main)
