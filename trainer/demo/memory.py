"""What the demo has done already, so that a second start goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from trainer.errors import TrainerError

Value = TypeVar("Value")
FILE = "demo.json"


class NotOurFolder(TrainerError):
    pass


class Memory:
    """Results of steps, as JSON, kept in the demo's folder under the step's name.

    Raises `NotOurFolder` for a folder that holds something else, or a demo of another version.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / FILE
        try:
            self._done = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            if folder.exists() and any(folder.iterdir()):
                raise NotOurFolder(f"{folder} is not empty and holds no demo: choose another with --dir.") from None
            folder.mkdir(parents=True, exist_ok=True)
            self._done = {"fingerprint": fingerprint}
            self._write()
        if self._done["fingerprint"] != fingerprint:
            raise NotOurFolder(f"{folder} holds a demo of another version: start it anew with --fresh.")

    def has(self, step: str) -> bool:
        return step in self._done

    def once(self, step: str, make: Callable[[], Value]) -> Value:
        """What `make` returned when the step was first done; the step is done now if it was not."""
        if step not in self._done:
            self._done[step] = make()
            self._write()
        kept: Value = self._done[step]
        return kept

    def _write(self) -> None:
        staging = self._path.with_suffix(".partial")
        staging.write_text(json.dumps(self._done, indent=1), "utf-8")
        staging.replace(self._path)


def forget(folder: Path) -> None:
    """Removes a demo's folder. Raises `NotOurFolder` for a folder that holds something else."""
    if not folder.exists():
        return
    if not (folder / FILE).is_file():
        raise NotOurFolder(f"{folder} holds no demo: it is not removed.")
    shutil.rmtree(folder)
