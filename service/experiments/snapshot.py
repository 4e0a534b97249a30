"""All experiments and upstreams in memory: what traffic is decided by, without touching the database.

A background thread reads them again every few seconds; the process that makes a change reads at once.
While the database is away the last good snapshot serves.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from service.experiments import phases
from service.experiments.assignment import NOBODY, LiveExperiment, Variant
from service.experiments.sticky import LATE_SECONDS, MOST_UNITS, StickyArms
from service.settings import SecretNotFound, read_secret
from service.store import events
from service.store import experiments as store
from service.store.database import Database
from service.store.tables import Experiment, Upstream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveUpstream:
    """A model endpoint with its key resolved. `problem`: why it cannot be called. Prices: USD per 1M tokens."""

    name: str
    base_url: str
    model: str
    api_key: str | None = field(repr=False)
    input_price: float | None
    output_price: float | None
    price_version: str | None
    created_at: float
    problem: str | None = None
    host: str = ""

    def cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """USD; None when a price or a count is unknown."""
        if self.input_price is None or self.output_price is None or input_tokens is None or output_tokens is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent state. `body` is the JSON answer to clients that decide by themselves."""

    etag: str
    body: bytes
    experiments: Mapping[str, LiveExperiment]
    upstreams: Mapping[str, LiveUpstream]
    outcomes: frozenset[str] = frozenset()
    """Names that some experiment's plan gives to what becomes of a request."""


EMPTY = Snapshot("", b'{"etag":"","experiments":[]}', {}, {})


class Snapshots:
    """The newest snapshot, kept fresh between `start` and `stop`."""

    def __init__(self, database: Database, every_seconds: float, holdout: float = 0.0) -> None:
        self.current = EMPTY
        self._database = database
        self._holdout = holdout
        # By experiment: the units that keep their arm.
        self._sticky: dict[str, StickyArms] = {}
        # Half the promised delay: a change just after a reading is still seen in time.
        self._every = every_seconds / 2
        self._refreshing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiment-snapshots", daemon=True)

    def start(self) -> None:
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def refresh(self) -> Snapshot:
        """Read everything now; on a database error the last good snapshot stays."""
        with self._refreshing:
            try:
                with self._database.read() as session:
                    rows = store.everything(session)
                    self._sticky = {row.id: self._kept_by(session, row) for row in rows if keeps_arms(row)}
                    fresh = build(rows, store.upstreams(session), self._holdout, self._sticky)
            except SQLAlchemyError as error:
                logger.warning("Experiments go on with the last snapshot; the database is away: %s", error)
            else:
                self.current = fresh
            return self.current

    def _kept_by(self, session: Session, row: Experiment) -> StickyArms:
        """Who came in by the phases before this one. Each is read once; of one that has just ended, the last ones are
        read again, since they may still be on their way."""
        known = self._sticky.get(row.id, NOBODY)
        places = {variant["key"]: place for place, variant in enumerate(row.plan["variants"])}
        ended = row.phase_started_at or 0.0
        whole = time.time() - ended > LATE_SECONDS
        for phase in range(1, row.phase):
            if phase not in known.phases:
                since = ended - LATE_SECONDS if phase in known.begun else 0.0
                found = events.exposed_in(session, row.id, phase, since, MOST_UNITS)
                units = [(unit, places[variant]) for unit, variant in found if variant in places]
                known = known.with_units(units, phase, whole=whole or phase < row.phase - 1)
        return known

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self.refresh()


def keeps_arms(row: Experiment) -> bool:
    """Whether its units keep the arm they came in by, now: in a rollout they move to the winner."""
    return row.status in {"running", "paused"} and bool(row.plan.get("sticky") or row.plan.get("bandit"))


def build(
    experiments: Sequence[Experiment],
    upstreams: Sequence[Upstream],
    holdout: float = 0.0,
    sticky: Mapping[str, StickyArms] | None = None,
) -> Snapshot:
    """`holdout`: the share that is held out now; an experiment holds out no more than when it was made."""
    kept = sticky or {}
    live = [replace(compile_experiment(row, holdout), kept=kept.get(row.id, NOBODY)) for row in experiments]
    public = [_public(experiment) for experiment in live]
    etag = hashlib.sha256(orjson.dumps(public)).hexdigest()[:16]
    return Snapshot(
        etag,
        orjson.dumps({"etag": etag, "experiments": public}),
        {experiment.key: experiment for experiment in live},
        {row.name: compile_upstream(row) for row in upstreams},
        frozenset(name for row in experiments for metric in row.plan["metrics"] for name in _outcomes_of(metric)),
    )


def _outcomes_of(metric: Mapping[str, Any]) -> set[str]:
    """What is reported for a metric: itself, or the two parts of a ratio."""
    if metric.get("kind") == "ratio":
        return {part for part in (metric.get("numerator"), metric.get("denominator")) if part}
    return {metric["name"]}


def compile_experiment(row: Experiment, holdout: float = 0.0) -> LiveExperiment:
    plan, winner = row.plan, (row.decision or {}).get("winner")
    rolling = (row.rollout or {}).get("state") == "rolling"
    weights = phases.weights_of(row, row.phase) if rolling or plan.get("bandit") else phases.planned(row)
    if (row.rollout or {}).get("state") == "halted":
        winner = plan["variants"][0]["key"]
    # To traffic a rollout is a running experiment of two arms, over everybody: whoever can decide, can roll out.
    return LiveExperiment(
        id=row.id,
        key=row.key,
        salt=row.salt,
        hash_version=row.hash_version,
        phase=row.phase,
        status="running" if rolling else row.status,
        variants=tuple(
            Variant(**variant | {"weight": weights.get(variant["key"], 0.0)}) for variant in plan["variants"]
        ),
        coverage=1.0 if rolling else plan["coverage"],
        targeting={} if rolling else plan["targeting"],
        forced=plan["forced"],
        namespace=None if rolling else plan["namespace"],
        winner=winner,
        fallback_upstream=plan["fallback_upstream"],
        store_content=plan["store_content"],
        holdout=min(holdout, plan.get("holdout", 0.0)),
        sticky=keeps_arms(row),
    )


def compile_upstream(row: Upstream) -> LiveUpstream:
    api_key, problem = None, None
    if row.api_key_ref is not None:
        try:
            api_key = read_secret(row.api_key_ref)
        except (SecretNotFound, OSError) as error:
            problem = str(error)
    return LiveUpstream(
        name=row.name,
        base_url=row.base_url.rstrip("/"),
        model=row.model,
        api_key=api_key,
        input_price=row.input_price,
        output_price=row.output_price,
        price_version=row.price_version,
        created_at=row.created_at,
        problem=problem,
        host=urlsplit(row.base_url).hostname or "",
    )


def _public(experiment: LiveExperiment) -> dict[str, Any]:
    """What a client needs to decide like the service; no upstream, no key."""
    return {
        "key": experiment.key,
        "salt": experiment.salt,
        "hash_version": experiment.hash_version,
        "phase": experiment.phase,
        "status": experiment.status,
        "variants": [
            {"key": variant.key, "weight": share, "value": variant.value}
            for variant, (_, share) in zip(experiment.variants, experiment.shares, strict=True)
        ],
        "coverage": experiment.coverage,
        "targeting": dict(experiment.targeting),
        "forced": dict(experiment.forced),
        "namespace": experiment.namespace,
        "winner": experiment.winner,
        "holdout": experiment.holdout,
        "sticky": experiment.sticky,
    }
