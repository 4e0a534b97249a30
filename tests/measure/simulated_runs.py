"""Curves of healthy and of sick runs, drawn at random: what the rules of diagnosis are measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from service.measure.diagnosis import Curve, Float64s
from service.measure.examination import Facts

Generator = np.random.Generator
SECONDS_A_POINT = 5.0


@dataclass
class Simulated:
    """Series by key, each a (steps, values) pair; all end at the same step."""

    series: dict[str, tuple[Float64s, Float64s]]
    planned_steps: float | None = None
    extra_keys: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def last_step(self) -> float:
        return max(float(steps[-1]) for steps, _ in self.series.values())

    def until(self, step: float) -> list[Curve]:
        """The curves as they were when the run had reached `step`."""
        found = []
        for key, (steps, values) in self.series.items():
            n = int(np.searchsorted(steps, step, side="right"))
            if n:
                found.append(sampled(key, steps[:n], values[:n]))
        return found


def sampled(key: str, steps: Float64s, values: Float64s, head: int = 64, middle: int = 960, tail: int = 1024) -> Curve:
    """As the service reads long series: their beginning, some of the middle, and the newest points."""
    n = len(steps)
    kept = np.arange(n)
    if n > head + middle + tail:
        inner = np.linspace(head, n - tail - 1, middle).astype(int)
        kept = np.concatenate([np.arange(head), inner, np.arange(n - tail, n)])
    return Curve(key, steps[kept].astype(np.int64), steps[kept] * SECONDS_A_POINT, values[kept])


# --- noise ---


def white(draw: Generator, n: int, sd: float) -> Float64s:
    return draw.normal(0, sd, n)


def with_memory(draw: Generator, n: int, sd: float, memory: float = 0.8) -> Float64s:
    """First-order autoregressive noise: what a smoothed log, or data that was not shuffled, looks like."""
    steps = draw.normal(0, sd * np.sqrt(1 - memory**2), n)
    values = np.empty(n)
    state = draw.normal(0, sd)
    for i in range(n):
        state = memory * state + steps[i]
        values[i] = state
    return values


def heavy(draw: Generator, n: int, sd: float) -> Float64s:
    return draw.standard_t(3, n) * sd / np.sqrt(3)


def smoothed(draw: Generator, n: int, sd: float) -> Float64s:
    """White noise of this size as a moving average leaves it: half as large."""
    return with_memory(draw, n, sd / 2)


NOISES: tuple[Callable[[Generator, int, float], Float64s], ...] = (white, smoothed, heavy)


# --- healthy ---


def length(draw: Generator) -> int:
    return int(np.exp(draw.uniform(np.log(120), np.log(4000))))


def fall(draw: Generator, share: Float64s) -> tuple[Float64s, float, float]:
    """An exponential or power-law fall from a start to a floor; `share` is the place in the run, 0 to 1."""
    start = draw.uniform(0.8, 8.0)
    floor = start * draw.uniform(0.02, 0.8)
    rate = draw.uniform(2, 15)
    shape = np.exp(-rate * share) if draw.random() < 0.6 else (1 + 30 * share) ** -draw.uniform(0.4, 1.2)
    return floor + (start - floor) * shape, start, floor


def noisy(draw: Generator, curve: Float64s, relative: tuple[float, float] = (0.005, 0.2)) -> Float64s:
    sd = np.exp(draw.uniform(*np.log(relative)))
    kind = NOISES[int(draw.integers(len(NOISES)))]
    # Noise in proportion to the level, as that of a loss is; a loss of this kind is never negative.
    return np.maximum(curve * (1 + kind(draw, len(curve), sd)), 1e-4)


def run(draw: Generator, training: Float64s, held_out: Callable[[Float64s], Float64s] | None = None) -> Simulated:
    """A run around this training loss: gradient norm, throughput, learning rate, GPU, and a rare held-out loss."""
    n = len(training)
    steps = np.arange(1, n + 1) * float(draw.integers(1, 50))
    share = np.arange(n) / n
    gradient = np.exp(draw.normal(0, draw.uniform(0.1, 0.8), n)) * (1 + 6 * np.exp(-20 * share))
    gradient *= 4 ** (draw.uniform(-1, 1) * share)  # drifts by up to 4 times
    gradient[draw.random(n) < 0.003] = np.inf  # skipped steps of mixed precision
    gradient[: int(draw.integers(0, 7))] = np.nan  # a loss scaler that looks for its scale
    throughput = 100 * np.exp(draw.normal(0, draw.uniform(0.02, 0.25), n))
    throughput[draw.random(n) < 0.02] *= 0.1
    throughput[:3] *= 0.2  # compilation
    if draw.random() < 0.3:
        throughput *= np.where(share > draw.uniform(0.2, 0.8), 0.75, 1.0)  # a neighbour on the machine
    warm = draw.uniform(0.01, 0.1)
    rate = np.minimum(share / warm, 1) * 0.5 * (1 + np.cos(np.pi * share))
    gpu = np.clip(draw.normal(draw.uniform(40, 95), 15, n), 0, 100)
    gpu[draw.random(n) < 0.1] = 0
    series = {
        "train/loss": (steps, training),
        "train/grad_norm": (steps, gradient),
        "train/samples_per_second": (steps, throughput),
        "train/learning_rate": (steps, rate),
        "system/gpu0_percent": (steps, gpu),
        "system/memory_percent": (steps, np.clip(draw.normal(70, 5, n), 0, 100)),
    }
    if held_out is not None:
        evaluations = int(draw.integers(3, 41))
        at = np.linspace(1 / evaluations, 1, evaluations)
        index = np.minimum((at * n).astype(int), n - 1)
        series["eval/loss"] = (steps[index], held_out(at))
    known = draw.random() < 0.5
    return Simulated(series, planned_steps=float(steps[-1]) if known else None)


def held_out_of(draw: Generator, start: float, floor: float) -> Callable[[Float64s], Float64s]:
    gap, rate = draw.uniform(1.0, 1.3), draw.uniform(3, 15)
    return lambda at: noisy(draw, gap * (floor + (start - floor) * np.exp(-rate * at)), (0.002, 0.03))


def decay(draw: Generator) -> Simulated:
    curve, start, floor = fall(draw, np.linspace(0, 1, length(draw)))
    return run(draw, noisy(draw, curve), held_out_of(draw, start, floor))


def warm_up_bump(draw: Generator) -> Simulated:
    share = np.linspace(0, 1, length(draw))
    curve, start, floor = fall(draw, share)
    curve += draw.uniform(0.05, 0.5) * start * np.exp(-(((share - 0.03) / 0.015) ** 2))
    return run(draw, noisy(draw, curve, (0.005, 0.1)), held_out_of(draw, start, floor))


def spikes(draw: Generator) -> Simulated:
    n = length(draw)
    curve, start, floor = fall(draw, np.linspace(0, 1, n))
    for _ in range(int(draw.integers(1, 4))):
        at = int(draw.integers(n // 10, n))
        after = np.arange(n - at)
        curve[at:] += draw.uniform(0.5, 1.5) * (start - floor) * np.exp(-after / draw.uniform(1, max(2, n / 60)))
    return run(draw, noisy(draw, curve, (0.005, 0.1)), held_out_of(draw, start, floor))


def plateau(draw: Generator) -> Simulated:
    """Falls in the first points, then stays: a run that has converged and goes on."""
    share = np.linspace(0, 1, length(draw))
    start = draw.uniform(0.8, 6.0)
    floor = start * draw.uniform(0.1, 0.85)
    curve = floor + (start - floor) * np.exp(-draw.uniform(30, 200) * share)
    return run(draw, noisy(draw, curve, (0.005, 0.15)), held_out_of(draw, start, floor))


def memorising_at_rest(draw: Generator) -> Simulated:
    """The training loss goes on falling, the held-out loss stays where it is (up to 2 % of drift)."""
    share = np.linspace(0, 1, length(draw))
    start, floor = draw.uniform(1, 3), draw.uniform(0.05, 0.5)
    curve = floor + (start - floor) * np.exp(-3 * share)
    best, drift = draw.uniform(0.5, 1.0), draw.uniform(0, 0.02)
    return run(
        draw,
        noisy(draw, curve, (0.01, 0.1)),
        lambda at: noisy(draw, best * (1 + np.exp(-12 * at)) * (1 + drift * at), (0.002, 0.02)),
    )


def epochs(draw: Generator) -> Simulated:
    """Fine-tuning for a few epochs: a step down at each epoch's begin."""
    n = length(draw)
    share = np.linspace(0, 1, n)
    count = int(draw.integers(2, 5))
    level = draw.uniform(1, 3) * (1 - draw.uniform(0.1, 0.35)) ** np.floor(share * count * 0.999)
    curve = level * (1 + 0.2 * np.exp(-40 * share))
    return run(draw, noisy(draw, curve), held_out_of(draw, float(curve[0]), float(curve[-1])))


