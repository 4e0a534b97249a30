"""Who writes next: one at a time, in the order of asking, and what can wait after all others."""

from __future__ import annotations

import threading
from collections import deque

PATIENCE = 1.0  # seconds after which what can wait is treated as the others are


class Turns:
    """A lock that is handed on: whoever gives its turn up and asks again comes after those who wait already."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()
        self._patient: deque[threading.Lock] = deque()

    def take(self, *, patient: bool = False) -> None:
        """Wait for a turn; with `patient`, until nobody else waits, for `PATIENCE` seconds at most."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            (self._patient if patient else self._waiting).append(gate)
        if not gate.acquire(timeout=PATIENCE if patient else -1):
            with self._guard:
                if gate in self._patient:  # else the turn has come just now
                    self._patient.remove(gate)
                    self._waiting.append(gate)
            gate.acquire()

    def give(self) -> None:
        """Hand the turn on."""
        with self._guard:
            queue = self._waiting or self._patient
            if queue:
                queue.popleft().release()
            else:
                self._taken = False
