"""Event files written by PyTorch's and by TensorBoard's own writer, point by point."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.importers.conftest import (
    Record,
    assert_second_import_changes_nothing,
    point,
    points,
    run_import,
    runs_of,
)
from tests.conftest import wait_until
from tunescope import Client
from tunescope.importers._record import ImportProblem

SPECIAL = {3: math.nan, 4: math.inf, 5: -math.inf}


def single(value: float) -> float:
    """What is left of a value in TensorBoard's 32 bits."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


LOGGING = """
    import math
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    special = {3: math.nan, 4: math.inf, 5: -math.inf}
    writer = SummaryWriter("logs/first")
    for step in range(40):
        writer.add_scalar("train/loss", special.get(step, 1 / (step + 1)), step, walltime=1000.25 + step)
        writer.add_scalar("tensor", special.get(step, step / 7), step, walltime=1000.5 + step, new_style=True,
                          double_precision=True)
    writer.add_image("a/picture", np.zeros((3, 4, 4)), 2, walltime=1020.0)
    writer.add_audio("sound", np.zeros(100), 3, walltime=1020.0, sample_rate=8000)
    writer.add_text("note", "as **said**", 1, walltime=1020.0)
    writer.add_histogram("weights", np.arange(10.0), 1, walltime=1020.0)
    writer.add_hparams({"lr": 0.125, "optimizer": "adamw", "nesterov": True}, {"hparam/accuracy": 0.5})
    writer.close()

    writer = SummaryWriter("logs/sweep")
    writer.add_scalar("x", 1.0, 0)
    for lr in (0.25, 0.5):
        writer.add_hparams({"lr": lr}, {"hparam/accuracy": lr}, run_name=f"{int(1e9 * (1 + lr))}.5")
    writer.close()
"""
MODERN = """
    import time
    from tensorboard.summary import Writer
    writer = Writer("logs/outer/inner")
    for step in range(20):
        writer.add_scalar("loss", step / 3, step)
    writer.close()
"""


@pytest.fixture
def logs(tmp_path: Path, record: Record) -> Path:
    record(LOGGING)
    record(MODERN)
    return tmp_path / "logs"


def test_every_scalar_in_both_formats(api: Client, logs: Path) -> None:
    run_import(api, "tensorboard", logs, "tb scalars")
    runs = runs_of(api, "tb scalars")
    assert set(runs) == {"first", "sweep", "sweep/1250000000.5", "sweep/1500000000.5", "outer/inner"}
    first = points(api, runs["first"]["id"])
    expected = [point(s, 1000.25 + s, SPECIAL.get(s, single(1 / (s + 1)))) for s in range(40)]
    assert first["train/loss"] == expected
    # A tensor of doubles keeps every bit.
    assert first["tensor"] == [point(s, 1000.5 + s, SPECIAL.get(s, s / 7)) for s in range(40)]
    inner = points(api, runs["outer/inner"]["id"])["loss"]
    assert [(step, value) for step, _, value in inner] == [point(s, 0, single(s / 3))[::2] for s in range(20)]
    times = [time for _, time, _ in inner]
    assert times == sorted(times)
    assert times[0] >= runs["outer/inner"]["created_at"]
    assert runs["outer/inner"]["finished_at"] == times[-1]


def test_hparams_belong_to_their_run(api: Client, logs: Path) -> None:
    run_import(api, "tensorboard", logs, "tb hparams")
    runs = runs_of(api, "tb hparams")
    assert runs["first"]["config"] == {"lr": 0.125, "optimizer": "adamw", "nesterov": True}
    assert runs["first"]["status"] == "finished"
    assert points(api, runs["first"]["id"], "hparam/accuracy")["hparam/accuracy"][0][2] == struct.pack("<d", 0.5)
    # Several sets of hyper-parameters of one writer are runs of their own.
    for name, lr in (("sweep/1250000000.5", 0.25), ("sweep/1500000000.5", 0.5)):
        assert runs[name]["config"] == {"lr": lr}
        assert runs[name]["parent_run_id"] == runs["sweep"]["id"]


def test_pictures_sounds_texts_and_histograms(api: Client, logs: Path) -> None:
    """Each at its step, as a medium."""
    found = run_import(api, "tensorboard", logs, "tb media")
    run = runs_of(api, "tb media")["first"]
    media = {one["key"]: one for one in api.list_media(run["id"], inline=True)["items"]}
    assert {key: (one["kind"], one["step"], one["time"], one["content_type"]) for key, one in media.items()} == {
        "a/picture": ("image", 2, 1020.0, "image/png"),
        "sound": ("audio", 3, 1020.0, "audio/wav"),
        "note/text_summary": ("text", 1, 1020.0, "text/plain"),
        "weights": ("histogram", 1, 1020.0, "application/json"),
    }
    assert api.download_media(media["a/picture"]["id"]).startswith(b"\x89PNG")
    assert api.download_media(media["sound"]["id"]).startswith(b"RIFF")
    assert media["note/text_summary"]["content"] == "as **said**"
    counted = media["weights"]["content"]
    assert sum(counted["counts"]) == 10
    assert (counted["edges"][0], counted["edges"][-1]) == (0.0, 9.0)
    assert api.list_artifacts(run["id"])["items"] == []
    assert found.left_out == {}


