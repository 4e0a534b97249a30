"""What a rule says about a run's curves, and the rules there are. Pure: arrays in, a `Diagnosis` out.

The rules themselves are in `curve_rules` (what is learned) and `machine_rules` (what it runs on). Each is a function
whose docstring states its criterion; its thresholds are constants beside it. They are tuned to be late rather than
wrong: `tests/measure/test_diagnosis.py` simulates healthy and sick runs, looked at again and again as they grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Severity = Literal["info", "warning", "error"]
State = Literal["found", "clear", "too_little_data", "not_measured"]

# A normal sample's median absolute deviation times this is its standard deviation.
MAD_TO_SD = 1.4826


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric in order of arrival: equal-length columns. Of a long one, some of its past and its whole end."""

    key: str
    steps: Int64s
    times: Float64s
    values: Float64s

    def __len__(self) -> int:
        return len(self.values)

    def finite(self) -> Curve:
        kept = np.isfinite(self.values)
        return self if kept.all() else Curve(self.key, self.steps[kept], self.times[kept], self.values[kept])


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one rule says: `found` with a severity, `clear`, or why it cannot tell. `evidence` holds the numbers used.

    `step` is where the finding begins. `key` is the metric it is about; "" when it is about the run as a whole.
    """

    rule: str
    key: str
    state: State
    message: str
    severity: Severity | None = None
    step: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def too_little(rule: str, key: str, have: int, need: int, what: str = "points") -> Diagnosis:
    return Diagnosis(rule, key, "too_little_data", f"{have:,} of the {need:,} {what} it takes.",
                     evidence={"have": have, "need": need})  # fmt: skip


def not_measured(rule: str, reason: str) -> Diagnosis:
    return Diagnosis(rule, "", "not_measured", reason)


def spread(values: Float64s) -> float:
    """Standard deviation of the noise from point to point: robust, and blind to a slow trend."""
    if len(values) < 3:
        return 0.0
    differences = np.diff(values)
    return float(MAD_TO_SD * np.median(np.abs(differences - np.median(differences))) / np.sqrt(2))


def block_medians(values: Float64s, size: int) -> Float64s:
    """Medians of consecutive blocks, the newest block whole; what is left over at the start joins no block."""
    count = len(values) // size
    return np.median(values[len(values) - count * size :].reshape(count, size), axis=1)


def onset(calm: npt.NDArray[np.bool_], window: int) -> int:
    """Where what fills the newest `window` points began: after the last point before it that was calm."""
    before = np.flatnonzero(calm[:-window])
    return int(before[-1]) + 1 if len(before) else len(calm) - window


def shown(value: float) -> str:
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as people are told of it."""

    title: str
    criterion: str
    advice: str


RULES: dict[str, Rule] = {
    "loss_not_finite": Rule(
        "Loss is NaN or infinite",
        "The two newest values of a loss are NaN or infinite (one, if the run has ended).",
        "Go back to the last checkpoint before this step. Lower the learning rate or lengthen the warm-up, clip "
        "gradients (max_grad_norm 1.0), use bf16 instead of fp16, and look for empty or all-masked batches.",
    ),
    "loss_diverging": Rule(
        "Training loss diverges",
        "The newest eighth of the training loss (20 points at least) has lost half of all that was learned: even its "
        "20th percentile lies above the best level by half the fall from the start, by half the best level and by "
        "6 standard deviations of the noise; and it is not coming down.",
        "Stop, and go on from the best checkpoint with a learning rate 2 to 10 times lower, a longer warm-up and "
        "gradient clipping.",
    ),
    "loss_oscillating": Rule(
        "Training loss oscillates",
        "In the newer half of the training loss (100 points at least), medians of 5 points swing up and down 8 times "
        "or more, each swing at least half the fall from the start, half the level and 6 standard errors; from the "
        "10th to the 90th percentile they span as much; and the level does not fall meanwhile.",
        "The learning rate is probably too high: halve it, use a warm-up or a larger batch. Check that the data is "
        "shuffled.",
    ),
    "no_progress": Rule(
        "Training loss does not fall",
        "After 30 % of the planned steps and 40 points (300 points if no plan is known, or if the warm-up is still on: "
        "not yet), the loss of the newest third is less than 1.5 % below that of the first with 3 standard errors to "
        "spare, the two do not differ significantly, and the curve did not begin higher (a plateau after a fall is "
        "another thing).",
        "Check that the parameters that should learn require gradients and are in the optimizer, that the labels are "
        "not all masked, and raise the learning rate 3 to 10 times.",
    ),
    "overfitting": Rule(
        "Overfitting",
        "A held-out loss has not come back to its best for 3 evaluations, has risen since (Kendall's tau 0.5) and is "
        "now 5 % above it and 4 standard deviations of its noise (after 2 evaluations, both upward: 20 %), while the "
        "training loss has fallen by 2 % or more.",
        "Use the checkpoint of the best step, and stop there next time (early stopping). More or more varied data, "
        "fewer epochs, a lower LoRA rank, dropout or weight decay help.",
    ),
    "gradients_exploding": Rule(
        "Gradient norm explodes",
        "The median of the newest gradient norms (a tenth of them, 10 at least) is 10 times that of all before, and "
        "so is all but a tenth of them; or the newest 10 are NaN or infinite.",
        "Clip gradients (max_grad_norm 1.0), lower the learning rate, lengthen the warm-up; with fp16 try bf16.",
    ),
    "throughput_falling": Rule(
        "Throughput falls",
        "Nine tenths of the newest throughput values (an eighth of them, 20 at least) are below 60 % of the median of "
        "all before.",
        "Look at the system panels: a data loader that lags (more workers, data nearer by), a GPU that is hot or "
        "shared, memory that swaps, longer sequences.",
    ),
    "gpu_idle": Rule(
        "GPU idle",
        "For 10 minutes (30 samples at least) the busiest GPU was on average below 20 %, in a run that uses a GPU.",
        "Usually the GPU waits for data: more data-loader workers, tokenise beforehand, pin memory, larger batches. "
        "A hung process or a long evaluation on the processor looks the same.",
    ),
    "out_of_memory": Rule(
        "Out of memory",
        "The run's error says that memory ran out; or it was killed (signal 9) while the host's memory was above "
        "95 %; or the host's memory has been at 97 % or more in the newest 10 samples.",
        "Smaller batches with gradient accumulation, gradient checkpointing, bf16, shorter sequences, LoRA or QLoRA; "
        "for the host's memory fewer data-loader workers.",
    ),
    "silent": Rule(
        "Silent run",
        "The run is on, and no heartbeat has come for longer than the service's silent_after_seconds (an hour more for "
        "MLflow clients, which send none between two logs).",
        "See whether the process and the machine are alive. If only the network is away, nothing is lost: the journal "
        "is sent later (tunescope sync).",
    ),
}
