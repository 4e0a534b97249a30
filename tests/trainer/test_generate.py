from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.trainer.conftest import llama
from trainer.data import prompt_ids
from trainer.generate import Prompt, decode, end_ids, generate

PROMPTS = ["a", "Hello there", "2+2=", "Ünïcode", "x y z x y z"]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return llama(seed=7).eval()


@torch.inference_mode()
def plainly(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, limit: int, ends: set[int]
) -> list[int]:
    """One prompt, no cache, no padding: what the loop must agree with."""
    ids = prompt_ids(prompt, tokenizer)
    made: list[int] = []
    while len(made) < limit and not (made and made[-1] in ends):
        made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
    return made


def decoded(model: LlamaForCausalLM, prompts: list[Prompt], ends: set[int] = frozenset()) -> list[list[int]]:  # type: ignore[assignment]
    rows: list[list[int]] = [[] for _ in prompts]
    for step in decode(model, prompts, pad_id=0, stop_ids=ends):
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
    return rows


def test_a_padded_batch_with_a_cache_says_what_one_alone_without_says(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    limits = [3, 12, 1, 20, 7]
    prompts = [Prompt(prompt_ids(text, tokenizer), limit) for text, limit in zip(PROMPTS, limits, strict=True)]
    expected = [plainly(model, tokenizer, text, limit, set()) for text, limit in zip(PROMPTS, limits, strict=True)]
    assert decoded(model, prompts) == expected


def test_a_row_ends_at_its_stop_while_others_go_on(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    free = plainly(model, tokenizer, PROMPTS[0], 12, set())
    stop = free[4]
    first = free.index(stop)
    rows = decoded(model, [Prompt(prompt_ids(text, tokenizer), 12) for text in PROMPTS], {stop})
    assert rows[0] == free[: first + 1]
    assert rows[1:] == [plainly(model, tokenizer, text, 12, {stop}) for text in PROMPTS[1:]]


def test_a_row_marked_as_ended_says_no_more(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = [Prompt(prompt_ids(text, tokenizer), 10) for text in PROMPTS[:2]]
    said = []
    for number, step in enumerate(decode(model, prompts, pad_id=0, stop_ids=set())):
        said.append(step[0])
        prompts[0].ended = number == 2 or prompts[0].ended
    assert [token is None for token in said] == [False] * 3 + [True] * 7


def test_sampling_follows_temperature_nucleus_and_seed(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = prompt_ids("Hello", tokenizer)

    def drawn(seed: int, others: int = 0, **how: Any) -> list[int]:
        company = [Prompt(ids[:2], 16, temperature=1.0) for _ in range(others)]
        own = Prompt(ids, 16, generator=torch.Generator().manual_seed(seed), **how)
        return decoded(model, [*company, own])[-1]

    greedy = plainly(model, tokenizer, "Hello", 16, set())
    assert drawn(1, temperature=0.0) == greedy
    assert drawn(1, temperature=1.0, top_p=1e-9) == greedy
    assert drawn(1, temperature=1.0) == drawn(1, temperature=1.0) == drawn(1, others=3, temperature=1.0)
    assert drawn(1, temperature=1.0) != drawn(2, temperature=1.0)
    assert drawn(1, temperature=1.0) != greedy


def test_sampling_draws_what_the_probabilities_say(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = prompt_ids("Hello", tokenizer)
    with torch.inference_mode():
        probability = (model(torch.tensor([ids])).logits[0, -1] / 0.5).softmax(-1)
    generator = torch.Generator().manual_seed(0)
    prompts = [Prompt(ids, 1, temperature=0.5, generator=generator) for _ in range(4000)]
    seen = torch.bincount(torch.tensor([row[0] for row in decoded(model, prompts)]), minlength=258) / 4000
    assert float((seen - probability).abs().sum()) / 2 < 0.12


def with_answer(tokenizer: PreTrainedTokenizerFast, text: str) -> Callable[..., str]:
    """A model that goes on with `text` whatever it is asked."""
    ids = tokenizer(text)["input_ids"]
    model = llama()

    def forward(input_ids: torch.Tensor, past_key_values: int | None = None, **_: object) -> object:
        told = past_key_values or 0
        logits = torch.zeros(len(input_ids), 1, 258)
        logits[:, 0, ids[told] if told < len(ids) else 1] = 1.0
        return type("Output", (), {"logits": logits, "past_key_values": told + 1})

    model.forward = forward
    return lambda **options: generate(model, tokenizer, ["?"], **options)[0]


def test_an_answer_is_a_line_unless_asked_otherwise(tokenizer: PreTrainedTokenizerFast) -> None:
    say = with_answer(tokenizer, " Pa ris \nQ: next")
    assert say() == "Pa ris"
    assert say(newline=False) == "Pa ris \nQ: next"
    assert say(max_new_tokens=3) == "Pa"


def test_generating_leaves_the_model_in_its_mode_and_agrees_over_batches(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    model.train()
    whole = generate(model, tokenizer, PROMPTS * 3, max_new_tokens=8)
    assert model.training
    assert whole == generate(model.eval(), tokenizer, PROMPTS * 3, max_new_tokens=8, batch_size=2)
    assert not model.training


def test_a_prompt_too_long_for_the_model_loses_its_beginning(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    room = 64 - 8
    assert generate(model, tokenizer, ["q" * 100 + "z" * room], max_new_tokens=8) == generate(
        model, tokenizer, ["z" * room], max_new_tokens=8
    )


def test_the_end_of_a_line_is_found_in_the_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    assert end_ids(tokenizer, newline=False) == {1}
    assert end_ids(tokenizer, newline=True) == {1, *tokenizer("\n")["input_ids"]}
