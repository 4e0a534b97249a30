"""Forgetting between two evaluations of the same items, and the gate that decides whether a model may ship.

Everything here compares `before` (the base model) with `after` (the tuned one) on the same items in the same order.
A difference is after minus before; where lower is better it is turned round, so that negative always means worse.
Scores over a matrix of stages are in `stages`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service.measure.adjust import holm
from service.measure.metric import FloatArray, IntArray
from service.measure.paired import (
    POWER,
    Groups,
    clustered_counts,
    items_to_pass,
    items_to_settle,
    mcnemar_exact,
    paired_mean,
    sign_flip,
    tango_interval,
    tango_lower_bound,
)
from service.measure.validation import EmptySetError, LengthMismatchError, OutOfRangeError, check_probability

Gate = Literal["PASS", "FAIL", "INCONCLUSIVE"]
TANGO = "mcnemar, tango"


@dataclass(frozen=True)
class ItemForgetting:
    """Item-wise forgetting (arXiv 2510.17776) from a 2 x 2 table; all but n are shares of n.

    F: right before, wrong after; BT: the reverse. F_chance, BT_chance: what guessing among k options would move each
    way, and F_true, BT_true what is left of each, never below 0. F_max, BT_max: the most that could have moved.
    relative: F over accuracy before, None when nothing was right before. k None: guessing moves nothing.
    """

    n: int
    before: float
    after: float
    F: float
    BT: float
    net: float
    relative: float | None
    F_chance: float
    BT_chance: float
    F_true: float
    BT_true: float
    F_max: float
    BT_max: float


@dataclass(frozen=True)
class GroupFlips:
    """What one group of items (a subject, a language) lost and gained; `interval` is of its change."""

    group: str
    n: int
    before: float
    after: float
    lost: int
    gained: int
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class TaskVerdict:
    """The gate's evidence and verdict on one protected task.

    `difference`, `interval` (two-sided, 1 - alpha) and `lower_bound` (one-sided, 1 - alpha) are oriented: negative is
    worse. p_adjusted: Holm over the policy's tasks; equal to p_value for a task judged alone. `test` names how both
    were computed. `items` is None for real-valued scores. n_needed: items that would settle an INCONCLUSIVE task.
    reason of INCONCLUSIVE: too_few_items, one_group, no_variation, margin_within_interval (the bound is at or below
    -margin but the drop is not significant).
    """

    verdict: Gate
    n: int
    before: float
    after: float
    difference: float
    interval: tuple[float, float] | None
    lower_bound: float | None
    margin: float
    alpha: float
    lost: int
    gained: int
    p_value: float | None
    p_adjusted: float | None
    test: str | None
    items: ItemForgetting | None
    n_needed: int | None
    reason: str | None


@dataclass(frozen=True)
class _Evidence:
    """spread: n times the squared standard error of the difference (psi for independent right/wrong items)."""

    interval: tuple[float, float] | None = None
    lower_bound: float | None = None
    p_value: float | None = None
    test: str | None = None
    spread: float = 0.0
    reason: str | None = None


def item_forgetting(n11: int, n10: int, n01: int, n00: int, k: int | None = None) -> ItemForgetting:
    """Forgetting and backward transfer of items; n10 counts right before and wrong after.

    k: answer options of a multiple-choice task (at least 2), None for free text. Source: arXiv 2510.17776, whose
    chance term is (1 - before)(1 - after)/(k - 1) both ways.
    """
    n = n11 + n10 + n01 + n00
    if min(n11, n10, n01, n00) < 0:
        raise OutOfRangeError(f"counts cannot be negative: {n11}, {n10}, {n01}, {n00}")
    if n == 0:
        raise EmptySetError("there are no items")
    if k is not None and k < 2:
        raise OutOfRangeError(f"a choice has at least 2 options, got {k}")
    before, after = (n11 + n10) / n, (n11 + n01) / n
    lost, gained = n10 / n, n01 / n
    chance = 0.0 if k is None else (1 - before) * (1 - after) / (k - 1)
    most_lost, most_gained = (a if k is None else max((k * a - 1) / (k - 1), 0.0) for a in (before, after))
    return ItemForgetting(
        n=n,
        before=before,
        after=after,
        F=lost,
        BT=gained,
        net=after - before,
        relative=lost / before if before else None,
        F_chance=chance,
        BT_chance=chance,
        F_true=max(lost - chance, 0.0),
        BT_true=max(gained - chance, 0.0),
        F_max=most_lost,
        BT_max=most_gained,
    )


def judge_task(
    before: FloatArray,
    after: FloatArray,
    *,
    margin: float,
    alpha: float = 0.05,
    options: int | None = None,
    minimum_n: int = 30,
    direction: Literal["higher", "lower"] = "higher",
    groups: Groups | None = None,
    seed: int = 0,
) -> TaskVerdict:
    """Judge one protected task from two aligned arrays (n,) of 0/1 or real item scores.

    PASS: the one-sided lower bound of the difference is above -margin. FAIL: it is not, and the drop is significant.
    INCONCLUSIVE: everything else; "not significantly worse" is never PASS. Bounds: Tango's score bound for 0/1
    items; paired t, corrected for skew, for real scores. With groups, t is cluster-robust and Tango's counts are
    Rao-Scott's, and 0/1 items take the lower of the two. Significance: two-sided exact McNemar, or sign flips (of
    whole groups with groups). Simulated at exactly the margin, PASS comes in at most 5.5 % without groups, and in 4
    to 7 % with 10 to 100 groups of strongly skewed losses.
    """
    check_probability(alpha, "alpha")
    if not (math.isfinite(margin) and margin > 0):
        raise OutOfRangeError(f"a margin is a finite number > 0, got {margin}")
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape:
        raise LengthMismatchError(f"{len(before)} items before but {len(after)} after; join them first")
    n = len(before)
    if not n:
        raise EmptySetError("there are no items to judge")
    differences = after - before if direction == "higher" else before - after
    binary = bool(np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all())
    lost, gained = int(np.count_nonzero(differences < 0)), int(np.count_nonzero(differences > 0))
    evidence = _evidence(differences, binary, (lost, gained), alpha, groups, seed)
    if evidence.reason is None and n < minimum_n:
        evidence = replace(evidence, reason="too_few_items")
    return _decide(
        TaskVerdict(
            verdict="INCONCLUSIVE",
            n=n,
            before=float(before.mean()),
            after=float(after.mean()),
            difference=float(differences.mean()),
            interval=evidence.interval,
            lower_bound=evidence.lower_bound,
            margin=margin,
            alpha=alpha,
            lost=lost,
            gained=gained,
            p_value=evidence.p_value,
            p_adjusted=evidence.p_value,
            test=evidence.test,
            items=_items(before, after, options) if binary and direction == "higher" else None,
            n_needed=_needed(evidence, float(differences.mean()), margin, alpha, n, minimum_n),
            reason=evidence.reason,
        )
    )


def judge(tasks: Sequence[TaskVerdict]) -> tuple[Gate, list[TaskVerdict]]:
    """The policy's verdict over its protected tasks, and the tasks re-judged with Holm-adjusted p-values.

    In the order given. FAIL if any task fails; else INCONCLUSIVE if any is; PASS only when every one passes.
    Holm makes FAIL harder to reach; PASS needs no adjustment, since all bounds must hold at once.
    """
    if not tasks:
        raise EmptySetError("a policy protects at least one task")
    adjusted = iter(holm([task.p_value for task in tasks if task.p_value is not None]))
    judged = [_decide(task if task.p_value is None else replace(task, p_adjusted=next(adjusted))) for task in tasks]
    verdicts = {task.verdict for task in judged}
    gates: tuple[Gate, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
    return next(gate for gate in gates if gate in verdicts), judged


def flips_by_group(
    before: FloatArray,
    after: FloatArray,
    groups: Sequence[str],
    direction: Literal["higher", "lower"] = "higher",
    confidence: float = 0.95,
) -> list[GroupFlips]:
    """Lost and gained items of each group, the largest net loss of items first."""
    if not len(before) == len(after) == len(groups):
        raise LengthMismatchError(f"{len(before)} items before, {len(after)} after, {len(groups)} groups")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    rows = []
    for group, indices in members.items():
        old, new = before[indices], after[indices]
        down, up = int(np.count_nonzero(new < old)), int(np.count_nonzero(new > old))
        lost, gained = (down, up) if direction == "higher" else (up, down)
        interval = _change_interval(old, new, confidence)
        rows.append(GroupFlips(group, len(indices), float(old.mean()), float(new.mean()), lost, gained, interval))
    return sorted(rows, key=lambda row: (row.gained - row.lost, row.group))


def _change_interval(old: FloatArray, new: FloatArray, confidence: float) -> tuple[float, float] | None:
    """Of the mean change: Tango's for right and wrong, else paired t; None for one item, or where all changed alike."""
    if np.isin([old, new], (0.0, 1.0)).all():
        lost, gained = int(np.count_nonzero(new < old)), int(np.count_nonzero(new > old))
        return tango_interval(lost, gained, len(old), confidence)
    mean = paired_mean(new - old)
    return None if mean is None or mean.se == 0 else mean.interval(confidence)


