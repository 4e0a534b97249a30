"""Rules about what is learned: loss, held-out loss, gradient norm. Criteria in words: `diagnosis.RULES`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from service.measure.diagnosis import (
    MAD_TO_SD,
    Curve,
    Diagnosis,
    Float64s,
    block_medians,
    onset,
    shown,
    spread,
    too_little,
)

Json = dict[str, Any]

# A mixed-precision step that overflows is skipped and shows as one NaN: two in a row are a state, not an incident.
NOT_FINITE_IN_A_ROW = 2

DIVERGING_POINTS, DIVERGING_WINDOW, DIVERGING_SHARE = 60, 20, 8
# Half of what was learned: a restart of a cosine schedule or a hard shard gives back less.
DIVERGING_LOST, DIVERGING_RISE, DIVERGING_NOISE = 0.5, 0.5, 6.0

OSCILLATION_WINDOW, OSCILLATION_BLOCK, OSCILLATION_SWINGS = 100, 5, 8
OSCILLATION_OF_LEARNED, OSCILLATION_OF_LEVEL, OSCILLATION_NOISE = 0.5, 0.5, 6.0

PROGRESS_POINTS, PROGRESS_POINTS_UNPLANNED, PROGRESS_SHARE = 40, 300, 0.3
PROGRESS_LEAST, PROGRESS_ERRORS, PROGRESS_TREND = 0.015, 3.0, 1.645
PROGRESS_BLOCKS, PROGRESS_STARTS = 5, (1, 3, 10, 30)

OVERFIT_RISE = {2: 0.20, 3: 0.05}  # by evaluations since the best one
OVERFIT_NOISE, OVERFIT_TREND, OVERFIT_TRAIN_FALL = 4.0, 0.5, 0.02

GRADIENT_POINTS, GRADIENT_WINDOW, GRADIENT_SHARE, GRADIENT_FACTOR = 40, 10, 10, 10.0
# A loss scaler that looks for its scale overflows several times in a row at the start, and heals.
GRADIENT_NOT_FINITE = 10

# The standard error of a median is this many times that of a mean.
MEDIAN_ERROR = 1.2533


def loss_not_finite(curve: Curve, ended: bool) -> Diagnosis:
    """The newest values are NaN or infinite."""
    rule, finite = "loss_not_finite", np.isfinite(curve.values)
    if not len(curve):
        return too_little(rule, curve.key, 0, 1)
    bad = len(curve) - (int(np.flatnonzero(finite)[-1]) + 1 if finite.any() else 0)
    if bad < (1 if ended else NOT_FINITE_IN_A_ROW):
        return Diagnosis(rule, curve.key, "clear", f"The newest value is {shown(curve.values[-1])}.")
    first = len(curve) - bad
    step = int(curve.steps[first])
    name = "NaN" if math.isnan(curve.values[first]) else "infinite"
    evidence: Json = {"first_bad_step": step, "bad_points": bad, "last_step": int(curve.steps[-1])}
    before = ""
    if first:
        evidence |= {"last_good_step": int(curve.steps[first - 1]), "last_good_value": float(curve.values[first - 1])}
        before = f"; before, at step {int(curve.steps[first - 1]):,}, it was {shown(curve.values[first - 1])}"
    message = f"{curve.key} is {name} since step {step:,} ({bad:,} {'point' if bad == 1 else 'points'}){before}."
    return Diagnosis(rule, curve.key, "found", message, "error", step, evidence)


def loss_diverging(curve: Curve) -> Diagnosis:
    """A sustained rise against the run's own best level, not a spike: see `RULES`."""
    rule, curve = "loss_diverging", curve.finite()
    if len(curve) < DIVERGING_POINTS:
        return too_little(rule, curve.key, len(curve), DIVERGING_POINTS)
    window = max(DIVERGING_WINDOW, len(curve) // DIVERGING_SHARE)
    past, recent = curve.values[:-window], curve.values[-window:]
    start = float(np.median(past[: max(5, len(past) // 20)]))
    levels = block_medians(past, max(5, min(window // 2, len(past) // 4)))
    best, noise = float(levels.min()), spread(past)
    needed = max(DIVERGING_LOST * (start - best), DIVERGING_RISE * abs(best), DIVERGING_NOISE * noise)
    low = float(np.quantile(recent, 0.2))
    early, late = float(np.median(recent[: window // 2])), float(np.median(recent[window // 2 :]))
    evidence = {
        "start_level": start, "best_level": best, "recent_level": float(np.median(recent)), "recent_20th": low,
        "threshold": best + needed, "noise_sd": noise, "window_points": window,
        "window_steps": [int(curve.steps[-window]), int(curve.steps[-1])],
    }  # fmt: skip
    if low <= best + needed or late < early - noise:
        return Diagnosis(rule, curve.key, "clear", f"Now {shown(late)}; its best level is {shown(best)}.",
                         evidence=evidence)  # fmt: skip
    step = int(curve.steps[onset(curve.values <= best + needed, window)])
    message = (
        f"{curve.key} has risen from its best level of {shown(best)} to {shown(float(np.median(recent)))} and stays "
        f"there over the last {window:,} points; above {shown(best + needed)}, as since step {step:,}, is an alarm."
    )
    return Diagnosis(rule, curve.key, "found", message, "error", step, evidence)


def loss_oscillating(curve: Curve) -> Diagnosis:
    """Large swings up and down instead of a fall: see `RULES`. Noise without memory does not swing its medians."""
    rule, curve = "loss_oscillating", curve.finite()
    if len(curve) < OSCILLATION_WINDOW:
        return too_little(rule, curve.key, len(curve), OSCILLATION_WINDOW)
    window = max(OSCILLATION_WINDOW, len(curve) // 2)
    recent = curve.values[-window:]
    start = float(np.median(curve.values[: max(5, len(curve) // 50)]))
    levels = block_medians(recent, OSCILLATION_BLOCK)
    level, noise = float(np.median(recent)), spread(recent)
    floor, ceiling = (float(bound) for bound in np.quantile(levels, (0.1, 0.9)))
    needed = max(
        OSCILLATION_OF_LEARNED * (start - floor),
        OSCILLATION_OF_LEVEL * abs(level),
        OSCILLATION_NOISE * MEDIAN_ERROR * noise / math.sqrt(OSCILLATION_BLOCK),
    )
    swings = _swings(levels, needed)
    early, late = float(recent[: window // 2].mean()), float(recent[window // 2 :].mean())
    evidence = {
        "swings": swings, "needed_swings": OSCILLATION_SWINGS, "needed_size": needed, "level": level,
        "low": floor, "high": ceiling, "noise_sd": noise,
        "window_steps": [int(curve.steps[-window]), int(curve.steps[-1])],
    }  # fmt: skip
    if swings < OSCILLATION_SWINGS or ceiling - floor < needed or late < early - needed / 2:
        return Diagnosis(rule, curve.key, "clear", f"{swings} swings of {shown(needed)} or more.", evidence=evidence)
    step = int(curve.steps[-window])
    message = (
        f"{curve.key} swings between {shown(floor)} and {shown(ceiling)}: {swings} times up or down by more "
        f"than {shown(needed)} since step {step:,}, with no fall of its level."
    )
    return Diagnosis(rule, curve.key, "found", message, "warning", step, evidence)


def _swings(levels: Float64s, size: float) -> int:
    """How many moves of at least `size`, alternately up and down, the levels make."""
    if size <= 0:
        return 0
    count, direction, low, high = 0, 0, levels[0], levels[0]
    for level in levels[1:].tolist():
        low, high = min(low, level), max(high, level)
        if direction <= 0 and level - low >= size:
            count, direction, high = count + 1, 1, level
        elif direction >= 0 and high - level >= size:
            count, direction, low = count + 1, -1, level
    return count


def no_progress(curve: Curve, share_done: float | None, learning_rate: Curve | None) -> Diagnosis:
    """An equivalence test of the newest third against the first: see `RULES`.

    `share_done`: how much of the planned steps is done, 0 to 1, where the plan is known. A plateau after a fall is not
    meant: the fall shows in the first values.
    """
    rule, curve = "no_progress", curve.finite()
    need = PROGRESS_POINTS if share_done is not None else PROGRESS_POINTS_UNPLANNED
    if len(curve) < need:
        return too_little(rule, curve.key, len(curve), need)
    if share_done is not None and share_done < PROGRESS_SHARE:
        done, needed = round(100 * share_done), round(100 * PROGRESS_SHARE)
        return too_little(rule, curve.key, done, needed, "% of the planned steps")
    if learning_rate is not None and _warming_up(learning_rate):
        return Diagnosis(rule, curve.key, "too_little_data", "The learning rate is still rising.")
    third = len(curve) // 3
    first, newest = curve.values[:third], curve.values[-third:]
    before, now = float(np.median(first)), float(np.median(newest))
    error = math.hypot(_error_of_level(first), _error_of_level(newest))
    fall, least = before - now, PROGRESS_LEAST * abs(before)
    started, fell = _fall_at_the_start(curve.values, now, least)
    evidence = {
        "first_level": before, "recent_level": now, "fall": fall, "standard_error": error, "least_fall": least,
        "start_level": started, "points": len(curve), "last_step": int(curve.steps[-1]),
    }  # fmt: skip
    flat = fall + PROGRESS_ERRORS * error < least and abs(fall) <= max(PROGRESS_TREND * error, 1e-12)
    if not flat or fell:
        return Diagnosis(rule, curve.key, "clear", f"From {shown(started)} at the start to {shown(now)}.",
                         evidence=evidence)  # fmt: skip
    message = (
        f"{curve.key} is where it began: {shown(before)} in the first third, {shown(now)} in the newest "
        f"(± {shown(error)}), after {int(curve.steps[-1]):,} steps."
    )
    return Diagnosis(rule, curve.key, "found", message, "warning", int(curve.steps[0]), evidence)


def _fall_at_the_start(values: Float64s, now: float, least: float) -> tuple[float, bool]:
    """The level of the first values, and whether some beginning of the curve (1, 3, 10, 30 values) was above `now`."""
    noise = spread(values)
    for count in PROGRESS_STARTS:
        level = float(values[:count].mean())
        if level - now > max(least, PROGRESS_ERRORS * noise / math.sqrt(count)):
            return level, True
    return level, False


def _warming_up(learning_rate: Curve) -> bool:
    """Has the learning rate reached its peak only in the newest half of what is logged?"""
    values = learning_rate.finite().values
    return bool(len(values)) and bool(values.max() > values[: max(1, len(values) // 2)].max())


def _error_of_level(values: Float64s) -> float:
    """Standard error of the median, from blocks, so that noise with memory is not taken for many independent points."""
    levels = block_medians(values, max(1, len(values) // PROGRESS_BLOCKS))
    return float(np.std(levels, ddof=1) / math.sqrt(len(levels)) * MEDIAN_ERROR)


def overfitting(held_out: Curve, training: Curve | None) -> Diagnosis:
    """The held-out loss has turned while the training loss goes on falling: see `RULES`. `step` is the best one."""
    rule, held_out = "overfitting", held_out.finite()
    values = held_out.values
    if len(values) < 3:
        return too_little(rule, held_out.key, len(values), 3, "evaluations")
    best_at = int(values.argmin())
    best, since = float(values[best_at]), len(values) - 1 - best_at
    # One lucky evaluation is no level: it counts together with its neighbours, once there are enough.
    level = float(np.median(values[max(0, best_at - 1) : best_at + 2])) if since > 2 else best
    now = float(np.median(values[-3:])) if since > 2 else float(values[-1])
    noise = _roughness(values[max(0, best_at - 1) :])
    scale = abs(best) if best > 0 else float(values.max() - values.min())
    rise = OVERFIT_RISE.get(min(since, 3), math.inf) * scale
    needed = max(rise, OVERFIT_NOISE * noise)
    best_step = int(held_out.steps[best_at])
    evidence: Json = {
        "best_step": best_step, "best_value": best, "best_level": level, "recent_value": now,
        "evaluations_since": since,
        "needed_rise": needed if math.isfinite(needed) else None, "noise_sd": noise,
    }  # fmt: skip
    at_best = f"Best {shown(best)} at step {best_step:,}; now {shown(float(values[-1]))}."
    trend = _rank_trend(values[best_at:])
    evidence["rank_trend"] = trend
    rising = trend >= (OVERFIT_TREND if since > 2 else 1.0)
    if not (now - level >= needed and rising and float(values[-1]) > best):
        return Diagnosis(rule, held_out.key, "clear", at_best, evidence=evidence)
    fallen = None if training is None else _fall_since(training.finite(), best_step)
    if fallen is None:
        return Diagnosis(rule, held_out.key, "clear", f"{at_best} There is no training loss around that step to "
                         "compare with.", evidence=evidence)  # fmt: skip
    then, later, error = fallen
    evidence |= {"training_key": training.key if training else None, "training_at_best": then, "training_now": later}
    if then - later < max(OVERFIT_TRAIN_FALL * abs(then), 2 * error):
        return Diagnosis(rule, held_out.key, "clear", f"{at_best} The training loss does not fall.", evidence=evidence)
    message = (
        f"{held_out.key} was lowest at step {best_step:,} ({shown(best)}) and is {shown(now)} now, {since} evaluations "
        f"later, while {evidence['training_key']} fell from {shown(then)} to {shown(later)}."
    )
    return Diagnosis(rule, held_out.key, "found", message, "warning", best_step, evidence)


def _roughness(values: Float64s) -> float:
    """Standard deviation of the noise from second differences, which neither a fall nor a rise disturbs."""
    if len(values) < 4:
        return 0.0
    return float(MAD_TO_SD * np.median(np.abs(np.diff(values, 2))) / math.sqrt(6))


def _rank_trend(values: Float64s) -> float:
    """Kendall's tau of values against their order: 1 when each is above all before, 0 for none or too few."""
    n = len(values)
    if n < 2:
        return 0.0
    signs = np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)]
    return float(signs.mean())


def _fall_since(training: Curve, step: int) -> tuple[float, float, float] | None:
    """Training loss around `step`, at the end, and the standard error of their difference; None with too few points."""
    split = int(np.searchsorted(training.steps, step, side="right"))
    after = len(training) - split
    size = min(split, after, max(5, after // 2))
    if size < 1:
        return None
    noise = spread(training.values)
    around = training.values[max(0, split - size) : split + size // 4]
    end = training.values[-size:]
    return float(np.median(around)), float(np.median(end)), MEDIAN_ERROR * noise * math.sqrt(2 / size)


def gradients_exploding(curve: Curve) -> Diagnosis:
    """A lasting rise of the gradient norm by an order of magnitude: see `RULES`."""
    rule = "gradients_exploding"
    tail = curve.values[-GRADIENT_NOT_FINITE:]
    if len(tail) == GRADIENT_NOT_FINITE and not np.isfinite(tail).any():
        good = np.flatnonzero(np.isfinite(curve.values))
        step = int(curve.steps[int(good[-1]) + 1 if len(good) else 0])
        message = f"{curve.key} is NaN or infinite since step {step:,}."
        return Diagnosis(rule, curve.key, "found", message, "error", step, {"first_bad_step": step})
    curve = curve.finite()
    if len(curve) < GRADIENT_POINTS:
        return too_little(rule, curve.key, len(curve), GRADIENT_POINTS)
    window = max(GRADIENT_WINDOW, len(curve) // GRADIENT_SHARE)
    before, recent = float(np.median(curve.values[:-window])), curve.values[-window:]
    now, low, limit = float(np.median(recent)), float(np.quantile(recent, 0.1)), GRADIENT_FACTOR * before
    step = int(curve.steps[onset(curve.values < limit, window)])
    evidence = {
        "level_before": before, "recent_level": now, "recent_10th": low, "threshold": limit,
        "window_steps": [int(curve.steps[-window]), int(curve.steps[-1])],
    }  # fmt: skip
    if before <= 0 or low < limit:
        return Diagnosis(rule, curve.key, "clear", f"Now {shown(now)}; {shown(before)} before.", evidence=evidence)
    message = (
        f"{curve.key} is {now / before:,.0f} times what it was: {shown(now)} over the last {window:,} points, "
        f"{shown(before)} before; it began at step {step:,}."
    )
    return Diagnosis(rule, curve.key, "found", message, "error", step, evidence)
