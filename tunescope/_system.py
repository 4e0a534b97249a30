"""What the machine does while a run is on: `system/…` metrics. GPUs are read through NVML where it is installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

__all__ = ["SystemMonitor", "gpu_driver", "gpu_names"]

MIB = 1 << 20
SHORTEST_SPAN = 0.1
GPU_READINGS: dict[str, Callable[[Any, Any], float]] = {
    "percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "memory_mib": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / MIB,
    "watts": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "celsius": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
}


class SystemMonitor:
    """Samples this process and its machine every `interval` seconds.

    The step of a sample is the number of seconds since the run was created.
    """

    def __init__(self, created_at: float, interval: float) -> None:
        # Steps follow the monotonic clock: a wall clock that is set back must not look like a resumed run.
        self._origin = time.monotonic() - max(0.0, time.time() - created_at)
        self._interval = interval
        self._process = psutil.Process()
        self._gpus = _gpus()
        self._due = 0.0
        self._io: tuple[float, dict[str, float]] | None = None
        self._cpu_since = time.monotonic()
        psutil.cpu_percent()  # the first call starts the measurement
        self._process.cpu_percent()

    def due(self) -> bool:
        return time.monotonic() >= self._due

    def step(self) -> int:
        return int(time.monotonic() - self._origin)

    def sample(self) -> dict[str, float]:
        """All readings that this machine gives. A reading that fails is left out."""
        self._due = time.monotonic() + self._interval
        values: dict[str, float] = {}
        for read in (self._read_cpu, self._read_memory, self._read_traffic, self._read_gpus):
            try:
                values |= read()
            except (psutil.Error, OSError, RuntimeError):
                continue
        return {f"system/{name}": value for name, value in values.items()}

    def _read_cpu(self) -> dict[str, float]:
        """Since the last reading; two that follow at once have nothing to say."""
        now = time.monotonic()
        if now - self._cpu_since < SHORTEST_SPAN:
            return {}
        self._cpu_since = now
        return {"cpu_percent": psutil.cpu_percent(), "process_cpu_percent": self._process.cpu_percent()}

    def _read_memory(self) -> dict[str, float]:
        return {
            "memory_percent": psutil.virtual_memory().percent,
            "process_memory_mib": self._process.memory_info().rss / MIB,
            "process_threads": float(self._process.num_threads()),
            "disk_percent": psutil.disk_usage(os.getcwd()).percent,  # noqa: PTH109
        }

    def _read_traffic(self) -> dict[str, float]:
        """MiB per second since the last sample."""
        now, totals = time.monotonic(), _traffic()
        previous = self._io
        if previous is not None and now - previous[0] < SHORTEST_SPAN:
            return {}
        self._io = (now, totals)
        if previous is None:
            return {}
        seconds = now - previous[0]
        return {name: max(0.0, total - previous[1].get(name, total)) / MIB / seconds for name, total in totals.items()}

    def _read_gpus(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for index, (nvml, handle) in enumerate(self._gpus):
            for name, read in GPU_READINGS.items():
                # Which readings a card supports differs from card to card.
                with suppress(nvml.NVMLError):
                    values[f"gpu{index}_{name}"] = float(read(nvml, handle))
        return values


def _traffic() -> dict[str, float]:
    totals: dict[str, float] = {}
    if network := psutil.net_io_counters():
        totals |= {"network_sent_mib_s": network.bytes_sent, "network_received_mib_s": network.bytes_recv}
    if disk := psutil.disk_io_counters():
        totals |= {"disk_read_mib_s": disk.read_bytes, "disk_write_mib_s": disk.write_bytes}
    return totals


def _gpus() -> list[tuple[Any, Any]]:
    """(NVML module, device handle) of each GPU; empty without NVML or without a GPU."""
    try:
        import pynvml  # optional, and slow to find missing libraries
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def gpu_names() -> list[str]:
    return [_text(nvml.nvmlDeviceGetName(handle)) for nvml, handle in _gpus()]


def gpu_driver() -> str | None:
    """The version of the GPUs' driver; none without a GPU."""
    return next((_text(nvml.nvmlSystemGetDriverVersion()) for nvml, _ in _gpus()), None)


def _text(name: str | bytes) -> str:
    """Older NVML bindings give bytes."""
    return name.decode() if isinstance(name, bytes) else name
