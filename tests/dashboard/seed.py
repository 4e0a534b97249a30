"""A small but whole record, written through the client: runs, suites, evaluations, audits, models, an experiment.

python -m tests.dashboard.seed http://127.0.0.1:8000
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tunescope import Client

Json = dict[str, Any]
LABELS = ["card_arrival", "lost_card", "top_up_failed", "exchange_rate", "cash_charge", "change_pin"]
QUESTIONS = {
    "card_arrival": "Where is the card I ordered two weeks ago?",
    "lost_card": "My card was stolen with my phone, what now?",
    "top_up_failed": "I tried to add money and the app said it failed.",
    "exchange_rate": "Which rate do you use when I pay in euros?",
    "cash_charge": "Why was I charged for taking out cash?",
    "change_pin": "How do I set another PIN?",
}


DIFF = b"""diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1,2 +1,2 @@
-rank = 16
+rank = 64
 epochs = 3
"""


DRIFT = {
    "delta_nll": {"value": 0.412, "interval": [0.371, 0.455]},
    "perplexity_ratio": {"value": math.exp(0.412), "interval": [math.exp(0.371), math.exp(0.455)]},
    "kl": {"value": 0.388, "interval": [0.352, 0.427]},
    "n_tokens": 48_210,
    "n_texts": 200,
    "text_hash": "9c1185a5c5e9fc54612808977ee8f548b2258d31" + "0" * 24,
    "resamples": 2000,
    "seed": 0,
}


@dataclass(frozen=True)
class Method:
    name: str
    method: str
    rate: float
    learned: float  # accuracy on the intents
    kept: float  # accuracy on general questions
    trainable: int
    peak_bytes: float


BASE = Method("base", "none", 0.0, 0.42, 0.84, 0, 0.0)
METHODS = [
    Method("lora-r16", "lora", 2e-4, 0.90, 0.83, 2_162_688, 9.1e9),
    Method("lora-r64", "lora", 5e-4, 0.94, 0.78, 8_650_752, 9.9e9),
    Method("full", "full", 2e-5, 0.93, 0.55, 494_032_768, 21.4e9),
]


@dataclass
class Seed:
    """The ids a test needs to find its way."""

    project: str
    runs: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    evaluations: dict[tuple[str, str], str] = field(default_factory=dict)
    audits: dict[str, str] = field(default_factory=dict)
    model: str = ""
    experiment: str = ""
    draft: str = ""
    sweep: list[str] = field(default_factory=list)
    intents: str = ""
    general: str = ""


def seed(url: str, project: str = "support-intents") -> Seed:
    written = Seed(project, model=project, intents=f"{project}-test", general=f"{project}-general")
    with Client(url) as client:
        for index, method in enumerate(METHODS):
            written.runs[method.name] = finished_run(client, project, method, index)
        written.runs["qlora-on"] = running_run(client, project)
        written.runs["rate-too-high"] = crashed_run(client, project)
        versions(client, written)
        evaluations(client, written)
        audits(client, written)
        experiment(client, written)
        written.sweep = sweep(client, f"{project}-sweep")
    return written


# --- runs ---


def finished_run(client: Client, project: str, method: Method, index: int) -> str:
    run = client.create_run(
        project=project,
        name=method.name,
        group=method.method,
        config={
            "model": "Qwen/Qwen2.5-0.5B-Instruct",
            "method": method.method,
            "learning_rate": method.rate,
            "train": {"batch_size": 16, "epochs": 3, "max_steps": 1200},
            "parameters": {"trainable": method.trainable, "total": 494_032_768},
            "seed": index,
        },
        tags={"team": "nlp", "stage": "candidate"},
        notes="Intent classifier for the support bot.",
        environment={
            "git": {"commit": "9f2c1e7a8bd04", "branch": "main", "dirty": False, "remote": None},
            "command": ["tunescope", "train", f"configs/{method.name}.yaml"],
            "python": "3.11.9",
            "host": "gpu-03",
            "gpus": ["NVIDIA A100-SXM4-40GB"],
            "packages": {"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        },
        data_hash=f"sha256:4b1f7c29d3e8a1{index:02d}",
        created_at=time.time() - 7200 + 600 * index,
    )
    points(client, run["id"], curves(method, index, 240), run["created_at"])
    if method.name == "lora-r64":
        second_rank(client, run["id"], curves(method, 9, 240), run["created_at"])
        client.upload_artifact(run["id"], "git.diff", DIFF, kind="code")
    client.upload_artifact(run["id"], "config.yaml", f"method: {method.method}\n".encode(), kind="config")
    client.upload_artifact(run["id"], "checkpoint/adapter.safetensors", bytes(4096), kind="checkpoint")
    client.update_run(run["id"], status="finished", exit_code=0, finished_at=run["created_at"] + 3480)
    return str(run["id"])


def running_run(client: Client, project: str) -> str:
    run = client.create_run(
        project=project,
        name="qlora-on",
        group="qlora",
        config={"method": "qlora", "learning_rate": 2e-4, "train": {"max_steps": 1200}},
        data_hash="sha256:4b1f7c29d3e8a1ff",
        created_at=time.time() - 1800,
    )
    method = Method("qlora-on", "qlora", 2e-4, 0.9, 0.82, 2_162_688, 5.2e9)
    points(client, run["id"], curves(method, 7, 140), run["created_at"])
    return str(run["id"])


def crashed_run(client: Client, project: str) -> str:
    run = client.create_run(
        project=project,
        name="rate-too-high",
        group="lora",
        config={"method": "lora", "learning_rate": 1e-2, "train": {"max_steps": 1200}},
        created_at=time.time() - 5400,
    )
    steps = np.arange(0, 400, 5)
    loss = np.where(steps < 300, 2.0 + (steps / 150) ** 2, np.nan)
    points(client, run["id"], {"train/loss": (steps, loss)}, run["created_at"])
    client.update_run(
        run["id"],
        status="crashed",
        exit_code=1,
        error='Traceback (most recent call last):\n  File "train.py", line 88, in step\n'
        "RuntimeError: loss is NaN at step 300",
    )
    return str(run["id"])


def sweep(client: Client, project: str) -> list[str]:
    """Three learning rates, two adapters, three seeds each. The rate in the middle is best; one run diverged."""
    made: list[str] = []
    for rate in (1e-5, 2e-4, 3e-3):
        for adapter in (8, 64):
            for seed in range(3):
                number = len(made)
                run = client.create_run(
                    project=project,
                    name=f"rate-{rate:g}-r{adapter}-s{seed}",
                    config={
                        "learning_rate": rate,
                        "peft": {"r": adapter, "alpha": 2 * adapter},
                        "warmup": [0.0, 0.03, 0.1][number // 3 * 2 % 3],
                        "optimizer": "lion" if number // 3 in (0, 3, 4) else "adamw",
                        "model": "Qwen/Qwen2.5-0.5B-Instruct",
                        "train": {"seed": seed, "output_dir": f"runs/{number}"},
                    },
                    tags={"stage": "sweep", "sweep": "rates"},
                    created_at=time.time() - 9000 + 60 * number,
                )
                points(client, run["id"], sweep_curves(rate, adapter, number), run["created_at"])
                client.update_run(run["id"], status="finished", exit_code=0, finished_at=run["created_at"] + 2900)
                made.append(str(run["id"]))
    return made


def sweep_curves(rate: float, adapter: int, number: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(100 + number)
    steps = np.arange(0, 1000, 2 if number % 3 else 3)
    floor = 0.35 + 0.3 * abs(math.log10(rate / 2e-4)) + (0.05 if adapter == 8 else 0.0) + draw.normal(0, 0.03)
    loss = floor + (2.4 - floor) * np.exp(-steps / (900 if rate < 1e-4 else 180)) + draw.normal(0, 0.06, len(steps))
    if number == 17:
        loss[steps > 700] = np.nan
    rare = steps[::25]
    accuracy = 1 - 0.45 * loss[::25].clip(0.2, 2) + draw.normal(0, 0.004, len(rare))
    return {
        "train/loss": (steps, loss),
        "train/epoch": (steps, steps / 400),
        "eval/accuracy": (rare, accuracy),
    }


def curves(method: Method, number: int, n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(number)
    steps = np.arange(0, 5 * n, 5)
    rare = steps[::10]
    share, rare_share = steps / 1200, rare / 1200

    def noisy(values: np.ndarray, spread: float) -> np.ndarray:
        return np.asarray(values + draw.normal(0, spread, len(values)))

    return {
        "train/loss": (steps, noisy(2.6 * np.exp(-4 * share) + 0.35 + 0.05 * number, 0.05)),
        "train/learning_rate": (steps, method.rate * (1 - share)),
        "train/grad_norm": (steps, noisy(1.1 + 0.5 * np.exp(-3 * share), 0.08)),
        "eval/loss": (rare, noisy(2.3 * np.exp(-3.5 * rare_share) + 0.45 + 0.04 * number, 0.01)),
        "eval/accuracy": (rare, noisy(method.learned - (method.learned - 0.4) * np.exp(-5 * rare_share), 0.006)),
        "probe/general": (rare, noisy(BASE.kept + (method.kept - BASE.kept) * rare_share, 0.008)),
        "train/peak_memory_bytes": (steps[-1:], np.array([method.peak_bytes])),
        "system/gpu0_percent": (rare, noisy(np.full(len(rare), 91.0), 3)),
        "system/gpu0_memory_mib": (rare, np.full(len(rare), method.peak_bytes / 2**20)),
        "system/cpu_percent": (rare, noisy(np.full(len(rare), 34.0), 5)),
    }


def points(
    client: Client,
    run_id: str,
    series: dict[str, tuple[np.ndarray, np.ndarray]],
    began: float,
    batch: int = 1,
    rank: int = 0,
    console: Sequence[tuple[float, str, str]] = (),
) -> None:
    metrics = [
        {
            "key": key,
            "step": steps.astype("<i8").tobytes(),
            "time": (began + 2.9 * steps).astype("<f8").tobytes(),
            "value": values.astype("<f8").tobytes(),
        }
        for key, (steps, values) in series.items()
    ]
    body = {"writer": f"seed-{rank}", "batch": batch, "rank": rank, "metrics": metrics, "console": console}
    client.send_batch(run_id, msgspec.msgpack.encode(body))


def second_rank(client: Client, run_id: str, series: dict[str, tuple[np.ndarray, np.ndarray]], began: float) -> None:
    """What a second process logs, and what both of them print."""
    own = {key: series[key] for key in ("train/loss", "system/gpu0_percent", "system/cpu_percent")}
    points(client, run_id, own, began, rank=1, console=[(began + 2, "stdout", "rank 1 of 2 is ready")])
    printed = [
        (began + 1, "stdout", "rank 0 of 2 is ready"),
        (began + 3, "stderr", "UserWarning: <pad> has no <b>id</b>"),
    ]
    printed += [
        (began + 10 + 29 * i, "stdout", f"step {10 * i:>5}  loss {2.6 * math.exp(-i / 30):.4f}") for i in range(120)
    ]
    points(client, run_id, {}, began, batch=2, console=printed)


# --- models and evaluations ---


def versions(client: Client, written: Seed) -> None:
    base = client.register_model(written.model, source="Qwen/Qwen2.5-0.5B-Instruct", aliases=["base"])
    written.versions["base"] = base["id"]
    for method, alias in zip(METHODS, ("champion", "candidate", None), strict=True):
        version = client.register_model(
            written.model,
            run_id=written.runs[method.name],
            base_version_id=base["id"],
            source=f"runs/{method.name}/model",
            method=method.method,
            aliases=[alias] if alias else [],
        )
        written.versions[method.name] = version["id"]


def evaluations(client: Client, written: Seed) -> None:
    asked = [(label, number) for number in range(70) for label in LABELS]
    intents = client.create_suite(
        name=written.intents,
        task_type="classification",
        items=[
            {
                "id": f"intent-{label}-{number}",
                "input": f"{QUESTIONS[label]} (case {number})",
                "label": label,
                "group": "cards" if "card" in label or "pin" in label else "money",
                "tags": ["short" if number % 2 else "long"],
            }
            for label, number in asked
        ],
        metrics=["accuracy", "f1_macro", "mcc"],
        labels=LABELS,
    )
    general = client.create_suite(
        name=written.general,
        task_type="generation",
        items=[
            {
                "id": f"sum-{number}",
                "input": f"What is {number} plus {number % 7 + 2}?",
                "references": [str(number + number % 7 + 2)],
                "group": ["small", "middle", "large"][number * 3 // 400],
            }
            for number in range(400)
        ],
        metrics=["exact_match"],
    )
    settings = {"temperature": 0, "max_new_tokens": 16}
    for index, method in enumerate([BASE, *METHODS]):
        chance = random.Random(index)
        owner: Json = {"model_version_id": written.versions[method.name], "settings": settings, "name": method.name}
        if method is not BASE:
            owner |= {"run_id": written.runs[method.name], "step": 1200}
        one = client.create_evaluation(
            suite_id=intents["id"],
            predictions=[
                {
                    "id": f"intent-{label}-{number}",
                    "output": intent_answer(label, number, method.learned, chance),
                    "probability": confidence(number) if method.name == "lora-r64" else None,
                }
                for label, number in asked
            ],
            **owner,
        )
        written.evaluations[method.name, written.intents] = one["id"]
        if method.name == "full":
            checkpoints(client, written, general["id"], settings)
        other = client.create_evaluation(
            suite_id=general["id"],
            predictions=[
                {"id": f"sum-{number}", "output": sum_answer(number, method.kept, chance)} for number in range(400)
            ],
            **owner,
        )
        written.evaluations[method.name, written.general] = other["id"]
    second_run(client, written, general["id"], settings)


def checkpoints(client: Client, written: Seed, suite_id: str, settings: Json) -> None:
    """The full fine-tune on its way down: what it answers at three steps before the last."""
    for step, kept in ((300, 0.79), (600, 0.70), (900, 0.62)):
        chance = random.Random(step)
        client.create_evaluation(
            suite_id=suite_id,
            run_id=written.runs["full"],
            step=step,
            name=f"full at {step}",
            settings=settings,
            predictions=[{"id": f"sum-{number}", "output": sum_answer(number, kept, chance)} for number in range(400)],
        )


def second_run(client: Client, written: Seed, suite_id: str, settings: Json) -> None:
    """The base asked once more: some answers near its limit come out otherwise."""
    chance = random.Random(0)
    again = client.create_evaluation(
        suite_id=suite_id,
        name="base, second run",
        settings=settings,
        predictions=[{"id": f"sum-{number}", "output": sum_answer(number, BASE.kept, chance)} for number in range(400)],
    )
    written.evaluations["base again", written.general] = again["id"]


def intent_answer(label: str, number: int, skill: float, chance: random.Random) -> str:
    """Right when the item is easy enough for the skill; most mistakes take a lost card for one that is late."""
    difficulty = (number * 37 % 70) / 70 + chance.uniform(-0.06, 0.06)
    if difficulty < skill:
        return label
    return "card_arrival" if label == "lost_card" else chance.choice([other for other in LABELS if other != label])


def confidence(number: int) -> float:
    """How sure the larger adapter is: less of the hard items, and too sure of all."""
    return 0.99 - 0.35 * (number * 37 % 70) / 70


def sum_answer(number: int, skill: float, chance: random.Random) -> str:
    difficulty = (number * 61 % 400) / 400 + chance.uniform(-0.03, 0.03)
    answer = str(number + number % 7 + 2)
    return answer if difficulty < skill else chance.choice(["card_arrival", answer + "0"])


# --- audits ---


def audits(client: Client, written: Seed) -> None:
    policy = client.create_policy(
        name=f"{written.project}-release",
        protected=[{"suite": written.general, "margin": 0.05, "minimum_n": 100}],
    )
    for method in METHODS:
        audit = client.create_audit(
            policy_id=policy["id"],
            before=[written.evaluations["base", written.general]],
            after=[written.evaluations[method.name, written.general]],
            run_id=written.runs[method.name],
            before_version_id=written.versions["base"],
            after_version_id=written.versions[method.name],
            aa=[written.evaluations["base again", written.general]] if method.name != "lora-r16" else [],
            drift=DRIFT if method.name == "full" else None,
        )
        written.audits[method.name] = audit["id"]
    month = 30 * 86_400
    client.waive(
        written.audits["lora-r64"],
        who="Ada Lovelace",
        why="Goes to twenty testers, who do no sums with it.",
        until=time.time() + month,
    )


# --- experiments ---


def experiment(client: Client, written: Seed) -> None:
    for name in ("lora-r16", "lora-r64"):
        client.create_upstream(
            name=f"{written.project}-{name}", base_url="http://127.0.0.1:9/v1", model=name, input_price=0.1
        )
    arms = [
        {
            "key": key,
            "weight": 0.5,
            "upstream": f"{written.project}-{name}",
            "model_version_id": written.versions[name],
        }
        for key, name in (("champion", "lora-r16"), ("candidate", "lora-r64"))
    ]
    metrics = [
        {"name": "satisfaction", "kind": "binary", "role": "primary", "direction": "higher"},
        {"name": "task_success", "kind": "binary", "role": "secondary", "direction": "higher"},
        {"name": "latency", "kind": "real", "role": "guardrail", "direction": "lower", "margin": 0.2},
    ]
    for place, name in (("experiment", "Support bot: LoRA r=64 against r=16"), ("draft", "A shorter prompt")):
        key = f"{written.project}-{'bot' if place == 'experiment' else 'prompt'}"
        client.create_experiment(
            key=key, name=name, variants=arms, metrics=metrics, minimum_units=100, expected_units=2000,
            hypothesis="The larger adapter answers in a way users like better.",
        )  # fmt: skip
        setattr(written, place, key)
    client.start_experiment(written.experiment)
    traffic(client, written.experiment)


def traffic(client: Client, key: str, units: int = 900) -> None:
    """Users with a few calls each; the candidate is liked better and takes a little longer."""
    chance = random.Random(3)
    for first in range(0, units, 150):
        events: list[Json] = []
        for unit in range(first, first + 150):
            arm = chance.choice(["champion", "candidate"])
            events.append({"type": "exposure", "experiment": key, "unit_id": f"user-{unit}", "variant": arm})
            for call in range(chance.randint(1, 5)):
                events.extend(one_call(key, f"user-{unit}", arm, f"{key}-{unit}-{call}", chance))
        client.send_events(events)
    wait_for(lambda: sum(client.readout(key)["split"]["observed"].values()) >= units)


def one_call(key: str, unit: str, arm: str, request_id: str, chance: random.Random) -> list[Json]:
    better = arm == "candidate"
    call: Json = {
        "type": "request", "request_id": request_id, "experiment": key, "unit_id": unit, "variant": arm,
        "latency": math.exp(chance.gauss(-0.4 + 0.06 * better, 0.35)), "first_token": chance.uniform(0.1, 0.3),
        "input_tokens": 220, "output_tokens": 60, "cost": 0.00004 + 0.000004 * better,
    }  # fmt: skip
    events = [call]
    if chance.random() < 0.4:
        liked = chance.random() < (0.86 if better else 0.62)
        events.append({"type": "outcome", "request_id": request_id, "metric": "satisfaction", "value": float(liked)})
    if chance.random() < 0.5:
        solved = chance.random() < (0.68 if better else 0.66)
        events.append({"type": "outcome", "request_id": request_id, "metric": "task_success", "value": float(solved)})
    return events


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the service did not count the events in time")
        time.sleep(0.1)


if __name__ == "__main__":
    print(seed(*sys.argv[1:]))
