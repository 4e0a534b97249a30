"""What a readout costs as traffic grows: 10,000 to a million units, ten requests each, on SQLite and PostgreSQL.

    python benchmarks/readout.py            # about an hour: a million units and 10 million requests in each database
    python benchmarks/readout.py --quick    # 2,500 and 25,000 units, about three minutes

Every request is stored by the code that `/api/v1/events` runs, in batches of 5,000 events, with a rating for every
fifth; the readout is then asked of a service over HTTP. Its cost should grow with neither units nor requests: it reads
sums.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import typer
from growth_report import Cost, Grown, Growth, GrowthReport, Question
from postgres import postgres
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from systems import Call, Wire

from service.experiments import ledger
from service.experiments.events import Event, OutcomeGiven, Requested
from service.store import experiments
from service.store.database import Database

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
KEY = "chat"
REQUESTS = 10  # of a unit
RATED = 5  # one request in so many
BATCH = 5_000
DAYS = 14
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


def traffic(experiment_id: str, n_units: int, now: float) -> Iterator[Event]:
    """Requests of all units over two weeks, in the order of time, with some of their ratings."""
    rng = random.Random(n_units)
    for turn in range(REQUESTS):
        at = now - DAYS * 86_400 * (1 - turn / REQUESTS)
        for unit in range(n_units):
            number = f"{unit:07d}-{turn}"
            yield Requested(
                number, at, 200, experiment_id, 1, f"user-{unit:07d}", ("base", "tuned")[unit % 2], True,
                latency=rng.lognormvariate(0, 0.5), first_token=rng.lognormvariate(-2, 0.4), cost=0.001,
            )  # fmt: skip
            if (unit + turn) % RATED == 0:
                yield OutcomeGiven(number, "satisfaction", float(rng.random() < 0.6), at)


def fill(url: str, n_units: int) -> float:
    """Store the traffic of an experiment that has been started; CPU seconds of this process a thousand events."""
    database = Database(url)
    with database.read() as session:
        experiment = experiments.find(session, KEY)
        assert experiment is not None
        experiment_id = experiment.id
    begun, n_events = time.process_time(), 0
    events = traffic(experiment_id, n_units, time.time())
    while batch := list(islice(events, BATCH)):
        with database.write() as session:
            n_events += ledger.apply(session, batch).accepted
    database.close()
    return (time.process_time() - begun) / n_events * 1_000


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
        with service(command, one.folder, "--database", one.url, ready="/readyz") as server:
            wire = Wire(server.port)
            for path, body in (("", PLAN), (f"/{KEY}/start", {})):
                wire.send(Call("POST", f"/api/v1/experiments{path}", json.dumps(body).encode(), _JSON))
    say(f"storing {sum(size.units) * REQUESTS:,} requests in each database")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        stored = list(pool.map(fill, [one.url for one in held], [one.units for one in held]))
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
    "Events are stored by the service's own code in a process beside it: requests with durations and costs, a rating "
    "for every fifth. PostgreSQL's own processes are not in the CPU time.",
]


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure what a readout costs on both databases as units come, and print a column a size."""
    size = QUICK if quick else Size()

    def measure(folder: Path, say: Say) -> GrowthReport:
        with postgres() as create:
            growth = measured(command, size, folder, create, say)
        sizes = {"units": list(size.units), "requests a unit": REQUESTS, "rounds": size.rounds}
        return GrowthReport("readout", [SQLITE, POSTGRESQL], [], sizes, NOTES, growths=[growth])

    carry_out("readout", measure, whole=not quick, out=out, packages=(*PACKAGES, "psycopg", "numpy"), width=200)


if __name__ == "__main__":
    typer.run(main)
