"""A thousand trainers at once, beside a reader of a run of 100 million points: memory, latency, and nothing lost.

    python benchmarks/scale.py            # about six minutes
    python benchmarks/scale.py --quick    # a tenth of the points, 200 trainers

Every trainer is a run of its own that sends ten metrics of five points every five seconds.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx2
import pyarrow as pa
import typer
from purge import KEYS, fill, packed
from report import OURS, REPOSITORY, Figures, Report, Row, machine_facts, show, write
from rich.console import Console
from servers import Server, running

from tunescope import Client

POINTS = 5  # of each metric, a batch
EVERY = 5.0
MEMORY = 400.0
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


class Lost(RuntimeError):
    """The service does not hold what it acknowledged, or gave less than it holds."""


@dataclass
class Crowd:
    """The trainers, and what they saw. Latencies in milliseconds."""

    url: str
    trainers: int
    latencies: list[float] = field(default_factory=list)
    stored: int = 0
    stop: bool = False

    async def all(self) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx2.AsyncClient(base_url=self.url, limits=limits, timeout=120) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(self.trainers)))

    async def _one(self, client: httpx2.AsyncClient, number: int) -> None:
        await asyncio.sleep(EVERY * number / self.trainers)
        created = await client.post("/api/v1/runs", json={"project": "crowd", "config": {"seed": number}})
        run_id, batch, stored = created.raise_for_status().json()["id"], 0, 0
        due = time.monotonic()
        while not self.stop:
            batch += 1
            begun = time.perf_counter()
            answer = await client.post(
                f"/api/v1/runs/{run_id}/batches",
                content=packed("trainer", batch, POINTS),
                headers={"content-type": "application/msgpack"},
            )
            self.latencies.append(1000 * (time.perf_counter() - begun))
            stored = answer.raise_for_status().json()["points_stored"]
            due = max(due + EVERY, time.monotonic() - EVERY)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if stored != batch * POINTS * KEYS:
            raise Lost(f"run {run_id} was sent {batch * POINTS * KEYS} points and holds {stored}")
        self.stored += stored


class Watch(threading.Thread):
    """Samples the service's memory; `peak` in MiB since it was last reset."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.peak = 0.0
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            self.peak = max(self.peak, self._server.memory() / 2**20)
            time.sleep(0.2)

    def since(self) -> float:
        peak, self.peak = self.peak, 0.0
        return peak


def read_arrow(url: str, run_id: str) -> tuple[int, float]:
    """Points of the whole run as they come, and the seconds that took."""

    class Body:
        """A response as the file that Arrow reads from."""

        closed = False

        def __init__(self, response: httpx2.Response) -> None:
            self._chunks = response.iter_bytes()
            self._left = b""

        def read(self, size: int = -1) -> bytes:
            parts, have = [self._left], len(self._left)
            while size < 0 or have < size:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                parts.append(chunk)
                have += len(chunk)
            data = b"".join(parts)
            cut = len(data) if size < 0 else size
            self._left = data[cut:]
            return data[:cut]

    begun = time.perf_counter()
    found = 0
    with httpx2.stream("GET", f"{url}/api/v1/metrics", params={"run_id": run_id}, headers=ARROW, timeout=600) as answer:
        answer.raise_for_status()
        for batch in pa.ipc.open_stream(Body(answer)):
            found += batch.num_rows
    return found, time.perf_counter() - begun


def read_json(url: str, run_id: str, key: str) -> tuple[int, float]:
    """Bytes of one metric of it, and the seconds."""
    begun = time.perf_counter()
    params = {"run_id": run_id, "key": key}
    with httpx2.stream("GET", f"{url}/api/v1/metrics", params=params, timeout=600) as answer:
        answer.raise_for_status()
        return sum(len(chunk) for chunk in answer.iter_bytes()), time.perf_counter() - begun


