"""Events from callers: names turned into ids, and what cannot be true refused."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence

from service.errors import Invalid
from service.experiments.assignment import HOLDOUT, LiveExperiment
from service.experiments.events import Event, Exposed, OutcomeGiven, Requested
from service.experiments.rollup import BINARY_OUTCOMES, BUILT_IN, CROSSED, QUANTILES, UNITS
from service.experiments.schemas import ExposureIn, OutcomeIn, RequestIn
from service.experiments.snapshot import EMPTY, Snapshots

MEASURED = (BUILT_IN.keys() | QUANTILES.keys() | {UNITS, CROSSED}) - BINARY_OUTCOMES


class EventRefused(Invalid):
    code = "event_refused"


class Clock:
    """Wall time that never goes back: after a jump it stands still until the wall has caught up. Of two outcomes the
    later one counts, and what comes later must not look earlier."""

    def __init__(self) -> None:
        self._latest = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            self._latest = max(self._latest, time.time())
            return self._latest


def read(
    given: Sequence[OutcomeIn | ExposureIn | RequestIn], snapshots: Snapshots, now: float, oldest: float = -math.inf
) -> list[Event]:
    """The events, ready to be stored; all or none. `oldest`: requests made before then have been deleted.

    Raises:
        EventRefused: names the first event that cannot be stored, and why.
    """
    return [_read(index, event, snapshots, now, oldest) for index, event in enumerate(given)]


def _read(
    index: int, event: OutcomeIn | ExposureIn | RequestIn, snapshots: Snapshots, now: float, oldest: float
) -> Event:
    at = now if event.at is None else event.at
    if isinstance(event, RequestIn) and at < oldest:
        raise EventRefused(
            f"events[{index}]: the request was made at {at:.0f}, before {oldest:.0f}: requests of that age have been "
            "deleted (TUNESCOPE_REQUEST_DAYS), so that it could be counted twice."
        )
    if isinstance(event, OutcomeIn):
        if event.metric in MEASURED:
            raise EventRefused(f"events[{index}]: '{event.metric}' is measured by the service, not reported.")
        _check_known(index, event.metric, snapshots)
        if event.metric in BINARY_OUTCOMES and event.value not in (0, 1):
            raise EventRefused(f"events[{index}]: {event.metric} is 1 (yes) or 0 (no), got {event.value:g}.")
        return OutcomeGiven(event.request_id, event.metric, event.value, at)
    experiment = _experiment(index, event.experiment, snapshots)
    if event.variant != HOLDOUT and event.variant not in experiment.by_key:
        known = ", ".join(experiment.by_key)
        raise EventRefused(f"events[{index}]: '{event.experiment}' has no variant '{event.variant}' (it has {known}).")
    phase = event.phase or experiment.phase
    if phase > experiment.phase:
        # Another replica may have begun it a moment ago.
        experiment = snapshots.refresh().experiments.get(event.experiment, experiment)
    if phase > experiment.phase:
        raise EventRefused(f"events[{index}]: '{event.experiment}' has not reached phase {phase} yet.")
    if isinstance(event, ExposureIn):
        return Exposed(experiment.id, phase, event.unit_id, event.variant, at)
    fields = event.model_dump(exclude={"type", "experiment", "phase", "at"})
    return Requested(experiment_id=experiment.id, phase=phase, counted=True, at=at, **fields)


def _check_known(index: int, metric: str, snapshots: Snapshots) -> None:
    """A metric that nobody has declared is a slip of the pen: it would be kept, and read by nobody."""
    if metric in BINARY_OUTCOMES or metric in snapshots.current.outcomes:
        return
    # Another replica may have made its experiment a moment ago; and while the database is away nobody knows.
    known = snapshots.refresh()
    if metric in known.outcomes or known is EMPTY:
        return
    names = ", ".join(sorted((BINARY_OUTCOMES | known.outcomes) - MEASURED))
    raise EventRefused(
        f"events[{index}]: no experiment has a metric '{metric}'; there are {names}. Declare it in the plan's metrics."
    )


def _experiment(index: int, key: str, snapshots: Snapshots) -> LiveExperiment:
    # An experiment made a moment ago in another replica is not in the snapshot yet.
    found = snapshots.current.experiments.get(key) or snapshots.refresh().experiments.get(key)
    if found is None or found.status == "draft":
        raise EventRefused(f"events[{index}]: there is no started experiment '{key}'.")
    return found
