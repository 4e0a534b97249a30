"""Ways to fit a model to data: a file each, found by its name.

A method is a module with `Options`, a msgspec struct of what can be set under `method:`, and
`prepare(model, options, *, task, seed, device)`, which returns the model to train with `requires_grad` on what may
move. Adding a method is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from transformers import PreTrainedModel

from trainer.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """A method with its options checked."""

    name: str
    options: msgspec.Struct
    module: Any

    def prepare(
        self, model: PreTrainedModel, *, task: str, seed: int, device: torch.device | None = None
    ) -> PreTrainedModel:
        """The model to train. `device` is where that will be (default: where it is): a base that is quantised goes
        there a layer at a time, so that it never needs room there in full."""
        return self.module.prepare(model, self.options, task=task, seed=seed, device=device or model.device)

    def settings(self) -> dict[str, Any]:
        """The name and every option, defaults included: what a run's config records."""
        return {"name": self.name, **msgspec.structs.asdict(self.options)}


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def choose(settings: Mapping[str, Any]) -> Method:
    """The method that a config's `method:` names. Raises `ConfigError` for an unknown name or option."""
    options = dict(settings)
    name = options.pop("name", None)
    if name not in names():
        raise ConfigError(f"there is no method {name!r}; there are {', '.join(names())}.")
    module = importlib.import_module(f"{__name__}.{name}")
    try:
        return Method(str(name), msgspec.convert(options, module.Options), module)
    except msgspec.ValidationError as error:
        raise ConfigError(f"method {name}: {error}.") from error
