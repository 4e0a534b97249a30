"""What a model says to the items of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from transformers import PreTrainedModel

from trainer.batches import Collator
from trainer.data import Example, Tokenizer
from trainer.generate import generate
from trainer.suite import Item, Suite

BATCH = 128
MOST_SCORES = 2_000_000
"""Items times labels of which every probability is told: some 80 MB on the wire. Beyond, only the likeliest label's."""


class Prediction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    output: str
    probability: float | None = None
    label_scores: dict[str, float] | None = None
    """The probability of every label."""


def predict(
    suite: Suite, model: PreTrainedModel, tokenizer: Tokenizer, *, max_length: int = 512, max_new_tokens: int = 32
) -> list[Prediction]:
    """The model's answer to each item, in the items' order: a label with the probability of each, or a text."""
    if suite.labels is not None:
        labels = suite.labels
        every = len(suite.items) * len(labels) <= MOST_SCORES
        return [
            Prediction(
                id=item.id,
                output=labels[best],
                probability=probabilities[best],
                label_scores=dict(zip(labels, probabilities, strict=True)) if every else None,
            )
            for item, probabilities, best in _classified(suite, model, tokenizer, max_length)
        ]
    template = suite.template or "{input}"
    prompts = [template.replace("{input}", item.input) for item in suite.items]
    answers = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens)
    return [Prediction(id=item.id, output=answer) for item, answer in zip(suite.items, answers, strict=True)]


def _classified(
    suite: Suite, model: PreTrainedModel, tokenizer: Tokenizer, max_length: int
) -> Iterator[tuple[Item, list[float], int]]:
    """Each item with the probabilities of the labels, and the place of the largest."""
    probability_NL = classify(model, tokenizer, [item.input for item in suite.items], max_length)
    best_N = probability_NL.argmax(-1).tolist()
    for item, probability_L, best in zip(suite.items, probability_NL, best_N, strict=True):
        yield item, probability_L.tolist(), best


@torch.inference_mode()
def classify(model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> torch.Tensor:
    """The probability of each label (N, L), float64 on the CPU; texts of like lengths share a batch."""
    rows = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    collate = Collator(tokenizer.pad_token_id or 0)
    device = next(model.parameters()).device
    found: torch.Tensor | None = None
    training = model.training
    model.eval()
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        batch = collate([Example(input_ids=rows[row], labels=0) for row in part])
        del batch["labels"]
        logits_BL = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits
        # On the CPU: not every accelerator has float64, in which the probabilities add up to 1.
        probability_BL = logits_BL.float().cpu().double().softmax(-1)
        if found is None:
            found = probability_BL.new_empty(len(rows), probability_BL.shape[-1])
        found[part] = probability_BL
    model.train(training)
    assert found is not None  # a suite has at least one item
    return found


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
