"""Events into the record: each counted once, in one transaction, with the sums a readout reads.

Everything here may be applied again (after a crash, from a spilled file) without counting twice: the first
exposure of a unit wins, a request id is stored once, an outcome only adds its change.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlmodel import Session

from service.experiments import before
from service.experiments.assignment import HOLDOUT
from service.experiments.events import Event, Exposed, OutcomeGiven, Requested
from service.experiments.rollup import (
    CROSSED,
    SKETCHED,
    UNITS,
    Definition,
    Tally,
    aged,
    definitions,
    draw_of,
    features,
    of_outcome,
    of_request,
    stretch_of,
)
from service.measure.quantiles import bin_of
from service.store import events as store
from service.store import experiments
from service.store.events import Call, Seen, Sums

Phase = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Applied:
    """How many events changed the record, and how many it knew already."""

    accepted: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What of an experiment's plan matters here."""

    own: dict[str, Definition] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    primary: frozenset[str] = frozenset()
    sticky: bool = False
    covariate_days: float | None = None
    started: float | None = None

    def definition(self, metric: str) -> Definition | None:
        return self.own.get(metric.partition("@")[0])


@dataclass(slots=True)
class _Batch:
    """What one transaction adds up before it writes."""

    now: float
    plans: dict[str, _Plan] = field(default_factory=dict)
    tallies: dict[Phase, dict[str, dict[str, Tally]]] = field(default_factory=dict)
    sums: dict[tuple[str, int, str, str, int], Sums] = field(default_factory=dict)
    pasts: before.BeforeSums = field(default_factory=dict)
    stretches: dict[str, int] = field(default_factory=dict)

    def plan(self, experiment_id: str) -> _Plan:
        return self.plans.get(experiment_id, _Plan())

    def add(self, phase: Phase, unit: str, tallies: Mapping[str, Tally]) -> None:
        kept = self.tallies.setdefault(phase, {}).setdefault(unit, {})
        for metric, tally in tallies.items():
            kept[metric] = kept.get(metric, Tally()) + tally

    def add_sums(self, phase: Phase, metric: str, variant: str, sums: Sums) -> None:
        stretch = self.stretches.get(phase[0])
        if stretch is None:
            started = self.plan(phase[0]).started
            stretch = self.stretches[phase[0]] = stretch_of(self.now, self.now if started is None else started)
        key = (*phase, metric, variant, stretch)
        self.sums[key] = self.sums.get(key, Sums()) + sums


def apply(session: Session, events: Sequence[Event]) -> Applied:
    """Store `events` and bring every sum up to date, in the transaction of `session`."""
    store.take_turn(session)
    batch = _Batch(now=time.time())
    _load_plans(session, batch, [event for event in events if not isinstance(event, OutcomeGiven)])
    events = _settled(session, batch, events)
    requests, repeated = _new_requests(session, events)
    changes, unchanged = _outcome_changes(session, [event for event in events if isinstance(event, OutcomeGiven)])
    earlier = store.counted_calls(session, {request_id for request_id, _, _, _ in changes})
    _load_plans(session, batch, earlier.values())
    exposures = [event for event in events if isinstance(event, Exposed)]
    calls = [request for request in requests.values() if request.exposure is not None]

    implied = [request.exposure for request in calls if request.exposure is not None]
    kept = _store_exposures(session, batch, sorted([*exposures, *implied], key=lambda exposure: exposure.at))
    _store_requests(session, requests.values())
    arms = _arms(session, calls, [earlier[request_id] for request_id, _, _, _ in changes if request_id in earlier])
    for request_id, metric, old, new in changes:
        if request_id in earlier:
            _tally_outcome(batch, arms, earlier[request_id], metric, old, new)
    _tally_requests(session, batch, arms, calls)
    _store_tallies(session, batch, arms)
    _store_durations(session, calls)
    store.add_arm_sums(session, batch.sums)
    store.add_before_sums(session, batch.pasts)
    duplicates = repeated + unchanged + len(exposures) - len(kept.intersection(exposures))
    return Applied(len(events) - duplicates, duplicates)


