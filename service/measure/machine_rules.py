"""Rules about what a run runs on: throughput, GPU, memory, signs of life. Criteria in words: `diagnosis.RULES`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from service.measure.diagnosis import Curve, Diagnosis, not_measured, onset, shown, too_little

THROUGHPUT_POINTS, THROUGHPUT_WINDOW, THROUGHPUT_SHARE = 60, 20, 8
THROUGHPUT_FACTOR, THROUGHPUT_QUANTILE = 0.6, 0.9

GPU_IDLE_SECONDS, GPU_IDLE_SAMPLES, GPU_IDLE_PERCENT = 600.0, 30, 20.0
# A GPU that reached this once is one that the run means to use; another sign is memory it has taken.
GPU_USED_PERCENT, GPU_USED_GROWTH_MIB = 50.0, 512.0

MEMORY_SAMPLES, MEMORY_PERCENT, MEMORY_PERCENT_KILLED = 10, 97.0, 95.0
KILLED = {-9, 137}
# What PyTorch, JAX, TensorFlow, the CUDA and HIP runtimes and Python itself say.
OUT_OF_MEMORY = re.compile(
    r"(?:CUDA|HIP|MPS|XPU)(?: error:)? ?(?:backend )?out of memory|OutOfMemoryError|RESOURCE_EXHAUSTED: Out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|^MemoryError\b|DefaultCPUAllocator: can't allocate memory",
    re.IGNORECASE | re.MULTILINE,
)


def throughput_falling(curve: Curve) -> Diagnosis:
    """The newest values are lastingly below what the run has shown it can do: see `RULES`."""
    rule, curve = "throughput_falling", curve.finite()
    if len(curve) < THROUGHPUT_POINTS:
        return too_little(rule, curve.key, len(curve), THROUGHPUT_POINTS)
    window = max(THROUGHPUT_WINDOW, len(curve) // THROUGHPUT_SHARE)
    before, recent = float(np.median(curve.values[:-window])), curve.values[-window:]
    now, high, limit = float(np.median(recent)), float(np.quantile(recent, THROUGHPUT_QUANTILE)), THROUGHPUT_FACTOR
    step = int(curve.steps[onset(curve.values >= limit * before, window)])
    evidence = {
        "level_before": before, "recent_level": now, "recent_90th": high, "threshold": limit * before,
        "window_steps": [int(curve.steps[-window]), int(curve.steps[-1])],
    }  # fmt: skip
    if before <= 0 or high >= limit * before:
        return Diagnosis(rule, curve.key, "clear", f"Now {shown(now)}; {shown(before)} before.", evidence=evidence)
    message = (
        f"{curve.key} has fallen to {now / before:.0%} of what it was: {shown(now)} over the last {window:,} points, "
        f"{shown(before)} before; it began at step {step:,}."
    )
    return Diagnosis(rule, curve.key, "found", message, "warning", step, evidence)


def gpu_idle(utilisation: Sequence[Curve], memory: Sequence[Curve]) -> Diagnosis:
    """The busiest GPU does next to nothing for long, in a run that uses one: see `RULES`.

    `utilisation`: a curve a GPU, in percent. `memory`: what GPUs hold, in MiB, a curve each. A machine's other GPUs
    belong to others: an idle one beside a busy one says nothing.
    """
    rule = "gpu_idle"
    curves = [curve.finite() for curve in utilisation if len(curve.finite())]
    if not curves:
        return not_measured(rule, "No GPU utilisation is recorded.")
    end = max(float(curve.times[-1]) for curve in curves)
    recent = [curve.values[curve.times >= end - GPU_IDLE_SECONDS] for curve in curves]
    key = max(zip(recent, curves, strict=True), key=lambda pair: pair[0].mean() if len(pair[0]) else -1.0)[1].key
    samples = max(len(values) for values in recent)
    lasted = min(end - float(curve.times[0]) for curve in curves)
    if samples < GPU_IDLE_SAMPLES or lasted < GPU_IDLE_SECONDS:
        return too_little(rule, key, round(lasted), round(GPU_IDLE_SECONDS), "seconds")
    busiest = max(float(values.mean()) for values in recent if len(values))
    used = max(float(curve.values.max()) for curve in curves) >= GPU_USED_PERCENT or any(
        "peak" in curve.key or float(curve.values.max() - curve.values[0]) >= GPU_USED_GROWTH_MIB
        for curve in memory
        if len(curve)
    )
    evidence = {"mean_percent": busiest, "threshold": GPU_IDLE_PERCENT, "seconds": GPU_IDLE_SECONDS,
                "samples": samples, "gpus": len(curves), "used": used}  # fmt: skip
    if busiest >= GPU_IDLE_PERCENT:
        return Diagnosis(rule, key, "clear", f"On average {busiest:.0f} % over the last 10 minutes.", evidence=evidence)
    if not used:
        return Diagnosis(rule, key, "clear", "The run shows no sign of using a GPU.", evidence=evidence)
    message = f"The busiest GPU ({key}) was {busiest:.0f} % busy on average over the last 10 minutes."
    return Diagnosis(rule, key, "found", message, "warning", None, evidence)


def out_of_memory(error: str | None, exit_code: int | None, memory: Curve | None) -> Diagnosis:
    """The run's own words, its end, or the host's memory at its limit: see `RULES`. `memory` is in percent."""
    rule = "out_of_memory"
    said = OUT_OF_MEMORY.search(error or "")
    if said is not None:
        line = next(line.strip() for line in (error or "").splitlines() if OUT_OF_MEMORY.search(line))
        return Diagnosis(rule, "", "found", f"The run ended for want of memory: {line[:300]}", "error", None,
                         {"error": line[:300]})  # fmt: skip
    if memory is None or not len(memory.finite()):
        return not_measured(rule, "No host memory is recorded, and the run's error does not speak of memory.")
    memory = memory.finite()
    last, key = float(memory.values[-1]), memory.key
    if exit_code in KILLED and last >= MEMORY_PERCENT_KILLED:
        message = f"The run was killed (exit code {exit_code}) with the host's memory {last:.0f} % full."
        return Diagnosis(rule, key, "found", message, "error", None, {"exit_code": exit_code, "memory_percent": last})
    if len(memory) < MEMORY_SAMPLES:
        return too_little(rule, key, len(memory), MEMORY_SAMPLES, "samples")
    recent = memory.values[-MEMORY_SAMPLES:]
    evidence = {"lowest_percent": float(recent.min()), "threshold": MEMORY_PERCENT, "samples": MEMORY_SAMPLES}
    if float(recent.min()) < MEMORY_PERCENT:
        return Diagnosis(rule, key, "clear", f"The host's memory is {last:.0f} % full.", evidence=evidence)
    message = f"The host's memory is {last:.1f} % full: {MEMORY_PERCENT:.0f} % or more for {MEMORY_SAMPLES} samples."
    return Diagnosis(rule, key, "found", message, "warning", None, evidence)


def silent(running: bool, heartbeat_at: float, now: float, silent_after: float) -> Diagnosis:
    """No heartbeat for longer than `silent_after` seconds, while the run is said to be on."""
    quiet = max(now - heartbeat_at, 0.0)
    evidence = {"heartbeat_at": heartbeat_at, "silent_after_seconds": silent_after}
    if not running:
        return Diagnosis("silent", "", "clear", "The run has ended.", evidence=evidence)
    if quiet <= silent_after:
        return Diagnosis("silent", "", "clear", f"The last heartbeat came {quiet:.0f} s ago.", evidence=evidence)
    message = f"No heartbeat for more than {silent_after:,.0f} s, and the run has not said that it ended."
    return Diagnosis("silent", "", "found", message, "warning", None, evidence)
