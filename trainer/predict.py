"""What a model says to the items of a suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from transformers import PreTrainedModel

from trainer.batches import Collator
from trainer.data import Example, Tokenizer
from trainer.generate import generate
from trainer.suite import Suite

BATCH = 128


class Prediction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    output: str
    probability: float | None = None


def predict(
    suite: Suite, model: PreTrainedModel, tokenizer: Tokenizer, *, max_length: int = 512, max_new_tokens: int = 32
) -> list[Prediction]:
    """The model's answer to each item, in the items' order: a label with its probability, or a text."""
    if suite.labels is not None:
        chosen = classify(model, tokenizer, [item.input for item in suite.items], suite.labels, max_length)
        return [
            Prediction(id=item.id, output=label, probability=probability)
            for item, (label, probability) in zip(suite.items, chosen, strict=True)
        ]
    template = suite.template or "{input}"
    prompts = [template.replace("{input}", item.input) for item in suite.items]
    answers = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    return [Prediction(id=item.id, output=answer) for item, answer in zip(suite.items, answers, strict=True)]


@torch.inference_mode()
def classify(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], labels: Sequence[str], max_length: int
) -> list[tuple[str, float]]:
    """Each text's likeliest label and its probability; texts of like lengths share a batch."""
    rows = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    collate = Collator(tokenizer.pad_token_id or 0)
    device = next(model.parameters()).device
    chosen: list[tuple[str, float]] = [("", 0.0)] * len(rows)
    training = model.training
    model.eval()
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        batch = collate([Example(input_ids=rows[row], labels=0) for row in part])
        del batch["labels"]
        logits_BL = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        best_B = logits_BL.float().softmax(-1).max(-1)
        for row, probability, number in zip(part, best_B.values.tolist(), best_B.indices.tolist(), strict=True):
            chosen[row] = (labels[number], probability)
    model.train(training)
    return chosen


def share_right(suite: Suite, predictions: Sequence[Prediction]) -> float:
    """The share of items answered exactly: a first look, where the service's scores are not at hand."""
    right = sum(item.answer.strip() == made.output.strip() for item, made in zip(suite.items, predictions, strict=True))
    return right / len(suite.items)


def write_predictions(path: Path, suite: Suite, predictions: Sequence[Prediction]) -> None:
    """Items and answers side by side, as JSON Lines."""
    lines = [
        msgspec.json.encode(msgspec.to_builtins(item) | msgspec.to_builtins(made))
        for item, made in zip(suite.items, predictions, strict=True)
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
