"""The estimate of a GPU's memory, beside the peaks measured on one (`benchmarks/gpu.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.trainer.conftest import bert, llama
from trainer.config import TrainingConfig
from trainer.estimate import estimate
from trainer.methods import choose

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
MEASURED = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("gpu-nvidia-*.json"))]


def measured() -> list[Any]:
    """Every fit that was measured; adapters of the larger models take seconds to make."""
    rows = []
    for record in MEASURED:
        for row in record["rows"]:
            setup = row["setup"]
            quick = setup["method"]["name"] == "full" or (setup["shape"] == "1B" and setup["batch"] == 8)
            name = f"{setup['shape']}-{setup['title']}"
            marks = () if quick else pytest.mark.slow
            rows.append(pytest.param(row, record["shapes"][setup["shape"]], id=name, marks=marks))
    return rows


def lengths(setup: dict[str, Any]) -> list[int]:
    longest, count = setup["length"], setup["batch"]
    return np.linspace(longest // 2, longest, count, dtype=int).tolist() if setup["padded"] else [longest] * count


@pytest.mark.parametrize(("row", "shape"), measured())
def test_estimated_as_measured(row: dict[str, Any], shape: dict[str, Any]) -> None:
    setup = row["setup"]
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=getattr(torch, setup["dtype"]))
    model = choose(setup["method"]).prepare(base, task="causal_lm", seed=0)
    names = ("optimizer", "accumulation", "gradient_checkpointing", "precision")
    told = estimate(model, TrainingConfig(**{name: setup[name] for name in names}), lengths(setup))
    assert told is not None
    assert told.weights == pytest.approx(row["weights_bytes"], rel=0.01)
    assert told.peak == pytest.approx(row["peak_bytes"], rel=0.02)


def test_there_are_measurements() -> None:
    assert len(measured()) >= 30


def prepared(name: str, **options: Any) -> PreTrainedModel:
    return choose({"name": name, **options}).prepare(llama(), task="causal_lm", seed=0)


def test_components_of_a_small_model() -> None:
    model = prepared("full")
    count = sum(one.numel() for one in model.parameters())
    settings = TrainingConfig(optimizer="adamw")
    told = estimate(model, settings, [10, 10])
    assert told is not None
    assert (told.weights, told.gradients, told.optimizer) == (4 * count, 4 * count, 8 * count)
    assert told.logits == 12 * 20 * 258
    assert told.peak == told.weights + told.optimizer + max(told.gradients, told.activations + told.logits)
    accumulating = estimate(model, msgspec.structs.replace(settings, accumulation=2), [10, 10])
    assert accumulating is not None
    assert accumulating.peak == told.peak + min(told.gradients, told.activations + told.logits)
    paged = estimate(model, TrainingConfig(optimizer="paged_adamw_8bit"), [10, 10])
    assert paged is not None
    assert paged.optimizer == 0


def test_four_bits_are_counted_before_and_after_quantising() -> None:
    real = estimate(prepared("qlora"), TrainingConfig(), [10])
    with torch.device("meta"):
        base = llama()
    planned = estimate(choose({"name": "qlora"}).prepare(base, task="causal_lm", seed=0), TrainingConfig(), [10])
    assert real is not None
    assert real == planned


def test_what_is_of_another_kind_is_not_estimated() -> None:
    assert estimate(bert(), TrainingConfig(), [10]) is None
    assert estimate(prepared("lora", dora=True), TrainingConfig(), [10]) is None
