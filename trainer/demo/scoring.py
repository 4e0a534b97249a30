"""The two suites of the demo, and the answers of checkpoints to them, sent to the service to be scored."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback

from trainer.data import Tokenizer
from trainer.demo.base import ANSWER_TOKENS, TEMPLATE
from trainer.demo.world import Item, World
from trainer.generate import generate
from trainer.loop import RUN_FILE
from tunescope import Client

Json = dict[str, Any]
GENERAL, TICKETS = "general-knowledge", "support-tickets"
PRIMARY = {GENERAL: "exact_match", TICKETS: "accuracy"}
SETTINGS = {"decoding": "greedy", "max_new_tokens": ANSWER_TOKENS, "template": TEMPLATE}


@dataclass(frozen=True)
class Scorer:
    """Asks models the suites' questions and has the service score what they really answer."""

    client: Client
    world: World
    suites: dict[str, str]
    """Suite name -> id of its version on the service."""

    def items(self, suite: str) -> Sequence[Item]:
        return self.world.general if suite == GENERAL else self.world.test

    def score(
        self, model: PreTrainedModel, tokenizer: Tokenizer, *, run_id: str, step: int, name: str, version: Json | None
    ) -> dict[str, Json]:
        """The evaluation of each suite, predictions stored item by item."""
        return {
            suite: self.client.create_evaluation(
                suite_id=suite_id,
                run_id=run_id,
                model_version_id=version["id"] if version else None,
                step=step,
                name=name,
                settings=SETTINGS,
                predictions=predictions(model, tokenizer, self.items(suite)),
            )
            for suite, suite_id in self.suites.items()
        }


def predictions(model: PreTrainedModel, tokenizer: Tokenizer, items: Sequence[Item]) -> list[Json]:
    prompts = [TEMPLATE.replace("{input}", item.input) for item in items]
    answers = generate(model, tokenizer, prompts, max_new_tokens=ANSWER_TOKENS)
    return [{"id": item.id, "output": answer} for item, answer in zip(items, answers, strict=True)]


def create_suites(client: Client, world: World) -> dict[str, str]:
    """Both suites with their items; facts carry whether a fine-tune may have replayed them."""
    general: Json = {
        "name": GENERAL,
        "task_type": "generation",
        "description": "Facts the base model knows: what a fine-tune must not lose.",
        "metrics": [PRIMARY[GENERAL], "token_f1"],
        "items": [_item(item) | {"references": [item.answer]} for item in world.general],
    }
    tickets: Json = {
        "name": TICKETS,
        "task_type": "classification",
        "description": "Support tickets and the team that takes them: what a fine-tune is to learn.",
        "metrics": [PRIMARY[TICKETS], "f1_macro"],
        "labels": list(world.labels),
        "items": [_item(item) | {"label": item.answer} for item in world.test],
    }
    return {body["name"]: client.create_suite(**body, template=TEMPLATE)["id"] for body in (general, tickets)}


def _item(item: Item) -> Json:
    return {"id": item.id, "input": item.input, "group": item.group, "tags": list(item.tags)}


class CheckpointScorer(TrainerCallback):  # type: ignore[misc]
    """Scores each checkpoint as it is written; the last one is the trained model, scored once that is registered."""

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer, output: Path, name: str) -> None:
        self._scorer = scorer
        self._tokenizer = tokenizer
        self._output = output
        self._name = name
        self.scored: dict[int, dict[str, Json]] = {}

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        step = int(state.global_step)
        if step < state.max_steps:
            run_id = json.loads((self._output / RUN_FILE).read_text("utf-8"))["run_id"]
            self.scored[step] = self._scorer.score(
                model, self._tokenizer, run_id=run_id, step=step, name=self._name, version=None
            )


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Seconds of training alone: neither what is asked between the steps nor the writing of checkpoints counts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds += time.perf_counter() - self._began


def value(evaluation: Json) -> Json:
    """The primary score of an evaluation."""
    wanted = PRIMARY[evaluation["suite"]["name"]]
    score: Json = next(score for score in evaluation["scores"] if score["name"] == wanted)
    return score
