"""What the importers' tests share: a script that records with the real package, an import, and reading back."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tunescope import Client, importers
from tunescope.importers._record import LeftOut
from tunescope.importers._result_sink import Results, Stored
from tunescope.importers._sink import Sink, Tally, run_id

Point = tuple[int, float, bytes]
Record = Callable[..., None]
FIXTURES = Path(__file__).parent / "fixtures"


@dataclass
class Imported:
    tally: Tally
    left_out: dict[tuple[str, str], int]


def bits(value: float) -> bytes:
    """A float as its 64 bits: NaN equals NaN, and 0 is not -0."""
    return struct.pack("<d", value)


def point(step: int, time: float, value: float) -> Point:
    return step, time, bits(value)


def points(client: Client, run: str, key: str | None = None) -> dict[str, list[Point]]:
    """Every stored point of a run by metric, in the order of arrival, segments that were replaced included. What other
    ranks than 0 logged has the rank in its name."""
    table = pa.ipc.open_stream(io.BytesIO(client.history_arrow(run, key, whole=True, rank="all"))).read_all()
    found: dict[str, list[Point]] = {}
    for row in table.to_pylist():
        name = f"{row['key']} of rank {row['rank']}" if row["rank"] else row["key"]
        found.setdefault(name, []).append(point(row["step"], row["time"], row["value"]))
    return found


def run_import(client: Client | None, kind: str, place: str | Path, project: str | None = None) -> Imported:
    left_out = LeftOut()
    sink = Sink(client, kind, project, left_out)
    sink.write_all(importers.find(kind)(str(place), left_out), lambda name, tally: None)
    return Imported(sink.tally, dict(left_out.counts))


@dataclass
class ImportedResults:
    stored: Stored
    left_out: dict[tuple[str, str], int]


def import_results(client: Client | None, kind: str, place: str | Path, **links: str) -> ImportedResults:
    left_out = LeftOut()
    found = importers.find(kind)(str(place), left_out).results
    assert found is not None
    results = Results(client, left_out, **links)
    results.write_all(found, lambda name, done: None)
    return ImportedResults(results.stored, dict(left_out.counts))


def correct_of(client: Client, evaluation: dict[str, Any]) -> dict[str, bool]:
    """Right or wrong by item, as it is stored."""
    items = client.evaluation_items(evaluation["id"], limit=1000)["items"]
    return {item["id"]: item["correct"] for item in items}


def runs_of(client: Client, project: str) -> dict[str, dict[str, Any]]:
    """Runs of a project by name, each in full."""
    return {run["name"]: client.get_run(run["id"]) for run in client.list_runs(project)["items"]}


def assert_second_import_changes_nothing(client: Client, kind: str, place: str | Path, project: str) -> None:
    def everything() -> dict[str, Any]:
        found = {}
        for name, run in runs_of(client, project).items():
            artifacts = [(a["path"], a["sha256"]) for a in client.list_artifacts(run["id"])["items"]]
            # A sign of life moves these two.
            run |= {"heartbeat_at": None, "duration": None}
            found[name] = {
                **run,
                "points": points(client, run["id"]),
                "artifacts": artifacts,
                "media": client.list_media(run["id"])["items"],
                "console": client.console(run["id"])["items"],
            }
        return found

    before = everything()
    again = run_import(client, kind, place, project)
    tally = again.tally
    assert (tally.points, tally.lines, tally.artifacts, tally.media, tally.new_runs) == (0, 0, 0, 0, 0)
    assert everything() == before


def recorded(folder: Path, code: str, **environment: str) -> None:
    """Run a script with a tracker's own package, in a process and a home folder of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    # MLflow leaves in the environment which servers a process speaks to.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**inherited, "HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """`recorded`, in the test's own folder."""
    return partial(recorded, tmp_path)


__all__ = [
    "FIXTURES", "Imported", "ImportedResults", "Record", "bits", "correct_of", "import_results", "point", "points",
    "recorded", "run_id", "run_import", "runs_of",
]  # fmt: skip