def late_start(draw: Generator) -> Simulated:
    """A plateau at the value of guessing, then the fall: as when a model is trained from scratch."""
    n = max(length(draw), 400)
    share = np.linspace(0, 1, n)
    start, wait = draw.uniform(2, 7), draw.uniform(0.02, 0.12)
    curve = start * (1 - 0.01 * share) - 0.8 * start * (1 / (1 + np.exp(-(share - wait - 0.08) * 60)))
    found = run(draw, noisy(draw, curve, (0.005, 0.03)), held_out_of(draw, start, 0.2 * start))
    found.planned_steps = found.last_step
    return found


def restarts(draw: Generator) -> Simulated:
    """A cosine schedule with restarts: each gives back up to a third of what was learned."""
    share = np.linspace(0, 1, length(draw))
    curve, start, floor = fall(draw, share)
    cycle = (share * draw.integers(2, 5)) % 1
    back = draw.uniform(0.1, 0.33) * (start - curve) * np.cos(np.pi * cycle / 2) ** 2 * (share > 0.25)
    return run(draw, noisy(draw, curve + back, (0.005, 0.1)), held_out_of(draw, start, floor))


def slow_fine_tune(draw: Generator) -> Simulated:
    """A good model that gets 4 to 15 % better."""
    share = np.linspace(0, 1, length(draw))
    start = draw.uniform(0.5, 2.5)
    curve = start * (1 - draw.uniform(0.04, 0.15) * (1 - np.exp(-2 * share)))
    return run(draw, noisy(draw, curve, (0.005, 0.3)), held_out_of(draw, start, float(curve[-1])))


