"""Several processes training one model: `torchrun --nproc-per-node 2 -m tunescope train config.yaml`.

The first of them speaks for all: it prints, saves, registers and has the service score. Alone, a process is the first.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

__all__ = ["begin", "first", "meet"]

PATIENCE = timedelta(days=7)
"""How long the others wait for the first, which asks a model every item of a suite meanwhile."""

_all: Any = None


def begin(device: str) -> None:
    """Meet the others, if a launcher started any, as Transformers' Trainer would do later. A run that is started
    after this is one run for all of them."""
    global _all
    if int(os.environ.get("WORLD_SIZE") or 1) == 1 or _all is not None:
        return
    if not distributed.is_initialized():
        on_gpu = device != "cpu" and torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK") or 0))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    _all = distributed.new_group(backend="gloo", timeout=PATIENCE)


def first() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def meet() -> None:
    """Wait until every process has come here."""
    if _all is not None:
        distributed.barrier(group=_all)
