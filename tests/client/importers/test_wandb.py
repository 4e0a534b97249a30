"""Run folders written by W&B itself, offline, point by point."""

from __future__ import annotations

import json
import math
import os
import time
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

STEPS = 60
SPECIAL = {3: math.nan, 4: math.inf, 5: -math.inf}
ENVIRONMENT = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
TRAINING = """
    import math
    import numpy as np
    import wandb

    special = {3: math.nan, 4: math.inf, 5: -math.inf}
    run = wandb.init(
        project="intents", id="abc123", name="lora", config={"lr": 1e-4, "model": {"layers": [1, 2]}},
        tags=["nlp", "small"], notes="as noted", group="seeds", job_type="train", resume="allow",
        settings=wandb.Settings(x_stats_sampling_interval=0.1),
    )
    import sys
    print("on the console")
    print("half" + chr(13) + "over", file=sys.stderr)
    for step in range(60):
        run.log({"loss": special.get(step, 1 / (step + 1)), "nested": {"deep": {"x": step / 7}}, "ok": True})
    run.log({"late": 5, "text": "said"}, step=100)
    def picture(shade):
        return wandb.Image(np.full((4, 4, 3), shade, dtype=np.uint8), caption=f"shade {shade}")
    import wave
    with wave.open("sound.wav", "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000), sound.writeframes(bytes(200))
    table = wandb.Table(columns=["a"], data=[[1]])
    run.log({"picture": picture(0), "weights": wandb.Histogram([1, 2, 3]), "table": table,
             "deep": {"pictures": [picture(1), picture(2)]}, "sound": wandb.Audio("sound.wav", caption="silence"),
             "page": wandb.Html("<b>bold</b>")}, step=101)
    run.summary["best"] = 0.125
    run.config.update({"extra": {"deep": 1}})
    with open("data.txt", "w") as file:
        file.write("the data")
    artifact = wandb.Artifact("corpus", "dataset")
    artifact.add_file("data.txt")
    run.log_artifact(artifact)
    import time; time.sleep(0.5)
    ENDING
"""


def training(ending: str = "run.finish()") -> str:
    return TRAINING.replace("ENDING", ending)


@pytest.fixture
def folder(tmp_path: Path, record: Record) -> Path:
    record(training(), **ENVIRONMENT)
    return tmp_path / "wandb"


def the_run(client: Client, project: str) -> dict[str, Any]:
    (run,) = runs_of(client, project).values()
    return run


def test_everything_of_a_run(api: Client, folder: Path) -> None:
    began = time.time()
    found = run_import(api, "wandb", folder, "wandb all")
    run = the_run(api, "wandb all")
    assert {name: run[name] for name in ("name", "status", "group", "notes", "exit_code", "config", "tags")} == {
        "name": "lora",
        "status": "finished",
        "group": "seeds",
        "notes": "as noted",
        "exit_code": 0,
        "config": {"lr": 1e-4, "model": {"layers": [1, 2]}, "extra": {"deep": 1}},
        "tags": {"nlp": "true", "small": "true", "job_type": "train"},
    }
    assert began - 120 < run["created_at"] < run["finished_at"] < began
    environment = run["environment"]
    assert environment["imported"] == {"from": "wandb", "run_id": "abc123"}
    assert environment["host"]
    assert environment["packages"]["wandb"]
    assert found.left_out == {}
    stored = points(api, run["id"])
    expected = {
        "loss": [SPECIAL.get(step, 1 / (step + 1)) for step in range(STEPS)],
        "nested/deep/x": [step / 7 for step in range(STEPS)],
        "ok": [1.0] * STEPS,
    }
    for key, values in expected.items():
        assert [(step, value) for step, _, value in stored[key]] == [(s, bits(v)) for s, v in enumerate(values)]
        times = [at for _, at, _ in stored[key]]
        assert times == sorted(times)
        assert run["created_at"] <= times[0] <= times[-1] <= run["finished_at"]
    assert [(step, value) for step, _, value in stored["late"]] == [(100, bits(5.0))]
    assert [(step, value) for step, _, value in stored["best"]] == [(101, bits(0.125))]
    system = {key for key in stored if key.startswith("system/")}
    assert "system/memory_percent" in system
    assert set(stored) - system == {*expected, "late", "best"}


def test_files(api: Client, folder: Path) -> None:
    run_import(api, "wandb", folder, "wandb files")
    run = the_run(api, "wandb files")
    files = {one["path"]: one["kind"] for one in api.list_artifacts(run["id"])["items"]}
    (page,) = (path for path in files if path.startswith("media/"))
    assert set(files) - {page} == {
        "artifacts/corpus/data.txt",
        "logged-values.jsonl",
        "output.log",
        "requirements.txt",
        "wandb-summary.json",
    }
    assert b"<b>bold</b>" in api.download_artifact(run["id"], page)
    assert api.download_artifact(run["id"], "artifacts/corpus/data.txt") == b"the data"
    summary = json.loads(api.download_artifact(run["id"], "wandb-summary.json"))
    assert (summary["best"], summary["late"], summary["text"]) == (0.125, 5, "said")
    lines = api.download_artifact(run["id"], "logged-values.jsonl").decode().splitlines()
    kept = {line["key"]: line for line in map(json.loads, lines)}
    assert set(kept) == {"text", "page"}
    assert (kept["text"]["step"], kept["text"]["value"]) == (100, "said")
    assert kept["page"]["value"]["path"] == page


