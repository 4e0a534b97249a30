"""The Trainer callback, on real trainings of a model of a few hundred weights."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import tunescope
from tunescope import Client, TunescopeError
from tunescope.transformers import TunescopeCallback, renamed


class Rows(Dataset[dict[str, Any]]):
    """Twelve rows to learn by heart."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": torch.full((4,), 1 + index % 2), "labels": torch.tensor(index % 2)}


def trainer(folder: Path, *callbacks: TunescopeCallback, **arguments: Any) -> Trainer:
    set_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=8, max_position_embeddings=8, **shape))
    for parameter in model.bert.embeddings.parameters():
        parameter.requires_grad = False
    given = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"num_train_epochs": 2, "save_strategy": "no", **arguments},
    )
    return Trainer(model=model, args=given, train_dataset=Rows(), eval_dataset=Rows(), callbacks=list(callbacks))


@pytest.fixture
def online(live_service: str) -> dict[str, Any]:
    return {"url": live_service, "quiet": True, "project": "callback", "system_interval": None, "git_diff": False}


def test_a_training_is_recorded(online: dict[str, Any], api: Client, tmp_path: Path) -> None:
    callback = TunescopeCallback(**online, name="tiny")
    training = trainer(tmp_path, callback, eval_strategy="epoch", save_strategy="epoch", learning_rate=1e-3)
    training.train()
    assert callback.run is not None
    stored = api.get_run(callback.run.id)
    assert (stored["status"], stored["name"]) == ("finished", "tiny")
    config = stored["config"]
    assert config["arguments"]["learning_rate"] == 1e-3
    assert config["model"]["hidden_size"] == 8
    assert config["arguments"]["max_steps"] == 6
    total = sum(p.numel() for p in training.model.parameters())
    trainable = sum(p.numel() for p in training.model.parameters() if p.requires_grad)
    assert config["parameters"] == {"total": total, "trainable": trainable}
    assert 0 < trainable < total

    history = {series["key"]: series for series in api.history(callback.run.id)}
    logged = [entry for entry in training.state.log_history if "loss" in entry]
    assert history["train/loss"]["steps"] == [1, 2, 3, 4, 5, 6]
    assert history["train/loss"]["values"] == [entry["loss"] for entry in logged]
    assert history["eval/loss"]["steps"] == [3, 6]
    assert history["train/progress"]["values"] == [step / 6 for step in range(1, 7)]
    assert history["train/epoch"]["values"][-1] == 2.0
    assert all(value > 0 for value in history["train/samples_per_second"]["values"])
    assert all(
        samples == pytest.approx(4 * steps)
        for samples, steps in zip(
            history["train/samples_per_second"]["values"], history["train/steps_per_second"]["values"], strict=True
        )
    )
    assert history["train/peak_memory_mib"]["values"][-1] > 10

    paths = {item["path"]: item["kind"] for item in api.list_artifacts(callback.run.id)["items"]}
    assert paths == {"checkpoints/checkpoint-3.json": "checkpoint", "checkpoints/checkpoint-6.json": "checkpoint"}
    kept = json.loads(api.download_artifact(callback.run.id, "checkpoints/checkpoint-6.json"))
    hashes = {file["path"]: file["sha256"] for file in kept["files"]}
    weights = (Path(kept["path"]) / "model.safetensors").read_bytes()
    assert hashes["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_an_evaluation_after_the_training_continues_the_run(
    online: dict[str, Any], api: Client, tmp_path: Path
) -> None:
    callback = TunescopeCallback(**online)
    training = trainer(tmp_path, callback)
    training.train()
    assert callback.run is not None
    first = callback.run
    loss = training.evaluate()["eval_loss"]
    assert callback.run.id == first.id
    (series,) = api.history(first.id, "eval/loss")
    assert (series["steps"], series["values"]) == ([6], [loss])
    assert api.get_run(first.id)["status"] == "finished"


def test_a_run_of_the_caller_stays_open(online: dict[str, Any], api: Client, tmp_path: Path) -> None:
    run = tunescope.init(**online, config={"mine": 1})
    trainer(tmp_path, TunescopeCallback(run), max_steps=2).train()
    assert not run.finished
    run.log({"after": 1.0})
    run.finish()
    stored = api.get_run(run.id)
    assert stored["config"]["mine"] == 1
    assert stored["config"]["arguments"]["max_steps"] == 2
    assert stored["metrics"]["after"]["last_step"] == 3


def test_checkpoints_may_be_uploaded(online: dict[str, Any], api: Client, tmp_path: Path) -> None:
    callback = TunescopeCallback(**online, log_checkpoints=True)
    trainer(tmp_path, callback, max_steps=2, save_strategy="steps", save_steps=2).train()
    assert callback.run is not None
    stored = api.download_artifact(callback.run.id, "checkpoints/checkpoint-2/model.safetensors")
    assert stored == (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes()


def test_recording_does_not_alter_the_training(online: dict[str, Any], tmp_path: Path) -> None:
    plain = trainer(tmp_path / "a")
    plain.train()
    recorded = trainer(tmp_path / "b", TunescopeCallback(**online))
    recorded.train()
    losses = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (plain, recorded)]
    assert losses[0] == losses[1]
    assert all(math.isfinite(loss) for loss in losses[0])


def test_other_processes_record_nothing(tmp_path: Path, journals: Path) -> None:
    callback = TunescopeCallback(mode="offline")
    training = trainer(tmp_path, callback, max_steps=1)
    training.state.is_world_process_zero = False
    for event in ("on_train_begin", "on_log", "on_save", "on_evaluate", "on_predict", "on_train_end"):
        given = {"logs": {"loss": 1.0}} if event == "on_log" else {}
        getattr(callback, event)(training.args, training.state, training.control, **given)
    assert callback.run is None
    assert not journals.exists()


def test_a_run_or_arguments() -> None:
    run = tunescope.init(mode="disabled")
    with pytest.raises(TunescopeError, match="not both"):
        TunescopeCallback(run, project="x")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("loss", "train/loss"),
        ("eval_loss", "eval/loss"),
        ("test_f1", "test/f1"),
        ("train_runtime", "train/train_runtime"),
        ("eval", "train/eval"),
        ("eval_topics_loss", "eval/topics_loss"),
    ],
)
def test_names(name: str, stored: str) -> None:
    assert renamed({name: 1}) == {stored: 1}


def test_histograms_of_gradients_and_weights(online: dict[str, Any], api: Client, tmp_path: Path) -> None:
    callback = TunescopeCallback(**online, histograms=2)
    training = trainer(tmp_path, callback, max_steps=5)
    training.train()
    assert callback.run is not None
    keys = {one["key"]: one["n"] for one in api.media_keys(callback.run.id)["items"]}
    trained = [name for name, parameter in training.model.named_parameters() if parameter.requires_grad]
    assert keys == {f"{kind}/{name}": 2 for kind in ("weights", "gradients") for name in trained}
    found = api.list_media(callback.run.id, "gradients/classifier.weight", inline=True)["items"]
    assert [one["step"] for one in found] == [4, 2]
    assert all(sum(one["content"]["counts"]) == 16 and one["content"]["edges"][-1] > 0 for one in found)


def test_histograms_are_off_and_need_a_number_of_steps(online: dict[str, Any], api: Client, tmp_path: Path) -> None:
    callback = TunescopeCallback(**online)
    trainer(tmp_path, callback, max_steps=1).train()
    assert callback.run is not None
    assert api.media_keys(callback.run.id)["items"] == []
    with pytest.raises(TunescopeError, match="at least 1"):
        TunescopeCallback(histograms=0)
