"""Whether an effect fades or grows as units get used to an arm: primary metrics by days since the exposure. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from service.experiments.effects import Design, Metric, Totals, arm_of_valued, compare
from service.experiments.report import AgePoint, Reason
from service.experiments.rollup import AGES
from service.experiments.wording import amount
from service.measure.ab import Effect, confidence_sequence, welch
from service.store.events import Sums


@dataclass(frozen=True)
class _Gain:
    """An effect at one age as an arm, so that the effects at two ages can be compared."""

    n: int
    mean: float
    variance: float


def effects_by_age(
    metrics: Sequence[Metric], variants: Sequence[str], totals: Totals, design: Design
) -> list[AgePoint]:
    """The effect on each primary metric at each age that has values. It is over units that came back on those days."""
    points = []
    for metric in metrics:
        for variant in variants[1:]:
            for age, following in pairwise([*AGES, None]):
                sums = _sums(metric, age, (variants[0], variant), totals)
                if not all(one.n for one in sums):
                    continue
                effect = _effect(metric, sums, design)
                points.append(
                    AgePoint(
                        variant=variant,
                        metric=metric.name,
                        from_day=age or 0,
                        to_day=following,
                        units=sum(one.n for one in sums),
                        absolute=effect.estimate,
                        interval=effect.interval,
                        reason=effect.reason,
                    )
                )
    return points


def novelty(metrics: Sequence[Metric], variants: Sequence[str], totals: Totals, design: Design) -> list[Reason]:
    """A caution for each effect that differs between the first day and the last days that have enough units.

    The units of both are partly the same, which makes the difference more certain than it is taken to be here: the
    alarm is the more careful for it.
    """
    cautions = []
    for metric in metrics:
        for variant in variants[1:]:
            known = [
                (age, _sums(metric, age, (variants[0], variant), totals))
                for age in AGES
                if min(one.n for one in _sums(metric, age, (variants[0], variant), totals)) >= design.fewest_values
            ]
            if len(known) < 2 or known[0][0] != 0:
                continue
            (_, first), (age, last) = known[0], known[-1]
            early, late = _gain(metric, first, design), _gain(metric, last, design)
            if early is None or late is None:
                continue
            changed = _compare(late, early, design).p_value
            if changed is not None and changed < design.alpha:
                cautions.append(_caution(metric, variant, early.mean, late.mean, age))
    return cautions


def _caution(metric: Metric, variant: str, early: float, late: float, age: int) -> Reason:
    fades = (early - late) * metric.sign > 0
    first, then = (amount(value, metric.name, metric.is_share, signed=True) for value in (early, late))
    word = "fades" if fades else "grows"
    message = (
        f"The effect of '{variant}' on {metric.name} {word} with time: {first} on a unit's first day, {then} from day "
        f"{age} on. What will last is the latter."
    )
    return Reason(code=f"novelty_{word}", message=message)


def _sums(metric: Metric, age: int | None, arms: tuple[str, str], totals: Totals) -> tuple[Sums, Sums]:
    control, variant = (totals.get((f"{metric.name}@{age}", arm), Sums()) for arm in arms)
    return control, variant


def _effect(metric: Metric, sums: tuple[Sums, Sums], design: Design) -> Effect:
    control, variant = (arm_of_valued(metric, one) for one in sums)
    return compare(control, variant, design)


def _gain(metric: Metric, sums: tuple[Sums, Sums], design: Design) -> _Gain | None:
    effect, n = _effect(metric, sums, design), sum(one.n for one in sums)
    if effect.estimate is None or effect.se is None or not math.isfinite(effect.se):
        return None
    return _Gain(n, effect.estimate, effect.se**2 * n)


def _compare(late: _Gain, early: _Gain, design: Design) -> Effect:
    if design.analysis == "fixed":
        return welch(late, early, design.alpha)
    return confidence_sequence(late, early, design.alpha, design.n_tuned)