@dataclass(frozen=True)
class ForgettingEvents:
    """Right-to-wrong transitions over checkpoints (Toneva et al. 2019).

    events: per item, shape (n,). learned: right at one checkpoint at least. never_forgotten: learned without an event.
    """

    events: IntArray
    learned: int
    never_forgotten: int


def forgetting_events(correct: FloatArray) -> ForgettingEvents:
    """Count forgetting events in `correct`, 0/1 of shape (checkpoints, items), in the order of training."""
    right = np.asarray(correct) == 1
    if right.ndim != 2 or not right.size:
        raise EmptySetError("forgetting events need a matrix of checkpoints by items")
    events = np.count_nonzero(right[:-1] & ~right[1:], axis=0).astype(np.int64)
    learned = right.any(axis=0)
    return ForgettingEvents(events, int(learned.sum()), int((learned & (events == 0)).sum()))


def _evidence(
    differences: FloatArray,
    binary: bool,
    flips: tuple[int, int],
    alpha: float,
    groups: Groups | None,
    seed: int,
) -> _Evidence:
    n = len(differences)
    mean = paired_mean(differences, groups)
    if mean is None:
        return _Evidence(reason="too_few_items" if groups is None or n < 2 else "one_group")
    test = "sign-flip" if groups is None else "sign-flip by group"
    if not binary:
        if mean.se == 0:
            return _Evidence(reason="no_variation")
        p_value = sign_flip(differences, seed, groups)
        return _Evidence(mean.interval(1 - alpha), mean.lower_bound(alpha), p_value, f"{test}, t", mean.se**2 * n)
    lost, gained = flips
    # One discordant item at least: none seen does not mean that none exist.
    spread = max(lost + gained, 1) / n
    if groups is None:
        interval, bound = tango_interval(lost, gained, n, 1 - alpha), tango_lower_bound(lost, gained, n, alpha)
        return _Evidence(interval, bound, mcnemar_exact(lost, gained), TANGO, spread)
    two_sided = clustered_counts(lost, gained, n, mean.design_effect, alpha / 2, mean.dof)
    one_sided = clustered_counts(lost, gained, n, mean.design_effect, alpha, mean.dof)
    return _Evidence(
        tango_interval(*two_sided, 1 - alpha),
        # Tango knows the skew of items, the cluster-robust bound that of groups: the gate takes the lower.
        min(tango_lower_bound(*one_sided, alpha), mean.lower_bound(alpha)),
        sign_flip(differences, seed, groups),
        f"{test}, tango",
        spread * max(mean.design_effect, 1.0),
    )