def test_media_and_console(api: Client, folder: Path) -> None:
    run_import(api, "wandb", folder, "wandb media")
    run = the_run(api, "wandb media")
    media = api.list_media(run["id"], inline=True)["items"]
    assert [(one["key"], one["kind"], one["step"], one["position"], one["caption"]) for one in media] == [
        ("deep/pictures", "image", 101, 0, "shade 1"),
        ("deep/pictures", "image", 101, 1, "shade 2"),
        ("picture", "image", 101, 0, "shade 0"),
        ("sound", "audio", 101, 0, "silence"),
        ("table", "table", 101, 0, None),
        ("weights", "histogram", 101, 0, None),
    ]
    held = {one["key"]: one["content"] for one in media}
    assert held["table"] == {"columns": ["a"], "rows": [[1]]}
    assert (sum(held["weights"]["counts"]), held["weights"]["edges"][-1]) == (3, 3.0)
    assert {api.download_media(one["id"])[:4] for one in media[:3]} == {b"\x89PNG"}
    printed = {(line["stream"], line["text"]) for line in api.console(run["id"])["items"]}
    assert {("stdout", "on the console"), ("stderr", "over")} <= printed


def test_importing_twice_changes_nothing(api: Client, folder: Path) -> None:
    run_import(api, "wandb", folder, "wandb twice")
    assert_second_import_changes_nothing(api, "wandb", folder, "wandb twice")


def test_a_resumed_run_is_one_run(api: Client, folder: Path, record: Record) -> None:
    run_import(api, "wandb", folder, "wandb resumed")
    # Offline, W&B cannot know the last step: it starts over.
    record(
        """
        import wandb
        run = wandb.init(project="intents", id="abc123", resume="allow", name="lora again")
        for step in range(10):
            run.log({"loss": 100.0 + step})
        run.finish()
        """,
        **ENVIRONMENT,
    )
    run_import(api, "wandb", folder, "wandb resumed")
    run = the_run(api, "wandb resumed")
    assert run["name"] == "lora again"
    stored = [(step, value) for step, _, value in points(api, run["id"], "loss")["loss"]]
    assert stored[:STEPS] == [(s, bits(SPECIAL.get(s, 1 / (s + 1)))) for s in range(STEPS)]
    assert stored[STEPS:] == [(s, bits(100.0 + s)) for s in range(10)]


@pytest.mark.parametrize(
    ("ending", "age", "status"),
    [
        ("run.finish(exit_code=3)", 0, "failed"),
        # W&B's own process writes the log, when it comes to it.
        ("time.sleep(3); os._exit(0)", 3600, "crashed"),
        ("time.sleep(3); os._exit(0)", 0, "running"),
    ],
)
def test_how_a_run_ended(api: Client, tmp_path: Path, record: Record, ending: str, age: float, status: str) -> None:
    record(training(f"import os; {ending}"), **ENVIRONMENT)
    (log,) = (tmp_path / "wandb").glob("offline-run-*/run-abc123.wandb")
    written = time.time() - age
    os.utime(log, (written, written))
    project = f"wandb {status}"
    run_import(api, "wandb", tmp_path / "wandb", project)
    run = the_run(api, project)
    assert run["status"] == status
    assert (run["finished_at"] is None) == (status == "running")
    assert run["exit_code"] == (3 if status == "failed" else None)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_log_is_read_up_to_the_damage(api: Client, folder: Path, damage: str) -> None:
    (log,) = folder.glob("offline-run-*/run-abc123.wandb")
    content = bytearray(log.read_bytes())
    middle = len(content) // 2
    if damage == "cut":
        log.write_bytes(content[:middle])
    else:
        content[middle] ^= 0xFF
        log.write_bytes(content)
    project = f"wandb {damage}"
    found = run_import(api, "wandb", folder, project)
    stored = [(step, value) for step, _, value in points(api, the_run(api, project)["id"], "loss")["loss"]]
    assert 0 < len(stored) < STEPS
    assert stored == [(s, bits(SPECIAL.get(s, 1 / (s + 1)))) for s in range(len(stored))]
    assert any("run-abc123.wandb" in name and "cut off or damaged" in reason for name, reason in found.left_out)


def test_records_longer_than_a_block(api: Client, tmp_path: Path, record: Record) -> None:
    """A record of more than 32 KiB is stored in parts."""
    record(
        """
        import wandb
        run = wandb.init(project="big", id="big1")
        for step in range(3):
            run.log({"text": "x" * 100_000, **{f"metric/{i}": step + i / 8 for i in range(1500)}})
        run.finish()
        """,
        **ENVIRONMENT,
    )
    found = run_import(api, "wandb", tmp_path / "wandb", "wandb big")
    run = the_run(api, "wandb big")
    stored = points(api, run["id"])
    assert found.left_out == {}
    assert [value for _, _, value in stored["metric/1499"]] == [bits(step + 1499 / 8) for step in range(3)]
    assert sum(key.startswith("metric/") for key in stored) == 1500


def test_a_sweep_is_the_parent_of_its_runs(api: Client, tmp_path: Path, record: Record) -> None:
    record(
        """
        import wandb
        for number in range(2):
            run = wandb.init(project="swept", id=f"run{number}", settings=wandb.Settings(sweep_id="sw1"))
            run.log({"x": number})
            run.finish()
        """,
        **ENVIRONMENT,
    )
    run_import(api, "wandb", tmp_path / "wandb", "wandb sweep")
    runs = runs_of(api, "wandb sweep")
    assert len(runs) == 3
    sweep = runs.pop("sweep sw1")
    assert {run["parent_run_id"] for run in runs.values()} == {sweep["id"]}


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="no W&B run folders"):
        run_import(None, "wandb", tmp_path)
