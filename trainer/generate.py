"""Answers from a causal LM: one decoding loop, for scoring, for the probe and for serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from trainer.data import Tokenizer, prompt_ids

BATCH = 64
NEWLINES = ("\n", "Ċ", "<0x0A>")
"""A line's end as it shows in a vocabulary: itself, byte-level BPE's stand-in, SentencePiece's byte."""


@dataclass
class Prompt:
    """One row of a batch: its tokens, how many may follow, and how they are chosen (temperature 0: the likeliest).

    Set `ended` to stop the row before its time.
    """

    ids: Sequence[int]
    limit: int
    temperature: float = 0.0
    top_p: float = 1.0
    generator: torch.Generator | None = None
    ended: bool = False


@torch.inference_mode()
def decode(
    model: PreTrainedModel, prompts: Sequence[Prompt], *, pad_id: int, stop_ids: set[int]
) -> Iterator[list[int | None]]:
    """Yields a token for each row, step by step, and None for a row that has ended.

    A row ends after `limit` tokens, or at a token of `stop_ids`, which is yielded, or when it is marked as ended.
    """
    device = next(model.parameters()).device
    width = max(len(prompt.ids) for prompt in prompts)
    ids_BT = torch.full((len(prompts), width), pad_id)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
        mask_BT[row, width - len(prompt.ids) :] = 1
    ids_BT, mask_BT = ids_BT.to(device), mask_BT.to(device)
    position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache: Any = None
    left = [prompt.limit for prompt in prompts]
    while any(left):
        output = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=position_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        chosen_B = choose(output.logits[:, -1].float(), prompts, left)
        step: list[int | None] = [None] * len(prompts)
        for row, token in enumerate(chosen_B.tolist()):
            if left[row]:
                step[row] = token
                left[row] = 0 if token in stop_ids else left[row] - 1
        yield step
        left = [0 if prompt.ended else remaining for prompt, remaining in zip(prompts, left, strict=True)]
        ids_BT = chosen_B[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(prompts), 1)], dim=1)
        position_BT = position_BT[:, -1:] + 1


def choose(logits_BV: torch.Tensor, prompts: Sequence[Prompt], left: Sequence[int]) -> torch.Tensor:
    """The next token of each row: the likeliest, or drawn at the row's temperature from its nucleus."""
    chosen_B = logits_BV.argmax(-1)
    for row, prompt in enumerate(prompts):
        if prompt.temperature and left[row]:
            probability_V = (logits_BV[row] / prompt.temperature).softmax(-1)
            if prompt.top_p < 1:
                sorted_V, order_V = probability_V.sort(descending=True)
                outside_V = sorted_V.cumsum(-1) - sorted_V >= prompt.top_p
                probability_V = torch.zeros_like(probability_V).scatter(0, order_V, sorted_V.masked_fill(outside_V, 0))
            chosen_B[row] = torch.multinomial(probability_V, 1, generator=prompt.generator)[0]
    return chosen_B


def end_ids(tokenizer: Tokenizer, *, newline: bool) -> set[int]:
    """The tokens an answer ends with: the end of the text and, where asked, every token that holds a line's end."""
    ends = {tokenizer.eos_token_id} - {None}
    if newline:
        tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        ends |= {number for number, token in enumerate(tokens) if token and any(mark in token for mark in NEWLINES)}
    return ends


def generate(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 32,
    batch_size: int = BATCH,
    newline: bool = True,
) -> list[str]:
    """The likeliest continuation of each prompt, up to the end of the text or (with `newline`) of the line.

    Deterministic. Prompts of like lengths share a batch. One too long for the model's context loses its beginning.
    """
    stop_ids = end_ids(tokenizer, newline=newline)
    room = getattr(model.config, "max_position_embeddings", None)
    rows = [prompt_ids(prompt, tokenizer) for prompt in prompts]
    if room is not None:
        rows = [row[-max(1, room - max_new_tokens) :] for row in rows]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    answers = [""] * len(rows)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            tokens: list[list[int]] = [[] for _ in batch]
            requests = [Prompt(rows[row], max_new_tokens) for row in batch]
            for step in decode(model, requests, pad_id=tokenizer.pad_token_id or 0, stop_ids=stop_ids):
                for place, token in enumerate(step):
                    if token is not None:
                        tokens[place].append(token)
            for row, ids in zip(batch, tokens, strict=True):
                text = tokenizer.decode(ids, skip_special_tokens=True)
                answers[row] = (text.partition("\n")[0] if newline else text).strip()
    finally:
        model.train(training)
    return answers
