"""A real Transformers Trainer with `report_to="mlflow"`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import tunescope


class Rows(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = torch.full((6,), 1 + index % 3)
        return {"input_ids": ids, "labels": ids}


def train(folder: Path, **arguments: Any) -> Trainer:
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    given = TrainingArguments(
        output_dir=str(folder),
        report_to="mlflow",
        use_cpu=True,
        disable_tqdm=True,
        per_device_train_batch_size=4,
        logging_steps=1,
        eval_strategy="epoch",
        save_strategy="epoch",
        **{"max_steps": 6, **arguments},
    )
    trainer = Trainer(model=model, args=given, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    mlflow.end_run()
    mlflow.flush_async_logging()
    return trainer


@pytest.mark.parametrize("named", [False, True])
def test_a_training_is_recorded(
    uri: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live_service: str
) -> None:
    name = f"trainer {uuid.uuid4().hex}" if named else "Default"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TAGS", '{"team": "nlp"}')
    if named:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    run_name = uuid.uuid4().hex
    trainer = train(tmp_path, run_name=run_name)
    found = mlflow.search_runs(experiment_names=[name], filter_string=f"run_name = '{run_name}'", output_format="list")
    assert len(found) == 1
    run = found[0]
    assert run.info.status == "FINISHED"
    assert run.data.tags["team"] == "nlp"
    # Every argument and the model's config: more than a hundred params, in two batches.
    assert len(run.data.params) > 100
    assert (run.data.params["max_steps"], run.data.params["n_embd"]) == ("6", "8")
    logged = [row for row in trainer.state.log_history if "loss" in row]
    points = mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, "loss")
    assert {(point.step, point.value) for point in points} == {(row["step"], row["loss"]) for row in logged}
    assert {"eval_loss", "train_runtime", "grad_norm", "learning_rate"} <= set(run.data.metrics)
    with tunescope.Client(live_service) as client:
        native = client.get_run(run.info.run_id)
    assert (native["project"], native["name"], native["status"]) == (name, run_name, "finished")
    assert native["config"]["n_embd"] == "8"
    assert native["metrics"]["loss"]["count"] == len(logged) == 6


def test_a_training_goes_on_with_another_argument(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    """The batch of params with the changed one is refused whole; the training and its metrics go on."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run_id = mlflow.MlflowClient(uri).create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    train(tmp_path)
    # The client takes the id out of the environment as it uses it.
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    train(tmp_path, max_steps=8)
    client = mlflow.MlflowClient(uri)
    assert client.get_run(run_id).data.params["max_steps"] == "6"
    assert {point.step for point in client.get_metric_history(run_id, "loss")} == set(range(1, 9))
