"""The most memory a stretch of work held."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

INTERVAL = 0.02


class MemoryPeak:
    """`with MemoryPeak() as peak: ...`, then `peak.bytes`.

    On a GPU, what PyTorch allocated there. On a CPU, this process's anonymous resident memory, sampled: mapped files,
    such as the libraries and the weights as saved, can be dropped by the system at will and are not counted.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-peak", daemon=True)

    def __enter__(self) -> Self:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if torch.cuda.is_available() and (allocated := torch.cuda.max_memory_allocated()):
            self.bytes = allocated

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, anonymous_memory())
            self.samples += 1
            if self._stop.wait(INTERVAL):
                return


def anonymous_memory() -> int:
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    resident: int = psutil.Process().memory_info().rss
    return resident
