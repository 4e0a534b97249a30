"""What to conclude, in one decision and one sentence, from the split and the effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.experiments.effects import Design, Totals
from service.experiments.report import Decision, EffectReport, OverallVerdict, Reason, Split
from service.experiments.rollup import CROSSED, FALLBACK_RATE, RATING_RATE, SATISFACTION, UNITS
from service.measure.ab import sample_ratio
from service.store.events import Sums

SAMPLE_RATIO_ALPHA = 0.001
MOST_CROSSED = 0.01
MANY_FALLBACKS = 0.1

# Which variant the verdict is about when they differ: the one with most to gain.
_ORDER: tuple[Decision, ...] = ("better", "not_worse", "no_difference", "inconclusive", "too_little_data", "worse")


def split_of(shares: Mapping[str, float], totals: Totals) -> Split:
    """Whether units fell into the arms as planned."""
    observed = {variant: totals.get((UNITS, variant), Sums()).n for variant in shares}
    crossed = sum(totals.get((CROSSED, variant), Sums()).n for variant in shares)
    total = sum(observed.values())
    p_value = sample_ratio(list(observed.values()), list(shares.values())) if total else None
    ok = p_value is None or p_value >= SAMPLE_RATIO_ALPHA
    return Split(observed=observed, expected=dict(shares), p_value=p_value, ok=ok, crossed_units=crossed)


def conclude(split: Split, effects: Sequence[EffectReport], design: Design) -> OverallVerdict:
    """Broken before anything else, then enough data, then the best variant's own verdict."""
    broken = _faults(split)
    if broken:
        sentence = f"Do not read the effects: {broken[0].message}"
        return _verdict("broken", sentence, None, None, broken)
    lacking = _units_lacking(split, design)
    if lacking:
        sentence = f"Too little data: {lacking:,} more units are needed before anything is concluded."
        return _verdict("too_little_data", sentence, None, lacking, [])
    by_variant: dict[str, list[EffectReport]] = {}
    for effect in effects:
        by_variant.setdefault(effect.variant, []).append(effect)
    judged = {variant: _judge(found) for variant, found in by_variant.items()}
    variant = min(judged, key=lambda name: _ORDER.index(judged[name][0]))
    decision, decisive = judged[variant]
    return _verdict(decision, decisive.sentence, variant, decisive.n_more_units, _cautions(by_variant[variant]))


def _verdict(
    decision: Decision, sentence: str, variant: str | None, n_more: int | None, reasons: list[Reason]
) -> OverallVerdict:
    return OverallVerdict(decision=decision, sentence=sentence, variant=variant, n_more_units=n_more, reasons=reasons)


def _faults(split: Split) -> list[Reason]:
    faults = []
    total = sum(split.observed.values())
    if not split.ok:
        seen = ", ".join(f"{variant} {count:,}" for variant, count in split.observed.items())
        planned = ", ".join(f"{variant} {share:.0%}" for variant, share in split.expected.items())
        message = f"units did not split as planned ({seen}; planned {planned}; p = {split.p_value:.1e})."
        faults.append(Reason(code="sample_ratio", message=message))
    if split.crossed_units > MOST_CROSSED * total:
        message = f"{split.crossed_units:,} of {total:,} units were seen in two arms."
        faults.append(Reason(code="crossed_units", message=message))
    return faults


def _units_lacking(split: Split, design: Design) -> int:
    """Units to the least that is read at all; for a fixed analysis, to the one look that was planned."""
    lacking = sum(max(0, design.minimum_units - units) for units in split.observed.values())
    if design.analysis == "fixed" and design.expected_units is not None:
        lacking = max(lacking, design.expected_units - sum(split.observed.values()))
    return lacking


def _judge(effects: Sequence[EffectReport]) -> tuple[Decision, EffectReport]:
    """The decision about one variant, and the effect that makes it."""
    primary = [effect for effect in effects if effect.role == "primary"]
    harmed = [effect for effect in effects if effect.role != "secondary" and effect.verdict == "worse"]
    if harmed:
        return "worse", harmed[0]
    for verdict in ("better", "too_little_data", "inconclusive", "no_difference", "not_worse"):
        for effect in primary:
            if effect.verdict == verdict:
                return effect.verdict, effect
    return "inconclusive", effects[0]


def _cautions(effects: Sequence[EffectReport]) -> list[Reason]:
    """What to know beside the decision."""
    cautions = [
        Reason(code=f"{effect.role}_{effect.verdict}", message=effect.sentence)
        for effect in effects
        if effect.verdict == "worse"
        or (effect.role == "guardrail" and effect.verdict == "inconclusive" and effect.margin)
    ]
    named = {effect.metric: effect for effect in effects}
    rating = named.get(RATING_RATE)
    if SATISFACTION in named and rating is not None and rating.verdict in {"better", "worse"}:
        message = (
            "The arms are rated at different rates, so satisfaction may speak for different users: " + rating.sentence
        )
        cautions.append(Reason(code="rating_rate_differs", message=message))
    fallback = named.get(FALLBACK_RATE)
    if fallback is not None and max(fallback.control_value or 0, fallback.variant_value or 0) > MANY_FALLBACKS:
        message = "The fallback model gave many of the answers; they count for the arm that was assigned."
        cautions.append(Reason(code="many_fallbacks", message=message))
    return cautions