def _settled(session: Session, batch: _Batch, events: Sequence[Event]) -> Sequence[Event]:
    """The events with every unit of a sticky experiment in the phase it came in by: there it was assigned at random,
    with known shares, whatever the weights have become since."""
    units: dict[str, set[str]] = defaultdict(set)
    for event in events:
        exposed = event.exposure if isinstance(event, Requested) else event if isinstance(event, Exposed) else None
        if exposed is not None and exposed.variant != HOLDOUT and batch.plan(exposed.experiment_id).sticky:
            units[exposed.experiment_id].add(exposed.unit_id)
    if not units:
        return events
    phases = {experiment_id: store.phases_of(session, experiment_id, group) for experiment_id, group in units.items()}
    settled: list[Event] = []
    for event in sorted(events, key=lambda event: event.at):
        exposed = event.exposure if isinstance(event, Requested) else event if isinstance(event, Exposed) else None
        if exposed is None or exposed.unit_id not in units.get(exposed.experiment_id, ()):
            settled.append(event)
            continue
        phase = phases[exposed.experiment_id].setdefault(exposed.unit_id, exposed.phase)
        settled.append(msgspec.structs.replace(event, phase=phase))
    return settled


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


def _load_plans(session: Session, batch: _Batch, of: Iterable[Exposed | Requested | Call]) -> None:
    missing = {one.experiment_id for one in of if one.experiment_id} - batch.plans.keys()
    if not missing:
        return
    for experiment_id, row in experiments.by_ids(session, missing).items():
        metrics = row.plan["metrics"]
        batch.plans[experiment_id] = _Plan(
            own=definitions(metrics),
            declared=frozenset(metric["name"] for metric in metrics),
            primary=frozenset(metric["name"] for metric in metrics if metric.get("role") == "primary"),
            sticky=bool(row.plan.get("sticky") or row.plan.get("bandit")),
            covariate_days=row.plan.get("covariate_days"),
            started=row.phase_started_at or row.created_at,
        )


def _arms(session: Session, calls: Sequence[Requested], earlier: Sequence[Call]) -> dict[Phase, dict[str, Seen]]:
    """The exposures of all units that something is added to."""
    units: dict[Phase, set[str]] = defaultdict(set)
    for call in earlier:
        units[call.experiment_id, call.phase].add(call.unit_id)
    for request in calls:
        if (exposure := request.exposure) is not None:
            units[exposure.experiment_id, exposure.phase].add(exposure.unit_id)
    return {phase: store.exposures_of(session, *phase, group) for phase, group in units.items()}


def _store_exposures(session: Session, batch: _Batch, exposures: Sequence[Exposed]) -> set[Exposed]:
    """Keep the first exposure of each unit and return those kept; mark the units seen in two arms."""
    kept: set[Exposed] = set()
    for phase, group in _by_phase(exposures).items():
        seen = store.exposures_of(session, *phase, {exposure.unit_id for exposure in group})
        rows, crossed = [], set()
        for exposure in group:
            first = seen.get(exposure.unit_id)
            if first is None:
                seen[exposure.unit_id] = Seen(exposure.variant, False, exposure.at)
                rows.append(msgspec.structs.asdict(exposure) | {"crossed": False, "draw": draw_of(exposure.unit_id)})
                kept.add(exposure)
                batch.add_sums(phase, UNITS, exposure.variant, Sums(1, 1, 1, 1, 1, 1))
            elif first.variant != exposure.variant and not first.crossed:
                seen[exposure.unit_id] = Seen(first.variant, True, first.at)
                crossed.add(exposure.unit_id)
                batch.add_sums(phase, CROSSED, first.variant, Sums(1, 1, 1, 1, 1, 1))
        store.add_exposures(session, rows)
        if crossed:
            store.mark_crossed(session, *phase, crossed)
        newcomers = {exposure.unit_id: exposure for exposure in group if exposure in kept}
        _store_newcomers(session, batch, phase, list(newcomers.values()))
    return kept


def _store_newcomers(session: Session, batch: _Batch, phase: Phase, newcomers: Sequence[Exposed]) -> None:
    """What else is kept of units at their exposure, where the plan asks for it."""
    plan = batch.plan(phase[0])
    if plan.sticky:
        rows = [
            {"experiment_id": phase[0], "unit_id": one.unit_id, "phase": phase[1], "variant": one.variant}
            for one in newcomers
            if one.variant != HOLDOUT
        ]
        store.add_sticky(session, rows)
    if plan.covariate_days:
        metrics = {name: plan.own.get(name) for name in plan.declared}
        before.remember(session, phase, newcomers, plan.covariate_days, metrics, batch.pasts)


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


