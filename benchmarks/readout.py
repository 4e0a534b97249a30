"""What a readout costs as traffic grows: 10,000 to a million units, ten requests each, on SQLite and PostgreSQL.

    python benchmarks/readout.py            # about 10 minutes: a million units and 10 million requests in each database
    python benchmarks/readout.py --quick    # 2,500 and 25,000 units, about a minute

Requests, with a rating for every fifth, are put straight into the tables, after rows put so have been compared with
those of the code that `/api/v1/events` runs; the last requests of some units are stored by that code, which is timed.
The readout is then asked of a service over HTTP. Its cost should grow with neither units nor requests: it reads sums.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import readout_filler
import typer
from growth_report import Cost, Grown, Growth, GrowthReport, Question
from postgres import postgres
from readout_filler import DAYS, REQUESTS, Piece, check_rows, is_kept_back, traffic
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from systems import Call, Wire

from service.experiments import ledger
from service.store import experiments
from service.store.database import Database

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
KEY = "chat"
BATCH = 5_000
LAST = 40_000  # units whose last requests the service's own code stores
CHECKED = 200  # units that are stored both ways and compared
PLAN = {
    "key": KEY,
    "variants": [{"key": "base", "weight": 1}, {"key": "tuned", "weight": 1}],
    "metrics": [
        {"name": "satisfaction", "kind": "binary", "role": "primary"},
        {"name": "task_success", "kind": "binary", "role": "secondary"},
    ],
    "covariate_days": 14,
}


class WrongAnswer(RuntimeError):
    """A readout does not count what was stored."""


@dataclass(frozen=True)
class Size:
    units: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    rounds: int = 7


QUICK = Size(units=(2_500, 25_000), rounds=3)


def fill(url: str, n_units: int, now: float, kept_back: int) -> float:
    """Store the traffic of an experiment that has been started, what is kept back by the service's own code; CPU
    seconds of this process for a thousand events of that."""
    database = Database(url)
    experiment_id = begun_at(database, now)
    readout_filler.fill(url, experiment_id, n_units, now, kept_back)
    last = (piece for piece in traffic(n_units, now) if is_kept_back(piece, kept_back))
    seconds = by_the_ledger(database, experiment_id, last)
    database.close()
    return seconds


def begun_at(database: Database, now: float) -> str:
    """The id of the experiment, which has run for as long as its traffic has come."""
    with database.write() as session:
        experiment = experiments.find(session, KEY)
        assert experiment is not None
        experiment.started_at = experiment.phase_started_at = now - DAYS * 86_400
        return experiment.id


def by_the_ledger(database: Database, experiment_id: str, pieces: Iterable[Piece]) -> float:
    """What `/api/v1/events` runs, in batches of 5,000 events; CPU seconds of this process for a thousand."""
    events = (event for piece in pieces for event in piece.events(experiment_id))
    taken, n_events = 0.0, 0
    while batch := list(islice(events, BATCH)):
        begun = time.process_time()
        with database.write() as session:
            n_events += ledger.apply(session, batch).accepted
        taken += time.process_time() - begun
    return taken / n_events * 1_000


def start(command: str, folder: Path, url: str) -> None:
    """A database in which the experiment runs, as the service makes it."""
    with service(command, folder, "--database", url, ready="/readyz") as server:
        wire = Wire(server.port)
        for path, body in (("", PLAN), (f"/{KEY}/start", {})):
            wire.send(Call("POST", f"/api/v1/experiments{path}", json.dumps(body).encode(), _JSON))


def check_filler(command: str, folder: Path, create: Callable[[str], str]) -> None:
    """What is put into the tables is what the service writes, on both databases."""
    for name, by_ledger, by_fill in (
        ("sqlite", _sqlite(folder / "ledger"), _sqlite(folder / "fill")),
        ("postgresql", create("check_ledger"), create("check_fill")),
    ):
        for url in (by_ledger, by_fill):
            start(command, folder / f"check-{name}", url)
        stored_both_ways(by_ledger, by_fill, time.time())
        check_rows(by_ledger, by_fill)


def stored_both_ways(by_ledger: str, by_fill: str, now: float) -> None:
    database = Database(by_ledger)
    by_the_ledger(database, begun_at(database, now), traffic(CHECKED, now))
    database.close()
    fill_all = Database(by_fill)
    experiment_id = begun_at(fill_all, now)
    fill_all.close()
    readout_filler.fill(by_fill, experiment_id, CHECKED, now, 0)


@dataclass
class Held:
    database: str
    units: int
    url: str
    folder: Path
    wire: Wire | None = None

    def asked(self) -> float:
        """Seconds of a readout, which must count everybody."""
        assert self.wire is not None
        seconds, answer = self.wire.timed(Call("GET", f"/api/v1/experiments/{KEY}/readout"))
        found = json.loads(answer)
        seen = sum(found["split"]["observed"].values()), sum(arm["requests"] for arm in found["arms"])
        if seen != (self.units, self.units * REQUESTS):
            raise WrongAnswer(f"{self.database}: {self.units:,} units were stored, {seen} (units, requests) are read")
        return seconds


def measured(command: str, size: Size, folder: Path, create: Callable[[str], str], say: Say) -> Growth:
    held = [
        Held(name, n, url, folder / f"{name.lower()}-{n}")
        for n in size.units
        for name, url in ((SQLITE, _sqlite(folder / f"sqlite-{n}/data")), (POSTGRESQL, create(f"readout_{n}")))
    ]
    for one in held:
        start(command, one.folder, one.url)
    now = time.time()
    say(f"storing {sum(size.units) * REQUESTS:,} requests in each database")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        # The two largest at once, one in each database: each needs a core.
        held.sort(key=lambda one: -one.units)
        filling = [pool.submit(fill, one.url, one.units, now, min(one.units, LAST)) for one in held]
        stored = [one.result() for one in filling]
    reading = Grown(Question("readout", "readout over HTTP", at_most=1_000, at=max(size.units)))
    writing = Grown(Question("events", "storing 1,000 events, CPU time of the writer", "ms"))
    for one, seconds in zip(held, stored, strict=True):
        writing.costs.setdefault(one.database, Cost()).add(one.units, seconds * 1e3)
    with ExitStack() as stack:
        for one in held:
            server = stack.enter_context(service(command, one.folder, "--database", one.url, ready="/readyz"))
            one.wire = Wire(server.port)
            one.asked()
        for number in range(size.rounds):
            say(f"round {number + 1} of {size.rounds}")
            for one in held:
                value = statistics.median(one.asked() for _ in range(3))
                reading.costs.setdefault(one.database, Cost()).add(one.units, value * 1e3)
    return Growth(f"units, {REQUESTS} requests each", size.units, [reading, writing])


_JSON = {"content-type": "application/json"}


def _sqlite(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'tunescope.db'}"


NOTES = [
    "Every readout has the verdict, the metrics of two arms with intervals, four quantiles with the cluster factor of "
    "1,000 sampled units an arm, CUPED, the timeline and the effect by age; what it counts is checked.",
    "Requests with durations and costs, a rating for every fifth, over two weeks, were written straight into the "
    "tables, after the same traffic of 200 units had been stored both ways and compared, row by row.",
    "Storing is timed on what is there already: the service's own code stores the last requests of up to 40,000 units "
    "in batches of 5,000 events, in a process beside it. PostgreSQL's own processes are not in the CPU time.",
]


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure what a readout costs on both databases as units come, and print a column a size."""
    size = QUICK if quick else Size()

    def measure(folder: Path, say: Say) -> GrowthReport:
        with postgres() as create:
            say("comparing the filler's rows with the service's")
            check_filler(command, folder / "check", create)
            growth = measured(command, size, folder, create, say)
        sizes = {"units": list(size.units), "requests a unit": REQUESTS, "rounds": size.rounds}
        return GrowthReport("readout", [SQLITE, POSTGRESQL], [], sizes, NOTES, growths=[growth])

    carry_out("readout", measure, whole=not quick, out=out, packages=(*PACKAGES, "psycopg", "numpy"), width=200)


if __name__ == "__main__":
    typer.run(main)
