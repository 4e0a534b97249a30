"""Deleting under load: trainers that write on, and a service that is killed in the middle of a purge."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tunescope
from tests.client.conftest import values
from tests.conftest import LiveService, running_service, wait_until
from tunescope import ApiError, Client

from .test_storage_faults import batch, sound

# What is there though nothing was logged: the schema's version, and MLflow's project.
ALWAYS = {"alembic_version", "project"}


def rows(database: Path) -> dict[str, int]:
    """How many rows each table of a stopped service has, of those that have any."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {n: connection.execute(f'SELECT count(*) FROM "{n}"').fetchone()[0] for n in names}
    finally:
        connection.close()
    return {name: count for name, count in found.items() if count and name not in ALWAYS}


class Sender:
    """Sends batches of a run until it is refused, and what is refused is remembered."""

    def __init__(self, url: str, run: str) -> None:
        self.sent = 0
        self.refusals: set[tuple[int, str]] = set()
        self._url = url
        self._run = run
        self._stop = False
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with Client(self._url, timeout=30) as client:
            while not self._stop:
                try:
                    client.send_batch(self._run, batch(self.sent + 1, 50))
                    self.sent += 1
                except ApiError as error:
                    self.refusals.add((error.status, error.code))
                    time.sleep(0.01)

    def stop(self) -> None:
        self._stop = True
        self._thread.join()


def deleted_while_written(service: LiveService, journals: Path) -> None:
    """A project goes into the bin and is purged while three write to it; a fourth, beside it, notices nothing."""
    with Client(service.url) as client:
        doomed = [client.create_run(project="doomed")["id"] for _ in range(3)]
        other = client.create_run(project="stays")["id"]
        trainer = tunescope.init(
            project="doomed", url=service.url, dir=journals, system_interval=None, quiet=True, console=False
        )
        senders = [Sender(service.url, run) for run in [*doomed, other]]
        try:
            wait_until(lambda: all(sender.sent > 5 for sender in senders))
            trainer.log({"loss": 1.0}, step=0)
            client.delete_project("doomed")
            for sender in senders[:3]:
                wait_until(lambda sender=sender: bool(sender.refusals))  # type: ignore[misc]
            trainer.log({"loss": 0.5}, step=1)  # never raises
            client.purge_bin()
            wait_until(lambda: client.bin()["n_purging"] == 0)
            before = senders[3].sent
            wait_until(lambda: senders[3].sent > before + 5)
        finally:
            for sender in senders:
                sender.stop()
        trainer.finish(timeout=5)
        assert senders[3].refusals == set()
        assert {code for sender in senders[:3] for _, code in sender.refusals} <= {"run_in_bin", "run_not_found"}
        expected = [np.random.default_rng(n).normal(size=50) for n in range(1, senders[3].sent + 1)]
        assert values(client, other, "x") == np.concatenate(expected).tolist()
        assert client.bin()["items"] == []
        assert [project["name"] for project in client.list_projects()["items"]] == ["stays"]


def test_a_project_is_deleted_while_trainers_write_to_it(live: LiveService, tmp_path: Path) -> None:
    deleted_while_written(live, tmp_path / "journals")
    with Client(live.url) as client:
        client.delete_project("stays")
        client.purge_bin()
        wait_until(lambda: client.bin()["n_purging"] == 0)
    live.stop()
    assert rows(live.data_dir / "tunescope.db").keys() <= {"orphan_blob", "purge"}


def test_a_project_is_deleted_while_trainers_write_to_it_on_postgresql(database_url: str, tmp_path: Path) -> None:
    if not database_url.startswith("postgresql"):
        pytest.skip("the other one is for SQLite")
    with running_service(tmp_path / "data", database_url=database_url) as service:
        deleted_while_written(service, tmp_path / "journals")


def killed_while_purging(live: LiveService, times: int) -> None:
    """Kill the service at random moments of a purge: it goes on with the next start until nothing is left."""
    chance = random.Random(2)
    with Client(live.url) as client:
        run = client.create_run(project="p", config={f"p{n}": n for n in range(300)})["id"]
        for number in range(1, 31):
            client.send_batch(run, batch(number, 20_000))
        client.upload_artifact(run, "file", b"x" * 1000)
        client.delete_run(run)
        client.purge_bin()
    for _ in range(times):
        time.sleep(chance.uniform(0.0, 0.15))
        live.kill()
        assert sound(live.data_dir / "tunescope.db")
        live.start()
        with Client(live.url) as client, pytest.raises(ApiError) as refused:
            client.restore_run(run)
        assert refused.value.code in {"purge_under_way", "run_not_found"}
    with Client(live.url) as client:
        wait_until(lambda: client.bin()["n_purging"] == 0)
        client.delete_project("p")
        client.purge_bin()
        wait_until(lambda: not client.list_projects()["items"])
    live.stop()
    assert rows(live.data_dir / "tunescope.db").keys() <= {"orphan_blob", "purge"}
    assert sound(live.data_dir / "tunescope.db")


def test_a_purge_is_killed_and_goes_on(live: LiveService) -> None:
    killed_while_purging(live, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_purge_is_killed_again_and_again(live: LiveService) -> None:
    killed_while_purging(live, 12)
