"""Full fine-tuning: every weight moves."""

from __future__ import annotations

import msgspec
from transformers import PreTrainedModel


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


def prepare(model: PreTrainedModel, options: Options, *, task: str, seed: int) -> PreTrainedModel:
    return model.requires_grad_(True)
