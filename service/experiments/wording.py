"""How numbers become sentences: points for shares, seconds and dollars for what is measured in them."""

from __future__ import annotations

from service.experiments.report import EffectReport
from service.experiments.rollup import QUANTILES

_UNITS = {
    "latency": " s",
    "first_token": " s",
    **dict.fromkeys(QUANTILES, " s"),
    "cost": " USD per 1,000 requests",
    "cost_per_success": " USD per 1,000 successes",
}
# One request costs millionths of a dollar: nobody reads that.
_SCALES = {"cost": 1000.0, "cost_per_success": 1000.0}
_MORE = {
    "satisfaction": ("satisfy users more", "satisfy users less"),
    "task_success": ("solve the task more often", "solve the task less often"),
    "latency": ("arrive sooner", "arrive later"),
    "first_token": ("begin sooner", "begin later"),
    "cost": ("cost less", "cost more"),
    "error_rate": ("fail less often", "fail more often"),
    "fallback_rate": ("need the fallback less often", "need the fallback more often"),
}
REASONS = {
    "too_few_units": "too few units have a value",
    "no_denominator": "nothing to divide by has been recorded",
    "no_variation": "every value is the same",
    "zero_control_mean": "the control's value is 0",
}


def effect_sentence(effect: EffectReport, control: str, is_share: bool) -> str:
    """One plain sentence about a variant and a metric."""
    subject, name = f"Answers of '{effect.variant}'", effect.metric
    numbers = difference(effect, is_share)
    if effect.reason is not None and effect.verdict != "no_difference":
        return f"{name} cannot be compared yet: {REASONS.get(effect.reason, effect.reason)}."
    if effect.verdict in {"better", "worse"}:
        better, worse = _MORE.get(name, (f"do better on {name}", f"do worse on {name}"))
        return f"{subject} {better if effect.verdict == 'better' else worse} than those of '{control}': {numbers}."
    if effect.verdict == "not_worse":
        margin = amount(effect.margin or 0.0, name, is_share)
        return f"{subject} are not worse than those of '{control}' on {name} by {margin} or more: {numbers}."
    if effect.verdict == "no_difference":
        return (
            f"{subject} and '{control}' do not differ on {name}: {numbers}."
            if numbers
            else (f"{subject} and '{control}' are the same on {name}.")
        )
    if effect.verdict == "too_little_data":
        return f"Too few units have a value of {name} to say anything{_more(effect)}."
    return f"{subject} and those of '{control}' cannot be told apart on {name}: {numbers}{_more(effect)}."


def _more(effect: EffectReport) -> str:
    return f"; about {effect.n_more_units:,} more units would settle it" if effect.n_more_units else ""


def difference(effect: EffectReport, is_share: bool) -> str:
    """'+21.3 points [15.2, 27.4]': the difference and its interval."""
    if effect.absolute is None or effect.absolute_interval is None:
        return ""
    bounds = ", ".join(
        "…" if bound is None else _number(bound, effect.metric, is_share) for bound in effect.absolute_interval
    )
    return f"{amount(effect.absolute, effect.metric, is_share, signed=True)} [{bounds}]"


def amount(value: float, metric: str, is_share: bool, *, signed: bool = False) -> str:
    sign = "+" if signed and value > 0 else ""
    return f"{sign}{_number(value, metric, is_share)}{' points' if is_share else _UNITS.get(metric, '')}"


def _number(value: float, metric: str, is_share: bool) -> str:
    text = f"{100 * value:.1f}" if is_share else f"{_SCALES.get(metric, 1.0) * value:.4g}"
    return text.replace("-", "−")
