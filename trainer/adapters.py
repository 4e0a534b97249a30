"""PEFT's entrances, with the deprecation that PEFT 0.21 sets off in Transformers 5.23 kept quiet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peft
from transformers import PreTrainedModel


def wrap(model: PreTrainedModel, settings: peft.PeftConfig) -> PreTrainedModel:
    """`model` with new adapters, in place. Raises ValueError for settings that fit no layer."""
    with _quietly():
        return peft.get_peft_model(model, settings)


def attach(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model` with the adapters saved in `folder`."""
    with _quietly():
        return peft.PeftModel.from_pretrained(model, str(folder))


def add(model: peft.PeftModel, folder: Path, name: str) -> None:
    """Load the adapters saved in `folder` beside those that `model` has; they speak once they are chosen."""
    with _quietly():
        model.load_adapter(str(folder), adapter_name=name)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield
