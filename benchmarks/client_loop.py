"""A training loop that logs ten scalars a step to one tracker: a process of its own, started by `client.py`.

Runs in the tracker's environment, so it imports nothing but the standard library and that tracker. It tells its parent
over a pipe how far it is, and goes on when it gets a line on its standard input.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEYS = [f"train/metric_{index}" for index in range(10)]
Log = Callable[[dict[str, float], int], Any]
Finish = Callable[[], int | None]
"""Ends the run; how many points are kept, where the tracker can tell."""


def tunescope_online(folder: Path, url: str) -> tuple[Log, Finish]:
    import tunescope

    run = tunescope.init(project="client", url=url, mode="online", dir=folder, quiet=True)
    return run.log, lambda: run.finish(timeout=120).stored


def tunescope_offline(folder: Path, url: str) -> tuple[Log, Finish]:
    import tunescope

    run = tunescope.init(project="client", mode="offline", dir=folder, quiet=True)
    return run.log, lambda: run.finish().left


def tensorboard(folder: Path, url: str) -> tuple[Log, Finish]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "run"))

    def log(values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return log, lambda: writer.close()


def trackio(folder: Path, url: str) -> tuple[Log, Finish]:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as tracker

    run = tracker.init(project="client", embed=False)
    return run.log, lambda: run.finish()


def swanlab(folder: Path, url: str) -> tuple[Log, Finish]:
    import swanlab as tracker

    run = tracker.init(project="client", mode="offline", logdir=str(folder))
    return lambda values, step: run.log(values, step=step), lambda: run.finish()


def wandb(folder: Path, url: str) -> tuple[Log, Finish]:
    import wandb as tracker

    run = tracker.init(project="client", mode="offline", dir=str(folder), settings=tracker.Settings(silent=True))
    return lambda values, step: run.log(values, step=step), lambda: run.finish()


def mlflow(folder: Path, url: str, synchronous: bool = True) -> tuple[Log, Finish]:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow as tracker

    tracker.set_tracking_uri(url)
    tracker.set_experiment("client")
    run_id = tracker.start_run().info.run_id

    def log(values: dict[str, float], step: int) -> None:
        tracker.log_metrics(values, step=step, synchronous=synchronous)

    def finish() -> int:
        tracker.flush_async_logging()
        tracker.end_run()
        client = tracker.MlflowClient()
        return sum(len(client.get_metric_history(run_id, key)) for key in KEYS)

    return log, finish


def mlflow_async(folder: Path, url: str) -> tuple[Log, Finish]:
    return mlflow(folder, url, synchronous=False)


TRACKERS = (tunescope_online, tunescope_offline, tensorboard, trackio, swanlab, wandb, mlflow, mlflow_async)


def loop(log: Log, calls: int, busy: int) -> list[float]:
    """Microseconds of each call; between two calls the processor works for `busy` microseconds."""
    numbers = random.Random(0)
    rows = [{key: numbers.random() for key in KEYS} for _ in range(calls)]
    microseconds = []
    for step, values in enumerate(rows):
        begun = time.perf_counter_ns()
        log(values, step)
        ended = time.perf_counter_ns()
        microseconds.append((ended - begun) / 1000)
        until = ended + 1000 * busy
        while time.perf_counter_ns() < until:
            pass
    return microseconds


def main(name: str, folder: str, url: str, calls: str, busy: str, pipe: str) -> None:
    def say(**message: Any) -> None:
        os.write(int(pipe), json.dumps(message).encode() + b"\n")

    trackers = {tracker.__name__: tracker for tracker in TRACKERS}
    log, finish = trackers[name](Path(folder), url)
    say(ready=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    microseconds = loop(log, int(calls), int(busy))
    looped = time.perf_counter()
    say(microseconds=microseconds, loop_seconds=looped - begun)
    sys.stdin.readline()
    begun = time.perf_counter()
    points = finish()
    say(finish_seconds=time.perf_counter() - begun, points=points)


if __name__ == "__main__":
    main(*sys.argv[1:])
