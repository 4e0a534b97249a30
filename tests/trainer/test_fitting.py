from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import PreTrainedTokenizerFast, TrainerCallback

from tests.trainer.conftest import bert, llama
from tests.trainer.test_methods import sums, tickets
from trainer.batches import Collator
from trainer.config import TrainingConfig
from trainer.fitting import Fit, Fitter, arguments, fit
from trainer.material import Examples
from trainer.methods import choose

STEPS = TrainingConfig(learning_rate=3e-3, max_steps=10, batch_size=4, log_every=1, warmup=0.1, device="cpu", seed=3)


class Losses(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.values[state.global_step] = logs["loss"]


class Power(TrainerCallback):  # type: ignore[misc]
    """Goes out after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def losses(
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    settings: TrainingConfig = STEPS,
    method: str = "full",
    resume: bool = False,
    cut: int | None = None,
) -> dict[int, float]:
    """Step -> loss of a small causal LM, from the same start each time."""
    model = choose({"name": method}).prepare(llama(), task="causal_lm", seed=settings.seed)
    watcher = Losses()
    callbacks = [watcher] + ([Power(cut)] if cut else [])
    rows = sums(tokenizer)
    examples = Examples(rows[:14], replay=rows[14:], share=0.25)
    try:
        fit(model, examples, settings, folder=folder, pad_id=0, callbacks=callbacks, resume=resume)
    except KeyboardInterrupt:
        assert cut is not None
    return watcher.values


slow = pytest.mark.slow


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=slow), pytest.param("qlora", marks=slow)])
def test_same_seed_same_loss(method: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    first = losses(tokenizer, tmp_path / "a", method=method)
    torch.rand(5)
    assert first == losses(tokenizer, tmp_path / "b", method=method)
    assert list(first) == list(range(1, 11))
    other = msgspec.structs.replace(STEPS, seed=4)
    assert first != losses(tokenizer, tmp_path / "c", other, method=method)


@pytest.mark.parametrize("method", [pytest.param("full", marks=slow), "lora"])
def test_resumed_is_as_if_never_interrupted(method: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saving = msgspec.structs.replace(STEPS, save_every=3)
    whole = losses(tokenizer, tmp_path / "whole", saving, method)
    # The lights go out in the second epoch, two steps after a checkpoint.
    cut = losses(tokenizer, tmp_path / "cut", saving, method, cut=8)
    assert cut == {step: whole[step] for step in range(1, 8)}
    rest = losses(tokenizer, tmp_path / "cut", saving, method, resume=True)
    assert rest == {step: whole[step] for step in range(7, 11)}


class Optimizers(TrainerCallback):  # type: ignore[misc]
    """The first moment of each parameter, by its name, and the optimizer, as long as it is there."""

    def __init__(self) -> None:
        self.moments: dict[str, torch.Tensor] = {}
        self.optimizer: Callable[[], Any] = lambda: None

    def on_train_end(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        states = optimizer.optimizer.state
        self.moments = {
            name: states[one].get("exp_avg", states[one].get("state1")) for name, one in model.named_parameters()
        }
        self.optimizer = weakref.ref(optimizer.optimizer)


@pytest.mark.parametrize(
    ("optimizer", "of_matrices", "of_embeddings"),
    [
        ("adamw", torch.float32, torch.float32),
        ("paged_adamw", torch.float32, torch.float32),
        ("adamw_8bit", torch.uint8, torch.float32),
        ("paged_adamw_8bit", torch.uint8, torch.float32),
    ],
)
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_optimizers_learn_and_keep_what_they_say(
    optimizer: Any,
    of_matrices: torch.dtype,
    of_embeddings: torch.dtype,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    watcher, seen = Losses(), Optimizers()
    settings = msgspec.structs.replace(STEPS, optimizer=optimizer)
    fit(llama(), Examples(sums(tokenizer)), settings, folder=tmp_path, pad_id=0, callbacks=[watcher, seen])
    assert watcher.values[10] < 0.75 * watcher.values[1]
    assert seen.moments["model.layers.0.mlp.up_proj.weight"].dtype == of_matrices
    assert seen.moments["lm_head.weight"].dtype == of_matrices
    assert seen.moments["model.embed_tokens.weight"].dtype == of_embeddings
    # Its memory is free for what comes next.
    assert seen.optimizer() is None


@pytest.mark.parametrize("method", [pytest.param("full", marks=slow), pytest.param("lora", marks=slow), "qlora"])
def test_gradient_checkpointing_changes_no_loss(
    method: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    recomputed = msgspec.structs.replace(STEPS, gradient_checkpointing=True)
    kept = losses(tokenizer, tmp_path / "kept", method=method)
    assert losses(tokenizer, tmp_path / "again", recomputed, method) == pytest.approx(kept, rel=1e-5)


def test_resume_without_a_checkpoint_starts_over(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    assert list(losses(tokenizer, tmp_path, resume=True)) == list(range(1, 11))


def test_the_newest_two_checkpoints_are_kept(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    losses(tokenizer, tmp_path, msgspec.structs.replace(STEPS, max_steps=12, save_every=3))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-9"]
    assert json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())["global_step"] == 12


def test_a_checkpoint_is_there_whole_or_not_at_all(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = msgspec.structs.replace(STEPS, save_every=3)
    write_optimiser = Fitter._save_optimizer_and_scheduler

    def dies_at_six(self: Fitter, folder: str) -> None:
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        write_optimiser(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "_save_optimizer_and_scheduler", dies_at_six)
        losses(tokenizer, tmp_path, saving, cut=99)
    assert [one.name for one in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert min(losses(tokenizer, tmp_path, saving, resume=True)) == 4


def test_a_fresh_start_forgets_the_checkpoints_before_it(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    losses(tokenizer, tmp_path, msgspec.structs.replace(STEPS, save_every=5))
    losses(tokenizer, tmp_path)
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_the_head_has_a_rate_of_its_own_and_norms_do_not_decay(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(STEPS, learning_rate=1e-4, head_learning_rate=1e-2, weight_decay=0.1)
    model = bert()
    fitter = Fitter(
        settings=settings,
        examples=Examples(tickets(tokenizer)),
        model=model,
        args=arguments(settings, tmp_path, validate=False),
        data_collator=Collator(0),
    )
    groups = fitter.create_optimizer().param_groups
    owner = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {owner[id(one)]: (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
    assert set(rates) == {name for name, _ in model.named_parameters()}
    assert rates["classifier.weight"] == rates["bert.pooler.dense.weight"] == (1e-2, 0.1)
    assert rates["classifier.bias"] == (1e-2, 0.0)
    assert rates["bert.encoder.layer.0.output.dense.weight"] == (1e-4, 0.1)
    assert rates["bert.encoder.layer.0.output.LayerNorm.weight"] == (1e-4, 0.0)
    assert groups[0]["lr"] == 1e-4


def test_validation_is_logged_each_epoch(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    class Seen(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.logs: list[dict[str, float]] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.logs.append(dict(logs))

    seen = Seen()
    rows = tickets(tokenizer)
    settings = msgspec.structs.replace(STEPS, max_steps=None, epochs=2, batch_size=6)
    done = fit(bert(), Examples(rows, validation=rows), settings, folder=tmp_path, pad_id=0, callbacks=[seen])
    assert isinstance(done, Fit)
    assert done.steps == 4
    validated = [log for log in seen.logs if "eval_loss" in log]
    assert [log["epoch"] for log in validated] == [1.0, 2.0]
    assert all(0 <= log["eval_accuracy"] <= 1 for log in validated)


@pytest.mark.parametrize(
    ("abilities", "fast"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_bf16_is_chosen_where_it_is_fast(
    abilities: dict[str, bool], fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: abilities)
    chosen = {
        precision: arguments(msgspec.structs.replace(STEPS, precision=precision), tmp_path, validate=False).bf16
        for precision in ("fp32", "bf16", "auto")
    }
    assert chosen == {"fp32": False, "bf16": True, "auto": fast}


def test_a_loss_that_is_no_number_is_shown(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(STEPS, learning_rate=1e30, clip=1e30, warmup=0.0)
    values = list(losses(tokenizer, tmp_path, settings).values())
    assert any(value != value for value in values)
