from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.trainer.conftest import SUMS, TICKETS, bert, llama
from trainer.config import DataConfig, TrainingConfig
from trainer.data import Example, Table, encode_answers, encode_classes
from trainer.errors import ConfigError
from trainer.fitting import fit
from trainer.material import Examples
from trainer.methods import choose, names
from trainer.methods.qlora import Options, quantise
from trainer.models import CPU, count_parameters


def sums(tokenizer: PreTrainedTokenizerFast) -> list[Example]:
    return encode_answers(Table(Path("sums"), SUMS), DataConfig(train="-", template="{input}"), tokenizer)


def tickets(tokenizer: PreTrainedTokenizerFast) -> list[Example]:
    texts, labels = [one["text"] for one in TICKETS], [one["label"] for one in TICKETS]
    return encode_classes(texts, labels, sorted(set(labels)), tokenizer, 32)


def test_methods_are_found_by_their_files() -> None:
    assert names() == ["full", "lora", "qlora"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "lroa"}, "there is no method 'lroa'; there are full, lora, qlora."),
        ({"name": "lora", "rank": 8}, "method lora: Object contains unknown field `rank`."),
        ({"name": "lora", "r": 0}, "method lora: Expected `int` >= 1 - at `$.r`."),
        ({"name": "full", "r": 8}, "method full: Object contains unknown field `r`."),
    ],
)
def test_a_bad_method_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(settings)
    assert str(caught.value) == sentence


def test_targets_that_fit_no_layer_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.targets = \['nowhere'\]"):
        choose({"name": "lora", "targets": ["nowhere"]}).prepare(llama(), task="causal_lm", seed=0)


@pytest.mark.parametrize("settings", [{"name": "lora"}, {"name": "lora", "dora": True}, {"name": "qlora", "r": 4}])
def test_only_the_adapters_move(settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = choose(settings).prepare(llama(), task="causal_lm", seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steps = TrainingConfig(learning_rate=1e-2, max_steps=3, batch_size=8, device="cpu")
    fit(model, Examples(sums(tokenizer)), steps, folder=tmp_path, pad_id=0)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    # Four projections of attention and three of the MLP, in two layers, each with A and B (DoRA: and a magnitude).
    assert len(moved) == 2 * 7 * (3 if settings.get("dora") else 2)


@pytest.mark.parametrize("settings", [{"name": "lora"}, {"name": "qlora"}, {"name": "lora", "targets": ["dense"]}])
def test_a_classifier_trains_its_head_whole(
    settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = choose(settings).prepare(bert(), task="classification", seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steps = TrainingConfig(learning_rate=1e-2, max_steps=3, batch_size=6, device="cpu")
    fit(model, Examples(tickets(tokenizer)), steps, folder=tmp_path, pad_id=0)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {one for one in before if "lora_" in one or "modules_to_save" in one}
    assert {one.split(".modules_to_save")[0].rpartition(".")[2] for one in moved if "modules_to_save" in one} == {
        "classifier",
        "pooler",
    }


def test_full_moves_everything() -> None:
    model = llama().requires_grad_(False)
    trainable, total = count_parameters(choose({"name": "full"}).prepare(model, task="causal_lm", seed=0))
    assert trainable == total


@pytest.mark.parametrize("name", ["lora", "qlora"])
def test_adapters_start_from_the_seed_alone(name: str) -> None:
    def start(seed: int, disturbance: int) -> torch.Tensor:
        base = llama()
        torch.rand(disturbance)
        model = choose({"name": name}).prepare(base, task="causal_lm", seed=seed)
        return torch.cat([one.flatten() for name, one in model.named_parameters() if "lora_A" in name])

    assert torch.equal(start(1, 3), start(1, 5))
    assert not torch.equal(start(1, 3), start(2, 3))


def test_four_bit_parameters_are_counted_as_many_as_they_are() -> None:
    plain = count_parameters(choose({"name": "lora"}).prepare(llama(), task="causal_lm", seed=0))
    packed = count_parameters(choose({"name": "qlora"}).prepare(llama(), task="causal_lm", seed=0))
    assert packed == plain


def dequantised(model: nn.Module) -> nn.Module:
    """The same model with every 4-bit layer written out as a plain one: what its arithmetic is checked against."""
    plain = copy.deepcopy(model)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            linear.bias = layer.bias
            parent, _, last = name.rpartition(".")
            setattr(plain.get_submodule(parent), last, linear)
    return plain


def gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of what comes before the 4-bit layers: it must pass through every one of them."""
    embeddings = model.get_input_embeddings().weight.requires_grad_(True)  # type: ignore[operator]
    embeddings.grad = None
    model.train()
    model(**batch).loss.backward()
    assert embeddings.grad is not None
    return torch.as_tensor(embeddings.grad).clone()


def test_gradients_pass_through_four_bits_before_and_after_an_evaluation() -> None:
    """On processors with AVX512-BF16 an evaluation re-packs 4-bit weights and cuts the gradient, unless told."""
    model = llama()
    quantise(model, Options(compute="fp32"), skip=[], device=CPU)
    reference = dequantised(model)
    torch.manual_seed(1)
    ids = torch.randint(2, 258, (4, 16))
    batch = {"input_ids": ids, "labels": ids}
    expected = gradients(reference, batch)

    def error() -> float:
        return float((gradients(model, batch) - expected).norm() / expected.norm())

    assert error() < 1e-4
    model.eval()
    with torch.no_grad():
        model(**batch)
    assert error() < 1e-4


def test_output_layer_and_head_stay_out_of_four_bits() -> None:
    def four_bit(model: nn.Module) -> set[str]:
        return {name for name, layer in model.named_modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)}

    causal, encoder = llama(), bert()
    quantise(causal, Options(), skip=[], device=CPU)
    quantise(encoder, Options(), skip=["classifier", "pooler"], device=CPU)
    assert len(four_bit(causal)) == 2 * 7
    assert not any("lm_head" in name for name in four_bit(causal))
    assert len(four_bit(encoder)) == 2 * 6
    assert not any("pooler" in name or "classifier" in name for name in four_bit(encoder))


def test_gpt2_whose_layers_are_transposed_is_quantised_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_embd=64, n_layer=1, n_head=4, n_positions=32)).eval()
    ids = torch.randint(2, 258, (2, 8))
    with torch.no_grad():
        before = model(ids).logits
        quantise(model, Options(compute="fp32"), skip=[], device=CPU)
        after = model(ids).logits
    assert 0 < float((after - before).norm() / before.norm()) < 0.2
