"""Nothing is lost when the service is killed in the middle of a training run and started again: counted."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import tunescope
from tests.conftest import LiveService, running_service, wait_until

SCRIPT = Path(__file__).parent / "fine_tune.py"


def ledger_of(path: Path) -> dict[int, float]:
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def train_through_kills(service: LiveService, folder: Path, kills: list[int]) -> None:
    """Fine-tune while the service is killed at these steps, and check every point."""
    ledger = folder / "ledger.jsonl"
    environment = {**os.environ, "TUNESCOPE_DIR": str(folder / "journal")}
    command = [sys.executable, str(SCRIPT), service.url, str(folder)]
    printed = folder / "printed"
    with printed.open("wb") as output:  # a pipe that nobody reads would stop the training once it is full
        training = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def reached(step: int) -> bool:
        assert training.poll() is None, "the training ended by itself"
        return len(ledger_of(ledger)) >= step

    try:
        for step in kills:
            wait_until(partial(reached, step), seconds=120)
            service.kill()
            service.start()
        (folder / "enough").touch()
        training.wait(timeout=120)
    finally:
        training.kill()
    lines = printed.read_text().splitlines()
    assert training.returncode == 0, lines
    report = next(json.loads(line) for line in reversed(lines) if line.startswith('{"run_id"'))
    logged = ledger_of(ledger)
    steps = len(logged)
    assert steps >= kills[-1]
    assert report["left"] == 0
    with tunescope.Client(service.url) as client:
        run = client.get_run(report["run_id"])
        series = client.history([report["run_id"]], ["train/loss"])[0]
    stored = dict(zip(series["steps"], series["values"], strict=True))
    assert series["count"] == steps, "a point is missing or stored twice"
    assert stored == logged
    assert run["status"] == "finished"
    assert run["points_stored"] == run["points_sent"] == report["sent"]


def test_the_service_is_killed_while_training(live: LiveService, tmp_path: Path) -> None:
    train_through_kills(live, tmp_path, kills=[60, 200])


@pytest.mark.slow
def test_the_service_is_killed_again_and_again(live: LiveService, tmp_path: Path) -> None:
    moments = random.Random(0)
    train_through_kills(live, tmp_path, kills=sorted(moments.sample(range(100, 5000), 12)))


@pytest.mark.slow
def test_on_postgresql_too(postgres_url: str, tmp_path: Path) -> None:
    with running_service(tmp_path / "data", database_url=postgres_url) as service:
        train_through_kills(service, tmp_path, kills=[60, 200])
