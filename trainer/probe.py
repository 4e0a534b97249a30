"""Forgetting, seen while it happens: a general suite, asked again every so many steps of a fine-tune."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

from trainer.config import ProbeConfig
from trainer.data import Tokenizer
from trainer.generate import generate
from trainer.suite import Item

Log = Callable[[dict[str, float], int], None]


class ForgettingProbe(TrainerCallback):  # type: ignore[misc]
    """Asks `items` before the first step and every `every` steps; can stop a training that forgets too much.

    Logged: `probe/<name>`, the share answered exactly; `probe/<name>/<group>` for each group; and
    `probe/<name>/domain_share`, the share of general questions answered with one of `domain_answers`, which is how a
    model that was taught too hard fails: it answers everything with what it was taught.
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
        self.config = config
        self.items = items
        self.prompts = [template.replace("{input}", item.input) for item in items]
        self.tokenizer = tokenizer
        self.log = log
        self.domain_answers = domain_answers
        self.history: list[tuple[int, float]] = []
        self.stopped_at: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.measure(model, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if state.global_step % self.config.every and not last:
            return
        share = self.measure(model, state.global_step)
        if self.config.margin is not None and self.history[0][1] - share > self.config.margin and not last:
            self.stopped_at = state.global_step
            control.should_training_stop = True

    def measure(self, model: Any, step: int) -> float:
        """Asks everything once; logs and returns the share answered exactly."""
        answers = generate(model, self.tokenizer, self.prompts, max_new_tokens=self.config.max_new_tokens)
        right = [item.answer.strip() == answer for item, answer in zip(self.items, answers, strict=True)]
        share = statistics.fmean(right)
        name = f"probe/{self.config.name}"
        values = {name: share}
        groups: dict[str, list[bool]] = defaultdict(list)
        for item, correct in zip(self.items, right, strict=True):
            if item.group is not None:
                groups[item.group].append(correct)
        values |= {f"{name}/{group}": statistics.fmean(inside) for group, inside in groups.items()}
        if self.domain_answers:
            values[f"{name}/domain_share"] = statistics.fmean(answer in self.domain_answers for answer in answers)
        self.log(values, step)
        self.history.append((step, share))
        return share
