"""Which arm of an experiment a unit is in, decided in this process: no request, no wait.

`assign` is the pure rule. `Assigner` keeps the experiments of a service fresh in the background, keeps the last good
ones on disk for the day the service is away, and reports exposures in batches.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from tunescope import _settings
from tunescope._bucketing import (
    NOBODY,
    bucket,
    bucket_from_state,
    bucket_ranges,
    choose,
    fnv1a32,
    in_namespace,
    owners,
    place_from_state,
)
from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, ConnectionFailed
from tunescope._sticky import StickyFile

__all__ = ["Assigner", "Assignment", "assign"]

log = logging.getLogger("tunescope")

MOST_EVENTS = 100_000
MOST_MET = 100_000
EVENTS_A_REQUEST = 5_000
MAY_PASS = frozenset({401, 403, 408, 425, 429})

Reason = Literal[
    "assigned", "forced", "not_running", "decided", "no_unit", "not_targeted", "not_covered", "holdout",
    "no_such_experiment",
]  # fmt: skip
HOLDOUT, HOLDOUT_SEED = "(holdout)", fnv1a32("__holdout")
NO_ATTRIBUTES: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm a unit gets, and whether it counts in the analysis. Whoever is not in the experiment gets the control."""

    experiment: str
    variant: str | None
    """Key of the arm; None only for an experiment that is not known."""
    value: Any
    """What the arm carries: a model name, a prompt, a flag."""
    counted: bool
    reason: Reason
    phase: int | None = None
    recorded: str | None = None
    """The arm as it is reported: a held-out unit is seen beside the arms, though it counts in none. None: it is not."""


def assign(
    experiment: Mapping[str, Any], unit_id: str | None, attributes: Mapping[str, Any] = NO_ATTRIBUTES
) -> Assignment:
    """The arm of a unit, from an experiment of `Client.experiment_snapshot`. The same answer everywhere, for ever."""
    return LiveExperiment(experiment).assign(unit_id, attributes)