def reward(draw: Generator) -> Simulated:
    """Reinforcement learning: the reward grows, the loss does what it likes."""
    n = length(draw)
    wild = with_memory(draw, n, draw.uniform(0.1, 3), 0.95) + np.linspace(0, draw.uniform(0, 5), n)
    found = run(draw, wild)
    found.extra_keys = ("train/reward",)
    return found


def adversarial(draw: Generator) -> Simulated:
    n = length(draw)
    game = np.abs(1 + with_memory(draw, n, 0.6, 0.9) + 0.8 * np.sin(np.arange(n) / draw.uniform(3, 20)))
    found = run(draw, game)
    found.extra_keys = ("d_loss", "g_loss")
    return found


HEALTHY: tuple[Callable[[Generator], Simulated], ...] = (
    decay, warm_up_bump, spikes, plateau, memorising_at_rest, epochs, late_start, restarts, slow_fine_tune, reward,
    adversarial,
)  # fmt: skip


# --- sick: each with the rule that must find it ---


def base(draw: Generator) -> tuple[Simulated, Float64s, int]:
    """A healthy run without a held-out loss, its training loss, and the point where it falls ill."""
    n = max(length(draw), 300)
    curve, _, _ = fall(draw, np.linspace(0, 1, n))
    training = noisy(draw, curve, (0.005, 0.1))
    return run(draw, training), training, int(n * draw.uniform(0.2, 0.6))


