"""What is drawn for a review: sizes, strata, order, sides."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from service.evaluation.review_sample import draw, is_swapped, pairs, tasks


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_groups_are_drawn_in_proportion(groups: list[str], n: int, seed: int) -> None:
    candidates = np.arange(len(groups)) * 3
    chosen = draw(candidates, n, seed, groups)
    assert len(chosen) == min(n, len(groups))
    assert len(set(chosen.tolist())) == len(chosen)
    assert set(chosen.tolist()) <= set(candidates.tolist())
    assert chosen.tolist() == draw(candidates, n, seed, groups).tolist()
    sizes, drawn = Counter(groups), Counter(groups[row // 3] for row in chosen.tolist())
    for group, size in sizes.items():
        assert abs(drawn[group] - min(n, len(groups)) * size / len(groups)) < 1


def test_another_seed_draws_others_and_every_item_is_as_likely() -> None:
    seen = np.zeros(20)
    for seed in range(400):
        seen[draw(np.arange(20), 5, seed)] += 1
    assert seen.sum() == 2000
    # 400 draws of 5 in 20: each item 100 times, standard deviation 8.7.
    assert seen.min() > 60
    assert seen.max() < 140


def test_pairs_are_all_or_those_with_the_baseline() -> None:
    assert pairs(3, None) == [(0, 1), (0, 2), (1, 2)]
    assert pairs(3, 1) == [(1, 0), (1, 2)]


def test_every_item_comes_under_every_pair_and_same_texts_are_not_asked() -> None:
    made = tasks([["a", "b", "a"], ["x", "x", None]], [(0, 1), (0, 2), (1, 2)], 2, seed=3)
    assert [task["place"] for task in made] == list(range(6))
    wanted = {(task["row"], task["first"], task["second"]): task["wanted"] for task in made}
    assert wanted == {(0, 0, 1): 2, (0, 0, 2): 0, (0, 1, 2): 2, (1, 0, 1): 0, (1, 0, 2): 2, (1, 1, 2): 2}
    assert [task["row"] for task in made] != sorted(task["row"] for task in made)


def test_sides_are_a_fair_coin_for_each_reviewer() -> None:
    seen = {name: [is_swapped("r", place, name) for place in range(2000)] for name in ("ann", "bob")}
    for sides in (*seen.values(), [a == b for a, b in zip(*seen.values(), strict=True)]):
        assert binomtest(sum(sides), len(sides)).pvalue > 1e-4
