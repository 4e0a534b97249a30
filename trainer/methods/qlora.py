"""QLoRA (Dettmers et al. 2023, arXiv:2305.14314): LoRA over a base held in 4-bit NormalFloat, statistics quantised too.

The model is quantised where it stands, a layer at a time, whether it was just loaded or built in memory.
"""

from __future__ import annotations

from typing import Any, Literal

import bitsandbytes
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from trainer.errors import ModelError
from trainer.heads import head_names
from trainer.methods import lora


class Options(lora.Options, forbid_unknown_fields=True, frozen=True, kw_only=True):
    compute: Literal["bf16", "fp32"] = "bf16"
    """The type of the arithmetic; weights are 4-bit either way."""
    double_quantisation: bool = True


def prepare(model: PreTrainedModel, options: Options, *, task: str, seed: int, device: torch.device) -> PreTrainedModel:
    """Quantises `model` (in place), then adapts it as LoRA does. Raises `ModelError` if no layer can be quantised."""
    quantise(model, options, skip=head_names(model) if task == "classification" else [], device=device)
    return lora.prepare(model, options, task=task, seed=seed, device=device)


def quantise(model: PreTrainedModel, options: Options, *, skip: list[str], device: torch.device) -> None:
    """Swaps every linear layer but the output layer and those under a name in `skip` for a 4-bit one on `device`,
    where the rest of the model follows."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    chosen = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not output and set(name.split(".")).isdisjoint(skip)
    ]
    if not chosen:
        raise ModelError(f"{type(model).__name__} has no linear layer to quantise.")
    for name in chosen:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, four_bit(model.get_submodule(name), options, device))
    model.to(device).requires_grad_(False)
    # What PEFT asks to tell a 4-bit base from a plain one.
    marked: Any = model
    marked.is_loaded_in_4bit = True


def four_bit(layer: nn.Linear | Conv1D, options: Options, device: torch.device) -> Any:
    # GPT-2's Conv1D is a linear layer with its matrix transposed.
    weight = layer.weight.data.T if isinstance(layer, Conv1D) else layer.weight.data
    outputs, inputs = weight.shape
    swapped: Any = bitsandbytes.nn.Linear4bit(
        inputs,
        outputs,
        bias=layer.bias is not None,
        compute_dtype=torch.bfloat16 if options.compute == "bf16" else torch.float32,
        compress_statistics=options.double_quantisation,
        quant_type="nf4",
        device="meta",
    )
    swapped.weight = bitsandbytes.nn.Params4bit(
        weight.contiguous(),
        requires_grad=False,
        compress_statistics=options.double_quantisation,
        quant_type="nf4",
        module=swapped,
    )
    swapped.bias = layer.bias
    # With AVX512-BF16 the first evaluation re-packs the weights for speed, and from then on no gradient passes
    # through them: training goes on with a right loss and a wrong gradient.
    swapped.support_avx512bf16_for_cpu = False
    return swapped.to(device)  # quantises
