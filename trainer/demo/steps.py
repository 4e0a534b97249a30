"""The demo, step by step: each is remembered, so that a second start does not repeat it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import AutoTokenizer

import tunescope
from trainer.config import TrainConfig
from trainer.demo.base import base_config, make_tokenizer
from trainer.demo.memory import Memory
from trainer.demo.plan import FINE_TUNES, FineTune, fine_tune_config, write_data
from trainer.demo.scoring import GENERAL, TICKETS, CheckpointScorer, Scorer, StepClock, create_suites, value
from trainer.demo.traffic import REQUESTS_PER_USER, drive, make_users
from trainer.demo.world import World
from trainer.errors import TrainerError
from trainer.loop import Trained, train
from trainer.progress import ProgressBar
from tunescope import Client

Json = dict[str, Any]

PROJECT = "demo"
MODEL = "support-assistant"
EXPERIMENT = "support-assistant"
CONTROL, VARIANT = "base", "fine-tuned"
MARGIN = 0.05
"""The policy, written before any fine-tune is made: at most five of a hundred known facts may be lost."""
TICKET_MARGIN = 0.02
"""Two methods whose accuracy differs by less are as good as each other."""
PRICES = {"input_price": 0.10, "output_price": 0.40, "price_version": "demo, made up"}
SETTLED = 30.0


class TrafficLost(TrainerError):
    pass


@dataclass(frozen=True)
class Stage:
    """What every step works with."""

    client: Client
    memory: Memory
    console: Console
    world: World
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    def output(self, name: str) -> Path:
        return self.folder / "runs" / name


def prepare(stage: Stage) -> Json:
    """The data as files, the suites on the service, and the policy: all before anything is trained."""

    def make() -> Json:
        write_data(stage.world, stage.data)
        make_tokenizer(stage.world, stage.tokenizer)
        policy = stage.client.create_policy(
            name="keep-general-knowledge",
            alpha=0.05,
            protected=[{"suite": GENERAL, "metric": "exact_match", "margin": MARGIN}],
        )
        return {"suites": create_suites(stage.client, stage.world), "policy": policy}

    return stage.memory.once("prepare", make)


def build_base(stage: Stage, scorer: Scorer) -> Json:
    """The base model, trained from random weights, registered and scored."""

    def make() -> Json:
        config = base_config(PROJECT, MODEL, stage.data, stage.tokenizer, stage.output("base"))
        return learn(stage, scorer, config, "base model")

    return stage.memory.once("base", make)


def fine_tune(stage: Stage, scorer: Scorer, base: Json, one: FineTune) -> Json:
    """One fine-tune of the base: every checkpoint scored, the last one registered."""

    def make() -> Json:
        folder = stage.output("base") / "model"
        service = {"model_name": MODEL, "base_version_id": base["result"]["model_version"]["id"]}
        config = fine_tune_config(one, PROJECT, service, stage.data, folder, stage.output(one.name))
        return learn(stage, scorer, config, one.title)

    return stage.memory.once(one.name, make)


def learn(stage: Stage, scorer: Scorer, config: TrainConfig, title: str) -> Json:
    """Trains what a config describes and scores it: what the run came to, and its evaluations by suite."""
    output = Path(config.output)
    name = config.name or title
    checkpoints, clock = (
        CheckpointScorer(scorer, AutoTokenizer.from_pretrained(stage.tokenizer), output, name),
        StepClock(),
    )
    with ProgressBar(stage.console, f"  {title}") as bar:
        trained = train(config, client=stage.client, callbacks=[checkpoints, clock, bar], say=bar.say)
        bar.say("scoring")
        result = trained.result
        final = scorer.score(
            trained.model,
            trained.tokenizer,
            run_id=str(result.run_id),
            step=result.steps,
            name=name,
            version=result.model_version,
        )
        bar.say("done")
    log_scores(stage, trained, {**checkpoints.scored, result.steps: final})
    return {
        "name": name,
        "title": title,
        "seconds": clock.seconds,
        "result": msgspec.to_builtins(result),
        "evaluations": final,
    }


def log_scores(stage: Stage, trained: Trained, scored: dict[int, dict[str, Json]]) -> None:
    """The scores of a run's checkpoints as metrics of the run, beside its loss."""
    with tunescope.init(
        project=PROJECT, resume=trained.result.run_id, url=stage.client.url, system_interval=None, quiet=True
    ) as run:
        for step, evaluations in sorted(scored.items()):
            run.log({f"{suite}/{value(one)['name']}": value(one)["value"] for suite, one in evaluations.items()}, step)


