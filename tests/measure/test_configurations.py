"""Configurations with several seeds: the variance is that of items and of seeds, and the interval covers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from service.measure.comparison import Comparison, adjusted, compare
from service.measure.configurations import compare_configurations
from service.measure.metrics import METRICS
from service.measure.validation import EmptySetError, LengthMismatchError

F1 = METRICS["token_f1"]
ACCURACY = METRICS["accuracy"]
BLEU = METRICS["bleu"]
MODELS = [(400, 3, 0.3, 0.02), (400, 5, 0.3, 0.0), (60, 4, 0.2, 0.05)]


def test_the_formula_by_hand() -> None:
    generator = np.random.default_rng(0)
    base, cand = generator.random((3, 40)), generator.random((4, 40)) + 0.1
    result = compare_configurations(F1, (run[:, None] for run in base), (run[:, None] for run in cand))
    difference = cand.mean() - base.mean()
    terms = [
        ((cand.mean(axis=0) - base.mean(axis=0)).var(ddof=1) / 40, 39),
        (base.mean(axis=1).var(ddof=1) / 3, 2),
        (cand.mean(axis=1).var(ddof=1) / 4, 3),
    ]
    variance = sum(term for term, _ in terms)
    dof = variance**2 / sum(term**2 / own for term, own in terms)
    low, high = stats.t.interval(0.95, dof, difference, math.sqrt(variance))
    assert result.difference == pytest.approx(difference)
    assert result.interval == pytest.approx((low, high))
    assert result.p_value == pytest.approx(2 * stats.t.sf(abs(difference) / math.sqrt(variance), dof))
    assert result.baseline.values == pytest.approx(base.mean(axis=1).tolist())
    assert result.candidate.sd == pytest.approx(cand.mean(axis=1).std(ddof=1))
    assert result.share_of_seeds == pytest.approx(1 - terms[0][0] / variance)


def test_one_run_each_is_the_paired_comparison() -> None:
    """Nothing is known of seeds then: the interval is that over items."""
    generator = np.random.default_rng(1)
    base, cand = generator.random((50, 1)), generator.random((50, 1))
    result, pair = compare_configurations(F1, [base], [cand]), compare(F1, base, cand)
    assert result.interval == pytest.approx(pair.interval)
    assert (result.baseline.sd, result.share_of_seeds) == (None, 0.0)


@pytest.mark.parametrize(("n", "k", "item_sd", "seed_sd"), MODELS)
@pytest.mark.parametrize("clusters", [None, pytest.param(40, marks=pytest.mark.slow)])
def test_the_interval_covers(n: int, k: int, item_sd: float, seed_sd: float, clusters: int | None) -> None:
    """Simulated from the model, with no true difference: 95 % intervals hold 0 in 92.5 % to 99.5 % of 400 sets.

    Taking one run's items alone for the evidence would cover far less where seeds differ: the second assertion.
    """
    generator = np.random.default_rng(int(1000 * seed_sd) + n)
    held = naive = 0
    groups = None if clusters is None else np.arange(n) % clusters
    for _ in range(400):
        shared = generator.normal(0.5, item_sd, n)
        if groups is not None:
            shared = shared + generator.normal(0, 0.2, int(groups.max()) + 1)[groups]
        sides = []
        for _side in range(2):
            own = generator.normal(0, item_sd / 2, n)
            if groups is not None:
                own = own + generator.normal(0, 0.05, int(groups.max()) + 1)[groups]
            runs = shared + own + generator.normal(0, seed_sd, (k, 1)) + generator.normal(0, 0.1, (k, n))
            sides.append([run[:, None] for run in runs])
        low, high = compare_configurations(F1, *sides, groups=groups).interval or (1.0, 1.0)
        held += low <= 0 <= high
        one = sides[1][0][:, 0] - sides[0][0][:, 0]
        naive += abs(one.mean()) <= 1.96 * one.std(ddof=1) / math.sqrt(n)
    assert 0.925 <= held / 400 <= 0.995
    if seed_sd:
        assert naive < held


def test_corpus_metrics_are_compared_by_the_jackknife() -> None:
    generator = np.random.default_rng(2)

    def run(quality: float) -> np.ndarray[Any, Any]:
        matched = generator.binomial(8, quality, (300, 4)).astype(float)
        return np.column_stack([np.full(300, 10.0), np.full(300, 10.0), matched, np.full((300, 4), 8.0)])

    base, cand = [run(0.5) for _ in range(3)], [run(0.6) for _ in range(3)]
    result = compare_configurations(BLEU, base, cand)
    assert (result.verdict, result.metric) == ("better", "bleu")
    values = [float(BLEU.aggregate(one)[0]) for one in cand]
    assert result.candidate.values == pytest.approx(values)
    single = compare(BLEU, base[0], cand[0])
    assert single.interval is not None
    assert result.interval is not None
    assert result.interval[1] - result.interval[0] < 1.6 * (single.interval[1] - single.interval[0])


def test_large_sets_are_compared_like_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jackknife of large sets and the bootstrap of smaller ones say the same, also of groups."""
    generator = np.random.default_rng(3)
    length = generator.integers(5, 15, 3000).astype(float)
    sides = []
    for quality in (0.55, 0.57):
        matched = generator.binomial(8, quality, (3000, 4)).astype(float)
        sides.append(np.column_stack([length, length, matched, np.full((3000, 4), 8.0)]))
    for groups in (None, np.arange(3000) % 400):
        small = compare(BLEU, *sides, groups=groups)
        with monkeypatch.context() as patched:
            patched.setattr("service.measure.comparison.MAX_BOOTSTRAP_ITEMS", 1000)
            large = compare(BLEU, *sides, groups=groups)
        assert small.test is not None
        assert small.test.startswith("paired bootstrap")
        assert large.test == ("jackknife" if groups is None else "jackknife by group")
        assert large.verdict == small.verdict
        width = small.interval[1] - small.interval[0]  # type: ignore[index]
        assert large.interval == pytest.approx(small.interval, abs=0.15 * width)


