"""The log of a SQLite file goes into the file beside its writers, and starts over while they go on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store import checkpoints
from service.store.database import Database

PATIENCE = 60.0  # seconds, on a busy machine


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/tunescope.db")
    with database.write() as session:
        session.connection().execute(text("CREATE TABLE pages (id INTEGER PRIMARY KEY, data BLOB)"))
    yield database
    database.close()


def write(database: Database, pages: int) -> None:
    with database.write() as session:
        for _ in range(pages):
            session.connection().execute(text("INSERT INTO pages (data) VALUES (randomblob(4000))"))


def log_of(database: Database) -> Path:
    return Path(f"{database.url.database}-wal")


def test_the_log_reaches_the_file_without_a_writer_copying_it(database: Database) -> None:
    write(database, 2 * checkpoints.DUE)
    file = Path(database.url.database or "")
    deadline = time.monotonic() + PATIENCE
    while file.stat().st_size < 4000 * checkpoints.DUE:
        assert time.monotonic() < deadline, "nothing was copied"
        time.sleep(0.01)


def test_the_log_stays_short_while_writers_never_rest(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "DUE", 100)
    monkeypatch.setattr(checkpoints, "LONG", 500)
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            write(database, 20)

    writers = [threading.Thread(target=go_on) for _ in range(3)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + PATIENCE
    try:
        while rows(database) < 10_000:  # 40 MB
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert log_of(database).stat().st_size < 16 * 2**20


def rows(database: Database) -> int:
    with database.read() as session:
        return int(session.connection().execute(text("SELECT count(*) FROM pages")).scalar_one())


def test_a_closed_database_holds_everything_and_no_log(database: Database) -> None:
    write(database, checkpoints.DUE)
    database.close()
    assert not log_of(database).exists()
    with sqlite3.connect(database.url.database or "") as connection:
        assert connection.execute("SELECT count(*) FROM pages").fetchone() == (checkpoints.DUE,)
    connection.close()


def test_writers_share_one_connection_and_wait_for_their_turn(database: Database) -> None:
    begun, seen = threading.Event(), []

    def second() -> None:
        begun.wait()
        with database.write() as session:
            seen.append(int(session.connection().execute(text("SELECT count(*) FROM pages")).scalar_one()))

    other = threading.Thread(target=second)
    other.start()
    with database.write() as session:
        session.connection().execute(text("INSERT INTO pages (data) VALUES (zeroblob(10))"))
        begun.set()
        time.sleep(0.05)  # the other one waits meanwhile, or the test proves nothing
        assert not seen
    other.join()
    assert seen == [1]


def test_other_processes_find_the_file_locked(database: Database) -> None:
    """Without SQLite's lock on the index (byte 128, `DMS` in os_unix.c), the next process would empty it."""
    for _ in range(3):
        write(database, 2 * checkpoints.DUE)
        time.sleep(3 * checkpoints.PAUSE)
    ask = (
        "import fcntl, sys\n"
        "with open(sys.argv[1] + '-shm', 'r+b') as index:\n"
        "    fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)"
    )
    asked = subprocess.run([sys.executable, "-c", ask, str(database.url.database)], capture_output=True, text=True)
    assert "BlockingIOError" in asked.stderr, "the lock is gone"
