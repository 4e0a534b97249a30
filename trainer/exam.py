"""A run's suites put to its model, before training where asked and after, and scored by the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from transformers import PreTrainedModel

from trainer.config import TrainConfig
from trainer.data import Tokenizer
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
) -> dict[str, list[Prediction]]:
    """Answers by the suite's name: to every suite, or of the `base` to those that want it asked before training."""
    answers = {}
    for suite, wanted in zip(suites, config.evaluate, strict=True):
        if wanted.before or not base:
            say(f"asking {'the base ' if base else ''}{suite.name}")
            answers[suite.name] = predict(
                suite,
                model,
                tokenizer,
                max_length=config.data.max_length,
                max_new_tokens=wanted.max_new_tokens,
            )
    return answers


def score(
    config: TrainConfig,
    suite: Suite,
    before: Sequence[Prediction] | None,
    after: Sequence[Prediction],
    client: Client | None,
    origin: Origin,
) -> Scored:
    """Keeps the answers beside the model and, given a client, has the service score them."""
    write_predictions(Path(config.output) / f"predictions-{suite.name}.jsonl", suite, after)
    name = config.name or config.project
    settings = {"max_length": config.data.max_length, "seed": config.train.seed}
    first = last = None
    if client is not None:
        if before is not None:
            label = f"{name} before"
            first = publish(client, suite, before, run_id=origin.run_id, step=0, name=label, settings=settings)
        last = publish(client, suite, after, **origin._asdict(), name=name, settings=settings)
    return Scored(
        suite=suite.name,
        n=len(suite.items),
        share_right=share_right(suite, after),
        evaluation=last,
        share_right_before=None if before is None else share_right(suite, before),
        evaluation_before=first,
    )