def _tally_requests(
    session: Session, batch: _Batch, arms: Mapping[Phase, Mapping[str, Seen]], calls: Sequence[Requested]
) -> None:
    """Add the new calls, each with the outcomes that came before it."""
    waiting: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (request_id, metric), (value, _) in store.outcomes_of(session, {c.request_id for c in calls}).items():
        waiting[request_id].append((metric, value))
    for request in calls:
        exposure = request.exposure
        if exposure is None:
            continue
        known = request.cost is not None
        call = Call(exposure.experiment_id, exposure.phase, exposure.unit_id, known, request.at)
        _tally(batch, arms, call, of_request(request))
        for metric, value in waiting[request.request_id]:
            _tally_outcome(batch, arms, call, metric, None, value)


def _tally_outcome(
    batch: _Batch, arms: Mapping[Phase, Mapping[str, Seen]], call: Call, metric: str, old: float | None, new: float
) -> None:
    own = batch.plan(call.experiment_id).own
    _tally(batch, arms, call, of_outcome(metric, old, new, cost_known=call.cost_known, own=own))


def _tally(batch: _Batch, arms: Mapping[Phase, Mapping[str, Seen]], call: Call, tallies: Mapping[str, Tally]) -> None:
    """Add to a unit what a call or an outcome says; primary metrics also by the unit's age at the call."""
    phase = call.experiment_id, call.phase
    exposed_at = arms[phase][call.unit_id].at
    primary = batch.plan(call.experiment_id).primary
    by_age = {aged(name, call.at, exposed_at): tally for name, tally in tallies.items() if name in primary}
    batch.add(phase, call.unit_id, {**tallies, **by_age})


def _store_tallies(session: Session, batch: _Batch, arms: Mapping[Phase, Mapping[str, Seen]]) -> None:
    """Bring the units' rollups forward, and the arms' sums by what that changed."""
    for phase, units in batch.tallies.items():
        metrics = {metric for tallies in units.values() for metric in tallies}
        stored = store.rollups_of(session, *phase, metrics, units.keys())
        plan, pasts = batch.plan(phase[0]), {}
        if plan.covariate_days:
            pasts = store.befores_of(session, *phase, metrics, units.keys())
        rows = []
        for unit, tallies in units.items():
            variant = arms[phase][unit].variant
            for metric, tally in tallies.items():
                old = stored.get((unit, metric))
                total = Tally(*(old or (0.0, 0.0))) + tally
                rows.append(
                    {"experiment_id": phase[0], "phase": phase[1], "metric": metric, "unit_id": unit}
                    | {"variant": variant, "count": total.count, "sum": total.sum}
                )
                definition = plan.definition(metric)
                was = features(definition, Tally(*old)) if old else (0.0, 0.0)
                now = features(definition, total)
                batch.add_sums(phase, metric, variant, _change(was, now, new=old is None))
                if (past := pasts.get((unit, metric))) is not None:
                    key = (*phase, metric, variant)
                    before.add(batch.pasts, key, before.change(definition, Tally(*past), was, now))
        store.save_rollups(session, rows)


def _change(old: tuple[float, float], now: tuple[float, float], *, new: bool) -> Sums:
    (x0, y0), (x, y) = old, now
    return Sums(int(new), x - x0, y - y0, x * x - x0 * x0, y * y - y0 * y0, x * y - x0 * y0)


def _store_durations(session: Session, calls: Sequence[Requested]) -> None:
    """Count the durations of answered calls, under the arm each was assigned to."""
    bins: Counter[tuple[str, int, str, str, int]] = Counter()
    for request, metric in itertools.product(calls, SKETCHED):
        exposure, seconds = request.exposure, getattr(request, metric)
        if exposure is not None and seconds is not None and request.status < 400:
            bins[exposure.experiment_id, exposure.phase, metric, exposure.variant, bin_of(seconds)] += 1
    store.add_latency_bins(session, bins)
