"""The thread that deletes for good what has been in the bin for long enough, or was asked to go.

It takes its turn when nobody else waits to write, for some milliseconds (`Database.step`), and rests after. What is
being purged is in the database, so that the next start goes on where a kill has left off.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from service.store import bin as bin_store
from service.store import purge as store
from service.store.blobs import BlobStore
from service.store.database import Database
from service.store.pace import Pace
from service.tracking.alerts import DATABASE_AWAY

logger = logging.getLogger(__name__)

DAY = 86_400.0
REST = 2.0  # seconds of rest for each second of a step
LEAST_ROWS = 16  # that a step deletes, or pages that it gives back, also where it cannot be quick
PAGES = 1024  # that a step gives back at most
SWEEP_SECONDS = 600.0
RETRY_SECONDS = 30.0
# Uploads write a file first and its row later. No upload takes so long between the two.
UPLOAD_SECONDS = 3600.0


class Purger:
    """Purges between `start` and `stop`. `keep_days`: how long the bin keeps what nobody asks to purge."""

    def __init__(
        self, database: Database, blobs: BlobStore, keep_days: float, *, upload_seconds: float = UPLOAD_SECONDS
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._keep = keep_days * DAY
        self._upload_seconds = upload_seconds
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="purger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is going on."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Something is to be purged."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            done = self._guarded(self._work)
            self._wake.wait(SWEEP_SECONDS if done else RETRY_SECONDS)
            self._wake.clear()

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Do it; a database that is away, or a fault of ours, must not end the thread."""
        try:
            action()
        except DATABASE_AWAY as error:
            logger.warning("The purge waits: the database does not answer: %s", str(error).splitlines()[0])
            return False
        except IntegrityError as error:
            logger.warning("What is purged is still named, and stays: %s", str(error.orig).splitlines()[0])
            return False
        except Exception:
            logger.exception("The purge failed")
            return False
        return True

    def _work(self) -> None:
        """All there is to do now."""
        follow_projects(self._database)
        condemn(self._database, time.time() - self._keep)
        if self._steps(self._purge_some, Pace(store.ROWS, LEAST_ROWS)):
            self._steps(self._give_back, Pace(PAGES, LEAST_ROWS))
        while not self._stopping and self._remove_files():
            pass

    def _purge_some(self, rows: int) -> tuple[bool, float]:
        with self._database.read() as session:
            part = store.find(session, rows)
        if part is None:
            return False, 0.0
        _, seconds = self._database.step(lambda session: store.delete(session, part))
        return True, seconds

    def _give_back(self, pages: int) -> tuple[bool, float]:
        return self._database.step(lambda session: store.give_back(session, pages))

    def _steps(self, step: Callable[[int], tuple[bool, float]], pace: Pace) -> int:
        """Do the step again and again, with a rest after each, until it says that there is nothing left; how often.

        A step is told how much to do, and answers for how many seconds it kept writers waiting.
        """
        done = 0
        while not self._stopping:
            more, seconds = step(pace.amount)
            if not more:
                break
            pace.took(seconds)
            done += 1
            time.sleep(REST * seconds)
        return done

    def _remove_files(self) -> bool:
        """Remove some files that rows named until they were purged. Are there more?"""
        with self._database.read() as session:
            waiting = store.orphans(session, time.time() - self._upload_seconds)
            named = store.named(session, waiting) if waiting else set()
        # A file that is younger has been uploaded anew, and its row may be on its way: next time tells.
        young = {one for one in waiting if one not in named and not self._blobs.discard(one, self._upload_seconds)}
        done = [one for one in waiting if one not in young]
        if done:
            self._database.step(lambda session: store.forget_orphans(session, done))
        return bool(done)


def condemn(database: Database, before: float, project_id: int | None = None) -> tuple[int, dict[str, str]]:
    """Let everything be purged that went into the bin before then (of one project, or of all).

    Answers how many runs are going now, and those that are kept, with the reason.
    """
    going, kept, after = 0, dict[str, str](), (0.0, "")
    while True:
        with database.read() as session:
            found = bin_store.expired(session, before, after, project_id)
        if not found:
            break
        n, reasons = condemn_runs(database, [run_id for _, run_id in found])
        going += n
        kept.update(reasons)
        after = found[-1]
    with database.read() as session:
        emptied = bin_store.emptied_projects(session, before, project_id)
    list(database.in_steps(emptied, bin_store.condemn_projects, 1))
    return going, kept


def condemn_runs(database: Database, ids: Iterable[str]) -> tuple[int, dict[str, str]]:
    """Let these runs be purged, as far as they are in the bin: how many are going, and those kept, with the reason."""
    done = list(database.in_steps(ids, bin_store.condemn, bin_store.STEP, bin_store.LEAST_CONDEMNED))
    return sum(n for n, _ in done), {run_id: reason for _, kept in done for run_id, reason in kept.items()}


def follow_projects(database: Database) -> int:
    """Move the runs of projects that are in the bin after them; how many had not been moved yet."""
    moved, after = 0, (-1, "")
    while True:
        with database.read() as session:
            found = bin_store.stragglers(session, after)
        if not found:
            return moved
        moved += sum(database.in_steps(found, _follow, bin_store.STEP))
        after = found[-1][:2]


def _follow(session: Session, some: Sequence[tuple[int, str, float]]) -> int:
    together = {at: [run_id for _, run_id, when in some if when == at] for _, _, at in some}
    return sum(bin_store.put_runs(session, ids, at) for at, ids in together.items())
