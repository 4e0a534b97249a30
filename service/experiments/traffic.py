"""What runs while the service is up: the snapshot, the recorder, the connections to the models."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.experiments.intake import Clock
from service.experiments.recorder import Recorder
from service.experiments.retention import Retention
from service.experiments.snapshot import Snapshots
from service.experiments.upstream import Upstreams
from service.experiments.watch import Watch
from service.settings import Settings
from service.store.database import Database

MOST_MET = 100_000


class Met:
    """Whom this process has seen: what is recorded once anyway need not be queued a thousand times."""

    def __init__(self, most: int = MOST_MET) -> None:
        self._most = most
        self._seen: set[tuple[str, int, str]] = set()

    def first(self, unit: tuple[str, int, str]) -> bool:
        """Whether (experiment, phase, unit) is new here; it no longer is."""
        if unit in self._seen:
            return False
        if len(self._seen) >= self._most:
            self._seen.clear()
        self._seen.add(unit)
        return True


class Traffic:
    """Started and stopped by the application; nothing recorded is lost between the two."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.snapshots = Snapshots(database, settings.snapshot_refresh_seconds, settings.holdout)
        self.recorder = Recorder(database, settings.data_dir / "spill")
        self.upstreams = Upstreams(settings)
        self.watch = Watch(database, settings.rollout_check_seconds, self.snapshots.refresh)
        self.clock = Clock()
        self.retention = Retention(database, settings.content_days, settings.request_days)
        # Credentials that passed, and when: see `admission.admit`.
        self.trusted_keys: dict[str, float] = {}
        self.met = Met()

    async def start(self) -> None:
        self.snapshots.start()
        self.recorder.start()
        self.watch.start()
        self.retention.start()

    async def stop(self) -> None:
        await self.upstreams.close()
        self.retention.stop()
        self.watch.stop()
        self.snapshots.stop()
        self.recorder.stop()


def get_traffic(request: Request) -> Traffic:
    return cast(Traffic, request.app.state.traffic)


LiveTraffic = Annotated[Traffic, Depends(get_traffic)]