def test_what_the_summary_api_of_tensorflow_2_writes(api: Client, tmp_path: Path, record: Record) -> None:
    """Several pictures of a step are a gallery; what is no medium here is kept as a value."""
    record("""
        import io
        import numpy as np
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.image import metadata as images
        from tensorboard.plugins.audio import metadata as sounds
        from tensorboard.plugins.text import metadata as texts
        from tensorboard.plugins.histogram import metadata as histograms
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util import tensor_util

        def png(shade):
            buffer = io.BytesIO()
            Image.fromarray(np.full((2, 3), shade, np.uint8)).save(buffer, "PNG")
            return buffer.getvalue()

        writer = EventFileWriter("logs/two")
        def add(tag, values, metadata, step=5):
            value = Summary.Value(tag=tag, tensor=tensor_util.make_tensor_proto(values), metadata=metadata)
            writer.add_event(Event(wall_time=1000.5, step=step, summary=Summary(value=[value])))

        about = dict(display_name="", description="")
        shown = images.create_summary_metadata(converted_to_tensor=True, **about)
        add("pictures", [b"3", b"2", png(0), png(255)], shown)
        add("odd", [b"3", b"2", b"no picture"], shown)
        add("texts", ["one", "two"], texts.create_summary_metadata(**about))
        add("empty", np.zeros((0, 3)), histograms.create_summary_metadata(**about))
        writer.close()
    """)
    run_import(api, "tensorboard", tmp_path / "logs", "tb two")
    (run,) = runs_of(api, "tb two").values()
    media = api.list_media(run["id"], inline=True)["items"]
    assert [(one["key"], one["position"], one["kind"]) for one in media] == [
        ("pictures", 0, "image"),
        ("pictures", 1, "image"),
        ("texts", 0, "text"),
        ("texts", 1, "text"),
    ]
    assert [one["content"] for one in media[2:]] == ["one", "two"]
    lines = api.download_artifact(run["id"], "logged-values.jsonl").decode().splitlines()
    assert {line["key"]: line["value"]["type"] for line in map(json.loads, lines)} == {
        "odd": "images",
        "empty": "histogram",
    }


def test_importing_twice_changes_nothing(api: Client, logs: Path, tmp_path: Path) -> None:
    run_import(api, "tensorboard", logs, "tb twice")
    moved = tmp_path / "moved"
    logs.rename(moved)
    assert_second_import_changes_nothing(api, "tensorboard", moved, "tb twice")


def test_a_run_that_went_on(api: Client, tmp_path: Path, record: Record) -> None:
    def writing(start: int, end: int) -> None:
        record(f"""
            from torch.utils.tensorboard import SummaryWriter
            writer = SummaryWriter("grown/run")
            for step in range({start}, {end}):
                writer.add_scalar("loss", step, step, walltime=100.0 + step)
            writer.close()
        """)

    for start, end in ((0, 10), (10, 25)):
        writing(start, end)
        run_import(api, "tensorboard", tmp_path / "grown", "tb grown")
    (run,) = runs_of(api, "tb grown").values()
    assert points(api, run["id"]) == {"loss": [point(s, 100.0 + s, float(s)) for s in range(25)]}


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_read_up_to_the_damage(api: Client, logs: Path, damage: str) -> None:
    (file,) = (logs / "outer" / "inner").iterdir()
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-10])
    else:
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    project = f"tb {damage}"
    found = run_import(api, "tensorboard", logs, project)
    stored = points(api, runs_of(api, project)["outer/inner"]["id"])["loss"]
    assert 0 < len(stored) < 20
    assert [(step, value) for step, _, value in stored] == [point(s, 0, single(s / 3))[::2] for s in range(len(stored))]
    ((name, reason),) = found.left_out
    assert file.name in name
    assert "cut off or damaged at byte" in reason


def test_the_folder_of_one_run_is_the_same_run(api: Client, logs: Path) -> None:
    """Named by its folder, wherever the reading began."""
    run_import(api, "tensorboard", logs, "tb folder")
    again = run_import(api, "tensorboard", logs / "first", "tb folder")
    assert again.tally.new_runs == 0


@pytest.mark.slow
def test_killed_and_repeated(api: Client, live_service: str, tmp_path: Path, record: Record) -> None:
    """The command itself, killed while it sends."""
    record("""
        from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter("long/run", max_queue=10_000)
        for step in range(400_000):
            writer.add_scalar("loss", step / 7, step, walltime=1000.0 + step, new_style=True, double_precision=True)
        writer.close()
    """)
    command = [sys.executable, "-m", "tunescope", "import", "tensorboard", str(tmp_path / "long")]
    command += ["--project", "tb killed", "--url", live_service]

    def stored() -> int:
        return sum(run["points_stored"] for run in runs_of(api, "tb killed").values())

    with subprocess.Popen(command) as process:
        wait_until(lambda: stored() > 0, seconds=120)
        process.kill()
    assert 0 < stored() < 400_000
    subprocess.run(command, check=True)
    (run,) = runs_of(api, "tb killed").values()
    assert (run["status"], run["points_stored"]) == ("finished", 400_000)
    assert points(api, run["id"]) == {"loss": [point(s, 1000.0 + s, s / 7) for s in range(400_000)]}


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ImportProblem, match="no TensorBoard event files"):
        run_import(None, "tensorboard", tmp_path)
