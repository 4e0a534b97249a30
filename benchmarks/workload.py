"""What the benchmark stores, the same for every system, and the answers it expects back. Pure."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

import numpy as np

METHODS = ("lora", "qlora", "full", "prefix")
TEAMS = ("nlp", "vision")
CREATED = 20  # params of a run, and metrics
BATCH_KEYS, BATCH_STEPS = 10, 100  # a log-batch call: 1,000 metrics
PAGE = 50


@dataclass(frozen=True)
class RunContent:
    """One run as a script would log it. Every number follows from the run's own."""

    name: str
    params: dict[str, str | float]
    metrics: dict[str, float]
    tags: dict[str, str]


def run_content(number: int) -> RunContent:
    params: dict[str, str | float] = {"method": METHODS[number % len(METHODS)]}
    params |= {f"param_{i:02}": _fraction(number, f"p{i}") for i in range(1, CREATED)}
    metrics = {f"metric_{i:02}": _fraction(number, f"m{i}") for i in range(CREATED)}
    team = TEAMS[number // len(METHODS) % len(TEAMS)]
    return RunContent(f"run-{number:06}", params, metrics, {"team": team})


def _fraction(number: int, salt: str) -> float:
    return zlib.crc32(f"{salt}:{number}".encode()) / 2**32


# The three conditions and the order, in the wording both query languages share.
CONDITIONS = "metrics.metric_00 < 0.5 and params.method = 'lora' and tags.team = 'nlp'"
ORDER = "metrics.metric_01 desc"


def expected_search(n_runs: int) -> list[str]:
    """The names that `CONDITIONS` ordered by `ORDER` must give for the runs 0 … n − 1, first page."""
    runs = [run_content(number) for number in range(n_runs)]
    hits = [
        run
        for run in runs
        if run.metrics["metric_00"] < 0.5 and run.params["method"] == "lora" and run.tags["team"] == "nlp"
    ]
    hits.sort(key=lambda run: run.metrics["metric_01"], reverse=True)
    return [run.name for run in hits[:PAGE]]


@dataclass(frozen=True)
class Points:
    """Equal-length columns of one metric."""

    key: str
    steps: list[int] | np.ndarray
    times: list[float] | np.ndarray
    values: list[float] | np.ndarray


def batch(first_step: int, keys: int = BATCH_KEYS, steps: int = BATCH_STEPS) -> list[Points]:
    """`keys` metrics of `steps` points each, as a training loop makes them."""
    start = 1_700_000_000.0
    columns = []
    for index in range(keys):
        noise = random.Random(f"{index}:{first_step}")
        numbers = range(first_step, first_step + steps)
        columns.append(
            Points(
                f"train/metric_{index}",
                list(numbers),
                [start + number / 8 for number in numbers],
                [noise.random() for _ in numbers],
            )
        )
    return columns


def loss(first_step: int, steps: int, key: str, kind: type[np.floating] = np.float64) -> Points:
    """A metric as training logs it: a loss that falls and is noisy, four steps a second by a clock that jitters.

    `kind`: what the training computes in; a float32 has fewer bits to keep."""
    noise = np.random.default_rng([first_step, sum(key.encode())])
    numbers = np.arange(first_step, first_step + steps)
    values = 0.5 + 3 * (numbers + 1.0) ** -0.3 + 0.05 * noise.normal(size=steps)
    times = 1_700_000_000.0 + numbers / 4 + 0.002 * noise.random(steps)
    return Points(key, numbers, times, values.astype(kind))
