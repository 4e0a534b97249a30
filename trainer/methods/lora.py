"""LoRA (Hu et al. 2021, arXiv:2106.09685), with its variants rsLoRA (2312.03732) and DoRA (2402.09353).

The base is frozen; each chosen linear layer gets a product of two thin matrices, r wide. A classifier's head starts
at random, so it is trained whole, and saved beside the adapter.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from trainer.adapters import wrap
from trainer.errors import ConfigError
from trainer.heads import head_names

TASKS = {"classification": "SEQ_CLS", "causal_lm": "CAUSAL_LM"}


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    r: Annotated[int, msgspec.Meta(ge=1)] = 8
    alpha: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """The update is scaled by alpha / r; default 2 r."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    targets: str | list[str] = "all-linear"
    """Names of the layers to adapt: all linear ones but the head, or those whose names end so."""
    rslora: bool = False
    """Scale by alpha / sqrt(r)."""
    dora: bool = False
    """Learn each column's magnitude apart from its direction."""


def prepare(model: PreTrainedModel, options: Options, *, task: str, seed: int, device: torch.device) -> PreTrainedModel:
    """Wraps `model` (in place) with adapters initialised from `seed` alone."""
    heads = head_names(model) if task == "classification" else []
    settings = LoraConfig(
        task_type=TASKS[task],
        r=options.r,
        lora_alpha=2 * options.r if options.alpha is None else options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.targets,
        exclude_modules=rf"(.*\.)?({'|'.join(map(re.escape, heads))})(\..*)?" if heads else None,
        modules_to_save=heads or None,
        use_rslora=options.rslora,
        use_dora=options.dora,
    )
    torch.manual_seed(seed)
    try:
        return wrap(model, settings)
    except ValueError as error:
        raise ConfigError(f"method.targets = {options.targets!r}: {str(error).splitlines()[0]}") from error
