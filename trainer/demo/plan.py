"""The fine-tunes of the demo, as the same configs that `tunescope train` reads from a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig, config_from
from trainer.demo.base import TEMPLATE, base_rows, probe
from trainer.demo.world import Item, World

CHECKPOINTS = 4


@dataclass(frozen=True)
class FineTune:
    name: str
    title: str
    learning_rate: float
    steps: int
    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "full"})
    replay: float = 0.0


LORA = {"r": 8, "alpha": 16}
FINE_TUNES = (
    FineTune("full-high-rate", "full, high rate", learning_rate=3e-3, steps=120),
    FineTune("full-low-rate", "full, low rate", learning_rate=1e-4, steps=400),
    FineTune("lora", "LoRA", learning_rate=1e-3, steps=400, method={"name": "lora", **LORA}),
    FineTune(
        "lora-replay",
        "LoRA + replay",
        learning_rate=1e-3,
        steps=400,
        method={"name": "lora", **LORA},
        replay=0.5,
    ),
    FineTune(
        "qlora",
        "QLoRA (NF4)",
        learning_rate=1e-3,
        steps=400,
        method={"name": "qlora", **LORA, "compute": "fp32"},
    ),
)


def write_data(world: World, folder: Path) -> None:
    """The world as the files that the configs name."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "base.jsonl", base_rows(world))
    _write(folder / "general.jsonl", _questions(world.general))
    _write(folder / "replay.jsonl", _questions(world.replayed))
    _write(folder / "train.jsonl", _questions(world.train))
    _write(folder / "test.jsonl", _questions(world.test))


def _questions(items: Iterable[Item]) -> Iterable[dict[str, Any]]:
    for item in items:
        columns = asdict(item)
        yield {"prompt": columns.pop("input"), **columns}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def fine_tune_config(
    one: FineTune, project: str, service: Mapping[str, str], data: Path, base: Path, output: Path
) -> TrainConfig:
    """`service`: the name to register under, and the version of the base."""
    replay = {"replay": {"path": "replay.jsonl", "share": one.replay}} if one.replay else {}
    return config_from(
        {
            "project": project,
            "name": one.name,
            "task": "causal_lm",
            "model": {"path": str(base)},
            "data": {"folder": str(data), "train": "train.jsonl", "template": TEMPLATE, "max_length": 128},
            "method": dict(one.method),
            **replay,
            "train": {
                "learning_rate": one.learning_rate,
                "max_steps": one.steps,
                "batch_size": 16,
                "schedule": "cosine",
                "warmup": 0.05,
                "group_by_length": False,
                "device": "cpu",
                "save_every": one.steps // CHECKPOINTS,
            },
            "probe": probe(every=one.steps // CHECKPOINTS),
            "service": dict(service),
            "output": str(output),
        }
    )