def compare(stage: Stage, base: Json, tuned: dict[str, Json]) -> list[Json]:
    """The verdict card of each pair that matters: against the base, and between neighbouring methods."""
    pairs = [(base, one, TICKETS) for one in tuned.values()]
    for baseline, candidate in (("full-high-rate", "full-low-rate"), ("lora", "lora-replay"), ("lora", "qlora")):
        pairs += [(tuned[baseline], tuned[candidate], suite) for suite in (TICKETS, GENERAL)]

    def card(baseline: Json, candidate: Json, suite: str) -> Json:
        before, after = (side["evaluations"][suite]["id"] for side in (baseline, candidate))
        found = stage.client.compare(before, after, margin=TICKET_MARGIN if suite == TICKETS else MARGIN)
        return {"baseline_name": baseline["title"], "candidate_name": candidate["title"], "suite": suite, **found}

    return [card(*pair) for pair in pairs]


def audit(stage: Stage, policy: Json, base: Json, tuned: Json) -> Json:
    """Base against fine-tune, on their real answers, under the policy. With how many unreplayed facts were kept."""

    def make() -> Json:
        return stage.client.create_audit(
            policy_id=policy["id"],
            before=[base["evaluations"][GENERAL]["id"]],
            after=[tuned["evaluations"][GENERAL]["id"]],
            run_id=tuned["result"]["run_id"],
            before_version_id=base["result"]["model_version"]["id"],
            after_version_id=tuned["result"]["model_version"]["id"],
        )

    return stage.memory.once(f"audit {tuned['name']}", make)


def by_tag(stage: Stage, tuned: Json) -> dict[str, float]:
    """General kept, on the facts that replay may show and on those it never shows."""
    slices = stage.client.slices(tuned["evaluations"][GENERAL]["id"], by="tag")["items"]
    return {one["slice"]: one["value"] for one in slices}


def choose(tuned: dict[str, Json], audits: dict[str, Json]) -> str:
    """The fine-tune that meets users: of those that passed the audit the best at tickets, else the least forgetful."""

    def score(name: str, suite: str) -> float:
        return float(value(tuned[name]["evaluations"][suite])["value"])

    passed = [name for name in tuned if audits[name]["verdict"] == "PASS"]
    if passed:
        return max(passed, key=lambda name: score(name, TICKETS))
    return max(tuned, key=lambda name: score(name, GENERAL))


def launch(stage: Stage, base: Json, chosen: Json, models_url: str) -> Json:
    """The experiment: the base as control, the fine-tune as variant, both behind the gateway."""

    def make() -> Json:
        variants = []
        for key, one in ((CONTROL, base), (VARIANT, chosen)):
            stage.client.create_upstream(name=key, base_url=f"{models_url}/v1", model=key, **PRICES)
            version = one["result"]["model_version"]["id"]
            variants.append({"key": key, "weight": 0.5, "upstream": key, "model_version_id": version})
        stage.client.create_experiment(
            key=EXPERIMENT,
            name="Support assistant: base against fine-tune",
            hypothesis=f"Users are happier with the fine-tune ({chosen['title']}) than with the base.",
            variants=variants,
            metrics=[
                {"name": "satisfaction", "kind": "binary", "role": "primary"},
                {"name": "task_success", "kind": "binary", "role": "secondary"},
                {"name": "cost", "kind": "real", "role": "secondary"},
                {"name": "latency", "kind": "real", "role": "guardrail", "margin": 0.5},
                {"name": "error_rate", "kind": "binary", "role": "guardrail", "margin": 0.01},
            ],
            minimum_units=100,
            # Which simulated user meets which model is then the same in every demo.
            salt=EXPERIMENT,
        )
        return stage.client.start_experiment(EXPERIMENT)

    return stage.memory.once("experiment", make)


def meet_users(stage: Stage, requests: int, seed: int = 0) -> Json:
    """Simulated users ask through the gateway. Raises `TrafficLost` if their requests do not all arrive."""

    def make() -> Json:
        users = make_users(stage.world, requests, seed)
        before = recorded(stage)
        started = time.monotonic()
        with request_bar(stage.console, len(users) * REQUESTS_PER_USER) as tick:
            count = asyncio.run(drive(stage.client.url, EXPERIMENT, users, tick))
        seconds = time.monotonic() - started
        wait_for(lambda: recorded(stage) - before >= count.requests)
        return {"users": len(users), "seconds": seconds, **asdict(count)}

    return stage.memory.once("traffic", make)


def recorded(stage: Stage) -> int:
    return sum(arm["requests"] for arm in stage.client.readout(EXPERIMENT)["arms"])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED
    while not condition():
        if time.monotonic() > deadline:
            raise TrafficLost(f"the service did not record all requests within {SETTLED:.0f} s")
        time.sleep(0.2)


class request_bar:  # noqa: N801 (reads as a word at its call)
    """A bar of answered requests; entering it gives the function that moves it."""

    def __init__(self, console: Console, total: int) -> None:
        self._bar = Progress(
            TextColumn("  [bold]simulated users"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._total = total

    def __enter__(self) -> Callable[[], None]:
        self._bar.start()
        task = self._bar.add_task("requests", total=self._total)
        return lambda: self._bar.advance(task)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def fingerprint(world: World) -> str:
    """What a folder's results depend on: another world or plan is another demo."""
    content = [asdict(world), [asdict(one) for one in FINE_TUNES], tunescope.__version__]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
