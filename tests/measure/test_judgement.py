"""Agreement and preference against scikit-learn, the krippendorff package, published examples and choix."""

from __future__ import annotations

import math
from typing import Any, Literal

import choix
import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from service.measure.judgement import bradley_terry, cohen_kappa, krippendorff_alpha, win_rate
from service.measure.score import wilson_interval
from service.measure.validation import LengthMismatchError, NotALabelError, OutOfRangeError

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: list[Level] = ["nominal", "ordinal", "interval"]
RATING = st.one_of(st.just(math.nan), st.integers(-3, 5).map(float))
# Krippendorff (2011), section C: four observers, twelve units, missing ratings.
PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


def published() -> np.ndarray:
    rows = [
        [math.nan if cell == "." else float(cell) for cell in line.split()] for line in PUBLISHED.split("\n") if line
    ]
    return np.array(rows)


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_published_example(level: Level, expected: float) -> None:
    assert krippendorff_alpha(published(), level) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=80)
@given(data=st.data(), raters=st.integers(2, 5), items=st.integers(1, 12))
def test_alpha_is_the_krippendorff_packages(level: Level, data: st.DataObject, raters: int, items: int) -> None:
    cells = data.draw(st.lists(RATING, min_size=raters * items, max_size=raters * items))
    ratings = np.array(cells).reshape(raters, items)
    counted = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    ours = krippendorff_alpha(ratings, level)
    if len(np.unique(counted[~np.isnan(counted)])) < 2:
        assert ours is None
        return
    expected = krippendorff.alpha(reliability_data=counted, level_of_measurement=level)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_alpha_refuses_what_is_no_table_of_ratings() -> None:
    with pytest.raises(OutOfRangeError, match="raters"):
        krippendorff_alpha(np.zeros(4), "nominal")
    with pytest.raises(OutOfRangeError) as refused:
        krippendorff_alpha(np.array([[1.0, math.inf], [1.0, 2.0]]), "interval")
    assert refused.value.index == 1


@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_kappa_is_scikit_learns_over_the_items_that_both_rated(pairs: list[tuple[str, str]]) -> None:
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    ours = cohen_kappa([None, "a", *one], ["b", None, *other])
    if len({*one, *other}) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(cohen_kappa_score(one, other), abs=1e-14)


def test_kappa_of_nothing_is_none_and_of_unequal_lengths_refused() -> None:
    assert cohen_kappa([], []) is None
    assert cohen_kappa([None, 1], [2, None]) is None
    with pytest.raises(LengthMismatchError):
        cohen_kappa([1, 2], [1])


def test_a_tie_is_half_a_win_and_narrows_the_interval() -> None:
    rate = win_rate(30, 10, 20)
    assert (rate.value, rate.n, rate.reason) == (40 / 60, 60, None)
    decided = win_rate(40, 20, 0)
    assert rate.interval is not None
    assert decided.interval is not None
    assert rate.value == decided.value
    assert rate.interval[1] - rate.interval[0] < decided.interval[1] - decided.interval[0]


@given(wins=st.integers(0, 60), losses=st.integers(0, 60))
def test_without_ties_the_interval_is_wilsons(wins: int, losses: int) -> None:
    assume(wins + losses)
    rate = win_rate(wins, losses, 0)
    assert rate.interval == pytest.approx(wilson_interval(wins, wins + losses), abs=1e-9)


def test_win_rate_intervals_cover_at_their_level() -> None:
    generator = np.random.default_rng(1)
    counts = generator.multinomial(40, [0.5, 0.3, 0.2], size=2000)
    covered = []
    for wins, losses, ties in counts.tolist():
        interval = win_rate(wins, losses, ties).interval
        assert interval is not None
        covered.append(interval[0] <= 0.6 <= interval[1])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_win_rate_by_item_is_the_total_and_clusters_widen_it() -> None:
    wins, losses, ties = [3, 0] * 10, [0, 3] * 10, [0, 0] * 10
    plain = win_rate(wins, losses, ties)
    assert plain == win_rate(30, 30, 0)
    clustered = win_rate(wins, losses, ties, groups=list(range(20)))
    assert plain.interval is not None
    assert clustered.interval is not None
    assert clustered.interval[1] - clustered.interval[0] > 1.5 * (plain.interval[1] - plain.interval[0])
    assert win_rate(wins, losses, ties, groups=["one"] * 20).reason == "one_group"