def measure(server: Server, points: int, trainers: int, seconds: float) -> list[Figures]:
    url = f"http://127.0.0.1:{server.port}"
    watch = Watch(server)
    watch.start()
    begun = time.perf_counter()
    with Client(url) as client:
        big = fill(client, points)
    filling = time.perf_counter() - begun
    filled = watch.since()
    crowd = Crowd(url, trainers)
    thread = threading.Thread(target=lambda: asyncio.run(crowd.all()))
    thread.start()
    time.sleep(EVERY + seconds)
    alone, own_latencies = watch.since(), crowd.latencies.copy()
    crowd.latencies.clear()
    found, took = read_arrow(url, big)
    size, took_json = read_json(url, big, "m0")
    both, beside = watch.since(), crowd.latencies.copy()
    crowd.stop = True
    thread.join()
    watch.ended = True
    if found != points:
        raise Lost(f"the run holds {points:,} points, {found:,} were read")
    with Client(url) as client:
        stored = sum(run["points_stored"] for run in client.list_runs(project="crowd", limit=1000)["items"])
    if stored != crowd.stored:
        raise Lost(f"the trainers were told of {crowd.stored:,} points, the service holds {stored:,}")
    return [
        figures("fill", f"{points:,} points stored by one client", "points/s", points / filling),
        figures("memory-fill", "peak memory meanwhile", "MiB", filled, MEMORY),
        figures("memory-crowd", f"peak memory while {trainers:,} trainers write", "MiB", alone, MEMORY),
        *latencies("crowd", "a trainer's batch", own_latencies),
        figures("memory-both", "peak memory while the run is read too", "MiB", both, MEMORY),
        *latencies("both", "a trainer's batch meanwhile", beside),
        figures("read-arrow", "the run read whole as Arrow meanwhile", "points/s", found / took),
        figures("read-json", "one metric of it as JSON meanwhile", "MB/s", size / took_json / 1e6),
    ]


def latencies(key: str, title: str, found: list[float]) -> list[Figures]:
    cuts = statistics.quantiles(found, n=100)
    return [
        figures(f"{key}-p50", f"{title}, p50", "ms", cuts[49]),
        figures(f"{key}-p99", f"{title}, p99", "ms", cuts[98]),
    ]


def figures(key: str, title: str, unit: str, value: float, at_most: float | None = None) -> Figures:
    return Figures(Row(key, title, unit, at_most=at_most), {OURS: [value]})


def main(
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the points, a fifth of the trainers.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the JSON and Markdown files; default: results/, for whole runs only.")
    ] = None,
    command: Annotated[
        str, typer.Option("--tunescope", help="How Tunescope is started.")
    ] = f"{shlex.quote(sys.executable)} -m tunescope serve",
) -> None:
    """Measure memory and latency under many writers and a large read."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    points, trainers, seconds = (10_000_000, 200, 10.0) if quick else (100_000_000, 1_000, 30.0)
    facts = machine_facts("tunescope", "fastapi", "sqlmodel", "sqlalchemy", "uvicorn", "msgspec", "httpx2", "pyarrow")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tunescope-scale-") as name, console.status("measuring"):
        folder = Path(name)
        full = [*shlex.split(command), "--port", "{port}", "--data-dir", str(folder / "data")]
        with running(OURS, full, folder, "/healthz", PYTHONPATH=str(REPOSITORY)) as server:
            found = measure(server, points, trainers, seconds)
    facts |= {"load_after": round(os.getloadavg()[0], 2), "seconds": time.monotonic() - begun}
    sizes = {"points of the run": points, "metrics": KEYS, "trainers": trainers, "batch": f"{KEYS} × {POINTS} points"}
    notes = [
        f"Each trainer sends a batch every {EVERY:g} s; they, the reader and the service share the cores.",
        "Memory is the proportional set size of the service's processes.",
        "All that trainers were told is stored was found stored; the run was read whole.",
    ]
    report = Report("scale", [OURS], found, sizes, notes, facts)
    show(report, console)
    results = out or (None if quick else REPOSITORY / "benchmarks/results")
    for path in write(report, results) if results else ():
        console.print(f"  wrote {path}", style="dim")


if __name__ == "__main__":
    typer.run(main)
