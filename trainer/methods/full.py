"""Full fine-tuning: every weight moves."""

from __future__ import annotations

import msgspec
import torch
from transformers import PreTrainedModel


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


def prepare(model: PreTrainedModel, options: Options, *, task: str, seed: int, device: torch.device) -> PreTrainedModel:
    return model.requires_grad_(True)
