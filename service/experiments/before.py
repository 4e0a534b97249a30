"""What units did before their exposure, kept beside what they do after it, for a readout with less noise.

Only calls outside of the experiment count as the past: in it, a unit may have met an arm in an earlier phase.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlmodel import Session

from service.experiments.events import Exposed, Requested
from service.experiments.rollup import Definition, Tally, features, of_outcome, of_request
from service.store import events as store
from service.store.events import Before
from service.store.tables import GatewayRequest

DAY = 86_400.0
Phase = tuple[str, int]
BeforeSums = dict[tuple[str, int, str, str], Before]


def remember(
    session: Session,
    phase: Phase,
    exposed: Sequence[Exposed],
    days: float,
    metrics: Mapping[str, Definition | None],
    sums: BeforeSums,
) -> None:
    """Store the past of units that have just been exposed, and add it to their arms' sums."""
    window = days * DAY
    units = {exposure.unit_id: exposure for exposure in exposed}
    if not units:
        return
    moments = [exposure.at for exposure in exposed]
    calls = [
        call
        for call in store.past_calls(session, phase[0], units.keys(), min(moments) - window, max(moments))
        if call.unit_id is not None and units[call.unit_id].at - window <= call.at < units[call.unit_id].at
    ]
    own = {name: definition for name, definition in metrics.items() if definition is not None}
    rows = []
    for (unit, metric), tally in _tallies(session, calls, own).items():
        if metric not in metrics:
            continue
        row = {"experiment_id": phase[0], "phase": phase[1], "metric": metric, "unit_id": unit}
        rows.append(row | {"count": tally.count, "sum": tally.sum})
        u, v = features(metrics[metric], tally)
        add(sums, (*phase, metric, units[unit].variant), Before(u, v, u * u, v * v, u * v))
    store.add_befores(session, rows)


def _tallies(
    session: Session, calls: Sequence[GatewayRequest], own: Mapping[str, Definition]
) -> dict[tuple[str, str], Tally]:
    outcomes: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (request_id, metric), (value, _) in store.outcomes_of(session, {call.request_id for call in calls}).items():
        outcomes[request_id].append((metric, value))
    found: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for call in calls:
        parts = [of_request(_as_event(call))]
        parts += [
            of_outcome(metric, None, value, cost_known=call.cost is not None, own=own)
            for metric, value in outcomes[call.request_id]
        ]
        for part in parts:
            for metric, tally in part.items():
                found[call.unit_id or "", metric] += tally
    return found


def _as_event(call: GatewayRequest) -> Requested:
    return Requested(
        call.request_id,
        call.at,
        call.status,
        fell_back=call.fell_back,
        latency=call.latency,
        first_token=call.first_token,
        cost=call.cost,
    )


def change(definition: Definition | None, past: Tally, old: tuple[float, float], new: tuple[float, float]) -> Before:
    """What a unit's step from `old` (x, y) to `new` changes in its arm's products with the past."""
    u, v = features(definition, past)
    x, y = new[0] - old[0], new[1] - old[1]
    return Before(xu=x * u, xv=x * v, yu=y * u, yv=y * v)


def add(sums: BeforeSums, key: tuple[str, int, str, str], more: Before) -> None:
    sums[key] = sums.get(key, Before()) + more
