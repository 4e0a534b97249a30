"""A training loop that logs ten scalars a step of two milliseconds: one of many processes that `trainers.py` starts.

It says `ready`, waits for a line on its standard input, trains, and says in JSON what became of its points. It imports
nothing but the standard library and, where it uses Tunescope's client, that.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

KEYS = [f"train/metric_{index}" for index in range(10)]
STEP = 0.002  # seconds, in which the processor is somebody else's: the GPU works
BATCH_STEPS = 100  # of a call of MLflow's protocol: with ten metrics the 1,000 it takes at most


class Told:
    """What a trainer has to say: `waits` are the milliseconds until each batch was acknowledged."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.refused = 0  # points that were not acknowledged

    def timed(self, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        answer = call()
        self.waits.append(1000 * (time.perf_counter() - begun))
        return answer


def with_client(told: Told, url: str, name: str, folder: str) -> tuple[Callable[..., Any], Callable[[], None]]:
    """Tunescope's client: a journal, and a thread that ships it."""
    import tunescope

    send = tunescope.Client.send_batch

    def send_timed(self: tunescope.Client, run_id: str, body: bytes) -> Any:
        return told.timed(lambda: send(self, run_id, body))

    tunescope.Client.send_batch = send_timed  # type: ignore[method-assign]
    run = tunescope.init(project="trainers", name=name, url=url, dir=folder, quiet=True, console=False)

    def finish() -> None:
        told.refused = run.finish(timeout=120).left

    return run.log, finish


def through_mlflow(told: Told, url: str, run_id: str, folder: str) -> tuple[Callable[..., Any], Callable[[], None]]:
    """MLflow's protocol by plain HTTP: the loop waits for each batch, as it does with that client's `log_metrics`."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    waiting: list[dict[str, Any]] = []

    def post() -> int:
        body = json.dumps({"run_id": run_id, "metrics": waiting}).encode()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/api/2.0/mlflow/runs/log-batch", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def flush() -> None:
        if told.timed(post) != 200:
            told.refused += len(waiting)
        waiting.clear()

    def log(values: dict[str, float], step: int) -> None:
        now = time.time_ns() // 1_000_000
        waiting.extend({"key": key, "value": value, "timestamp": now, "step": step} for key, value in values.items())
        if len(waiting) == BATCH_STEPS * len(KEYS):
            flush()

    return log, lambda: flush() if waiting else None


def main(kind: str, url: str, name: str, folder: str, seconds: str) -> None:
    told = Told()
    log, finish = {"client": with_client, "mlflow": through_mlflow}[kind](told, url, name, folder)
    numbers = random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    step = 0
    while time.monotonic() < begun + float(seconds):
        log({key: numbers.random() for key in KEYS}, step)
        step += 1
        time.sleep(STEP)
    looped = time.monotonic()
    finish()
    over = time.monotonic()
    spent = {"loop_seconds": looped - begun, "finish_seconds": over - looped}
    print(json.dumps({"logged": step * len(KEYS), "steps": step} | spent | vars(told)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
