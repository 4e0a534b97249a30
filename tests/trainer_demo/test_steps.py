"""Decisions of the demo that are taken by the data."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.config import TrainConfig
from trainer.demo.plan import FINE_TUNES, fine_tune_config, write_data
from trainer.demo.scoring import GENERAL, PRIMARY, TICKETS, create_suites
from trainer.demo.steps import choose, fingerprint
from trainer.demo.world import build_world
from trainer.material import gather
from tunescope import Client


def made(tickets: float, general: float) -> dict[str, Any]:
    def evaluation(suite: str, value: float) -> dict[str, Any]:
        return {"suite": {"name": suite}, "scores": [{"name": PRIMARY[suite], "value": value}]}

    return {"evaluations": {TICKETS: evaluation(TICKETS, tickets), GENERAL: evaluation(GENERAL, general)}}


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        ({"eager": "FAIL", "careful": "PASS", "timid": "PASS"}, "careful"),
        ({"eager": "PASS", "careful": "PASS", "timid": "PASS"}, "eager"),
        ({"eager": "FAIL", "careful": "INCONCLUSIVE", "timid": "FAIL"}, "timid"),
    ],
)
def test_users_meet_the_best_that_passed_else_the_least_forgetful(verdicts: dict[str, str], chosen: str) -> None:
    tuned = {"eager": made(0.9, 0.1), "careful": made(0.8, 0.95), "timid": made(0.5, 0.97)}
    assert choose(tuned, {name: {"verdict": verdict} for name, verdict in verdicts.items()}) == chosen


def test_the_plan_has_the_methods_that_are_compared() -> None:
    methods = {one.name: (one.method["name"], bool(one.replay)) for one in FINE_TUNES}
    assert methods == {
        "full-high-rate": ("full", False),
        "full-low-rate": ("full", False),
        "lora": ("lora", False),
        "lora-replay": ("lora", True),
        "qlora": ("qlora", False),
    }
    lora, replay = (next(one for one in FINE_TUNES if one.name == name) for name in ("lora", "lora-replay"))
    assert (lora.learning_rate, lora.steps, lora.method) == (replay.learning_rate, replay.steps, replay.method)


def test_replay_shows_no_held_out_fact(tmp_path: Any) -> None:
    world = build_world()
    write_data(world, tmp_path)
    replayed = next(one for one in FINE_TUNES if one.replay)
    config: TrainConfig = fine_tune_config(replayed, "p", {"model_name": "m"}, tmp_path, tmp_path, tmp_path)
    material = gather(config)
    assert material.replay is not None
    assert {row["prompt"] for row in material.replay.records} == {item.input for item in world.replayed}
    assert len(material.train.records) == len(world.train)
    assert len(material.probe) == len(world.general)


def test_another_world_is_another_demo() -> None:
    assert fingerprint(build_world()) == fingerprint(build_world()) != fingerprint(build_world(1))


def test_the_suites_carry_categories_and_what_is_replayed(live_service: str) -> None:
    world = build_world()
    with Client(live_service) as client:
        suites = create_suites(client, world)
        assert create_suites(client, world) == suites
        items = client.suite_items(suites[GENERAL], limit=1000)["items"]
        tickets = client.get_suite(suites[TICKETS])
    assert {(item["id"], item["group"], tuple(item["tags"])) for item in items} == {
        (item.id, item.group, item.tags) for item in world.general
    }
    assert tickets["definition"]["labels"] == list(world.labels)
    assert tickets["n_items"] == len(world.test)
