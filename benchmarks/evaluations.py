"""What scoring a large evaluation costs: memory above the idle service, time, and what writers notice meanwhile.

    python benchmarks/evaluations.py            # a million items of labels and a million of texts, about 25 minutes
    python benchmarks/evaluations.py --quick    # 50,000 of each

The items and predictions are sent as the client sends them, row by row as they are made. Memory is that of the service
and of the process that scores, which it starts for the purpose. One writer sends a batch of metrics every 20 ms: first
with nothing else going on, then while all of it is uploaded and scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from purge import lasting, packed
from report import OURS, Figures, Report, percentiles, single
from script import PACKAGES, THIS_CHECKOUT, Command, Out, Quick, Say, carry_out, service
from servers import Server, Watch

from tunescope import Client

LABELS = ["refund", "login", "delivery", "invoice", "other"]
WORDS = "my parcel did not arrive and nobody answers please help with the refund of order number".split()
EVERY = 0.02  # seconds between two batches of the writer
MEGABYTES = 500
STEP = 514_229  # a prime that divides no size used here: predictions come far from in order
Json = dict[str, Any]
Items = Annotated[int, typer.Option(help="So many items of each kind; 0: as many as the run has.", min=0)]


@dataclass(frozen=True)
class Task:
    """A suite's definition, and the item and the prediction of each number."""

    title: str
    definition: Json
    item: Callable[[int], Json]
    prediction: Callable[[int], Json]


class ScoredWrongly(RuntimeError):
    """The service's score is not the one these predictions have."""


def sentence(number: int, words: int, every: int = 7) -> str:
    return " ".join(WORDS[(number * every + word * word) % len(WORDS)] for word in range(words))


def label_item(number: int) -> Json:
    return {"id": f"item-{number:07d}", "input": sentence(number, 36), "label": LABELS[number % 5]}


def label_prediction(number: int) -> Json:
    """One in seven is wrong."""
    label = LABELS[(number + (number % 7 == 0)) % 5]
    return {"id": f"item-{number:07d}", "output": f"{sentence(number, 30)} {label}", "parsed": label}


def text_item(number: int) -> Json:
    return {"id": f"item-{number:07d}", "input": sentence(number, 12), "references": [sentence(number, 22)]}


def text_prediction(number: int) -> Json:
    return {"id": f"item-{number:07d}", "output": sentence(number, 20, 7 + number % 3)}


TASKS = [
    Task(
        "labels (accuracy, macro-F1, MCC)",
        {"name": "labels", "task_type": "classification", "metrics": ["accuracy", "f1_macro", "mcc"]},
        label_item,
        label_prediction,
    ),
    Task(
        "texts (BLEU, chrF, ROUGE-1, -2 and -L)",
        {"name": "texts", "task_type": "generation", "metrics": ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]},
        text_item,
        text_prediction,
    ),
]


def latencies(client: Client, run_id: str, numbers: Iterator[int], go_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of each batch of a writer that rests in between."""
    found = []
    while go_on():
        body = packed("writer", next(numbers), 10)
        begun = time.perf_counter()
        client.send_batch(run_id, body)
        found.append(1000 * (time.perf_counter() - begun))
        time.sleep(EVERY)
    return found


def measure(server: Server, n: int, quiet_seconds: float, say: Say) -> list[Figures]:
    url = f"http://127.0.0.1:{server.port}"
    numbers = count(1)
    with Client(url) as writer, ThreadPoolExecutor(1) as pool:
        run_id = str(writer.create_run(project="beside")["id"])
        latencies(writer, run_id, numbers, lasting(1.0))
        quiet = latencies(writer, run_id, numbers, lasting(quiet_seconds))
        idle = server.memory() / 1e6
        found = [single("idle", "memory of the idle service", "MB", idle), *percentiles("quiet", "a batch", quiet)]
        for task in TASKS:
            say(f"{n:,} {task.title} are uploaded and scored")
            watch = Watch(server)
            watch.start()
            scoring = pool.submit(score, url, task, n)
            beside = latencies(writer, run_id, numbers, partial(still, scoring))
            seconds = scoring.result()
            watch.ended = True
            watch.join()
            found += figures(task, n, seconds, watch.peak * 2**20 / 1e6 - idle, beside)
    return found


def still(work: Future[Any]) -> bool:
    return not work.done()


def figures(task: Task, n: int, seconds: float, above: float, beside: list[float]) -> list[Figures]:
    key = task.definition["name"]
    return [
        single(f"{key}-memory", f"{task.title}: peak above the idle service", "MB", above, at_most=MEGABYTES),
        single(f"{key}-pace", f"{task.title}: sent and scored", "items/s", n / seconds),
        *percentiles(f"{key}-batch", f"{task.title}: a batch meanwhile", beside),
    ]


def score(url: str, task: Task, n: int) -> float:
    """Seconds from the first prediction sent to the scores; the suite is there before."""
    with Client(url, timeout=7200) as client:
        suite = client.create_suite(items=map(task.item, range(n)), **task.definition)
        begun = time.perf_counter()
        predictions = map(task.prediction, (number * STEP % n for number in range(n)))
        made = client.create_evaluation(suite_id=suite["id"], predictions=predictions)
        seconds = time.perf_counter() - begun
    first = made["scores"][0]
    right = 1 - len(range(0, n, 7)) / n
    if made["n"] != n or (first["name"] == "accuracy" and abs(first["value"] - right) > 1e-12):
        raise ScoredWrongly(f"{first['name']} of {made['n']:,} items is {first['value']}")
    return seconds


def main(quick: Quick = False, out: Out = None, command: Command = THIS_CHECKOUT, items: Items = 0) -> None:
    """Measure memory, pace and what writers notice while large evaluations are scored."""
    n = items or (50_000 if quick else 1_000_000)

    def measured(folder: Path, say: Say) -> Report:
        with service(command, folder) as server:
            found = measure(server, n, 2.0 if quick else 10.0, say)
        return Report("evaluations", [OURS], found, {"items": n}, notes)

    notes = [
        "Memory is the proportional set size of the service's processes, sampled every 0.2 s.",
        "The sender makes and sends rows on the same cores: the pace is that of both.",
        "The share that was right came out as it is.",
    ]
    carry_out("evaluations", measured, whole=not quick and not items, out=out, packages=(*PACKAGES, "sacrebleu"))


if __name__ == "__main__":
    typer.run(main)
