"""Alerts as metrics arrive: a background thread looks at the runs it hears of, and records what the rules find.

Whoever stores points calls `AlertWorker.notice`, which only notes the run's name. The thread looks at a run at most
once every few seconds, spends a bounded share of its time looking, and writes only when something has changed. What it
knows lives in the database: any number of replicas may look at the same run, and each alert is opened once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from service.measure.diagnosis import Diagnosis
from service.measure.examination import watched
from service.store import alerts as store
from service.store import runs as run_store
from service.store import webhooks as webhook_store
from service.store.database import Database
from service.store.tables import Alert, Run
from service.tracking import diagnoses

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
OPENED, RESOLVED = "alert.opened", "alert.resolved"
# Facts, not inferences: as soon as they no longer hold, they are over.
AT_ONCE = {"silent"}
# Runs that wait for a look, at most; what is noticed beyond is noticed again with its next batch.
MOST_WAITING = 10_000
MOST_RUNNING = 20_000
# Seconds of rest for each second of looking: ingestion shares the processor with this thread.
REST = 9.0
RETRY_SECONDS = 5.0


class AlertWorker:
    """Looks at runs, and opens and resolves their alerts. `owed` is called when a webhook has something to be told."""

    def __init__(
        self,
        database: Database,
        silent_after_seconds: float,
        *,
        owed: Callable[[], object] = lambda: None,
        look_seconds: float = 2.0,
        sweep_seconds: float = 5.0,
        resolve_after_seconds: float = 30.0,
    ) -> None:
        self._database = database
        self._silent_after = silent_after_seconds
        self._owed = owed
        self._look_every, self._sweep_every = look_seconds, sweep_seconds
        self._resolve_after = resolve_after_seconds
        self._due: dict[str, float] = {}  # run → when to look at it (monotonic)
        self._looked: dict[str, float] = {}  # run → when it was looked at last
        self._quiet: dict[str, float] = {}  # open alert → since when its rule has not held
        self._running: set[str] = set()  # runs that were on at the last sweep, or at a look since
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the look that is going on; what was still to be looked at is found again after the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def notice(self, run_id: str, keys: Iterable[str]) -> None:
        """Points of these metrics have been stored: look at the run soon. Never waits, never raises."""
        if run_id not in self._due and len(self._due) < MOST_WAITING and any(map(watched, keys)):
            self._plan(run_id, time.monotonic())

    def _plan(self, run_id: str, at: float) -> None:
        at = max(at, self._looked.get(run_id, -self._look_every) + self._look_every)
        with self._changed:
            self._due[run_id] = min(at, self._due.get(run_id, at))
            self._changed.notify()

    # --- the thread ---

    def _run(self) -> None:
        sweep_at = time.monotonic()
        self._guarded(self._after_a_start)
        while not self._stopping:
            began = time.monotonic()
            if began >= sweep_at:
                self._guarded(self._sweep)
                sweep_at = time.monotonic() + self._sweep_every
            run_id = self._next(began)
            if run_id is not None and not self._guarded(self.look, run_id):
                self._plan(run_id, time.monotonic() + RETRY_SECONDS)
            spent = time.monotonic() - began
            with self._changed:
                if run_id is not None:
                    self._changed.wait_for(lambda: self._stopping, timeout=spent * REST)
                else:
                    self._changed.wait_for(lambda: self._stopping or self._ready(), timeout=self._idle(sweep_at))

    def _guarded(self, action: Callable[..., object], *arguments: str) -> bool:
        """Do it; a database that is away, or a fault of ours, must not end the thread."""
        try:
            action(*arguments)
        except DATABASE_AWAY as error:
            logger.warning("Alerts wait: the database does not answer: %s", str(error).splitlines()[0])
            return False
        except Exception:
            logger.exception("A look at %s failed", ", ".join(arguments) or "the running runs")
        return True

    def _next(self, now: float) -> str | None:
        with self._changed:
            run_id = next((run_id for run_id, at in self._due.items() if at <= now), None)
            if run_id is not None:
                del self._due[run_id]
                self._looked[run_id] = now
        return run_id

    def _ready(self) -> bool:
        return any(at <= time.monotonic() for at in self._due.values())

    def _idle(self, sweep_at: float) -> float:
        return max(min([sweep_at, *self._due.values()]) - time.monotonic(), 0.0)

    def _after_a_start(self) -> None:
        """Runs that fell silent and ended while nobody looked."""
        with self._database.read() as session:
            for run_id in store.runs_with_open(session, store.SILENT):
                self._plan(run_id, 0.0)

    def _sweep(self) -> None:
        """Find runs that fell silent, spoke again or ended: no batch tells of those."""
        with self._database.read() as session:
            pulses = store.pulses(session, MOST_RUNNING)
        limit = time.time() - self._silent_after
        running = {pulse.run_id for pulse in pulses}
        turned = {pulse.run_id for pulse in pulses if (pulse.heard_at < limit) != pulse.silent}
        for run_id in turned | (running ^ self._running):
            self._plan(run_id, 0.0)
        self._running = running
        now = time.monotonic()
        self._looked = {run_id: at for run_id, at in self._looked.items() if now - at < 10 * self._look_every}
        self._quiet = {alert_id: at for alert_id, at in self._quiet.items() if now - at < 10 * self._resolve_after}

    # --- one run ---

    def look(self, run_id: str) -> None:
        """Apply every rule to the run, and bring its alerts in line with what they find."""
        now = time.time()
        with self._database.read() as session:
            run = run_store.get(session, run_id)
            if run is None:
                return
            found = {
                (diagnosis.rule, diagnosis.key): diagnosis
                for diagnosis in diagnoses.of_run(session, run, now, self._silent_after)
                if diagnosis.state == "found"
            }
            standing = {(alert.rule, alert.key): alert for alert in store.standing(session, run_id)}
        if run.status == "running":
            self._running.add(run_id)
        fresh = [diagnosis for place, diagnosis in found.items() if place not in standing]
        changed = [(standing[place], diagnosis) for place, diagnosis in found.items() if place in standing]
        changed = [pair for pair in changed if pair[0].message != pair[1].message]
        over = [alert for place, alert in standing.items() if place not in found and self._is_over(alert, run)]
        for place, alert in standing.items():
            if place in found:
                self._quiet.pop(alert.id, None)
        if fresh or changed or over:
            self._record(run, fresh, changed, over, now)

    def _is_over(self, alert: Alert, run: Run) -> bool:
        """A rule that has just stopped to hold may hold again with the next point: it must stay quiet for a while."""
        now = time.monotonic()
        since = self._quiet.setdefault(alert.id, now)
        if run.status == "running" and alert.rule not in AT_ONCE and now - since < self._resolve_after:
            self._plan(run.id, since + self._resolve_after)
            return False
        del self._quiet[alert.id]
        return True

    def _record(
        self,
        run: Run,
        fresh: Sequence[Diagnosis],
        changed: Sequence[tuple[Alert, Diagnosis]],
        over: Sequence[Alert],
        now: float,
    ) -> None:
        with self._database.write() as session:
            owed = self._tell(session, run, store.open_(session, [_row(run, one, now) for one in fresh]), OPENED, now)
            for alert, diagnosis in changed:
                store.refresh(session, alert.id, _findings(diagnosis))
            owed += self._tell(session, run, store.resolve(session, [alert.id for alert in over], now), RESOLVED, now)
        if owed:
            self._owed()

    def _tell(self, session: Session, run: Run, alert_ids: Sequence[str], event: str, now: float) -> int:
        return webhook_store.owe(session, run.project_id, alert_ids, event, now) if alert_ids else 0


def _findings(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "severity": diagnosis.severity,
        "message": diagnosis.message,
        "evidence": dict(diagnosis.evidence),
        "step": diagnosis.step,
    }


def _row(run: Run, diagnosis: Diagnosis, now: float) -> dict[str, Any]:
    place = {"project_id": run.project_id, "run_id": run.id, "rule": diagnosis.rule, "key": diagnosis.key}
    return place | _findings(diagnosis) | {"created_at": now}
