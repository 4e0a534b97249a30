"""What lists show of the metrics of each run, as JSON, encoded once for as many points as the run has.

Most runs of a list are over, and the same lists are asked for again and again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from types import SimpleNamespace

import orjson
from sqlmodel import Session

from service.store.series import summary_table

MOST_BYTES = 16 * 2**20


class Summaries:
    """Those of one database that were shown last. Any number of threads may ask."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, float, int], bytes] = OrderedDict()
        self.bytes = 0  # that are kept

    def of(self, session: Session, runs: Collection[SimpleNamespace]) -> dict[str, bytes]:
        """Run id → metric → its summary, in JSON. `runs` are rows that this transaction has read.

        A summary changes with points alone, and a run counts all that it takes in. One that is purged and made again
        under its id has another time.
        """
        state = {run.id: (run.id, run.created_at, run.points_stored) for run in runs}
        found: dict[str, bytes] = {}
        with self._lock:
            for run_id, key in state.items():
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[run_id] = self._kept[key]
        absent = [run_id for run_id in state if run_id not in found]
        if absent:
            made = {run_id: orjson.dumps(metrics) for run_id, metrics in summary_table(session, absent).items()}
            self._keep({state[run_id]: summary for run_id, summary in made.items()})
            found |= made
        return found

    def _keep(self, made: dict[tuple[str, float, int], bytes]) -> None:
        with self._lock:
            for key, summary in made.items():
                self.bytes += len(summary) - len(self._kept.pop(key, b""))
                self._kept[key] = summary
            while self.bytes > self._most_bytes:
                self.bytes -= len(self._kept.popitem(last=False)[1])
