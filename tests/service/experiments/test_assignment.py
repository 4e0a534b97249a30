"""Who gets which arm: tables of values, and GrowthBook's published cases end to end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from service.experiments.assignment import LiveExperiment, Variant, assign, matches
from service.measure.bucketing import bucket


def experiment(**changes: Any) -> LiveExperiment:
    fields: dict[str, Any] = {
        "id": "x",
        "key": "exp",
        "salt": "exp",
        "hash_version": 2,
        "phase": 1,
        "status": "running",
        "variants": (Variant("control", 0.5), Variant("tuned", 0.5)),
        "coverage": 1.0,
        "targeting": {},
        "forced": {},
        "namespace": None,
        "winner": None,
        "fallback_upstream": None,
        "store_content": False,
    }
    return LiveExperiment(**{**fields, **changes})


UNITS = [f"user-{n}" for n in range(10_000)]


def arms(live: LiveExperiment) -> dict[str, str | None]:
    found = {unit: assign(live, unit, {}) for unit in UNITS}
    return {unit: (a.variant.key if a.counted else None) for unit, a in found.items()}


def test_the_published_hash_decides() -> None:
    # Cases gb_hash_7 and gb_hash_8 of the GrowthBook specification: 0.0505 and 0.2696.
    live = experiment(salt="seed", variants=(Variant("low", 0.1), Variant("high", 0.9)))
    assert bucket("seed", "a", 2) == 0.0505
    assert assign(live, "a", {}).variant.key == "low"
    assert assign(live, "b", {}).variant.key == "high"


def test_version_1_of_the_hash_is_still_spoken() -> None:
    # gb_hash_2: 0.946 in version 1.
    live = experiment(salt="b", hash_version=1, variants=(Variant("low", 0.94), Variant("high", 0.06)))
    assert assign(live, "a", {}).variant.key == "high"


def test_weights_are_kept_whatever_they_add_up_to() -> None:
    thirds = Counter(arms(experiment(variants=(Variant("control", 2), Variant("tuned", 1)))).values())
    assert thirds["control"] / len(UNITS) == pytest.approx(2 / 3, abs=0.02)


def test_raising_the_coverage_never_moves_a_unit() -> None:
    half, full = arms(experiment(coverage=0.5)), arms(experiment(coverage=1.0))
    covered = {unit: arm for unit, arm in half.items() if arm is not None}
    assert len(covered) == pytest.approx(5000, abs=200)
    assert all(full[unit] == arm for unit, arm in covered.items())
    assert None not in full.values()


def test_another_salt_is_another_draw() -> None:
    a, b = arms(experiment(salt="a")), arms(experiment(salt="b"))
    assert sum(a[unit] == b[unit] for unit in UNITS) == pytest.approx(5000, abs=200)


def test_experiments_in_disjoint_ranges_of_a_namespace_share_nobody() -> None:
    low = arms(experiment(key="a", salt="a", namespace={"name": "chat", "start": 0.0, "end": 0.4}))
    high = arms(experiment(key="b", salt="b", namespace={"name": "chat", "start": 0.4, "end": 1.0}))
    assert all((low[unit] is None) != (high[unit] is None) for unit in UNITS)


@pytest.mark.parametrize(
    ("changes", "unit", "expected"),
    [
        ({}, None, ("control", False, "no_unit")),
        ({}, "", ("control", False, "no_unit")),
        ({"status": "draft"}, "a", ("control", False, "not_running")),
        ({"status": "paused"}, "a", ("control", False, "not_running")),
        ({"status": "stopped"}, "a", ("control", False, "not_running")),
        ({"status": "decided", "winner": "tuned"}, "a", ("tuned", False, "decided")),
        ({"status": "decided", "winner": "tuned"}, None, ("tuned", False, "decided")),
        ({"coverage": 0.0}, "a", ("control", False, "not_covered")),
        ({"targeting": {"plan": "pro"}}, "a", ("control", False, "not_targeted")),
        ({"forced": {"tester": "tuned"}}, "tester", ("tuned", False, "forced")),
        ({"forced": {"tester": "tuned"}, "status": "draft"}, "tester", ("tuned", False, "forced")),
    ],
)
def test_whoever_is_not_in_the_experiment_does_not_count(
    changes: dict[str, Any], unit: str | None, expected: tuple[str, bool, str]
) -> None:
    found = assign(experiment(**changes), unit, {})
    assert (found.variant.key, found.counted, found.reason) == expected


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ("CZ", "CZ", True),
        ("CZ", "DE", False),
        ("CZ", None, False),
        (18, "18", True),
        (True, "true", True),
        (True, "false", False),
        (["CZ", "DE"], "DE", True),
        (["CZ", "DE"], "FR", False),
        ([], "FR", False),
        ({"min": 18, "max": 65}, 18, True),
        ({"min": 18, "max": 65}, "65", True),
        ({"min": 18, "max": 65}, 65.1, False),
        ({"min": 18}, 200, True),
        ({"max": 18}, "many", False),
        ({"min": 1}, None, False),
    ],
)
def test_targeting(condition: Any, value: Any, holds: bool) -> None:
    assert matches({"attribute": condition}, {"attribute": value}) is holds


def test_every_condition_must_hold() -> None:
    targeting = {"country": "CZ", "age": {"min": 18}}
    assert matches(targeting, {"country": "CZ", "age": 20})
    assert not matches(targeting, {"country": "CZ", "age": 17})
    assert not matches(targeting, {"age": 20})
