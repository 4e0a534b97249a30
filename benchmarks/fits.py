"""The fits that `gpu.py` measures: models of real size by their shape, and how each is trained. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FULL = {"name": "full"}
LORA = {"name": "lora", "r": 16}
QLORA = {"name": "qlora", "r": 16}
PLAIN_QLORA = QLORA | {"double_quantisation": False}


def llama(**shape: int | bool) -> dict[str, Any]:
    return {"model_type": "llama", "max_position_embeddings": 8192, "pad_token_id": 0, **shape}


# The shapes of Llama 3.2 1B and Llama 3.1 8B; below, more for the estimate of memory.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": llama(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=True,
    ),
    "8B": llama(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=False,
    ),
    # Of Llama 3.2 3B, Qwen 2.5 7B and Qwen 3 4B.
    "3B": llama(
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=True,
    ),
    "Qwen 7B": llama(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        tie_word_embeddings=False,
    )
    | {"model_type": "qwen2"},
    "Qwen 4B": llama(
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        tie_word_embeddings=True,
    )
    | {"model_type": "qwen3"},
    "tiny": llama(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=512,
        tie_word_embeddings=True,
    ),
}


@dataclass(frozen=True)
class Setup:
    """One fit. Weights are held in `dtype`; `precision` is the arithmetic's."""

    title: str
    shape: str
    method: dict[str, Any]
    dtype: str = "bfloat16"
    precision: str = "bf16"
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    rate: float = 1e-4
    batch: int = 8
    length: int = 1024
    padded: bool = False
    """Rows of half the length to all of it."""
    accumulation: int = 1

    @property
    def lengths(self) -> list[int]:
        if not self.padded:
            return [self.length] * self.batch
        return np.linspace(self.length // 2, self.length, self.batch, dtype=int).tolist()


def setups(quick: bool) -> list[Setup]:
    """Paged ones last: bitsandbytes never gives paged memory back to the process's card."""
    small = [
        Setup("full, fp32", "1B", FULL, dtype="float32", precision="fp32"),
        Setup("full, fp32 weights, bf16 arithmetic", "1B", FULL, dtype="float32"),
        Setup("full, bf16", "1B", FULL),
        Setup("full, bf16, checkpointing", "1B", FULL, gradient_checkpointing=True),
        Setup("full, bf16, 8-bit AdamW", "1B", FULL, optimizer="adamw_8bit"),
        Setup(
            "full, bf16, 8-bit AdamW, checkpointing", "1B", FULL, optimizer="adamw_8bit", gradient_checkpointing=True
        ),
        Setup("LoRA r=16, bf16", "1B", LORA, rate=1e-3),
        Setup("LoRA r=16, bf16, checkpointing", "1B", LORA, rate=1e-3, gradient_checkpointing=True),
        Setup("QLoRA r=16, NF4", "1B", PLAIN_QLORA, rate=1e-3),
        Setup("QLoRA r=16, NF4 + double quantisation", "1B", QLORA, rate=1e-3),
        Setup("QLoRA, NF4 + double, checkpointing", "1B", QLORA, rate=1e-3, gradient_checkpointing=True),
    ]
    paged = Setup("full, bf16, paged 8-bit AdamW", "1B", FULL, optimizer="paged_adamw_8bit")
    if quick:
        return [replace(one, shape="tiny", rate=1e-2, batch=2, length=32) for one in [*small, *other_fits(), paged]]
    one = {"batch": 1, "length": 2048}
    large = [
        Setup("full, bf16, checkpointing", "8B", FULL, gradient_checkpointing=True, rate=1e-5, **one),
        Setup("full, bf16, 8-bit AdamW, checkpointing", "8B", FULL, optimizer="adamw_8bit", gradient_checkpointing=True,
              rate=1e-5, **one),
        Setup("LoRA r=16, bf16", "8B", LORA, rate=1e-3, **one),
        Setup("LoRA r=16, bf16, checkpointing", "8B", LORA, rate=1e-3, gradient_checkpointing=True, **one),
        Setup("QLoRA, NF4 + double", "8B", QLORA, rate=1e-3, **one),
        Setup("QLoRA, NF4 + double, checkpointing", "8B", QLORA, rate=1e-3, gradient_checkpointing=True, **one),
    ]  # fmt: skip
    return [*small, *large, *other_fits(), paged]


def other_fits() -> list[Setup]:
    """Shapes, lengths and combinations that the formulas of `trainer.estimate` were not written on."""
    again: dict[str, Any] = {"gradient_checkpointing": True}
    lora: dict[str, Any] = {"method": LORA, "rate": 1e-3}
    qlora: dict[str, Any] = {"method": QLORA, "rate": 1e-3}
    eight: dict[str, Any] = {"method": FULL, "optimizer": "adamw_8bit"}
    return [
        Setup("full, bf16, accumulation 2, checkpointing", "1B", FULL, batch=4, accumulation=2, **again),
        Setup("full, fp32 weights, bf16 arithmetic, checkpointing", "1B", FULL, dtype="float32", **again),
        Setup("full, fp32, padded", "1B", FULL, dtype="float32", precision="fp32", padded=True, batch=4),
        Setup("full, bf16, padded", "1B", FULL, padded=True),
        Setup("LoRA r=64, bf16", "1B", {"name": "lora", "r": 64}, rate=1e-3, batch=16, length=512),
        Setup("LoRA r=16, fp32 weights, bf16 arithmetic", "1B", dtype="float32", **lora),
        Setup("LoRA r=16, fp32", "1B", dtype="float32", precision="fp32", batch=4, **lora),
        Setup("QLoRA, padded", "1B", padded=True, batch=4, length=2048, **qlora),
        Setup("full, bf16, 8-bit AdamW, checkpointing", "3B", batch=4, length=2048, **eight, **again),
        Setup("QLoRA, checkpointing", "3B", batch=2, length=4096, **qlora, **again),
        Setup("LoRA r=16, bf16", "Qwen 4B", batch=2, **lora),
        Setup("full, bf16", "Qwen 4B", FULL, rate=2e-5, batch=2),
        Setup("LoRA r=16, bf16, checkpointing", "Qwen 7B", batch=2, length=2048, **lora, **again),
        Setup("QLoRA, padded", "Qwen 7B", padded=True, batch=2, **qlora),
    ]