@pytest.mark.parametrize(
    ("base", "cand", "reason"),
    [
        ([[0.5] * 10] * 2, [[0.5] * 10] * 2, "no_variation"),
        ([[0.5]], [[0.6]], "too_few_items"),
        ([[0.1, 0.9, 0.5], [0.5, 0.1, 0.9]], [[0.9, 0.5, 0.1], [0.1, 0.9, 0.6]], "covers_zero"),
    ],
)
def test_what_cannot_be_told_has_a_reason(base: list[list[float]], cand: list[list[float]], reason: str) -> None:
    result = compare_configurations(F1, *([np.array(run)[:, None] for run in side] for side in (base, cand)))
    assert (result.verdict, result.reason) == ("inconclusive", reason)


def test_what_does_not_fit_is_refused() -> None:
    runs = [np.ones((3, 1)), np.ones((4, 1))]
    with pytest.raises(LengthMismatchError):
        compare_configurations(F1, runs, runs[:1])
    with pytest.raises(LengthMismatchError):
        compare_configurations(F1, runs[:1], runs[1:])
    with pytest.raises(EmptySetError):
        compare_configurations(F1, [], runs[:1])


def test_several_candidates_are_adjusted_by_holm() -> None:
    generator = np.random.default_rng(5)
    base = (generator.random(300) < 0.5).astype(float)[:, None]
    found: list[Comparison] = []
    for gain in (0.12, 0.055, 0.0):
        cand = np.where(generator.random((300, 1)) < gain, 1.0, base)
        found.append(compare(ACCURACY, base, cand))
    result = adjusted(found)
    raw = [one.p_value or 0.0 for one in found]
    order = np.argsort(raw)
    expected = np.empty(3)
    expected[order] = np.minimum(1, np.maximum.accumulate(np.array(raw)[order] * [3, 2, 1]))
    assert [p for _, p in result] == pytest.approx(expected.tolist())
    for (one, p_value), before in zip(result, found, strict=True):
        kept = before.verdict in ("better", "worse") and p_value is not None and p_value < 0.05
        assert one.verdict == (before.verdict if kept else "inconclusive")
        assert one.interval == before.interval
    sure = compare(ACCURACY, np.zeros((40, 1)), np.ones((40, 1)))
    # Six of forty gained and none lost: p = 1/32, which a second candidate doubles.
    just = compare(ACCURACY, np.zeros((40, 1)), (np.arange(40) < 6).astype(float)[:, None])
    assert [one.verdict for one, _ in adjusted([sure, just])] == ["better", "better"]
    (_, _), (lost, p_value) = adjusted([just, just])
    assert (lost.verdict, lost.reason) == ("inconclusive", "not_after_holm")
    assert p_value == pytest.approx(2 * (just.p_value or 0))
