"""Splits: the shares, each label in its share, nothing that belongs together on two sides, the same every time."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.measure.quality import groups_of
from service.measure.splits import CannotSplit, Split, default_shares, split, warnings

NAMES = ["train", "validation", "test"]
SHARES = [0.7, 0.15, 0.15]


def of(keys: list[str], labels: list[str | None] | None = None, units: list[str | None] | None = None,
       seed: int = 0, names: list[str] = NAMES, shares: list[float] = SHARES) -> Split:  # fmt: skip
    return split(keys, groups_of(units or [None] * len(keys)), labels, names=names, shares=shares, seed=seed)


@pytest.mark.parametrize(
    ("n", "shares"),
    [
        (100, (0.7, 0.15, 0.15)),
        (4_999, (0.7, 0.15, 0.15)),
        (5_000, (0.7, 0.15, 0.15)),
        (7_500, (0.75, 0.125, 0.125)),
        (10_000, (0.8, 0.1, 0.1)),
        (1_000_000, (0.8, 0.1, 0.1)),
    ],
)
def test_default_shares(n: int, shares: tuple[float, ...]) -> None:
    assert default_shares(n) == pytest.approx(shares)


@given(st.lists(st.sampled_from("abc"), min_size=30, max_size=120), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_each_label_has_its_share_to_within_one_item(labels: list[str], seed: int) -> None:
    counts = Counter(labels)
    assume(min(counts.values()) >= 3)
    found = of([f"{place}" for place in range(len(labels))], list(labels), seed=seed)
    assert sum(found.sizes()) == len(labels)
    for part, share in enumerate(SHARES):
        assert abs(found.sizes()[part] - share * len(labels)) <= 1.0 + 1e-9
        for label, n in counts.items():
            own = sum(one == label and where == part for one, where in zip(labels, found.part, strict=True))
            assert abs(own - share * n) < 2.0


@given(st.lists(st.integers(0, 12), min_size=20, max_size=150), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_groups_are_never_cut(groups: list[int], seed: int, stratified: bool) -> None:
    labels: list[str | None] | None = ["x" if group % 2 else "y" for group in groups] if stratified else None
    try:
        found = of([str(place) for place in range(len(groups))], labels, [str(group) for group in groups], seed)
    except CannotSplit:
        assume(False)
    parts: dict[int, set[int]] = {}
    for group, part in zip(groups, found.part.tolist(), strict=True):
        parts.setdefault(group, set()).add(part)
    assert all(len(where) == 1 for where in parts.values())
    assert 0 not in found.sizes()


def test_the_order_of_the_items_makes_no_difference() -> None:
    chance = random.Random(4)
    rows = [(f"text {place}", chance.choice("abcd"), str(chance.randrange(60))) for place in range(300)]
    shuffled = chance.sample(rows, len(rows))
    first, second = (
        of([text for text, _, _ in given], [label for _, label, _ in given], [group for _, _, group in given])
        for given in (rows, shuffled)
    )
    by_text = dict(zip([text for text, _, _ in shuffled], second.part.tolist(), strict=True))
    assert [by_text[text] for text, _, _ in rows] == first.part.tolist()


def test_another_seed_is_another_split_and_the_same_the_same() -> None:
    keys = [str(place) for place in range(200)]
    assert of(keys).part.tolist() == of(keys).part.tolist()
    assert of(keys, seed=1).part.tolist() != of(keys).part.tolist()


def test_rows_that_are_added_move_few_of_the_others() -> None:
    keys = [f"row {place}" for place in range(2_200)]
    before, after = of(keys[:2_000]), of(keys)
    moved = int(np.count_nonzero(before.part != after.part[:2_000]))
    assert 0 < moved < 60  # at random it would be a thousand


def test_folds() -> None:
    names = [f"fold{number}" for number in range(5)]
    labels: list[str | None] = ["a" if place % 3 else "b" for place in range(103)]
    found = of([str(place) for place in range(103)], labels, names=names, shares=[0.2] * 5)
    assert sorted(found.sizes()) == [20, 20, 21, 21, 21]
    for label in "ab":
        inside = Counter(part for part, own in zip(found.part.tolist(), labels, strict=True) if own == label)
        assert max(inside.values()) - min(inside.values()) <= 1


def test_a_large_group_goes_where_there_is_room_and_what_is_not_kept_is_said() -> None:
    units: list[str | None] = ["big"] * 60 + [None] * 40
    found = of([str(place) for place in range(100)], units=units)
    assert set(found.part[:60].tolist()) == {0}
    assert found.sizes() == [70, 15, 15]
    assert warnings(found) == []
    lumps: list[str | None] = [f"lump {place // 30}" for place in range(90)]
    assert (
        "'validation' has 33.3 % of the items where 15.0 % were asked"
        in warnings(of([str(place) for place in range(90)], units=lumps))[1]
    )


@pytest.mark.parametrize(
    ("labels", "units", "words", "index"),
    [
        (["a"] * 9 + ["b"], None, "the label 'b' has 1 item, too few to be in each of 3 parts", 9),
        (["a"] * 7 + ["b"] * 3, [*"1234567", "u", "u", "u"], "'b' has 3 items in 1 text or group", 7),
        (["a"] * 9 + [None], None, "no label has 1 item", 9),
        (None, ["u"] * 8 + ["v", "w"], "8 of 10 items belong together, and the largest part is to have 7", 0),
        (None, ["u"] * 5 + ["v"] * 5, "2 units cannot be split into 3 parts", None),
    ],
)
def test_what_cannot_be_done_is_refused(
    labels: list[str | None] | None, units: list[str | None] | None, words: str, index: int | None
) -> None:
    with pytest.raises(CannotSplit, match=words) as refused:
        of([str(place) for place in range(10)], labels, units)
    assert refused.value.index == index


def test_no_part_is_empty() -> None:
    found = of(list("abc"), shares=[0.9, 0.05, 0.05])
    assert found.sizes() == [1, 1, 1]
    assert "'train' has 33.3 % of the items where 90.0 % were asked" in warnings(found)[0]


def several(
    sets: list[list[str]], seed: int = 0, groups: list[int] | None = None, shares: list[float] = SHARES
) -> Split:
    keys = [f"{place:03d}" for place in range(len(sets))]
    units = groups_of(keys) if groups is None else groups_of([str(one) for one in groups])
    names = [str(part) for part in range(len(shares))]
    return split(keys, units, None, sets=sets, names=names, shares=shares, seed=seed)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4), min_size=40, max_size=120),
    st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_labels_of_multi_label_items_have_their_shares(sets: list[list[str]], seed: int) -> None:
    found = several(sets, seed)
    for size, share in zip(found.sizes(), SHARES, strict=True):
        assert abs(size - share * len(sets)) <= 1.5
    for label in "abcdef":
        own = [part for part, labels in zip(found.part.tolist(), sets, strict=True) if label in labels]
        for part, share in enumerate(SHARES):
            assert abs(own.count(part) - share * len(own)) <= max(3.0, 0.25 * len(own))


def test_a_rare_label_is_spread_as_far_as_it_goes() -> None:
    draw = random.Random(4)
    sets = [draw.sample("abcde", draw.randint(1, 3)) for _ in range(300)]
    for place in (7, 90, 211):
        sets[place].append("rare")
    for seed in range(5):
        found = several(sets, seed, shares=[1 / 3] * 3)
        assert sorted(found.part[[7, 90, 211]].tolist()) == [0, 1, 2]


def test_multi_label_splits_keep_groups_and_do_not_hang_on_the_order() -> None:
    draw = random.Random(5)
    sets = [draw.sample("abcde", draw.randint(0, 3)) for _ in range(200)]
    groups = [draw.randrange(60) for _ in sets]
    found = several(sets, 3, groups)
    for group in set(groups):
        assert len({part for part, own in zip(found.part.tolist(), groups, strict=True) if own == group}) == 1
    keys = [f"{place:03d}" for place in range(200)]
    turned = split(
        keys[::-1], groups_of([str(one) for one in groups[::-1]]), None, sets=sets[::-1], names=["0", "1", "2"],
        shares=SHARES, seed=3,
    )  # fmt: skip
    assert turned.part.tolist()[::-1] == found.part.tolist()
    few = several([["a"], ["a"], []], shares=[0.8, 0.1, 0.1])
    assert sorted(few.part.tolist()) == [0, 1, 2], "no part is empty"
