"""Full fine-tuning: every weight moves."""

from __future__ import annotations

import msgspec
from torch import nn


class Options(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


def prepare(model: nn.Module, options: Options, *, task: str, seed: int) -> nn.Module:
    return model.requires_grad_(True)
