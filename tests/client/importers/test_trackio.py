"""Projects recorded by Trackio itself, point by point, from its database and from its Parquet files."""

from __future__ import annotations

import json
import math
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.client.importers.conftest import (
    Record,
    assert_second_import_changes_nothing,
    bits,
    points,
    run_import,
    runs_of,
)
from tunescope import Client
from tunescope.importers._record import ImportProblem

STEPS = 30
SPECIAL = {3: math.nan, 4: math.inf, 5: -math.inf}
RECORDING = """
    import math
    import numpy as np
    import pandas as pd
    import trackio

    special = {3: math.nan, 4: math.inf, 5: -math.inf}
    run = trackio.init(project="in.tents", name="first", group="seeds", config={"lr": 1e-3, "model": {"layers": [1]}},
                       auto_log_gpu=False)
    for step in range(30):
        trackio.log({"loss": special.get(step, 1 / (step + 1)), "nested": {"x": step / 7}})
    trackio.log({"text": "said"}, step=40)
    picture = trackio.Image(np.zeros((4, 4, 3), dtype=np.uint8), caption="black")
    trackio.log({"picture": picture, "table": trackio.Table(dataframe=pd.DataFrame({"a": [1, 2]})),
                 "shown": trackio.Table(dataframe=pd.DataFrame({"a": [1], "b": [picture]})),
                 "sound": trackio.Audio(np.zeros(100, dtype=np.int16), sample_rate=8000),
                 "note": trackio.Markdown("# said"), "weights": trackio.Histogram(np.arange(10.0))}, step=50)
    trackio.log_system({"gpu": 0.5})
    trackio.alert("watch out", "it rises")
    with open("data.txt", "w") as file:
        file.write("the data")
    artifact = trackio.Artifact("corpus", type="dataset")
    artifact.add_file("data.txt")
    run.log_artifact(artifact)
    trackio.finish()

    trackio.init(project="in.tents", name="second", config={}, auto_log_gpu=False)
    trackio.log({"loss": 7.0}, step=3)
    trackio.finish()
"""


@pytest.fixture
def folder(tmp_path: Path, record: Record) -> Path:
    record(RECORDING, TRACKIO_DIR=str(tmp_path / "trackio"))
    return tmp_path / "trackio"


def logged_times(folder: Path, run: str, table: str = "metrics") -> list[float]:
    with sqlite3.connect(folder / "intents.db") as connection:
        rows = connection.execute(f"SELECT timestamp FROM {table} WHERE run_name = ? ORDER BY id", (run,)).fetchall()
    connection.close()
    return [datetime.fromisoformat(stamp).timestamp() for (stamp,) in rows]


def assert_first_run_is_whole(api: Client, run: dict[str, Any], times: list[float]) -> None:
    stored = points(api, run["id"])
    losses = [SPECIAL.get(step, 1 / (step + 1)) for step in range(STEPS)]
    assert stored["loss"] == [(s, times[s], bits(v)) for s, v in enumerate(losses)]
    assert stored["nested/x"] == [(s, times[s], bits(s / 7)) for s in range(STEPS)]
    assert [value for _, _, value in stored["system/gpu"]] == [bits(0.5)]
    assert run["config"] == {"lr": 1e-3, "model": {"layers": [1]}}
    assert (run["group"], run["status"]) == ("seeds", "finished")


def test_every_run_and_point(api: Client, folder: Path) -> None:
    found = run_import(api, "trackio", folder, "trackio all")
    runs = runs_of(api, "trackio all")
    assert set(runs) == {"first", "second"}
    times = logged_times(folder, "first")
    assert_first_run_is_whole(api, runs["first"], times)
    system = logged_times(folder, "first", "system_metrics")
    assert runs["first"]["finished_at"] == max(times + system)
    assert runs["first"]["created_at"] <= runs["first"]["finished_at"]
    (second,) = points(api, runs["second"]["id"], "loss")["loss"]
    assert second == (3, logged_times(folder, "second")[0], bits(7.0))
    assert found.left_out == {}


