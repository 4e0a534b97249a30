"""Importance on simulated sweeps, where the truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from service.measure.importance import MIN_RUNS, Explanation, Setting, Share, explain, midranks


def setting(values: Sequence[Any]) -> Setting:
    texts = [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
    numbers = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in values]
    return Setting(texts, numbers)


def sweep(n: int, seed: int) -> tuple[np.ndarray, dict[str, Setting]]:
    """An optimum in the middle of the learning rate, one optimizer better, a flag that hardly matters, noise, and
    three settings that do nothing."""
    draw = np.random.default_rng(seed)
    rate = 10 ** draw.uniform(-5, -2, n)
    optimizer, flag = draw.choice(["adam", "sgd", "lion"], n), draw.random(n) < 0.5
    y = -((np.log10(rate) + 3.5) ** 2) + 0.6 * (optimizer == "adam") + 0.2 * flag + 0.5 * draw.normal(size=n)
    return y, {
        "rate": setting(rate.tolist()),
        "optimizer": setting(optimizer.tolist()),
        "flag": setting([bool(one) for one in flag]),
        "dropout": setting(draw.uniform(0, 1, n).tolist()),
        "host": setting(draw.choice(["a", "b", "c", "d"], n).tolist()),
        "rank": setting(draw.choice([8, 16, 32], n).tolist()),
    }


# The main effects on the ranks of y, computed from 200,000 runs of this sweep in bins of one setting alone.
TRUTH = {"rate": 0.5625, "optimizer": 0.0964, "flag": 0.0117, "dropout": 0.0, "host": 0.0, "rank": 0.0}
IDLE = ("dropout", "host", "rank")


def told(found: Explanation) -> dict[str, Share]:
    return {share.key: share for share in found.shares}


def test_the_truth_stated_here_is_that_of_the_sweep() -> None:
    y, settings = sweep(100_000, 1)
    rank = midranks(y)
    for key in ("optimizer", "flag"):
        _, level = np.unique(np.array(settings[key].texts), return_inverse=True)
        means = np.bincount(level, rank) / np.bincount(level)
        assert means[level].var() / rank.var() == pytest.approx(TRUTH[key], abs=0.006)
    rate = np.array(settings["rate"].numbers, dtype=float)
    level = np.searchsorted(np.quantile(rate, np.linspace(0, 1, 201)[1:-1]), rate)
    means = np.bincount(level, rank) / np.bincount(level)
    assert means[level].var() / rank.var() == pytest.approx(TRUTH["rate"], abs=0.006)


def test_shares_come_close_to_the_truth_and_name_the_order() -> None:
    found = told(explain(*sweep(600, 7)))
    assert list(found)[:2] == ["rate", "optimizer"]
    for key, share in TRUTH.items():
        assert found[key].share == pytest.approx(share, abs=0.06), key


def test_intervals_hold_the_truth() -> None:
    """At 100 runs, in 40 sweeps; the deviation that is left is the shrinkage towards no effect."""
    holds = {"rate": 0, "optimizer": 0}
    for seed in range(40):
        found = told(explain(*sweep(100, seed), seed=seed))
        for key in holds:
            low, high = found[key].interval
            holds[key] += low <= TRUTH[key] <= high
    assert min(holds.values()) >= 34, holds


@pytest.mark.parametrize("n", [MIN_RUNS, 20, 60])
def test_settings_that_do_nothing_are_not_called_important(n: int) -> None:
    """An interval that leaves 0 would be a false alarm: allowed in one of twenty."""
    alarms = sum(
        found[key].interval[0] > 0 for seed in range(40) for found in [told(explain(*sweep(n, seed)))] for key in IDLE
    )
    assert alarms <= 0.05 * 40 * len(IDLE)


def test_noise_shows_as_a_wide_interval() -> None:
    few, many = (told(explain(*sweep(n, 3)))["rate"].interval for n in (15, 300))
    assert few[1] - few[0] > 0.4 > 0.2 > many[1] - many[0]


def test_an_optimum_in_the_middle_counts_though_nothing_correlates() -> None:
    x = np.arange(-40.0, 41.0)
    (share,) = explain(-(x**2), {"x": setting(x.tolist())}).shares
    assert share.share > 0.9
    assert share.correlation == pytest.approx(0.0, abs=1e-9)


def test_the_sign_of_the_correlation() -> None:
    x = np.arange(40.0)
    (share,) = explain(np.exp(-x), {"x": setting(x.tolist())}).shares
    assert share.correlation == pytest.approx(-1.0)
    assert share.correlation_interval == pytest.approx((-1.0, -1.0), abs=1e-6)


def test_one_diverged_run_does_not_decide() -> None:
    y, settings = sweep(60, 5)
    worst = int(np.argmin(y))
    blown = y.copy()
    blown[worst] = -1e30
    assert explain(blown, settings) == explain(y, settings)


def test_kinds_levels_and_missing_values() -> None:
    n = 24
    draw = np.random.default_rng(0)
    use = [i % 2 == 0 for i in range(n)]
    y = np.where(use, 1.0, 0.0) + 0.1 * draw.normal(size=n)
    found = told(
        explain(
            y,
            {
                "flag": setting(use),
                "rank": setting([8 * (1 + i // 2 % 3) if i % 2 == 0 else None for i in range(n)]),
                "mixed": setting(["auto" if i % 3 == 0 else i % 3 for i in range(n)]),
            },
        )
    )
    assert (found["flag"].kind, found["flag"].levels, found["flag"].missing) == ("boolean", 2, 0)
    assert (found["rank"].kind, found["rank"].levels, found["rank"].missing) == ("numeric", 3, 12)
    assert found["mixed"].kind == "categorical"
    assert found["mixed"].correlation is None
    # Not being set is a value too: whether there is an adapter decides, not its rank.
    assert found["rank"].share > 0.6
    assert found["mixed"].share < 0.1


def test_what_cannot_be_told_is_named_and_not_ranked() -> None:
    y, settings = sweep(30, 0)
    found = explain(
        y,
        settings
        | {
            "output_dir": setting([f"runs/{i}" for i in range(30)]),
            "model": setting(["qwen"] * 30),
            "nothing": setting([None] * 30),
        },
    )
    assert found.unclear == ["output_dir"]
    assert found.constant == ["model", "nothing"]
    assert set(told(found)) == set(TRUTH)


def test_settings_that_moved_together_are_one() -> None:
    y, settings = sweep(40, 2)
    optimizer = settings["optimizer"].texts
    beta = setting([{"adam": 0.9, "sgd": 0.0, "lion": 0.95}[str(name)] for name in optimizer])
    minus_rate = setting([-float(value or 0) for value in settings["rate"].numbers])
    found = told(explain(y, settings | {"beta": beta, "minus_rate": minus_rate}))
    assert found["optimizer"].twins == ("beta",)
    assert found["rate"].twins == ("minus_rate",)
    # Two settings that are different in every run are still two.
    assert found["dropout"].twins == ()


def test_too_few_runs_and_no_variation_are_reasons() -> None:
    y, settings = sweep(MIN_RUNS - 1, 0)
    assert explain(y, settings) == Explanation(MIN_RUNS - 1, reason="too_few_runs")
    y, settings = sweep(30, 0)
    assert explain(np.ones(30), settings).reason == "no_variation"


def test_the_top_is_given_and_the_rest_counted() -> None:
    found = explain(*sweep(60, 1), top=2)
    assert [share.key for share in found.shares] == ["rate", "optimizer"]
    assert found.left_out == 4


def test_the_same_runs_give_the_same_answer() -> None:
    assert explain(*sweep(50, 4)) == explain(*sweep(50, 4))


@pytest.mark.parametrize("n", [30, 60])
def test_leaving_out_a_run_is_leaving_it_out(n: int) -> None:
    """The leverage identity against refitting without each run in turn."""
    y, settings = sweep(n, 11)
    (share,) = explain(y, {"rate": settings["rate"]}).shares
    rank, x = midranks(y), midranks(np.array(settings["rate"].numbers, dtype=float))
    features = np.stack([np.ones(n), x, x**2 - (x**2).mean()], axis=1)
    errors, base = [], []
    for i in range(n):
        rest = np.arange(n) != i
        normal = features[rest].T @ features[rest] + np.diag([1e-9, 1 / 3, 1 / 3])
        errors.append(rank[i] - features[i] @ np.linalg.solve(normal, features[rest].T @ rank[rest]))
        base.append(rank[i] - rank[rest].mean())
    assert share.share == pytest.approx(1 - np.square(errors).sum() / np.square(base).sum(), abs=1e-9)
