"""What a person sees while a model trains: one line that moves."""

from __future__ import annotations

import logging
import os
from typing import Any

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """Epoch, step, loss and time left."""

    def __init__(self, console: Console, title: str) -> None:
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("epoch {task.fields[epoch]:.1f}  loss {task.fields[loss]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self.job = self.bar.add_task(title, total=None, epoch=0.0, loss="–")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.job, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.job, completed=state.global_step, epoch=state.epoch or 0.0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.bar.update(self.job, loss=f"{logs['loss']:.4f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.stop()


def quiet() -> None:
    """Keeps the libraries' bars and remarks off the terminal. For a program; a library has no business doing it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
