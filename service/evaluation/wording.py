"""Verdicts in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.measure.comparison import Comparison
from service.measure.configurations import ConfigurationComparison
from service.measure.metric import Metric, base_name
from service.measure.metrics.human import HumanShare

_WHY = {
    "no_variation": "both give the same answers",
    "too_few_items": "there are too few items",
    "undefined": "the metric has no value on one side",
    "undefined_resamples": "the metric has no value on many resamples",
    "not_after_holm": "not after adjusting for the number of candidates",
    "test_disagrees": "the interval excludes no difference, the test does not",
}

# Given in points, though no mean of 0 and 1. The dashboard shows the same ones in percent.
_SHARES = re.compile(r"balanced_accuracy|token_f1|pass_at_k|(multilabel_)?(f1|precision|recall)_[a-z]+")


def is_share(metric: Metric) -> bool:
    """Are differences told in points of 100?"""
    known = metric.kind == "proportion" or isinstance(metric, HumanShare)
    return known or _SHARES.fullmatch(base_name(metric.name)) is not None


def sentence(result: Comparison, metric: Metric, *, baseline: str, candidate: str, suite: str) -> str:
    """The verdict in plain words; shares in points of 100."""
    amount = _Amount(metric, result.baseline_value, result.candidate_value)
    if result.verdict in ("better", "worse") and result.difference is not None and result.interval is not None:
        sign = 1 if result.difference > 0 else -1
        size = amount.with_interval(result.difference * sign, result.interval[::sign], sign)
        return f"{candidate} is {result.verdict} than {baseline} on {suite} by {size}."
    size = amount.with_interval(result.difference, result.interval)
    if result.verdict == "equivalent":
        within = amount.of(result.margin)
        return f"{candidate} and {baseline} are equivalent on {suite} within ± {within}: difference {size}."
    needed = "" if result.n_needed is None else f"; about {result.n_needed:,} items would settle it"
    test = f", p = {result.p_value:.2g}" if result.reason == "test_disagrees" else ""
    why = f" ({_WHY[result.reason]}{test})" if result.reason in _WHY else ""
    return f"{candidate} cannot be told apart from {baseline} on {suite}: difference {size}{why}{needed}."


class _Amount:
    """Numbers of a comparison in words."""

    def __init__(self, metric: Metric, *values: float | None) -> None:
        self.scale, self.unit, self.digits = 100.0, "points", 1
        if not is_share(metric):
            largest = max(abs(value or 0.0) for value in values)
            self.scale, self.unit, self.digits = 1.0, metric.name, 3 if largest <= 1 else 1

    def of(self, value: float) -> str:
        return f"{self._number(value)} {self.unit}"

    def with_interval(self, value: float | None, interval: tuple[float, ...] | None, sign: int = 1) -> str:
        if value is None:
            return "unknown"
        bounds = "" if interval is None else f" [{', '.join(self._number(bound * sign) for bound in interval)}]"
        return f"{self.of(value)}{bounds}"

    def _number(self, value: float) -> str:
        # Adding 0.0 turns a rounded −0.0 into 0.0.
        return f"{round(value * self.scale, self.digits) + 0.0:.{self.digits}f}".replace("-", "−")


def of_configurations(
    result: ConfigurationComparison, metric: Metric, *, baseline: Sequence[str], candidate: Sequence[str], suite: str
) -> str:
    """The verdict on two configurations in plain words, each called by the name of its first run."""
    amount = _Amount(metric, result.baseline.mean, result.candidate.mean)
    before, after = (_runs(names) for names in (baseline, candidate))
    if result.verdict in ("better", "worse") and result.difference is not None and result.interval is not None:
        sign = 1 if result.difference > 0 else -1
        size = amount.with_interval(result.difference * sign, result.interval[::sign], sign)
        return f"{after} is {result.verdict} than {before} on {suite} by {size}."
    size = amount.with_interval(result.difference, result.interval)
    if result.verdict == "equivalent":
        within = amount.of(result.margin)
        return f"{after} and {before} are equivalent on {suite} within ± {within}: difference {size}."
    why = f" ({_WHY[result.reason]})" if result.reason in _WHY else ""
    mostly = "seeds" if (result.share_of_seeds or 0.0) > 0.5 else "items"
    more = "" if result.interval is None else f"; more {mostly} would narrow it most"
    return f"{after} cannot be told apart from {before} on {suite}: difference {size}{why}{more}."


def _runs(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} ({len(names)} seeds)"
