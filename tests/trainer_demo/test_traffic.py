"""Simulated users: the same for a seed, and their thumbs follow from whether the answer was right."""

from __future__ import annotations

from collections import Counter

import pytest

from trainer.demo.traffic import HONEST, RATES_IF_RIGHT, RATES_IF_WRONG, REQUESTS_PER_USER, User, make_users
from trainer.demo.world import World, build_world


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


def test_users_are_the_same_for_a_seed_and_in_any_number(world: World) -> None:
    few, many = make_users(world, 50, seed=0), make_users(world, 500, seed=0)
    assert many[: len(few)] == few
    assert make_users(world, 50, seed=1) != few
    assert len({user.id for user in many}) == len(many) == 500 // REQUESTS_PER_USER


def test_users_mostly_ask_about_tickets_and_never_a_test_item(world: World) -> None:
    asked = Counter(item.id.split("-")[0] for user in make_users(world, 5000, seed=0) for item in user.questions)
    assert 0.67 < asked["traffic"] / sum(asked.values()) < 0.73
    assert asked["test"] == asked["train"] == 0


@pytest.mark.parametrize(
    ("rating", "honesty", "right", "thumb"),
    [
        (0.0, 0.0, True, 1.0),
        (0.0, 0.0, False, 0.0),
        (0.0, HONEST, True, 0.0),
        (0.0, HONEST, False, 1.0),
        (RATES_IF_RIGHT, 0.0, True, None),
        (RATES_IF_RIGHT, 0.0, False, 0.0),
        (RATES_IF_WRONG, 0.0, False, None),
    ],
)
def test_a_thumb_follows_the_answer(rating: float, honesty: float, right: bool, thumb: float | None) -> None:
    assert User("u", (), ((rating, honesty),)).rates(0, right) == thumb
