"""What only a GPU can show: skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes
import msgspec
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.trainer.conftest import SUMS, built
from tests.trainer.test_fitting import STEPS, Optimizers, losses
from tests.trainer.test_methods import sums
from trainer.config import TrainingConfig
from trainer.fitting import arguments, fit
from trainer.generate import generate
from trainer.loop import train
from trainer.material import Examples
from trainer.memory import MemoryPeak
from trainer.methods import choose
from trainer.models import device_for, load
from trainer.program import OutOfMemory, memory_advice
from trainer.served import load_to_serve
from tunescope._journal import Create, JournalReader, Points, journals

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
ON_GPU = msgspec.structs.replace(STEPS, device="auto")
PROMPTS = [one["prompt"] for one in SUMS]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESCOPE_DIR", str(tmp_path / "journal"))
    return tmp_path / "journal"


def on_gpu(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, "train": {**content["train"], "device": "auto", **changes}}


def devices(model: torch.nn.Module) -> set[str]:
    return {one.device.type for one in [*model.parameters(), *model.buffers()]}


@torch.inference_mode()
def logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    return torch.as_tensor(model.eval()(**tokenizer(["3+1=", "1+1="], return_tensors="pt").to("cuda")).logits)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("task", ["sums_config", "tickets_config"])
def test_what_is_saved_answers_as_what_was_trained(
    task: str, method: str, precision: str, request: pytest.FixtureRequest
) -> None:
    content = on_gpu(request.getfixturevalue(task), precision=precision)
    content["evaluate"][0]["before"] = True
    trained = train(built(content, method={"name": method}))
    assert devices(trained.model) == {"cuda"}
    assert trained.result.scored[0].share_right_before is not None
    loaded = load(Path(trained.result.model_folder), device_for("auto"))
    assert devices(loaded.model) == {"cuda"}
    assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(trained.model, trained.tokenizer))
    if task == "sums_config":
        said = generate(trained.model, trained.tokenizer, PROMPTS, max_new_tokens=4)
        assert said == generate(loaded.model, loaded.tokenizer, PROMPTS, max_new_tokens=4)
        served = load_to_serve(Path(trained.result.model_folder)).model
        assert devices(served) == {"cuda"}
        assert torch.allclose(logits(served, trained.tokenizer), logits(loaded.model, loaded.tokenizer), atol=1e-3)


def test_a_run_tells_of_its_gpu(sums_config: dict[str, Any], journal: Path) -> None:
    train(built(on_gpu(sums_config)), mode="offline")
    [folder] = journals(journal)
    reader = JournalReader(folder)
    records = [record for record, _ in reader.read(JournalReader.start)]
    reader.close()
    created = records[0]
    assert isinstance(created, Create)
    assert torch.cuda.get_device_name() in created.body["environment"]["gpus"]
    assert created.body["environment"]["gpu_driver"]["version"][0].isdigit()
    logged = {column.key for record in records if isinstance(record, Points) for column in record.columns}
    assert {f"system/gpu0_{name}" for name in ("percent", "memory_mib", "watts", "celsius")} <= logged
    assert {"train/peak_gpu_memory_mib", "train/tokens_per_second", "train/steps_per_second"} <= logged


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_same_seed_same_loss_resumed_or_not(
    method: str, optimizer: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    saving = msgspec.structs.replace(ON_GPU, save_every=3, optimizer=optimizer, precision="bf16")
    whole = losses(tokenizer, tmp_path / "whole", saving, method)
    assert losses(tokenizer, tmp_path / "cut", saving, method, cut=8) == {step: whole[step] for step in range(1, 8)}
    rest = losses(tokenizer, tmp_path / "cut", saving, method, resume=True)
    assert rest == {step: whole[step] for step in range(7, 11)}


@pytest.mark.parametrize("optimizer", ["paged_adamw", "paged_adamw_8bit"])
def test_paged_states_are_paged(optimizer: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    seen = Optimizers()
    settings = msgspec.structs.replace(ON_GPU, optimizer=optimizer, learning_rate=1e-3)
    model = wide(layers=1)
    fit(model, Examples(sums(tokenizer)), settings, folder=tmp_path, pad_id=0, callbacks=[seen])
    paged = {name: getattr(moment, "is_paged", False) for name, moment in seen.moments.items()}
    assert paged["model.layers.0.self_attn.q_proj.weight"]
    assert not paged["model.norm.weight"]


def test_gradient_checkpointing_needs_less_memory(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = sums(tokenizer)[:1] * 64
    peaks = []
    for again in (False, True):
        settings = TrainingConfig(max_steps=2, batch_size=64, gradient_checkpointing=again)
        model = choose({"name": "lora"}).prepare(wide(layers=8), task="causal_lm", seed=0)
        with MemoryPeak() as peak:
            fit(model, Examples(rows), settings, folder=tmp_path, pad_id=0)
        peaks.append(peak.bytes)
        del model
    assert peaks[1] < 0.9 * peaks[0]


def test_a_base_is_quantised_a_layer_at_a_time() -> None:
    base = wide(layers=8)
    in_full = sum(one.numel() * one.element_size() for one in base.parameters())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model = choose({"name": "qlora"}).prepare(base, task="causal_lm", seed=0, device=device_for("auto"))
    assert devices(model) == {"cuda"}
    assert any(isinstance(layer, bitsandbytes.nn.Linear4bit) for layer in model.modules())
    assert torch.cuda.max_memory_allocated() - before < 0.3 * in_full


def test_bf16_is_chosen_where_the_gpu_has_it(tmp_path: Path) -> None:
    chosen = arguments(msgspec.structs.replace(ON_GPU, precision="auto"), tmp_path, validate=False)
    assert chosen.bf16 == (torch.cuda.get_device_capability() >= (8, 0))
    assert chosen.device.type == "cuda"


def test_out_of_memory_says_what_to_change(sums_config: dict[str, Any], causal_folder: Path) -> None:
    shape = wide(layers=8).config.to_dict()
    config = built(on_gpu(sums_config), model={"config": shape, "tokenizer": str(causal_folder)})
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 100e6
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(OutOfMemory, match=r"set train\.gradient_checkpointing, or halve"), memory_advice(config):
            train(config)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert train(config).result.steps == 8


def test_declined_the_gpu_stays_idle(sums_config: dict[str, Any]) -> None:
    before = torch.cuda.memory_allocated()
    assert devices(train(built(sums_config)).model) == {"cpu"}
    assert torch.cuda.memory_allocated() <= before


def wide(layers: int) -> LlamaForCausalLM:
    """Large enough that weights and states outweigh what a GPU library keeps for itself."""
    torch.manual_seed(0)
    shape = {"hidden_size": 1024, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": layers}
    return LlamaForCausalLM(LlamaConfig(vocab_size=258, max_position_embeddings=64, **shape))
