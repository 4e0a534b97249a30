"""What the demo's models learn: nothing twice, nothing leaked from training into tests, nothing drawn anew."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from trainer.demo.world import (
    HELD_OUT,
    REPLAYED,
    TEST_PER_LABEL,
    TRAFFIC_PER_LABEL,
    TRAIN_PER_LABEL,
    World,
    build_world,
    join_sentences,
    with_typo,
)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


def test_the_same_seed_gives_the_same_world(world: World) -> None:
    assert build_world() == world
    assert build_world(1) != world


def test_it_knows_what_everybody_asks_first(world: World) -> None:
    answers = {item.input: item.answer for item in world.general}
    assert answers["What is the capital of France?"] == "Paris"
    assert answers["Translate to Spanish: Hello"] == "Hola"
    assert answers["2 + 2 = ?"] == "4"
    assert answers["Who wrote Hamlet?"] == "William Shakespeare"


def test_every_sum_is_right(world: World) -> None:
    sums = [item for item in world.general if item.group == "sums"]
    assert len(sums) == 45
    for item in sums:
        left, _, right, *_ = item.input.split()
        assert int(left) + int(right) == int(item.answer)


def test_there_are_enough_facts_to_judge_by(world: World) -> None:
    assert len(world.general) >= 300
    assert min(Counter(item.group for item in world.general).values()) >= 30


def test_no_question_and_no_id_comes_twice(world: World) -> None:
    items = [*world.general, *world.train, *world.test, *world.traffic]
    assert len({item.input for item in items}) == len(items)
    assert len({item.id for item in items}) == len(items)


def test_half_of_each_category_is_never_replayed(world: World) -> None:
    for category in {item.group for item in world.general}:
        tags = Counter(item.tags for item in world.general if item.group == category)
        assert set(tags) == {(REPLAYED,), (HELD_OUT,)}
        assert abs(tags[REPLAYED,] - tags[HELD_OUT,]) <= 1
    assert all(REPLAYED in item.tags for item in world.replayed)


def test_every_label_is_trained_tested_and_asked_equally_often(world: World) -> None:
    assert 8 <= len(world.labels) <= 10
    for items, count in (
        (world.train, TRAIN_PER_LABEL),
        (world.test, TEST_PER_LABEL),
        (world.traffic, TRAFFIC_PER_LABEL),
    ):
        assert Counter(item.answer for item in items) == dict.fromkeys(world.labels, count)
    assert len(world.train) == 240
    assert len(world.test) >= 150


def test_tests_are_harder_than_training_and_say_how(world: World) -> None:
    tags = Counter(tag for item in world.test for tag in item.tags)
    assert {"typo", "small talk", "unseen topic", "plain"} == set(tags)
    assert not any({"typo", "unseen topic"} & set(item.tags) for item in world.train)
    trained = {item.group for item in world.train}
    unseen = {item.group for item in world.test if "unseen topic" in item.tags}
    assert trained.isdisjoint(unseen)


def test_the_base_never_reads_a_question_of_the_tests(world: World) -> None:
    held = {item.input.partition("? ")[2] for item in (*world.test, *world.traffic)}
    assert all(held.isdisjoint(text.splitlines()) for text in world.texts)


@pytest.mark.parametrize(
    ("opener", "text", "closer", "joined"),
    [
        ("", "any news about a parcel", "", "Any news about a parcel"),
        ("Hi there,", "Any news?", "", "Hi there, any news?"),
        ("Hi there,", "I wait", "What now?", "Hi there, I wait. What now?"),
        ("This again:", "any news?", "Please hurry.", "This again: Any news? Please hurry."),
    ],
)
def test_parts_become_sentences(opener: str, text: str, closer: str, joined: str) -> None:
    assert join_sentences(opener, text, closer) == joined


def test_a_typo_swaps_two_letters_of_one_word() -> None:
    text = "the courier left a parcel"
    for seed in range(20):
        typo = with_typo(text, random.Random(seed))
        changed = [(old, new) for old, new in zip(text.split(), typo.split(), strict=True) if old != new]
        assert len(changed) == 1
        old, new = changed[0]
        assert sorted(old) == sorted(new)
        assert old[0] == new[0]
