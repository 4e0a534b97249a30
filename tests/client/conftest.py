"""What client tests share: a training script as a process of its own, and reading a run's points back."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tunescope
from tests.conftest import LiveService, running_service

Script = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Journals of a test stay with the test."""
    for name in [name for name in os.environ if name.startswith("TUNESCOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TUNESCOPE_DIR", str(tmp_path / "journals"))


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    return tmp_path / "journals"


@pytest.fixture
def api(live_service: str) -> Iterator[tunescope.Client]:
    with tunescope.Client(live_service) as client:
        yield client


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A second service, empty at first."""
    with running_service(tmp_path_factory.mktemp("other") / "data") as service:
        yield service


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts a Python script as a process; kills what is left of it after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def values(client: tunescope.Client, run_id: str, key: str) -> list[float]:
    series = client.history(run_id, key)
    return list(series[0]["values"]) if series else []
