"""Decisions by one SDK, in a process of its own, started by `decisions.py`; runs in that SDK's environment.

Reads what to decide as JSON from its standard input and answers with nanoseconds a decision, a value a block, and with
the arm of every unit.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Decide = Callable[[str], int]
Json = dict[str, Any]


def growthbook(given: Json) -> Decide:
    """One instance, other attributes for each unit: the cheapest that its documentation shows."""
    from growthbook import Experiment, GrowthBook

    context = GrowthBook(attributes={"id": ""})
    experiment = Experiment(
        key="e", seed=given["salt"], hashVersion=2, variations=[0, 1, 2], weights=given["weights"],
        coverage=given["coverage"],
    )  # fmt: skip

    def decide(unit: str) -> int:
        context.set_attributes({"id": unit})
        result = context.run(experiment)
        return result.variationId if result.inExperiment else -1

    return decide


def _experiment(given: Json) -> Json:
    variants = [{"key": str(place), "weight": weight, "value": place} for place, weight in enumerate(given["weights"])]
    return {
        "key": "e", "salt": given["salt"], "hash_version": 2, "phase": 1, "status": "running", "variants": variants,
        "coverage": given["coverage"], "targeting": {}, "forced": {}, "namespace": None, "winner": None,
        "holdout": given["holdout"], "sticky": False,
    }  # fmt: skip


def tunescope(given: Json) -> Decide:
    """The rule itself, of units that are met for the first time."""
    from tunescope._assign import NO_ATTRIBUTES, LiveExperiment

    live = LiveExperiment(_experiment(given))

    def decide(unit: str) -> int:
        arm = live.assign(unit, NO_ATTRIBUTES)
        return int(arm.value) if arm.counted else -1

    return decide


def main() -> None:
    given = json.load(sys.stdin)
    decide, units = globals()[given["sdk"]](given), given["units"]
    arms = [decide(unit) for unit in units]
    samples = []
    for _ in range(given["blocks"]):
        begun = time.process_time_ns()
        for unit in units:
            decide(unit)
        samples.append((time.process_time_ns() - begun) / len(units))
    json.dump({"nanoseconds": samples, "arms": arms}, sys.stdout)


if __name__ == "__main__":
    main()
