"""What runs while the service is up: the snapshot, the recorder, the connections to the models."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from service.experiments.recorder import Recorder
from service.experiments.snapshot import Snapshots
from service.experiments.upstream import Upstreams
from service.settings import Settings
from service.store.database import Database


class Traffic:
    """Started and stopped by the application; nothing recorded is lost between the two."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.snapshots = Snapshots(database, settings.snapshot_refresh_seconds)
        self.recorder = Recorder(database, settings.data_dir / "spill")
        self.upstreams = Upstreams(settings)
        # Credentials that passed, and when: see `gateway.admit`.
        self.trusted_keys: dict[str, float] = {}

    async def start(self) -> None:
        self.snapshots.start()
        self.recorder.start()

    async def stop(self) -> None:
        await self.upstreams.close()
        self.snapshots.stop()
        self.recorder.stop()


def get_traffic(request: Request) -> Traffic:
    return cast(Traffic, request.app.state.traffic)


LiveTraffic = Annotated[Traffic, Depends(get_traffic)]
