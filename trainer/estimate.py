"""How much of a GPU's memory a fit needs, by component, told without a GPU.

Weights, gradients and optimizer states are counted on the prepared model. Activations are what the backward pass keeps
of decoder layers of the Llama type (RMSNorm, SDPA attention, gated MLP: Llama, Mistral, Qwen, …), tensor by tensor as
Transformers and PEFT compute them; logits are what the loss keeps of them. A test holds the sums against the peaks
measured on a GPU (`benchmarks/results/gpu-*.json`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.config import TrainingConfig

LOSS = 12
"""Bytes the loss keeps of each logit, in any precision: it as computed, in fp32, and its gradient."""
SHARED_SCALE = 256
"""Values under one fp32 scale in the states of an 8-bit optimizer."""
LEFT_WHOLE = 4096
"""Smaller tensors, and embeddings, have 32-bit states even there."""


@dataclass(frozen=True)
class Estimate:
    """Bytes. What CUDA takes for itself, about 1 GiB, comes on top."""

    weights: int
    gradients: int
    optimizer: int
    """States on the GPU: those of a paged optimizer give way when it is full, and are not counted."""
    activations: int
    """Kept for the backward pass; with checkpointing, the layers' inputs and one layer's activations."""
    logits: int
    peak: int
    """Their most at one time: gradients come as activations go."""


def estimate(model: PreTrainedModel, settings: TrainingConfig, lengths: Sequence[int]) -> Estimate | None:
    """For a batch of rows of `lengths` tokens. None for a model or an adapter of another type.

    `model` is as its method prepared it: what is trained, and in which types, is read off it. Its weights are not, so
    that a model on the `meta` device will do. Precision `auto` is taken as a GPU takes it, as bf16.
    """
    widths = widths_of(model)
    if widths is None:
        return None
    tokens = len(lengths) * max(lengths)
    autocast = settings.precision != "fp32"
    layers = model.config.num_hidden_layers
    layer, inputs = tokens * kept(model, widths, autocast, lengths), tokens * widths.hidden * body(model).itemsize
    again = settings.gradient_checkpointing
    # What checkpointing goes back over is cast again then; the output layer is not among it.
    shared = cast_weights(model.get_output_embeddings() if again else model) if autocast else 0
    trained = [(module, one) for module, one in owned(model) if one.requires_grad]
    weights = sum(stored(one) for _, one in owned(model))
    gradients = sum(one.numel() * one.element_size() for _, one in trained)
    optimizer = sum(states(module, one, settings.optimizer) for module, one in trained)
    logits = LOSS * tokens * model.config.vocab_size if model.get_output_embeddings() is not None else 0
    # The recomputed layer and the logits are never there together.
    backward = shared + (layers * inputs + max(layer, logits) if again else layers * layer + logits)
    if settings.accumulation > 1:
        backward += gradients
    return Estimate(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=shared + (layers * inputs + layer if again else layers * layer),
        logits=logits,
        peak=weights + optimizer + max(backward, gradients),
    )


@dataclass(frozen=True)
class Widths:
    """Of a decoder layer; `queries` and `keys` over all heads."""

    hidden: int
    queries: int
    keys: int
    inner: int
    heads: int


def widths_of(model: PreTrainedModel) -> Widths | None:
    config: Any = model.config
    names = [name for name, _ in model.named_modules()]
    # DoRA keeps more than LoRA does.
    if not any(name.endswith("layers.0.mlp.gate_proj") for name in names) or any(
        "lora_magnitude_vector." in name for name in names
    ):
        return None
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    return Widths(config.hidden_size, width * heads, width * keys, config.intermediate_size, heads)


def kept(model: PreTrainedModel, widths: Widths, autocast: bool, lengths: Sequence[int]) -> int:
    """Bytes a token that the backward pass keeps of one layer."""
    residual = body(model).itemsize
    compute = 2 if autocast else residual
    first = [(name, module) for name, module in model.named_modules() if ".layers.0." in name]
    adapted = [module for _, module in first if hasattr(module, "lora_A")]
    # Norms: their input in fp32 and, for the gradient of their weight, what it is multiplied with.
    normed = {"q_norm": widths.queries, "k_norm": widths.keys}
    norms = sum(
        normed.get(name.rpartition(".")[2], widths.hidden) * (4 if adapted else 4 + residual)
        for name, module in first
        if type(module).__name__.endswith("RMSNorm")
    )
    # Attention: queries, keys, values and what comes of them. With a mask, and in fp32, keys and values are repeated
    # for the heads that share them; in fp32 without one no fused kernel serves, and the probabilities are kept.
    padded, grouped = len(set(lengths)) > 1, widths.keys < widths.queries
    attention = 2 * compute * (widths.queries + (widths.keys if compute == 2 and not padded else widths.queries))
    if padded:
        attention += compute * max(lengths)  # the mask, a copy in each layer
    elif compute == 4 and grouped:
        attention += compute * widths.heads * max(lengths)
    # The gate before and after its activation, and the branch that it gates.
    gate = 3 * compute * widths.inner
    # Inputs of linear layers. Of the projections that share one each keeps its own copy where types must be converted:
    # under autocast from fp32, and for PEFT's adapters, which are fp32, unless the base is in 4 bits.
    if adapted and residual != 4 and any(hasattr(one, "compress_statistics") for one in model.parameters()):
        inputs = 2 * widths.hidden + widths.inner
    elif adapted and compute == 2:
        inputs = sum(module.in_features for module in adapted)
    elif compute == residual:
        inputs = 2 * widths.hidden + widths.inner
    else:
        inputs = 5 * widths.hidden + widths.inner
    return norms + attention + gate + compute * inputs


def body(model: PreTrainedModel) -> torch.dtype:
    """The type that layers pass on to one another."""
    dtype: torch.dtype = model.get_input_embeddings().weight.dtype
    return dtype


def owned(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Every parameter once, with the module that has it."""
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield module, parameter


def stored(parameter: nn.Parameter) -> int:
    if not hasattr(parameter, "compress_statistics"):
        return parameter.numel() * parameter.element_size()
    # Four bits, and for each block of 64 a scale: in fp32 or, quantised again in blocks of 256, a byte.
    state = getattr(parameter, "quant_state", None)
    count = state.shape.numel() if state is not None else parameter.numel()
    return round(count * (0.5 + (1 + 4 / 256 if parameter.compress_statistics else 4) / 64))


def states(module: nn.Module, parameter: nn.Parameter, optimizer: str) -> int:
    count = parameter.numel()
    if optimizer.startswith("paged"):
        return 0
    if optimizer == "adamw":
        return 2 * count * parameter.element_size()
    if isinstance(module, nn.Embedding) or count < LEFT_WHOLE:
        return 8 * count
    return 2 * (count + 4 * count // SHARED_SCALE)


def cast_weights(model: nn.Module | None) -> int:
    """Autocast's copies of fp32 matrices in bf16, which the backward pass needs."""
    modules = model.modules() if model is not None else ()
    matrices = {id(one.weight): one.weight for one in modules if isinstance(one, nn.Linear)}
    return sum(2 * one.numel() for one in matrices.values() if one.dtype == torch.float32)