def test_win_rate_of_nothing_and_of_what_are_no_counts() -> None:
    assert win_rate(0, 0, 0).reason == "no_judgements"
    assert win_rate([], [], []).value is None
    with pytest.raises(OutOfRangeError, match="item 1"):
        win_rate([1, -1], [0, 0], [0, 0])
    with pytest.raises(LengthMismatchError):
        win_rate([1, 1], [0], [0, 0])


COMPARISONS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])).filter(lambda c: c[0] != c[1]),
    min_size=8,
    max_size=60,
)


@settings(max_examples=30)
@given(comparisons=COMPARISONS)
def test_strengths_are_choixs(comparisons: list[tuple[int, int, float]]) -> None:
    """Half a win each for a tie is two decided games of half the weight: everything is played twice for choix."""
    names = [str(place) for place in range(5)]
    found = bradley_terry(names, [(str(a), str(b), score) for a, b, score in comparisons], seed=1)
    assume(all(one.strength is not None for one in found))
    games = [(a, b) if score == 1 else (b, a) for a, b, score in comparisons if score != 0.5 for _ in range(2)]
    games += [pair for a, b, score in comparisons if score == 0.5 for pair in ((a, b), (b, a))]
    expected = choix.opt_pairwise(5, games, alpha=0.0, tol=1e-12)
    assert [one.strength for one in found] == pytest.approx(expected - expected.mean(), abs=1e-4)


def test_two_competitors_are_a_log_odds() -> None:
    comparisons = [("a", "b", 1.0)] * 30 + [("b", "a", 1.0)] * 10
    first, second = bradley_terry(["a", "b"], comparisons, seed=5)
    assert first.strength == pytest.approx(math.log(3) / 2)
    assert (first.strength or 0) + (second.strength or 0) == pytest.approx(0)
    # The delta method for a log-odds of 30 to 10, halved.
    half = 1.96 * math.sqrt(1 / 30 + 1 / 10) / 2
    assert first.interval == pytest.approx((math.log(3) / 2 - half, math.log(3) / 2 + half), abs=0.08)
    assert first == bradley_terry(["a", "b"], comparisons, seed=5)[0]
    assert first.interval != bradley_terry(["a", "b"], comparisons, seed=6)[0].interval


@pytest.mark.parametrize(
    ("comparisons", "reasons"),
    [
        ([], ["no_comparisons"] * 4),
        ([("a", "b", 1.0)] * 9, ["unbounded", "unbounded", "no_comparisons", "no_comparisons"]),
        ([("a", "b", 0.5)] * 9, [None, None, "no_comparisons", "no_comparisons"]),
        ([("a", "b", 0.5)] * 9 + [("c", "a", 1.0)], [None, None, "unbounded", "no_comparisons"]),
        ([("a", "b", 0.5)] * 9 + [("c", "d", 1.0)], [None, None, "disconnected", "disconnected"]),
        ([("a", "b", 1.0), ("b", "a", 1.0)], ["undefined_resamples"] * 2 + ["no_comparisons"] * 2),
    ],
)
def test_what_has_no_strength_says_why(comparisons: list[tuple[str, str, float]], reasons: list[str | None]) -> None:
    found = bradley_terry(list("abcd"), comparisons, seed=1)
    assert [one.reason for one in found] == reasons
    for one in found:
        assert (one.strength is None) == (one.reason not in (None, "undefined_resamples"))
        assert (one.interval is None) == (one.reason is not None)


@pytest.mark.parametrize(
    ("comparison", "error"),
    [(("a", "x", 1.0), NotALabelError), (("a", "a", 1.0), NotALabelError), (("a", "b", 0.7), OutOfRangeError)],
)
def test_comparisons_that_are_refused(comparison: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="comparison 1"):
        bradley_terry(["a", "b"], [("a", "b", 1.0), comparison], seed=1)
    with pytest.raises(NotALabelError, match="twice"):
        bradley_terry(["a", "a"], [], seed=1)


def test_bradley_terry_intervals_cover_the_strengths_behind_the_comparisons() -> None:
    generator, true = np.random.default_rng(2), np.array([0.6, 0.1, -0.7])
    covered = []
    for trial in range(150):
        comparisons = []
        for _ in range(90):
            one, other = generator.choice(3, 2, replace=False)
            won = generator.random() < 1 / (1 + math.exp(true[other] - true[one]))
            comparisons.append((str(one), str(other), float(won)))
        for strength, value in zip(bradley_terry(["0", "1", "2"], comparisons, seed=trial), true, strict=True):
            assert strength.interval is not None
            covered.append(strength.interval[0] <= value <= strength.interval[1])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
