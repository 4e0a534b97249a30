"""A real fine-tune for the fault tests: a tiny Llama under Transformers' Trainer, tracked by the callback.

Usage: python fine_tune.py URL FOLDER
Writes what it logged to FOLDER/ledger.jsonl as it goes (one JSON line a log), to be compared with what the service
stored. Trains until FOLDER/enough exists.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

import tunescope
from tunescope.transformers import TunescopeCallback


class Ledger(TrainerCallback):
    """What the service should hold, in the words of the Trainer itself."""

    def __init__(self, folder: Path) -> None:
        self.enough = folder / "enough"
        self.file = (folder / "ledger.jsonl").open("a", buffering=1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.file.write(json.dumps({"step": state.global_step, "loss": logs["loss"]}) + "\n")
        control.should_training_stop = self.enough.exists()


def main(url: str, folder: Path) -> None:
    set_seed(0)
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    rows = torch.randint(0, 64, (256, 16), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in rows]
    run = tunescope.init(project="faults", name="killed", url=url, system_interval=None)
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=100_000,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(
        model=LlamaForCausalLM(config),
        args=arguments,
        train_dataset=data,
        callbacks=[TunescopeCallback(run=run), Ledger(folder)],
    ).train()
    report = run.finish(timeout=60)
    print(json.dumps({"run_id": run.id, "sent": report.sent, "left": report.left}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
