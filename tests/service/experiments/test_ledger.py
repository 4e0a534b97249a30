"""Events into the record: once each, in any order, in any batches, on both databases."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlmodel import select

from service.experiments import ledger
from service.experiments.events import Event, Exposed, OutcomeGiven, Requested
from service.experiments.ledger import Applied
from service.store import events as store
from service.store.database import Database
from service.store.events import Sums
from service.store.tables import Experiment, Exposure, GatewayRequest, Outcome, UnitRollup

METRICS: list[dict[str, Any]] = [
    {"name": "satisfaction", "kind": "binary", "by": "request"},
    {"name": "visits", "kind": "count", "by": "unit"},
    {"name": "converted", "kind": "binary", "by": "unit"},
    {"name": "acceptance", "kind": "ratio", "by": "request", "numerator": "accepted", "denominator": "suggested"},
]


@pytest.fixture
def experiment(database: Database) -> str:
    with database.write() as session:
        row = Experiment(key="e", name="e", salt="s", plan={"metrics": METRICS}, created_at=0.0, phase_started_at=0.0)
        session.add(row)
        session.flush()
        return row.id


def apply(database: Database, *events: Event) -> Applied:
    with database.write() as session:
        return ledger.apply(session, events)


def call(experiment: str, request_id: str, unit: str = "u", variant: str = "a", **more: Any) -> Requested:
    fields = {"at": 1.0, "status": 200, "counted": True, "phase": 1, "latency": 0.5, "cost": 0.25, **more}
    return Requested(request_id=request_id, experiment_id=experiment, unit_id=unit, variant=variant, **fields)


def rollups(database: Database) -> dict[tuple[str, str], tuple[float, float]]:
    with database.read() as session:
        rows = session.exec(select(UnitRollup)).all()
        return {(row.unit_id, row.metric): (row.count, row.sum) for row in rows}


def ratings(found: dict[tuple[str, str], tuple[float, float]], unit: str) -> list[tuple[float, float]]:
    return [found[unit, "satisfaction"], found[unit, "rating_rate"]]


def sums(database: Database, experiment: str) -> dict[tuple[str, str], Sums]:
    with database.read() as session:
        return store.arm_sums(session, experiment, 1)


def test_an_event_counts_once_however_often_it_is_sent(database: Database, experiment: str) -> None:
    events = (
        Exposed(experiment, 1, "v", "b", 1.0),
        call(experiment, "r1"),
        OutcomeGiven("r1", "satisfaction", 1.0, 2.0),
    )
    assert apply(database, *events) == Applied(3, 0)
    before = rollups(database), sums(database, experiment)
    assert apply(database, *events) == Applied(0, 3)
    assert apply(database, *events, *events) == Applied(0, 6)
    assert (rollups(database), sums(database, experiment)) == before
    assert ratings(before[0], "u") == [(1, 1), (1, 1)]


def test_an_outcome_may_come_before_its_request(database: Database, experiment: str) -> None:
    assert apply(database, OutcomeGiven("r1", "satisfaction", 1.0, 2.0)) == Applied(1, 0)
    assert rollups(database) == {}
    apply(database, call(experiment, "r1"))
    early = rollups(database)
    apply(database, call(experiment, "r2", unit="w"))
    apply(database, OutcomeGiven("r2", "satisfaction", 1.0, 3.0))
    late = rollups(database)
    assert ratings(early, "u") == ratings(late, "w") == [(1, 1), (1, 1)]


def test_a_correction_replaces_and_an_older_one_does_not(database: Database, experiment: str) -> None:
    apply(database, call(experiment, "r1"), OutcomeGiven("r1", "satisfaction", 1.0, 5.0))
    assert apply(database, OutcomeGiven("r1", "satisfaction", 0.0, 6.0)) == Applied(1, 0)
    assert ratings(rollups(database), "u") == [(1, 0), (1, 1)]
    assert apply(database, OutcomeGiven("r1", "satisfaction", 1.0, 5.0)) == Applied(0, 1)
    assert ratings(rollups(database), "u") == [(1, 0), (1, 1)]
    with database.read() as session:
        assert session.exec(select(Outcome.value, Outcome.at)).one() == (0.0, 6.0)


def test_the_first_exposure_wins_and_a_second_arm_is_counted_once(database: Database, experiment: str) -> None:
    apply(database, Exposed(experiment, 1, "u", "a", 1.0))
    apply(database, call(experiment, "r1", variant="b"), call(experiment, "r2", variant="b"))
    apply(database, call(experiment, "r3", variant="b"))
    with database.read() as session:
        exposure = session.exec(select(Exposure)).one()
    assert (exposure.variant, exposure.crossed) == ("a", True)
    found = sums(database, experiment)
    assert found["crossed_units", "a"].n == 1
    # Intention to treat: what the unit does belongs to the arm it met first.
    assert found["rating_rate", "a"].x == 3
    assert ("rating_rate", "b") not in found


def test_within_a_batch_the_earlier_exposure_is_the_first(database: Database, experiment: str) -> None:
    apply(database, call(experiment, "late", variant="b", at=9.0), Exposed(experiment, 1, "u", "a", 3.0))
    with database.read() as session:
        assert session.exec(select(Exposure.variant)).one() == "a"


def test_a_new_phase_begins_anew(database: Database, experiment: str) -> None:
    apply(database, call(experiment, "r1"), call(experiment, "r2", phase=2, variant="b"))
    assert sums(database, experiment)["units", "a"].n == 1
    with database.read() as session:
        assert store.arm_sums(session, experiment, 2)["units", "b"].n == 1


def test_calls_that_do_not_count_are_kept_for_their_cost(database: Database, experiment: str) -> None:
    apply(database, call(experiment, "r1", counted=False), Requested("r2", 1.0, 200, cost=0.1))
    apply(database, OutcomeGiven("r1", "satisfaction", 1.0, 2.0))
    assert rollups(database) == {}
    assert sums(database, experiment) == {}
    with database.read() as session:
        assert set(session.exec(select(GatewayRequest.cost)).all()) == {0.1, 0.25}


def test_own_metrics_by_unit_and_as_a_ratio(database: Database, experiment: str) -> None:
    apply(database, call(experiment, "r1"), call(experiment, "r2"), call(experiment, "r3", unit="v"))
    values = [("r1", "visits", 2), ("r2", "visits", 3), ("r1", "converted", 1), ("r2", "converted", 1)]
    values += [("r1", "accepted", 3), ("r1", "suggested", 4), ("r2", "suggested", 6), ("r3", "converted", 0)]
    apply(database, *(OutcomeGiven(request, metric, float(value), 2.0) for request, metric, value in values))
    found = sums(database, experiment)
    assert found["visits", "a"] == Sums(1, 1, 5, 1, 25, 5)
    assert found["converted", "a"] == Sums(2, 2, 1, 2, 1, 1)
    assert found["acceptance", "a"] == Sums(1, 10, 3, 100, 9, 30)


def random_events(experiment: str, rng: random.Random) -> list[Event]:
    """A few units with calls, ratings and corrections; no unit in two arms."""
    events: list[Event] = []
    for n in range(120):
        unit = f"u{rng.randrange(15)}"
        variant = "ab"[hash_of(unit) % 2]
        status = rng.choice([200, 200, 200, 503, 499])
        events.append(
            call(experiment, f"r{n}", unit, variant, at=float(n), status=status, cost=rng.choice([None, 0.5, 0.25]))
        )
        for metric in ("satisfaction", "task_success", "visits", "converted", "accepted", "suggested"):
            times = range(rng.randrange(3))
            events.extend(OutcomeGiven(f"r{n}", metric, float(rng.randrange(2)), 1000.0 + at) for at in times)
    return events


def hash_of(unit: str) -> int:
    return sum(unit.encode())


def expected(events: Sequence[Event]) -> dict[tuple[str, str], tuple[float, float]]:
    """The same arithmetic from the raw events, the slow way."""
    outcomes: dict[tuple[str, str], tuple[float, float]] = {}
    for event in events:
        if isinstance(event, OutcomeGiven):
            key = event.request_id, event.metric
            if key not in outcomes or event.at > outcomes[key][0]:
                outcomes[key] = event.at, event.value
    total: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(unit: str | None, metric: str, count: float, value: float) -> None:
        assert unit is not None
        total[unit, metric][0] += count
        total[unit, metric][1] += value

    for event in events:
        if not isinstance(event, Requested):
            continue
        given = {metric: value for (request, metric), (_, value) in outcomes.items() if request == event.request_id}
        add(event.unit_id, "rating_rate", 1, "satisfaction" in given)
        add(event.unit_id, "error_rate", 1, event.status == 503)
        add(event.unit_id, "fallback_rate", 1, 0)
        if event.status == 200:
            add(event.unit_id, "latency", 1, 0.5)
        if event.cost is not None:
            add(event.unit_id, "cost", 1, event.cost)
            add(event.unit_id, "cost_per_success", given.get("task_success", 0), event.cost)
        for metric, value in given.items():
            add(event.unit_id, metric, 1, value)
        if given.keys() & {"accepted", "suggested"}:
            add(event.unit_id, "acceptance", given.get("suggested", 0), given.get("accepted", 0))
    return {key: (count, value) for key, (count, value) in total.items()}


@pytest.mark.parametrize("seed", range(4))
def test_any_order_and_any_batches_give_the_same_sums(database: Database, experiment: str, seed: int) -> None:
    rng = random.Random(seed)
    events = random_events(experiment, rng)
    # At-least-once: some come twice, in an order of their own.
    sent = events + rng.sample(events, 40)
    rng.shuffle(sent)
    while sent:
        size = rng.randrange(1, 80)
        apply(database, *sent[:size])
        sent = sent[size:]
    assert rollups(database) == expected(events)

    # The arms' sums are the sums of the units' features, however they were added up.
    found = sums(database, experiment)
    for (metric, variant), total in found.items():
        if metric == "units":
            continue
        units = [
            pair
            for (unit, name), pair in expected(events).items()
            if name == metric and "ab"[hash_of(unit) % 2] == variant
        ]
        if metric == "visits":
            units = [(1.0, y) for _, y in units]
        if metric == "converted":
            units = [(1.0, float(y > 0)) for _, y in units]
        assert total.n == len(units)
        assert [total.x, total.y, total.xx, total.yy, total.xy] == pytest.approx(
            [sum(f(x, y) for x, y in units) for f in FEATURES]
        )


FEATURES: tuple[Callable[[float, float], float], ...] = (
    lambda x, y: x,
    lambda x, y: y,
    lambda x, y: x * x,
    lambda x, y: y * y,
    lambda x, y: x * y,
)


def test_writers_at_once_lose_nothing(database: Database, experiment: str) -> None:
    """The outcome and its request in two transactions at the same time, many times over."""
    failures: list[BaseException] = []

    def write(events: list[Event]) -> None:
        try:
            for event in events:
                apply(database, event)
        except BaseException as error:
            failures.append(error)

    calls: list[Event] = [call(experiment, f"r{n}", unit=f"u{n % 3}") for n in range(40)]
    outcomes: list[Event] = [OutcomeGiven(f"r{n}", "satisfaction", 1.0, 2.0) for n in range(40)]
    threads = [threading.Thread(target=write, args=(part,)) for part in (calls, outcomes, list(reversed(outcomes)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = sums(database, experiment)
    assert (found["satisfaction", "a"].x, found["satisfaction", "a"].y) == (40, 40)
    assert (found["rating_rate", "a"].x, found["rating_rate", "a"].y) == (40, 40)


def test_durations_are_counted_for_quantiles(database: Database, experiment: str) -> None:
    events = [call(experiment, f"r{n}", latency=0.01 * (n + 1), first_token=0.001 * (n + 1)) for n in range(100)]
    apply(database, *events[:50])
    apply(database, *events[50:], *events)
    with database.read() as session:
        bins = store.latency_bins(session, experiment, 1)
    assert sum(bins["latency", "a"].values()) == 100
    assert sum(bins["first_token", "a"].values()) == 100
