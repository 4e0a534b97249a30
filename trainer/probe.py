"""Forgetting, seen while it happens: a general suite, asked again every so many steps of a fine-tune."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from trainer.config import ProbeConfig
from trainer.data import Tokenizer
from trainer.generate import generate
from trainer.suite import Item
from tunescope import transformers

Log = Callable[[dict[str, float], int], None]


class ForgettingProbe(transformers.ForgettingProbe):
    """The probe that any Trainer can have, as a config describes it, answering with the trainer's own decoding.

    `domain_answers` shows how a model that was taught too hard fails: it answers everything with what it was taught.
    """

    def __init__(
        self,
        config: ProbeConfig,
        items: Sequence[Item],
        template: str,
        tokenizer: Tokenizer,
        log: Log,
        domain_answers: frozenset[str] = frozenset(),
    ) -> None:
        def ask(model: Any, prompts: Sequence[str]) -> list[str]:
            return generate(model, tokenizer, prompts, max_new_tokens=config.max_new_tokens)

        super().__init__(
            [msgspec.to_builtins(item) for item in items],
            ask=ask,
            record=log,
            name=config.name,
            every=config.every,
            margin=config.margin,
            template=template,
            domain_answers=domain_answers,
        )