def _decide(task: TaskVerdict) -> TaskVerdict:
    """The verdict from the evidence, with `p_adjusted` as it stands."""
    if task.lower_bound is None or task.p_adjusted is None or task.reason == "too_few_items":
        return replace(task, verdict="INCONCLUSIVE")
    if task.lower_bound > -task.margin:
        return replace(task, verdict="PASS", n_needed=None, reason=None)
    if task.difference < 0 and task.p_adjusted < task.alpha:
        return replace(task, verdict="FAIL", n_needed=None, reason=None)
    return replace(task, verdict="INCONCLUSIVE", reason="margin_within_interval")


def _needed(evidence: _Evidence, difference: float, margin: float, alpha: float, n: int, minimum_n: int) -> int | None:
    """Items that would settle the task if the difference seen were the true one.

    About (z_alpha + z_power)^2 psi / room^2, where room is the way from the difference to the margin it must clear to
    pass (the margin itself for a difference of 0 or better), or the drop itself once it has reached the margin. For
    independent right/wrong items the number to pass is `items_to_pass`, whose power is as promised near psi too.
    """
    if evidence.lower_bound is None:
        return None
    fails = difference <= -margin
    if evidence.test == TANGO and not fails:
        needed = items_to_pass(evidence.spread, margin, min(difference, 0.0), alpha)
    else:
        room = -difference if fails else margin + min(difference, 0.0)
        needed = items_to_settle(evidence.spread, room, alpha, POWER, two_sided=fails)
    return None if needed is None else max(needed, n + 1 if n >= minimum_n else minimum_n)


def _items(before: FloatArray, after: FloatArray, options: int | None) -> ItemForgetting:
    old, new = before == 1, after == 1
    n11, n10, n01 = (int(np.count_nonzero(cell)) for cell in (old & new, old & ~new, ~old & new))
    return item_forgetting(n11, n10, n01, len(before) - n11 - n10 - n01, options)