def test_files(api: Client, folder: Path) -> None:
    run_import(api, "trackio", folder, "trackio files")
    run = runs_of(api, "trackio files")["first"]
    files = {one["path"]: one["kind"] for one in api.list_artifacts(run["id"])["items"]}
    (in_a_cell,) = (path for path, kind in files.items() if kind == "image")
    assert api.download_artifact(run["id"], in_a_cell).startswith(b"\x89PNG")
    assert set(files) == {in_a_cell, "artifacts/corpus/v0/data.txt", "logged-values.jsonl"}
    assert api.download_artifact(run["id"], "artifacts/corpus/v0/data.txt") == b"the data"
    lines = api.download_artifact(run["id"], "logged-values.jsonl").decode().splitlines()
    kept = {line["key"]: line for line in map(json.loads, lines)}
    assert set(kept) == {"text", "alert"}
    assert kept["text"]["value"] == "said"
    assert kept["alert"]["value"]["title"] == "watch out"


def test_media(api: Client, folder: Path) -> None:
    run_import(api, "trackio", folder, "trackio media")
    run = runs_of(api, "trackio media")["first"]
    media = {one["key"]: one for one in api.list_media(run["id"], inline=True)["items"]}
    assert {key: (one["kind"], one["step"], one["caption"]) for key, one in media.items()} == {
        "picture": ("image", 50, "black"),
        "table": ("table", 50, None),
        "shown": ("table", 50, None),
        "sound": ("audio", 50, None),
        "note": ("text", 50, None),
        "weights": ("histogram", 50, None),
    }
    assert api.download_media(media["picture"]["id"]).startswith(b"\x89PNG")
    assert media["table"]["content"] == {"columns": ["a"], "rows": [[1], [2]]}
    assert media["note"]["content"] == "# said"
    assert sum(media["weights"]["content"]["counts"]) == 10


def test_importing_twice_changes_nothing(api: Client, folder: Path) -> None:
    run_import(api, "trackio", folder, "trackio twice")
    assert_second_import_changes_nothing(api, "trackio", folder, "trackio twice")


def test_one_project_by_name_from_the_default_folder(
    api: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(folder))
    run_import(api, "trackio", "in.tents", "trackio by name")
    assert set(runs_of(api, "trackio by name")) == {"first", "second"}
    with pytest.raises(ImportProblem, match=r"no Trackio project 'other' in .* \(there: intents\)"):
        run_import(api, "trackio", "other")


def test_parquet_where_the_database_is_gone(api: Client, folder: Path, tmp_path: Path, record: Record) -> None:
    times = logged_times(folder, "first")
    record(
        """
        from trackio.sqlite_storage import SQLiteStorage
        SQLiteStorage._dataset_import_attempted = True
        SQLiteStorage.export_to_parquet()
        """,
        TRACKIO_DIR=str(folder),
    )
    for file in folder.glob("intents.db*"):
        file.unlink()
    run_import(api, "trackio", folder, "trackio parquet")
    runs = runs_of(api, "trackio parquet")
    assert set(runs) == {"first", "second"}
    assert_first_run_is_whole(api, runs["first"], times)


def test_a_database_from_before_run_ids(api: Client, tmp_path: Path) -> None:
    """Before 0.24 a run was its name."""
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute(
            "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
        )
        rows = [(f"2025-01-01T00:00:{s:02}", "r", s, json.dumps({"loss": s / 3})) for s in range(5)]
        connection.executemany("INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?)", rows)
    connection.close()
    run_import(api, "trackio", tmp_path / "old.db", "trackio old")
    run = runs_of(api, "trackio old")["r"]
    assert points(api, run["id"]) == {"loss": [(s, 1735689600.0 + s, bits(s / 3)) for s in range(5)]}


def test_a_damaged_database_is_named(api: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    found = run_import(api, "trackio", tmp_path, "trackio broken")
    ((name, reason),) = found.left_out
    assert name == "project 'broken'"
    assert reason.startswith("it cannot be read")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="no Trackio projects"):
        run_import(None, "trackio", tmp_path)