class LiveExperiment:
    """An experiment with everything worked out that does not depend on the unit."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.snapshot = snapshot
        self.met: dict[str, Assignment] = {}
        """Units that were recorded, and their arms; so that each is reported and worked out once."""
        self.kept: dict[str, tuple[str, int]] = {}
        """Units that keep the arm they came in by, and the phase they did."""
        self.key: str = snapshot["key"]
        self.phase: int = snapshot["phase"]
        self._status: str = snapshot["status"]
        self._salt: str = snapshot["salt"]
        self._version: int = snapshot["hash_version"]
        self._seed_state = fnv1a32(self._salt)
        self.targeting: Mapping[str, Any] = snapshot.get("targeting") or {}
        self._namespace: Mapping[str, Any] | None = snapshot.get("namespace")
        variants = {variant["key"]: variant for variant in snapshot["variants"]}
        self._forced = {unit: v for unit, v in (snapshot.get("forced") or {}).items() if v in variants}
        self._ranges = bucket_ranges(len(variants), snapshot["coverage"], [v["weight"] for v in variants.values()])
        self._owners = owners(self._ranges)
        self._arms = list(variants.values())
        self._assigned = [
            Assignment(self.key, v["key"], v.get("value"), True, "assigned", self.phase, v["key"]) for v in self._arms
        ]
        self.sticky: bool = snapshot.get("sticky", False)
        self._open = {v["key"]: place for place, v in enumerate(self._arms) if v["weight"] > 0}
        self._holdout: float = snapshot.get("holdout", 0.0)
        self._by_key = variants
        self._winner = variants.get(snapshot.get("winner") or "", self._arms[0])

    def assign(self, unit_id: str | None, attributes: Mapping[str, Any]) -> Assignment:
        if unit_id and unit_id in self._forced:
            return self._uncounted(self._by_key[self._forced[unit_id]], "forced")
        if self._status != "running":
            if self._status != "decided":
                return self._control("not_running")
            if unit_id and self._held_out(unit_id):
                return self._control("holdout")
            return self._uncounted(self._winner, "decided")
        if not unit_id:
            return self._control("no_unit")
        if self.targeting and not matches(self.targeting, attributes):
            return self._control("not_targeted")
        space = self._namespace
        if space is not None and not in_namespace(unit_id, (space["name"], space["start"], space["end"])):
            return self._control("not_covered")
        if self._version == 2:
            index = self._owners[place_from_state(self._seed_state, unit_id)]
        else:
            point = bucket(self._salt, unit_id, self._version)
            index = NOBODY if point is None else choose(point, self._ranges) % 256
        if index == NOBODY:
            return self._control("not_covered")
        if self._holdout and self._held_out(unit_id):
            control = self._arms[0]
            return Assignment(self.key, control["key"], control.get("value"), False, "holdout", self.phase, HOLDOUT)
        if self.kept and (came := self.kept.get(unit_id)) is not None and came[0] in self._open:
            arm = self._arms[self._open[came[0]]]
            return Assignment(self.key, arm["key"], arm.get("value"), True, "assigned", came[1], arm["key"])
        return self._assigned[index]

    def _held_out(self, unit_id: str) -> bool:
        return bucket_from_state(HOLDOUT_SEED, unit_id) < self._holdout

    def _control(self, reason: Reason) -> Assignment:
        return self._uncounted(self._arms[0], reason)

    def _uncounted(self, arm: Mapping[str, Any], reason: Reason) -> Assignment:
        return Assignment(self.key, arm["key"], arm.get("value"), False, reason, self.phase)


def matches(targeting: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """Whether every condition holds: a value (equal), a list (one of), or {"min", "max"} (both inclusive)."""
    return all(_holds(condition, attributes.get(name)) for name, condition in targeting.items())


def _holds(condition: Any, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(condition, Mapping):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        low, high = condition.get("min"), condition.get("max")
        return (low is None or number >= low) and (high is None or number <= high)
    options = condition if isinstance(condition, list) else [condition]
    return any(option == value or _text(option) == _text(value) for option in options)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Assigner:
    """Decides arms from a local copy of the experiments, and reports who was exposed.

        assigner = tunescope.Assigner()
        arm = assigner.assign("new-model", unit_id=user.id, attributes={"plan": "pro"})
        answer = models[arm.value](prompt)
        assigner.record_request(request_id, arm, user.id, latency=seconds)
        assigner.record_outcome(request_id, "satisfaction", 1)

    Refreshed every `refresh_seconds`; decides from the last good copy while the service is away, also across restarts.
    Safe to use from threads, and in processes forked after it was made.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        dir: str | Path | None = None,
        refresh_seconds: float = 5.0,
        timeout: float = 5.0,
    ) -> None:
        self._url = url or _settings.url()
        self._api_key = api_key or _settings.api_key()
        self._timeout = timeout
        self._refresh_seconds = refresh_seconds
        place = Path(dir).expanduser() if dir is not None else _settings.directory()
        self._file = place / f"experiments-{hashlib.sha256(self._url.encode()).hexdigest()[:12]}.json"
        self._sticky = StickyFile(self._file.with_suffix(".sticky.jsonl"))
        self._experiments: dict[str, LiveExperiment] = {}
        self._etag: str | None = None
        self._events: deque[Json] = deque(maxlen=MOST_EVENTS)
        self._unsent: list[Json] = []
        self._dropped = 0
        self._away = False
        self._load()
        self._begin()
        self._refresh()
        os.register_at_fork(after_in_child=partial(_go_on_in_child, weakref.ref(self)))
        self._thread.start()

    def assign(self, experiment: str, unit_id: str | None, attributes: Mapping[str, Any] = NO_ATTRIBUTES) -> Assignment:
        """The arm of a unit. Never raises: without the experiment, `variant` is None and nothing counts."""
        live = self._experiments.get(experiment)
        if live is None:
            return Assignment(experiment, None, None, False, "no_such_experiment")
        known = live.met.get(unit_id) if unit_id is not None else None
        if known is not None and not live.targeting:
            return known
        arm = live.assign(unit_id, attributes)
        if known is None and arm.recorded is not None and unit_id is not None:
            if len(live.met) >= MOST_MET:
                live.met.clear()
            live.met[unit_id] = arm
            if live.sticky and arm.counted:
                self._sticky.keep(experiment, unit_id, arm.recorded, live.phase)
            self._add(type="exposure", experiment=experiment, unit_id=unit_id, variant=arm.recorded, phase=arm.phase)
        return arm

    def record_request(self, request_id: str, arm: Assignment, unit_id: str, **details: Any) -> None:
        """Report a call made for a unit, so that outcomes of `request_id` count for its arm.

        `details`: `latency`, `first_token` (seconds), `input_tokens`, `output_tokens`, `cost` (USD), `status`, `error`.
        """
        if arm.recorded is not None:
            where = {"experiment": arm.experiment, "variant": arm.recorded, "phase": arm.phase}
            self._add(type="request", request_id=request_id, unit_id=unit_id, **where, **details)

    def record_outcome(self, request_id: str, metric: str, value: float) -> None:
        """Report what became of a request, such as a rating. The newest value of a metric counts."""
        self._add(type="outcome", request_id=request_id, metric=metric, value=float(value))

    def _add(self, **event: Any) -> None:
        if len(self._events) == MOST_EVENTS:
            self._dropped += 1  # the oldest makes room
        self._events.append({**event, "at": time.time()})

    @property
    def experiments(self) -> Sequence[str]:
        """Keys of the experiments that are known."""
        return list(self._experiments)

    def flush(self) -> bool:
        """Send what is waiting; False if the service does not take it now, in which case it stays waiting."""
        with self._sending:
            while self._unsent or self._events:
                while self._events and len(self._unsent) < EVENTS_A_REQUEST:
                    self._unsent.append(self._events.popleft())
                try:
                    self._send(self._unsent)
                except (ConnectionFailed, ApiError) as error:
                    self._say_away(error)
                    return False
                self._unsent = []
            if self._dropped:
                log.warning("tunescope: %s events were lost: more than %s waited.", self._dropped, MOST_EVENTS)
                self._dropped = 0
        return True

    def _send(self, events: list[Json]) -> None:
        """Send events; a refusal is narrowed down to the events it is about."""
        try:
            self._client.send_events(events)
        except ApiError as error:
            if error.status >= 500 or error.status in MAY_PASS:
                raise
            if len(events) == 1:
                log.warning("tunescope: an event was refused: %s: %s", error, events[0])
                return
            middle = len(events) // 2
            self._send(events[:middle])
            self._send(events[middle:])

    def close(self) -> None:
        """Send what is waiting and stop. What cannot be sent is kept beside the snapshot for the next `Assigner`."""
        self._closing.set()
        self._thread.join(self._timeout)
        self._sticky.save()
        if not self.flush():
            self._save_events([*self._unsent, *self._events])
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """What a process has of its own: a connection and a thread."""
        self._client = Client(self._url, self._api_key, timeout=self._timeout)
        self._closing = threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=_keep_fresh, args=(weakref.ref(self), self._closing), daemon=True)

    def _in_child(self) -> None:
        self._events.clear()  # the parent sends its own
        self._unsent = []
        self._sticky.forget_unsaved()
        self._begin()
        self._thread.start()

    def _refresh(self) -> None:
        try:
            snapshot = self._client.experiment_snapshot(self._etag)
        except (ConnectionFailed, ApiError) as error:
            self._say_away(error)
            return
        self._away = False
        if snapshot is not None:
            self._use(snapshot)
            self._save(self._file, snapshot)

    def _use(self, snapshot: Json) -> None:
        fresh = {}
        for public in snapshot["experiments"]:
            held = self._experiments.get(public["key"])
            # An experiment that has not changed still knows whom it has met.
            live = fresh[public["key"]] = held if held and held.snapshot == public else LiveExperiment(public)
            if live.sticky and live is not held:
                self._sticky.read()
                live.kept = self._sticky.of(live.key)
        self._experiments = fresh
        self._etag = snapshot["etag"]

    def _say_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.warning("tunescope: %s Arms are decided from the last copy of the experiments.", error)

    def _load(self) -> None:
        """Take over the last good copy, and events that could not be sent."""
        try:
            self._use(msgspec.json.decode(self._file.read_bytes()))
        except FileNotFoundError:
            pass
        except Exception as error:  # anything may be wrong with a file
            why = f"{type(error).__name__}: {error}"
            log.warning("tunescope: the copy of the experiments in %s cannot be read (%s).", self._file, why)
        for file in self._file.parent.glob(f"{self._file.stem}.events-*.json"):
            try:
                self._events.extend(msgspec.json.decode(file.read_bytes(), type=list[Json]))
                file.unlink()
            except (OSError, msgspec.DecodeError) as error:
                log.warning("tunescope: events in %s cannot be read, and are not sent (%s).", file, error)

    def _save_events(self, events: list[Json]) -> None:
        name = f"{self._file.stem}.events-{time.time_ns()}-{os.getpid()}.json"
        self._save(self._file.with_name(name), events)

    def _save(self, file: Path, content: Any) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_name(f"{file.name}.{os.getpid()}")
            fresh.write_bytes(msgspec.json.encode(content))
            fresh.replace(file)
        except OSError as error:
            log.warning("tunescope: %s could not be written: %s", file, error)


def _go_on_in_child(weak: weakref.ref[Assigner]) -> None:
    if (assigner := weak()) is not None:
        assigner._in_child()


def _keep_fresh(weak: weakref.ref[Assigner], closing: threading.Event) -> None:
    """The background thread; ends with its assigner."""
    assigner = weak()
    seconds = assigner._refresh_seconds if assigner else 0.0
    del assigner
    while not closing.wait(seconds):
        assigner = weak()
        if assigner is None:
            return
        assigner._refresh()
        assigner._sticky.save()
        assigner.flush()
        del assigner
