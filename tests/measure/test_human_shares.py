"""Shares of human judgement as metrics: what counts, what is refused, how two sides compare."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from service.measure.comparison import compare
from service.measure.metrics import METRICS
from service.measure.metrics.human import HUMAN_GOOD, HUMAN_WINS, HUMAN_WINS_MEAN
from service.measure.score import score
from service.measure.validation import NotALabelError


def test_good_counts_and_nothing_else_does() -> None:
    statistics = HUMAN_GOOD.statistics(["good", "bad", None, "good"], [["-"]] * 4)
    assert statistics.tolist() == [[1.0], [0.0], [0.0], [1.0]]
    assert score(HUMAN_GOOD, statistics).value == 0.5
    with pytest.raises(NotALabelError, match="item 1 is judged 'fine'") as refused:
        HUMAN_GOOD.statistics(["good", "fine"], [["-"]] * 2)
    assert refused.value.index == 1


def test_wins_belong_to_no_single_model() -> None:
    assert {"human_good", "human_good_mean"} <= set(METRICS)
    assert not {"human_wins", "human_wins_mean"} & set(METRICS)


def test_pairs_with_ties_are_the_exact_sign_test() -> None:
    """14 wins, 5 losses, 6 ties: ties tell nothing of the direction, and stay in the number of items."""
    wins = np.repeat([1.0, 0.0, 0.5], [14, 5, 6])[:, None]
    found = compare(HUMAN_WINS, 1 - wins, wins)
    assert (found.gained, found.lost, found.n) == (14, 5, 25)
    assert found.difference == pytest.approx(9 / 25)
    assert found.p_value == pytest.approx(binomtest(5, 19).pvalue, rel=1e-9)
    assert found.interval is not None
    assert found.interval[0] < 9 / 25 < found.interval[1]


@pytest.mark.parametrize("overlap", [1, 3])
def test_equal_models_are_rarely_told_apart(overlap: int) -> None:
    """Items that people find easier for one side than for the other: their judgements belong together."""
    generator = np.random.default_rng(11)
    metric, trials, n, wrong = HUMAN_WINS if overlap == 1 else HUMAN_WINS_MEAN, 300, 60, 0
    for seed in range(trials):
        lean = generator.choice([0.1, 0.5, 0.9], n)
        wins = generator.binomial(overlap, lean)[:, None] / overlap
        wrong += compare(metric, 1 - wins, wins, seed=seed).verdict != "inconclusive"
    assert wrong / trials <= 0.085
