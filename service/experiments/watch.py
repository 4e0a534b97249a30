"""The thread that looks at rollouts and bandits. Every replica has one; each look is taken by one of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from service.experiments import bandit, rollout
from service.experiments.recorder import DATABASE_AWAY
from service.store import experiments as store
from service.store.database import Database

logger = logging.getLogger(__name__)


class Watch:
    """Looks between `start` and `stop`. `changed` is called when a look has changed where traffic goes."""

    def __init__(self, database: Database, every_seconds: float, changed: Callable[[], object]) -> None:
        self._database = database
        self._every = every_seconds
        self._changed = changed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiment-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Look at every rollout and every bandit that is due."""
        now = time.time()
        with self._database.read() as session:
            rollouts = [
                experiment.key for experiment in store.of_status(session, "decided") if rollout.is_rolling(experiment)
            ]
            bandits = [
                experiment.key for experiment in store.of_status(session, "running") if bandit.is_due(experiment, now)
            ]
        for key in rollouts:
            self._look_at(key)
        for key in bandits:
            with self._database.write() as session:
                moved = bandit.follow(session, key, now)
            if moved:
                self._changed()

    def _look_at(self, key: str) -> None:
        now = time.time()
        with self._database.write() as session:
            step = rollout.claim(session, key, now, self._every)
        if step is None:
            return
        # Read outside of a write: readouts take a while, and traffic is being recorded.
        with self._database.read() as session:
            found = rollout.look(session, key, now)
        with self._database.write() as session:
            moved = rollout.act(session, key, step, found)
        if moved:
            self._changed()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                self.look()
            except DATABASE_AWAY as error:
                logger.warning(
                    "Rollouts and bandits wait: the database does not answer: %s", str(error).splitlines()[0]
                )
            except Exception:
                # A fault of ours must not end the watch over the others.
                logger.exception("A look at rollouts and bandits failed")
