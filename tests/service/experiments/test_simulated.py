"""What the lifecycle promises, counted over simulated experiments in which nothing is to be found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.experiments.effects import Design, Evidence, effects_of, metrics_of
from service.experiments.evidence import arms_of, exposed_of
from service.experiments.readout import design_of
from service.experiments.verdict import SAMPLE_RATIO_ALPHA, split_of
from service.measure.ab import confidence_sequence, sample_ratio
from service.measure.arms import RatioArm
from service.measure.bandit import counts_of, thompson, weighted
from service.store.events import Sums
from service.store.tables import Experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VARIANTS = ["base", "tuned"]
PLAN: dict[str, Any] = {
    "variants": [{"key": key, "weight": 1} for key in VARIANTS],
    "metrics": [
        {"name": "satisfaction", "kind": "binary", "role": "primary", "direction": "higher", "by": "request",
         "margin": None},
    ],
    "alpha": 0.05, "analysis": "fixed", "minimum_units": 100, "expected_units": None,
}  # fmt: skip
# What units of one taste do: satisfaction of the rated, and three guardrails, two of them rare.
RATES = {"satisfaction": 0.6, "error_rate": 0.02, "fallback_rate": 0.01}


def sums_of(y: Any, x: Any) -> Sums:
    return Sums(len(y), float(x.sum()), float(y.sum()), float(x @ x), float(y @ y), float(x @ y))


def arrivals(rng: np.random.Generator, n: int) -> dict[str, Sums]:
    """What n new units do, all their requests at once."""
    requests = rng.geometric(1 / 3, n).astype(float)
    found = {"units": sums_of(np.ones(n), np.ones(n))}
    for name, rate in RATES.items():
        taste = rng.beta(4 * rate, 4 * (1 - rate), n)
        asked = rng.binomial(requests.astype(int), 0.4).astype(float) if name == "satisfaction" else requests
        rated = asked > 0
        found[name] = sums_of(rng.binomial(asked.astype(int), taste)[rated].astype(float), asked[rated])
    slow = np.exp(rng.normal(0, 0.5, n)) * requests
    found["first_token"] = sums_of(slow, requests)
    return found


def halted(rng: np.random.Generator, steps: list[float], looks: int, per_look: int, whole_alpha: bool) -> bool:
    """Whether a rollout of a winner that changes nothing is halted at any look of any of its steps."""
    record = [{"phase": 2 + step, "weights": {"base": 1 - s, "tuned": s}, "rollout_step": step}
              for step, s in enumerate(steps)]  # fmt: skip
    experiment = Experiment(
        key="e", name="e", salt="s", plan=PLAN, created_at=0.0, phases=record, rollout={"steps": [*steps, 1.0]}
    )
    for step, share in enumerate(steps):
        totals: dict[tuple[str, str], Sums] = {}
        for _ in range(looks):
            for variant, part in (("base", 1 - share), ("tuned", share)):
                for name, sums in arrivals(rng, max(2, round(per_look * part))).items():
                    totals[name, variant] = totals.get((name, variant), Sums()) + sums
            metrics = [metric for metric in metrics_of(PLAN, totals, set()) if metric.role != "secondary"]
            design = design_of(experiment, 2 + step, metrics)
            if whole_alpha:
                design = Design(0.05, "always_valid", 100, None, 2)
            arms = arms_of(metrics, VARIANTS, totals)
            effects = effects_of(Evidence(metrics, VARIANTS, arms, arms, exposed_of(VARIANTS, totals)), design)
            if any(effect.verdict == "worse" for effect in effects):
                return True
    return False


def test_a_harmless_winner_is_rarely_halted() -> None:
    """Four metrics, three steps and 20 looks at each: at most alpha of all rollouts, all of them together. With all of
    alpha for each metric at each step more are halted, and nothing bounds how many."""
    rates = {}
    for whole_alpha in (False, True):
        rng = np.random.default_rng(31)
        rates[whole_alpha] = np.mean([halted(rng, [0.05, 0.2, 0.5], 20, 200, whole_alpha) for _ in range(400)])
    assert rates[False] <= 0.05
    assert rates[True] > rates[False]


def test_the_split_alarm_is_as_rare_as_it_says() -> None:
    """Of 200,000 true splits, looked at once: at most 0.1 %, but for what chance adds (3 standard errors)."""
    rng = np.random.default_rng(32)
    for shares in ([0.5, 0.5], [0.9, 0.1], [0.6, 0.3, 0.1]):
        counts = rng.multinomial(5_000, shares, size=50_000)
        unique, many = np.unique(counts, axis=0, return_counts=True)
        alarms = sum(
            int(times)
            for row, times in zip(unique, many, strict=True)
            if sample_ratio(row.tolist(), shares) < SAMPLE_RATIO_ALPHA
        )
        assert alarms / 50_000 <= 0.001 + 3 * (0.001 / 50_000) ** 0.5
    totals = {("units", "base"): Sums(5_000), ("units", "tuned"): Sums(5_400)}
    assert not split_of({"base": 0.5, "tuned": 0.5}, totals).ok


def bandit(rng: np.random.Generator, rates: list[float], phases: int, per_phase: int) -> tuple[list[Any], list[float]]:
    """The weighted arms after so many changes of the shares, and the last shares. Tastes drift over time."""
    shares, parts = [1 / len(rates)] * len(rates), [list[tuple[RatioArm, float]]() for _ in rates]
    pooled = [RatioArm(0, 0, 0, 0, 0, 0) for _ in rates]
    for phase in range(phases):
        drift = 0.15 * np.sin(phase)
        many = rng.multinomial(per_phase, shares)
        for place, n in enumerate(many):
            asked = rng.geometric(1 / 2, n).astype(float)
            mean = rates[place] + drift
            arm = RatioArm.from_values(rng.binomial(asked.astype(int), rng.beta(6 * mean, 6 * (1 - mean), n)), asked)
            parts[place].append((arm, shares[place]))
            pooled[place] = pooled[place] + arm
        shares = thompson([counts_of(arm) for arm in pooled], seed=phase)
    return [weighted([part for part in arm if part[0].n]) for arm in parts], shares


def test_a_bandits_readout_allows_for_its_shares() -> None:
    """A/A, with tastes that drift while the shares move: the weighted effect is 0 on average, and the always-valid
    interval leaves it out at most 5 % of the time. The better of two arms ends up with most units."""
    rng = np.random.default_rng(33)
    estimates, missed = [], 0
    for _ in range(400):
        arms, _ = bandit(rng, [0.5, 0.5], 10, 200)
        found = confidence_sequence(arms[0], arms[1], n_tuned=2_000)
        assert found.estimate is not None
        assert found.interval is not None
        estimates.append(found.estimate)
        missed += not found.interval[0] <= 0 <= found.interval[1]
    assert np.mean(estimates) == pytest.approx(0, abs=4 * np.std(estimates) / 20)
    assert missed / 400 <= 0.05
    better = [bandit(rng, [0.5, 0.65], 10, 200)[1][1] for _ in range(50)]
    assert np.mean(better) > 0.8
