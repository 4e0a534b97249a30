"""How calls and outcomes add up: tables of values."""

from __future__ import annotations

import random

import numpy as np
import pytest

from service.experiments.events import Requested
from service.experiments.rollup import (
    Definition,
    Tally,
    features,
    of_outcome,
    of_request,
    stretch_of,
)
from service.measure.quantiles import bin_of, quantile


def request(**fields: object) -> Requested:
    return Requested(request_id="r", at=0.0, **{"status": 200, **fields})  # type: ignore[arg-type]


def test_an_answered_call() -> None:
    assert of_request(request(latency=1.5, first_token=0.2, cost=0.01)) == {
        "rating_rate": Tally(1, 0),
        "error_rate": Tally(1, 0),
        "fallback_rate": Tally(1, 0),
        "latency": Tally(1, 1.5),
        "first_token": Tally(1, 0.2),
        "cost": Tally(1, 0.01),
        "cost_per_success": Tally(0, 0.01),
    }


def test_a_failed_call_has_no_latency_and_an_unknown_cost_is_no_zero() -> None:
    tallies = of_request(request(status=503, latency=30.0, fell_back=True))
    assert tallies["error_rate"] == Tally(1, 1)
    assert tallies["fallback_rate"] == Tally(1, 1)
    assert tallies.keys() == {"rating_rate", "error_rate", "fallback_rate"}


def test_a_caller_who_hangs_up_is_no_error_of_the_model() -> None:
    assert of_request(request(status=499, latency=2.0))["error_rate"] == Tally(1, 0)
    assert "latency" not in of_request(request(status=499, latency=2.0))


@pytest.mark.parametrize(
    ("metric", "old", "new", "cost_known", "expected"),
    [
        ("satisfaction", None, 1.0, True, {"satisfaction": Tally(1, 1), "rating_rate": Tally(0, 1)}),
        ("satisfaction", 1.0, 0.0, True, {"satisfaction": Tally(0, -1), "rating_rate": Tally(0, 0)}),
        ("task_success", None, 1.0, True, {"task_success": Tally(1, 1), "cost_per_success": Tally(1, 0)}),
        ("task_success", 1.0, 0.0, True, {"task_success": Tally(0, -1), "cost_per_success": Tally(-1, 0)}),
        ("task_success", None, 1.0, False, {"task_success": Tally(1, 1)}),
        ("accepted", None, 3.0, True, {"accepted": Tally(1, 3), "acceptance": Tally(0, 3)}),
        ("suggested", 4.0, 6.0, True, {"suggested": Tally(0, 2), "acceptance": Tally(2, 0)}),
    ],
)
def test_an_outcome_or_its_correction(
    metric: str, old: float | None, new: float, cost_known: bool, expected: dict[str, Tally]
) -> None:
    own = {"acceptance": Definition("acceptance", "ratio", "request", "accepted", "suggested")}
    assert of_outcome(metric, old, new, cost_known=cost_known, own=own) == expected


@pytest.mark.parametrize(
    ("definition", "tally", "expected"),
    [
        (None, Tally(3, 2), (3, 2)),
        (Definition("m", "real", "request"), Tally(3, 2), (3, 2)),
        (Definition("m", "binary", "unit"), Tally(3, 2), (1, 1)),
        (Definition("m", "binary", "unit"), Tally(3, 0), (1, 0)),
        (Definition("m", "count", "unit"), Tally(3, 2), (1, 2)),
        (Definition("m", "real", "unit"), Tally(4, 2), (1, 0.5)),
        (Definition("m", "ratio", "unit"), Tally(4, 2), (4, 2)),
    ],
)
def test_what_a_unit_adds_to_its_arm(
    definition: Definition | None, tally: Tally, expected: tuple[float, float]
) -> None:
    assert features(definition, tally) == expected


def test_quantiles_are_within_two_percent() -> None:
    values = np.random.default_rng(7).lognormal(0.0, 1.0, 20_000)
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_of(value)] = bins.get(bin_of(value), 0) + 1
    for share in (0.5, 0.95, 0.99):
        exact = float(np.quantile(values, share, method="lower"))
        assert quantile(bins, share) == pytest.approx(exact, rel=0.02)


def test_nothing_has_no_quantile_and_a_single_value_is_every_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({bin_of(2.0): 1}, 0.01) == quantile({bin_of(2.0): 1}, 0.99) == pytest.approx(2.0, rel=0.01)


def test_durations_of_zero_are_counted() -> None:
    assert quantile({bin_of(0.0): 1}, 0.5) == pytest.approx(1e-6, rel=0.02)


def test_stretches_never_go_back_end_after_now_and_stay_few() -> None:
    start, now, seen, rng = 1_000_000.4, 1_000_000.4, [], random.Random(1)
    while now < start + 90 * 86_400:
        seen.append(stretch_of(now, start))
        assert seen[-1] > now
        now += rng.random() * max(1.0, (now - start) / 500)
    assert seen == sorted(seen)
    assert len(set(seen)) < 1000
