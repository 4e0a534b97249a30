"""Work that keeps writers waiting for milliseconds at a time: how much to do in a step, and how long steps take."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

AIM = 0.02  # seconds that a step should take at most, its commit included
LEAST = 4
STEPS_KEPT = 10_000


class Pace:
    """How much to do in the next step, from `least` to `most`, by how long the last one took."""

    def __init__(self, most: int, least: int = LEAST) -> None:
        self.amount = self._least = min(least, most)
        self._most = most

    def took(self, seconds: float) -> None:
        if seconds > AIM:
            self.amount = max(self._least, int(self.amount * max(AIM / seconds, 0.25)))
        elif seconds < AIM / 2:
            self.amount = min(2 * self.amount, self._most)


@dataclass(frozen=True)
class Held:
    """For how many milliseconds each of the last `steps` kept writers waiting, and how many of these it computed: the
    rest is the disk's, or went to other programs."""

    steps: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu_p99_ms: float
    cpu_longest_ms: float


class Steps:
    """Remembers how long the last `STEPS_KEPT` steps took."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._seconds: deque[tuple[float, float]] = deque(maxlen=STEPS_KEPT)

    def add(self, seconds: float, cpu_seconds: float) -> None:
        with self._guard:
            self._seconds.append((seconds, cpu_seconds))

    def held(self) -> Held | None:
        """None: there was no step yet."""
        with self._guard:
            milliseconds = 1000 * np.array(self._seconds)
        if not len(milliseconds):
            return None
        (p50, p99), (_, cpu_p99) = np.quantile(milliseconds, (0.5, 0.99), axis=0).T.tolist()
        longest, cpu_longest = milliseconds.max(axis=0).tolist()
        return Held(len(milliseconds), p50, p99, longest, cpu_p99, cpu_longest)
