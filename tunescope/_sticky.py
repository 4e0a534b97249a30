"""Which arm a unit came in by, kept on disk for experiments whose units keep their arm.

A line a unit, appended in the background. Processes on one machine that share the folder share the file: each reads
what the others wrote when weights change. Of an experiment the newest 100,000 units are known; on other machines a unit
gets the arm of the day's weights, and is marked as seen in two arms if that is another one.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path

import msgspec

log = logging.getLogger("tunescope")

MOST_UNITS = 100_000
Line = tuple[str, str, str, int]
"""Experiment, unit, arm, phase."""


class StickyFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._arms: dict[str, dict[str, tuple[str, int]]] = {}
        self._unsaved: deque[Line] = deque(maxlen=MOST_UNITS)
        self._read = 0

    def of(self, experiment: str) -> dict[str, tuple[str, int]]:
        """Unit -> the arm and the phase it came in by. The same object from then on."""
        return self._arms.setdefault(experiment, {})

    def keep(self, experiment: str, unit_id: str, variant: str, phase: int) -> None:
        """Know a unit's arm from now on, and on disk after `save`; the first one of a unit stays."""
        if self._know(experiment, unit_id, variant, phase):
            self._unsaved.append((experiment, unit_id, variant, phase))

    def read(self) -> None:
        """Take in what this and other processes have written since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break  # somebody is writing it
                    self._read += len(raw)
                    try:
                        self._know(*msgspec.json.decode(raw, type=Line))
                    except msgspec.MsgspecError:
                        continue  # torn by a crash
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("tunescope: %s could not be read: %s", self._path, error)

    def save(self) -> None:
        if not self._unsaved:
            return
        lines = b"".join(msgspec.json.encode(self._unsaved.popleft()) + b"\n" for _ in range(len(self._unsaved)))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One write of whole lines at the end: other processes append to the same file.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, lines)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("tunescope: %s could not be written: %s", self._path, error)

    def forget_unsaved(self) -> None:
        """In a forked child: the parent saves its own."""
        self._unsaved.clear()

    def _know(self, experiment: str, unit_id: str, variant: str, phase: int) -> bool:
        arms = self.of(experiment)
        if unit_id in arms:
            return False
        if len(arms) >= MOST_UNITS:
            del arms[next(iter(arms))]
        arms[unit_id] = variant, phase
        return True
