"""A thousand trainers at once, beside a reader of a run of 100 million points: memory, latency, and nothing lost.

    python benchmarks/scale.py            # about six minutes
    python benchmarks/scale.py --quick    # a tenth of the points, 200 trainers

Every trainer is a run of its own that sends ten metrics of five points every five seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pyarrow as pa
import typer
from purge import KEYS, fill, packed
from report import OURS, Figures, Report, percentiles, single
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import Server, Watch

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
        single("fill", f"{points:,} points stored by one client", "points/s", points / filling),
        single("memory-fill", "peak memory meanwhile", "MiB", filled, at_most=MEMORY),
        single("memory-crowd", f"peak memory while {trainers:,} trainers write", "MiB", alone, at_most=MEMORY),
        *percentiles("crowd", "a trainer's batch", own_latencies),
        single("memory-both", "peak memory while the run is read too", "MiB", both, at_most=MEMORY),
        *percentiles("both", "a trainer's batch meanwhile", beside),
        single("read-arrow", "the run read whole as Arrow meanwhile", "points/s", found / took),
        single("read-json", "one metric of it as JSON meanwhile", "MB/s", size / took_json / 1e6),
    ]


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT) -> None:
    """Measure memory and latency under many writers and a large read."""
    points, trainers, seconds = (10_000_000, 200, 10.0) if quick else (100_000_000, 1_000, 30.0)

    def measured(folder: Path, say: Say) -> Report:
        say("measuring")
        with service(command, folder) as server:
            found = measure(server, points, trainers, seconds)
        sizes = {"points of the run": points, "metrics": KEYS, "trainers": trainers}
        return Report("scale", [OURS], found, sizes | {"batch": f"{KEYS} × {POINTS} points"}, notes)

    notes = [
        f"Each trainer sends a batch every {EVERY:g} s; they, the reader and the service share the cores.",
        "Memory is the proportional set size of the service's processes.",
        "All that trainers were told is stored was found stored; the run was read whole.",
    ]
    carry_out("scale", measured, whole=not quick, out=out, packages=(*PACKAGES, "pyarrow"))


if __name__ == "__main__":
    typer.run(main)
