"""Models come in from a folder, a package or a configuration, and go out as a folder that can be loaded again.

Beside the weights a saved folder holds `tunescope.json`: the task, the labels or the prompt's template, the method and
what the base was. It is what turns an adapter back into a model, and a question into a prompt.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from trainer import methods
from trainer.adapters import attach
from trainer.config import ModelConfig
from trainer.data import Tokenizer
from trainer.errors import ModelError
from trainer.heads import head_names

CARD = "tunescope.json"
CLASSES = {"classification": AutoModelForSequenceClassification, "causal_lm": AutoModelForCausalLM}
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}


class Card(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What `tunescope.json` says of a saved model."""

    task: str
    method: dict[str, Any]
    base: ModelConfig
    labels: list[str] | None = None
    prompt_template: str | None = None
    max_length: int = 512


class Checkpoint(NamedTuple):
    model: PreTrainedModel
    tokenizer: Tokenizer
    card: Card


def load_base(config: ModelConfig, task: str, labels: list[str] | None, seed: int) -> tuple[PreTrainedModel, Tokenizer]:
    """The model to start from, and its tokenizer; layers that start at random do so from `seed`.

    Raises `ModelError` for a folder or package that is not there or holds no such model.
    """
    source = find(config)
    options: dict[str, Any] = {}
    if labels is not None:
        options = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
        options["label2id"] = {label: number for number, label in enumerate(labels)}
    torch.manual_seed(seed)
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer or source)
        if config.config is not None:
            settings = dict(config.config)
            settings.setdefault("vocab_size", len(tokenizer))
            shape = AutoConfig.for_model(**settings, **options)
            dtype = (shape.dtype or torch.float32) if config.dtype == "auto" else DTYPES[config.dtype]
            model = CLASSES[task].from_config(shape, dtype=dtype)
        else:
            model = CLASSES[task].from_pretrained(source, dtype=DTYPES[config.dtype], **options)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"model {source or config.config}: {first_line(error)}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        # A classifier finds the end of a row by its padding.
        model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def device_for(wanted: Literal["auto", "cpu"]) -> torch.device:
    """Where a model is trained and asked: this process's GPU, if there is one and it is not declined."""
    if wanted == "cpu" or not torch.cuda.is_available():
        return CPU
    return torch.device("cuda", torch.distributed.get_node_local_rank(fallback_rank=0))


def find(config: ModelConfig) -> str | None:
    """The folder (or hub id) that a model is loaded from. Raises `ModelError` if it is not there."""
    if config.module is not None:
        package, _, folder = config.module.partition(":")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelError(f"model.module: no Python package {package!r} is installed; pip install it first.")
        place = Path(spec.origin).parent / (folder or "model")
        if not place.is_dir():
            raise ModelError(f"model.module: the package {package!r} has no folder {folder or 'model'!r}.")
        return str(place)
    if config.path is not None:
        place = Path(config.path).expanduser()
        if not place.is_dir() and (len(place.parts) > 2 or place.is_absolute() or config.path.startswith((".", "~"))):
            raise ModelError(f"model.path: there is no folder {place.absolute()}.")
        if place.is_dir() and not (place / "config.json").is_file():
            raise ModelError(f"model.path: {place.absolute()} holds no config.json, so no model.")
        return str(place)
    return None


def save(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, card: Card) -> None:
    """Writes a model whole or not at all: into a folder beside, which then takes the place of `folder`."""
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    (staging / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def load(folder: Path, device: torch.device = CPU) -> Checkpoint:
    """A model saved by `save`, or any causal LM's folder, on `device` and ready to answer.

    Raises `ModelError` if there is none.
    """
    card = read_card(folder)
    adapter = (folder / "adapter_config.json").is_file()
    start = card.base if adapter else ModelConfig(path=str(folder))
    model, tokenizer = load_base(start, card.task, card.labels, seed=0)
    if adapter:
        if card.method["name"] == "qlora":
            chosen = methods.choose(card.method)
            skip = head_names(model) if card.labels else []
            chosen.module.quantise(model, chosen.options, skip=skip, device=device)
        model = attach(model, folder)
    return Checkpoint(model.to(device).eval(), tokenizer, card)


def read_card(folder: Path) -> Card:
    """What `tunescope.json` says; a plain causal LM where there is none. Raises `ModelError` if it cannot be read."""
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no model is saved there.")
    path = folder / CARD
    if not path.is_file() and (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: an adapter without its {CARD}, which says what its base is.")
    if not path.is_file():
        return Card(task="causal_lm", method={"name": "full"}, base=ModelConfig(path=str(folder)))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: {error}.") from error


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """How many parameters move, and how many there are: a 4-bit weight packs two into a byte."""
    trainable = total = 0
    for parameter in model.parameters():
        packed = getattr(parameter, "quant_state", None)
        size = packed.shape.numel() if packed is not None else parameter.numel()
        total += size
        trainable += size if parameter.requires_grad else 0
    return trainable, total


def first_line(error: BaseException) -> str:
    """The first sentence of a library's long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
