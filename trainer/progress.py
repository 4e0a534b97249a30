"""What a person sees while a model trains: one line that moves."""

from __future__ import annotations

from typing import Any, Self

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback


class ProgressBar(TrainerCallback):  # type: ignore[misc]
    """What is being done and, while the model trains, the step, the epoch, the loss and the time left."""

    def __init__(self, console: Console, title: str) -> None:
        self.title = title
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self.job = self.bar.add_task(title, total=None, detail="")
        self.loss = ""

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, sentence: str) -> None:
        self.bar.update(self.job, description=f"{self.title}: {sentence}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.say("training")
        # The clock of the time left starts here, not at the loading.
        self.bar.reset(self.job, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        detail = f"epoch {state.epoch or 0:.1f}{self.loss}"
        self.bar.update(self.job, completed=state.global_step, detail=detail)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"  loss {logs['loss']:.4f}"


def quiet() -> None:
    """Keeps the libraries' bars and remarks off the terminal. For a program; a library has no business doing it."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
