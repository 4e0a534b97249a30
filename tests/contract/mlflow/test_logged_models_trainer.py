"""A Transformers training with report_to="mlflow" and HF_MLFLOW_LOG_ARTIFACTS=1: its checkpoints are logged models."""

from __future__ import annotations

import uuid
from pathlib import Path

import mlflow
import pytest
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from tunescope import Client

# What the client thinks of its own wrappers' type hints.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")]


class Rows(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.arange(index, index + 6)
        return {"input_ids": tokens, "labels": tokens}


def test_the_trainer_saves_its_checkpoints(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = f"trainer-{uuid.uuid4().hex}"
    monkeypatch.setenv("HF_MLFLOW_LOG_ARTIFACTS", "1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", project)
    set_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_steps=2,
        report_to="mlflow",
        run_name="tiny",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model=model, args=arguments, train_dataset=Rows()).train()
    mlflow.flush_async_logging()
    with Client(uri) as native:
        (run,) = native.list_runs(project=project)["items"]
        assert (run["name"], run["status"], run["metrics"]["loss"]["count"]) == ("tiny", "finished", 4)
        made = native.run_links(run["id"])["logged_models"]
    logged = {link["id"]: mlflow.get_logged_model(link["id"]) for link in made}
    assert {(link["name"], link["role"], link["status"]) for link in made} == {
        ("checkpoint-2", "output", "READY"),
        ("checkpoint-4", "output", "READY"),
    }
    last = next(found for found in logged.values() if found.name == "checkpoint-4")
    assert last.source_run_id == run["id"]
    assert last.params["max_steps"] == "4"
    folder = Path(mlflow.artifacts.download_artifacts(last.model_uri))
    loaded = GPT2LMHeadModel.from_pretrained(folder / "artifacts" / "checkpoint-4")
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, loaded.state_dict()[name]), name
