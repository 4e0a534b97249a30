"""Events into the record: each counted once, in one transaction, with the sums a readout reads.

Everything here may be applied again (after a crash, from a spilled file) without counting twice: the first
exposure of a unit wins, a request id is stored once, an outcome only adds its change.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import msgspec
from sqlmodel import Session

from service.experiments.events import Event, Exposed, OutcomeGiven, Requested
from service.experiments.rollup import (
    CROSSED,
    SKETCHED,
    UNITS,
    Definition,
    Tally,
    bin_of,
    definitions,
    features,
    of_outcome,
    of_request,
    stretch_of,
)
from service.store import events as store
from service.store import experiments
from service.store.events import Call, Seen, Sums

Phase = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Applied:
    """How many events changed the record, and how many it knew already."""

    accepted: int
    duplicates: int


@dataclass(slots=True)
class _Batch:
    """What one transaction adds up before it writes."""

    now: float
    tallies: dict[Phase, dict[str, dict[str, Tally]]] = field(default_factory=dict)
    sums: dict[tuple[str, int, str, str, int], Sums] = field(default_factory=dict)
    own: dict[str, dict[str, Definition]] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)

    def add(self, phase: Phase, unit: str, tallies: Mapping[str, Tally]) -> None:
        kept = self.tallies.setdefault(phase, {}).setdefault(unit, {})
        for metric, tally in tallies.items():
            kept[metric] = kept.get(metric, Tally()) + tally

    def add_sums(self, phase: Phase, metric: str, variant: str, sums: Sums) -> None:
        key = (*phase, metric, variant, stretch_of(self.now, self.started.get(phase[0], self.now)))
        self.sums[key] = self.sums.get(key, Sums()) + sums


def apply(session: Session, events: Sequence[Event]) -> Applied:
    """Store `events` and bring every sum up to date, in the transaction of `session`."""
    store.take_turn(session)
    batch = _Batch(now=time.time())
    requests, repeated = _new_requests(session, events)
    changes, unchanged = _outcome_changes(session, [event for event in events if isinstance(event, OutcomeGiven)])
    earlier = store.counted_calls(session, {request_id for request_id, _, _, _ in changes})
    exposures = [event for event in events if isinstance(event, Exposed)]
    calls = [request for request in requests.values() if request.exposure is not None]
    _load_plans(session, batch, [*exposures, *calls], earlier)

    implied = [request.exposure for request in calls if request.exposure is not None]
    kept = _store_exposures(session, batch, sorted([*exposures, *implied], key=lambda exposure: exposure.at))
    _store_requests(session, requests.values())
    for request_id, metric, old, new in changes:
        if request_id in earlier:
            _tally_outcome(batch, earlier[request_id], metric, old, new)
    _tally_requests(session, batch, calls)
    _store_tallies(session, batch)
    _store_durations(session, calls)
    store.add_arm_sums(session, batch.sums)
    duplicates = repeated + unchanged + len(exposures) - len(kept.intersection(exposures))
    return Applied(len(events) - duplicates, duplicates)


def _new_requests(session: Session, events: Sequence[Event]) -> tuple[dict[str, Requested], int]:
    given = [event for event in events if isinstance(event, Requested)]
    unique = {request.request_id: request for request in reversed(given)}
    stored = store.stored_requests(session, unique.keys())
    fresh = {request_id: request for request_id, request in unique.items() if request_id not in stored}
    return fresh, len(given) - len(fresh)


def _outcome_changes(
    session: Session, outcomes: Sequence[OutcomeGiven]
) -> tuple[list[tuple[str, str, float | None, float]], int]:
    """Store the outcomes; return (request, metric, old value, new value) of those that changed something."""
    newest: dict[tuple[str, str], OutcomeGiven] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.at):
        newest[outcome.request_id, outcome.metric] = outcome
    stored = store.outcomes_of(session, {outcome.request_id for outcome in outcomes})
    changes: list[tuple[str, str, float | None, float]] = []
    for key, outcome in newest.items():
        value, at = stored.get(key, (None, 0.0))
        if value is None or (value != outcome.value and outcome.at >= at):
            changes.append((*key, value, outcome.value))
    rows = [
        {"request_id": request, "metric": metric, "value": new, "at": newest[request, metric].at}
        for request, metric, _, new in changes
    ]
    store.save_outcomes(session, rows)
    return changes, len(outcomes) - len(changes)


def _load_plans(
    session: Session, batch: _Batch, events: Iterable[Exposed | Requested], calls: Mapping[str, Call]
) -> None:
    ids = {event.experiment_id for event in events if event.experiment_id} | {c.experiment_id for c in calls.values()}
    for experiment_id, row in experiments.by_ids(session, ids).items():
        batch.own[experiment_id] = definitions(row.plan["metrics"])
        batch.started[experiment_id] = row.phase_started_at or row.created_at


def _store_exposures(session: Session, batch: _Batch, exposures: Sequence[Exposed]) -> set[Exposed]:
    """Keep the first exposure of each unit and return those kept; mark the units seen in two arms."""
    kept: set[Exposed] = set()
    for phase, group in _by_phase(exposures).items():
        seen = store.exposures_of(session, *phase, {exposure.unit_id for exposure in group})
        rows, crossed = [], set()
        for exposure in group:
            first = seen.get(exposure.unit_id)
            if first is None:
                seen[exposure.unit_id] = Seen(exposure.variant, False)
                rows.append(msgspec.structs.asdict(exposure) | {"crossed": False})
                kept.add(exposure)
                batch.add_sums(phase, UNITS, exposure.variant, Sums(1, 1, 1, 1, 1, 1))
            elif first.variant != exposure.variant and not first.crossed:
                seen[exposure.unit_id] = Seen(first.variant, True)
                crossed.add(exposure.unit_id)
                batch.add_sums(phase, CROSSED, first.variant, Sums(1, 1, 1, 1, 1, 1))
        store.add_exposures(session, rows)
        if crossed:
            store.mark_crossed(session, *phase, crossed)
    return kept


def _by_phase(exposures: Iterable[Exposed]) -> dict[Phase, list[Exposed]]:
    groups: dict[Phase, list[Exposed]] = defaultdict(list)
    for exposure in exposures:
        groups[exposure.experiment_id, exposure.phase].append(exposure)
    return groups


def _store_requests(session: Session, requests: Iterable[Requested]) -> None:
    rows, contents = [], []
    for request in requests:
        row = msgspec.structs.asdict(request)
        messages, answer = row.pop("messages"), row.pop("answer")
        rows.append(row)
        if messages is not None or answer is not None:
            contents.append({"request_id": request.request_id, "messages": messages, "answer": answer})
    store.add_requests(session, rows, contents)


def _tally_requests(session: Session, batch: _Batch, calls: Sequence[Requested]) -> None:
    """Add the new calls, each with the outcomes that came before it."""
    waiting: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (request_id, metric), (value, _) in store.outcomes_of(session, {c.request_id for c in calls}).items():
        waiting[request_id].append((metric, value))
    for request in calls:
        exposure = request.exposure
        if exposure is None:
            continue
        batch.add((exposure.experiment_id, exposure.phase), exposure.unit_id, of_request(request))
        call = Call(exposure.experiment_id, exposure.phase, exposure.unit_id, request.cost is not None)
        for metric, value in waiting[request.request_id]:
            _tally_outcome(batch, call, metric, None, value)


def _tally_outcome(batch: _Batch, call: Call, metric: str, old: float | None, new: float) -> None:
    own = batch.own.get(call.experiment_id, {})
    tallies = of_outcome(metric, old, new, cost_known=call.cost_known, own=own)
    batch.add((call.experiment_id, call.phase), call.unit_id, tallies)


def _store_tallies(session: Session, batch: _Batch) -> None:
    """Bring the units' rollups forward, and the arms' sums by what that changed."""
    for phase, units in batch.tallies.items():
        metrics = {metric for tallies in units.values() for metric in tallies}
        before = store.rollups_of(session, *phase, metrics, units.keys())
        arms = store.exposures_of(session, *phase, units.keys())
        own = batch.own.get(phase[0], {})
        rows = []
        for unit, tallies in units.items():
            variant = arms[unit].variant
            for metric, tally in tallies.items():
                old = before.get((unit, metric))
                total = Tally(*(old or (0.0, 0.0))) + tally
                rows.append(
                    {"experiment_id": phase[0], "phase": phase[1], "metric": metric, "unit_id": unit}
                    | {"variant": variant, **asdict(total)}
                )
                batch.add_sums(phase, metric, variant, _change(own.get(metric), Tally(*old) if old else None, total))
        store.save_rollups(session, rows)


def _change(definition: Definition | None, old: Tally | None, new: Tally) -> Sums:
    x0, y0 = features(definition, old) if old is not None else (0.0, 0.0)
    x, y = features(definition, new)
    return Sums(int(old is None), x - x0, y - y0, x * x - x0 * x0, y * y - y0 * y0, x * y - x0 * y0)


def _store_durations(session: Session, calls: Sequence[Requested]) -> None:
    """Count the durations of answered calls, under the arm each was assigned to."""
    bins: Counter[tuple[str, int, str, str, int]] = Counter()
    for request, metric in itertools.product(calls, SKETCHED):
        exposure, seconds = request.exposure, getattr(request, metric)
        if exposure is not None and seconds is not None and request.status < 400:
            bins[exposure.experiment_id, exposure.phase, metric, exposure.variant, bin_of(seconds)] += 1
    store.add_latency_bins(session, bins)
