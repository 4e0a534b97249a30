"""The models that are served: each by itself, or several LoRA adapters on one base that is in memory once.

Adapters on a base take turns: a batch is answered by one of them, and `turn` says by which.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from trainer import adapters
from trainer.errors import ModelError
from trainer.models import Card, Checkpoint, device_for, find, load, read_card


class Served(NamedTuple):
    checkpoint: Checkpoint
    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is held while the checkpoint's model decodes a batch."""


class Foot(NamedTuple):
    """What an adapter stands on; adapters that stand on the same can share it."""

    base: Path
    tokenizer: str | None
    dtype: str
    quantised: str | None


class SharedBase:
    """A base with adapters, of which one speaks at a time, in the order of asking."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._speaking: str | None = model.active_adapter
        # A plain lock may go to the thread that has just had it, again and again.
        self._called = threading.Condition()
        self._tickets = self._serving = 0

    @contextmanager
    def turn(self, adapter: str | None) -> Iterator[None]:
        """Have the model to oneself, as this adapter; None: as the base."""
        with self._called:
            ticket = self._tickets
            self._tickets += 1
            self._called.wait_for(lambda: self._serving == ticket)
        try:
            self._speak_as(adapter)
            yield
        finally:
            with self._called:
                self._serving += 1
                self._called.notify_all()

    def _speak_as(self, adapter: str | None) -> None:
        if adapter == self._speaking:
            return
        layers = self._model.base_model
        if adapter is None:
            layers.disable_adapter_layers()
        else:
            self._model.set_adapter(adapter, inference_mode=True)
            layers.enable_adapter_layers()
        self._speaking = adapter


def load_served(folders: Sequence[Path]) -> list[Served]:
    """Every checkpoint, in their order; adapters of the same base share it, and with the base itself.

    Raises `ModelError` for one that cannot be loaded or answers no chat.
    """
    cards = {folder: checked_card(folder) for folder in folders}
    served: dict[Path, Served] = {}
    for family in families(cards):
        served |= load_family(family, cards) if len(family) > 1 else {family[0]: Served(load_to_serve(family[0]))}
    return [served[folder] for folder in folders]


def checked_card(folder: Path) -> Card:
    card = read_card(folder)
    if card.task != "causal_lm":
        raise ModelError(f"{folder}: a {card.task} model answers no chat.")
    return card


def families(cards: dict[Path, Card]) -> list[list[Path]]:
    """Which checkpoints are loaded together: adapters that stand on the same, and their base, which comes last."""
    feet = {folder: foot_of(folder, card) for folder, card in cards.items()}
    standing: dict[Foot, list[Path]] = {}
    for folder, foot in feet.items():
        if foot is not None:
            standing.setdefault(foot, []).append(folder)
    alone = []
    for folder in (folder for folder, foot in feet.items() if foot is None):
        on_it = (group for foot, group in standing.items() if foot.base == folder.resolve() and foot.quantised is None)
        if (group := next(on_it, None)) is not None:
            group.append(folder)
        else:
            alone.append([folder])
    return [*standing.values(), *alone]


def foot_of(folder: Path, card: Card) -> Foot | None:
    """What the adapter in `folder` stands on; None: it is none, or its base cannot be shared."""
    if not is_adapter(folder):
        return None
    base = find(card.base)
    if base is None:
        return None
    quantised = {name: card.method.get(name) for name in ("compute", "double_quantisation")}
    return Foot(
        Path(base).resolve(),
        card.base.tokenizer,
        card.base.dtype,
        str(quantised) if card.method["name"] == "qlora" else None,
    )


def load_family(folders: Sequence[Path], cards: dict[Path, Card]) -> dict[Path, Served]:
    """Checkpoints over one base: adapters, and perhaps the base itself at the end."""
    first, *others = folders
    model, tokenizer, _ = load(first, device_for("auto"))
    names: dict[Path, str | None] = {first: model.active_adapter}
    for number, folder in enumerate(others):
        names[folder] = f"adapter{number}" if is_adapter(folder) else None
        if (name := names[folder]) is not None:
            adapters.add(model, folder, name)
    shared = SharedBase(model.to(device_for("auto")).eval())
    return {
        folder: Served(Checkpoint(model, tokenizer, cards[folder]), partial(shared.turn, name))
        for folder, name in names.items()
    }


def load_to_serve(folder: Path) -> Checkpoint:
    """A causal LM by itself, on the GPU if there is one, a LoRA adapter merged into its base."""
    checked_card(folder)
    checkpoint = load(folder, device_for("auto"))
    model = checkpoint.model
    if checkpoint.card.method["name"] == "lora" and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return checkpoint._replace(model=model.eval())


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()
