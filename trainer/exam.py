"""A run's suites put to its model, before training where asked and after, and scored by the service."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from transformers import PreTrainedModel

from trainer.config import TrainConfig
from trainer.data import Tokenizer
from trainer.generate import BATCH as GENERATED_TOGETHER
from trainer.predict import BATCH as CLASSIFIED_TOGETHER
from trainer.predict import Prediction, predict, share_right, write_predictions
from trainer.publish import publish, score_values
from trainer.suite import Suite
from tunescope import Client

Json = dict[str, Any]


class Origin(NamedTuple):
    """What answers belong to."""

    run_id: str
    step: int
    model_version_id: str | None


class Answered(NamedTuple):
    """A suite's answers, and how they were made."""

    predictions: list[Prediction]
    settings: Json


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """A suite's answers after training and, where asked for, before; evaluations where there was a service."""

    suite: str
    n: int
    share_right: float
    evaluation: Json | None = None
    share_right_before: float | None = None
    evaluation_before: Json | None = None

    def values(self) -> dict[str, float]:
        """As metrics of the run: the service's scores or, without a service, the share answered exactly."""
        if self.evaluation is None:
            return {f"{self.suite}/right": self.share_right}
        return score_values(self.evaluation)


def ask(
    config: TrainConfig,
    suites: Sequence[Suite],
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    say: Callable[[str], None],
    *,
    base: bool = False,
) -> dict[str, Answered]:
    """Answers by the suite's name: to every suite, or of the `base` to those that want it asked before training."""
    answers = {}
    for suite, wanted in zip(suites, config.evaluate, strict=True):
        if wanted.before or not base:
            say(f"asking {'the base ' if base else ''}{suite.name}")
            made = predict(
                suite,
                model,
                tokenizer,
                max_length=config.data.max_length,
                max_new_tokens=wanted.max_new_tokens,
            )
            answers[suite.name] = Answered(made, conditions(config, suite, model, wanted.max_new_tokens))
    return answers


def conditions(config: TrainConfig, suite: Suite, model: PreTrainedModel, max_new_tokens: int) -> Json:
    """How answers are made: what an audit holds against one another before and after."""
    quantised = bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "quantization_method", None))
    precision = "nf4" if quantised else str(model.dtype).removeprefix("torch.")
    settings: Json = {"max_length": config.data.max_length, "seed": config.train.seed, "precision": precision}
    if suite.labels is not None:
        return settings | {"batch_size": CLASSIFIED_TOGETHER}
    template = suite.template or "{input}"
    return settings | {
        "prompt_hash": hashlib.sha256(template.encode()).hexdigest(),
        "num_fewshot": 0,
        "do_sample": False,
        "temperature": 0,
        "max_new_tokens": max_new_tokens,
        "batch_size": GENERATED_TOGETHER,
    }


def score(
    config: TrainConfig,
    suite: Suite,
    before: Answered | None,
    after: Answered,
    client: Client | None,
    origin: Origin,
) -> Scored:
    """Keeps the answers beside the model and, given a client, has the service score them."""
    write_predictions(Path(config.output) / f"predictions-{suite.name}.jsonl", suite, after.predictions)
    name = config.name or config.project
    first = last = None
    if client is not None:
        if before is not None:
            first = publish(
                client,
                suite,
                before.predictions,
                run_id=origin.run_id,
                step=0,
                name=f"{name} before",
                settings=before.settings,
            )
        last = publish(client, suite, after.predictions, **origin._asdict(), name=name, settings=after.settings)
    return Scored(
        suite=suite.name,
        n=len(suite.items),
        share_right=share_right(suite, after.predictions),
        evaluation=last,
        share_right_before=None if before is None else share_right(suite, before.predictions),
        evaluation_before=first,
    )