def loss_not_finite(draw: Generator) -> Simulated:
    found, training, at = base(draw)
    training[at:] = np.nan if draw.random() < 0.7 else np.inf
    return found


def loss_diverging(draw: Generator) -> Simulated:
    found, training, at = base(draw)
    n = len(training) - at
    start, best = training[:5].mean(), training[max(0, at - 20) : at].mean()
    top = max(start, 2 * best) * draw.uniform(1.0, 4.0)
    training[at:] = noisy(
        draw, best + (top - best) * (1 - np.exp(-np.arange(n) / draw.uniform(2, n / 10))), (0.01, 0.2)
    )
    return found


def loss_oscillating(draw: Generator) -> Simulated:
    found, training, at = base(draw)
    n = len(training) - at
    level = max(training[at:].mean(), 0.5 * training[:5].mean())
    size, period = draw.uniform(0.4, 0.9) * level, draw.uniform(12, 30)
    training[at:] = np.maximum(level + size * np.sin(2 * np.pi * np.arange(n) / period), 0.01)
    training[at:] *= 1 + white(draw, n, draw.uniform(0.01, 0.1))
    return found


def no_progress(draw: Generator) -> Simulated:
    n = int(draw.integers(400, 3000))
    flat = draw.uniform(0.5, 7) * (1 + white(draw, n, np.exp(draw.uniform(np.log(0.002), np.log(0.06)))))
    return run(draw, flat)


def overfitting(draw: Generator) -> Simulated:
    n = max(length(draw), 200)
    share = np.linspace(0, 1, n)
    training = noisy(draw, 0.05 + 2 * np.exp(-5 * share), (0.01, 0.15))
    turn, rise, few = draw.uniform(0.2, 0.45), draw.uniform(0.2, 0.8), draw.random() < 0.3
    found = run(draw, training)
    steps = found.series["train/loss"][0]
    at = np.linspace(0.25, 1, 4) if few else np.linspace(0, 1, int(draw.integers(10, 41)))[1:]
    curve = np.where(at < turn, 1 + 1.5 * (1 - at / turn) ** 2, 1 + (1 + few) * rise * (at - turn) / (1 - turn))
    index = np.minimum((at * n).astype(int), n - 1)
    found.series["eval/loss"] = (steps[index], noisy(draw, curve, (0.002, 0.02)))
    return found


def gradients_exploding(draw: Generator) -> Simulated:
    found, _, at = base(draw)
    found.series["train/grad_norm"][1][at:] *= np.exp(draw.uniform(np.log(60), np.log(5000)))
    return found


def throughput_falling(draw: Generator) -> Simulated:
    found, _, at = base(draw)
    found.series["train/samples_per_second"][1][at:] *= draw.uniform(0.1, 0.35)
    return found


def gpu_idle(draw: Generator) -> Simulated:
    """Busy at first, then waiting for data; a sample every 5 seconds."""
    found, training, at = base(draw)
    n = len(training)
    found.series = {key: (np.arange(n, dtype=float), values) for key, (_, values) in found.series.items()}
    found.series["system/gpu0_percent"][1][at:] = np.clip(draw.normal(5, 5, n - at), 0, 100)
    return found


SICK: dict[str, Callable[[Generator], Simulated]] = {
    sick.__name__: sick
    for sick in (
        loss_not_finite, loss_diverging, loss_oscillating, no_progress, overfitting, gradients_exploding,
        throughput_falling, gpu_idle,
    )
}  # fmt: skip


def facts(simulated: Simulated, step: float) -> Facts:
    share = step / simulated.planned_steps if simulated.planned_steps else None
    return Facts(
        running=step < simulated.last_step,
        heartbeat_at=0.0,
        share_done=share,
        loss_is_yardstick=not simulated.extra_keys,
    )
