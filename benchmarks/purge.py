"""What deleting costs everybody else: the latency of a writer while a large run is deleted for good, and while a
project of many runs goes into the bin and comes back.

    python benchmarks/purge.py            # 10 million points and 10,000 runs, about four minutes
    python benchmarks/purge.py --quick    # a tenth of it

One writer sends small batches without a pause: first with nothing else going on, then meanwhile. Its latencies tell
little on a busy machine, where other programs take the processor from it. So the service is asked besides for how
long each of its steps held the lock that writers wait for, and how much of that it computed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import typer
from report import OURS, Figures, Report, Row
from script import THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service

from tunescope import Client

KEYS = 10
BATCH_POINTS = 10_000  # of each metric
AT_MOST = 50.0
SHRINK_SECONDS = 120.0


class PurgeIncomplete(RuntimeError):
    """Something of the run is left, or the file did not shrink."""


def packed(writer: str, number: int, points: int, keys: int = KEYS) -> bytes:
    steps = np.arange((number - 1) * points, number * points, dtype="<i8")
    values = np.random.default_rng(number).normal(size=points).astype("<f8").tobytes()
    times = (1.7e9 + steps / 10).astype("<f8").tobytes()
    columns = [{"key": f"m{n}", "step": steps.tobytes(), "time": times, "value": values} for n in range(keys)]
    return msgspec.msgpack.encode({"writer": writer, "batch": number, "metrics": columns})


def fill(client: Client, points: int) -> str:
    run_id = str(client.create_run(project="purge")["id"])
    for number in range(1, points // (BATCH_POINTS * KEYS) + 1):
        client.send_batch(run_id, packed("filler", number, BATCH_POINTS))
    client.update_run(run_id, status="finished")
    return run_id


def latencies(client: Client, run_id: str, numbers: Iterator[int], go_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of each of the batches that one writer sends, of 10 points each."""
    found = []
    while go_on():
        body = packed("writer", next(numbers), 1)
        begun = time.perf_counter()
        client.send_batch(run_id, body)
        found.append(1000 * (time.perf_counter() - begun))
    return found


def lasting(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


def measure(url: str, database: Path, points: int, n_runs: int, quiet_seconds: float) -> list[Figures]:
    numbers = iter(range(1, 1 << 40))
    with Client(url) as client, Client(url) as watcher:
        big = fill(client, points)
        writer = str(client.create_run(project="purge")["id"])
        latencies(client, writer, numbers, lasting(2 * quiet_seconds))  # what is left to be joined is joined meanwhile
        quiet = latencies(client, writer, numbers, lasting(quiet_seconds))
        full = database.stat().st_size
        watcher.delete_run(big)
        watcher.purge_bin([big])
        state = {"asked": 0.0, "left": 1}

        def purging() -> bool:
            if time.monotonic() > state["asked"] + 0.5:
                state.update(asked=time.monotonic(), left=watcher.bin()["n_purging"])
            return bool(state["left"])

        begun = time.monotonic()
        busy = latencies(client, writer, numbers, purging)
        seconds = time.monotonic() - begun
        in_time = lasting(SHRINK_SECONDS)
        busy += latencies(client, writer, numbers, lambda: database.stat().st_size > full / 10 and in_time())
        small = database.stat().st_size
        held_by_purge = watcher.bin(limit=1)["steps"]
        moved = to_the_bin_and_back(url, client, writer, numbers, n_runs)
        held_by_all = watcher.bin(limit=1)["steps"]
    if small > full / 2:
        raise PurgeIncomplete(f"{database} had {full:,} bytes and has {small:,}")
    return [
        *summary("quiet", "a batch of 10 points, nothing else going on", quiet),
        *summary("purging", "the same while the run is purged", busy, AT_MOST),
        figures("held-p50", "a step of the purge held the lock, p50", "ms", held_by_purge["p50_ms"]),
        figures("held-p99", "a step of the purge held the lock, p99", "ms", held_by_purge["p99_ms"]),
        figures("held-max", "longest a purge step held the lock", "ms", held_by_purge["longest_ms"], AT_MOST),
        figures("held-cpu-p99", "of which it computed, p99", "ms", held_by_purge["cpu_p99_ms"]),
        figures("held-cpu-max", "of which it computed, longest", "ms", held_by_purge["cpu_longest_ms"], AT_MOST),
        figures("steps", "steps of the purge", "", held_by_purge["steps"]),
        *summary("bin", f"a batch while {n_runs:,} runs go into the bin and come back", moved, AT_MOST),
        figures("all-max", "longest a step of purge or bin held the lock", "ms", held_by_all["longest_ms"], AT_MOST),
        figures("all-cpu-max", "of which it computed, longest", "ms", held_by_all["cpu_longest_ms"], AT_MOST),
        figures("seconds", "until the run is gone", "s", seconds),
        figures("before", "database file before", "MiB", full / 2**20),
        figures("after", "database file after", "MiB", small / 2**20),
    ]


def to_the_bin_and_back(url: str, client: Client, writer: str, numbers: Iterator[int], n_runs: int) -> list[float]:
    """Latencies of the writer while a project of so many runs is deleted, restored, and deleted again."""
    for number in range(n_runs):
        client.create_run(project="many", config={f"p{n}": number + n for n in range(10)})

    def move() -> None:
        with Client(url, timeout=SHRINK_SECONDS) as other:
            other.delete_project("many")
            other.restore_project("many")
            other.delete_project("many")

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        found = latencies(client, writer, numbers, lambda: not moving.done())
        moving.result()
    return found


def summary(key: str, title: str, found: list[float], at_most: float | None = None) -> list[Figures]:
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return [
        figures(f"{key}-p50", f"{title}, p50", "ms", cuts[49]),
        figures(f"{key}-p99", f"{title}, p99", "ms", cuts[98]),
        figures(f"{key}-max", f"{title}, longest", "ms", max(found), at_most),
    ]


def figures(key: str, title: str, unit: str, value: float, at_most: float | None = None) -> Figures:
    return Figures(Row(key, title, unit, at_most=at_most), {OURS: [value]})


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure what writers notice of a purge."""
    points, n_runs = (1_000_000, 1_000) if quick else (10_000_000, 10_000)

    def measured(folder: Path, say: Say) -> Report:
        say(f"a run of {points:,} points is stored and purged, {n_runs:,} runs go into the bin")
        with service(command, folder) as server:
            database = folder / "data/tunescope.db"
            found = measure(f"http://127.0.0.1:{server.port}", database, points, n_runs, 2.0 if quick else 10.0)
        sizes = {"points of the purged run": points, "metrics": KEYS, "runs of the project": n_runs}
        notes = ["The writer shares the two cores with the service: its own pauses for breath are in its latencies."]
        return Report("purge", [OURS], found, sizes, notes)

    carry_out("purge", measured, whole=not quick, out=out)


if __name__ == "__main__":
    typer.run(main)
