"""A run from the training script's side, against a real service."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import struct
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunescope
from tests.client.conftest import values
from tests.conftest import free_port
from tunescope import ApiError, Client, TunescopeError
from tunescope._journal import JournalReader, JournalWriter, Points
from tunescope._recorder import Recorder


@pytest.fixture
def start(live_service: str) -> Any:
    """`tunescope.init` on the live service, without the machine's own metrics and this checkout's changes."""

    def init(**options: Any) -> tunescope.Run:
        return tunescope.init(
            **{"url": live_service, "system_interval": None, "git_diff": False, "quiet": True, **options}
        )

    return init


def test_what_is_logged_is_stored(start: Any, api: Client) -> None:
    run = start(project="client", name="first", config={"lr": 1e-4, "model": {"layers": 2}}, tags={"team": "nlp"})
    for step in range(100):
        run.log({"train/loss": 1 / (step + 1), "train": {"acc": step}}, step=step)
    report = run.finish()
    assert (report.sent, report.stored, report.left) == (200, 200, 0)
    stored = api.get_run(run.id)
    assert (stored["project"], stored["name"], stored["status"], stored["exit_code"]) == (
        "client",
        "first",
        "finished",
        0,
    )
    assert stored["config"] == {"lr": 1e-4, "model": {"layers": 2}}
    assert stored["tags"] == {"team": "nlp"}
    assert stored["points_sent"] == stored["points_stored"] == 200
    (series,) = api.history(run.id, "train/loss")
    assert series["steps"] == list(range(100))
    assert series["values"] == [1 / (step + 1) for step in range(100)]
    assert values(api, run.id, "train/acc") == [float(step) for step in range(100)]
    assert stored["environment"]["python"]
    assert stored["environment"]["packages"]["tunescope"] == tunescope.__version__


def test_every_bit_of_a_value_survives(start: Any, api: Client) -> None:
    payload = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    given = [payload, math.inf, -math.inf, -0.0, 5e-324, 1e308, 0.1, -1e308]
    run = start()
    for value in given:
        run.log({"v": value})
    run.finish()
    import pyarrow as pa

    table = pa.ipc.open_stream(api.history_arrow(run.id, "v")).read_all()
    assert table["value"].to_numpy().tobytes() == struct.pack(f"<{len(given)}d", *given)


def test_steps_count_up_by_themselves(start: Any, api: Client) -> None:
    run = start()
    run.log({"a": 1})
    run.log({"a": 2})
    run.log({"a": 3}, step=10)
    run.log({"a": 4})
    run.log({"a": 5}, step=np.int64(20))
    run.log({"a": 6}, step=30.0)
    run.finish()
    (series,) = api.history(run.id, "a")
    assert series["steps"] == [0, 1, 10, 11, 20, 30]


@pytest.mark.parametrize("far", [2**63, -(2**70), 10**30])
@pytest.mark.parametrize("written", [False, True])
def test_steps_count_on_after_one_that_cannot_be_stored(far: int, written: bool, tmp_path: Path) -> None:
    recorder = Recorder(JournalWriter(tmp_path / "journal"), next_step=4)
    for value, step in enumerate([None, 10, far]):
        recorder.put({"a": value}, step)
    if written:
        recorder._flush()
    for value, step in enumerate([None, None, far, None], start=3):
        recorder.put({"a": value}, step)
    recorder.start()
    assert recorder.close(None, 10)
    with closing(JournalReader(tmp_path / "journal")) as reader:
        records = [record for record, _ in reader.read(reader.start)]
    columns = [column for record in records if isinstance(record, Points) for column in record.columns]
    assert struct.unpack("<5q", b"".join(column.step for column in columns)) == (4, 10, 11, 12, 13)
    assert struct.unpack("<5d", b"".join(column.value for column in columns)) == (0, 1, 3, 4, 6)


def test_what_cannot_be_stored_is_reported_once_by_name(
    start: Any, api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    class Awkward:
        def item(self) -> float:
            raise RuntimeError("no")

    run = start()
    with caplog.at_level(logging.WARNING, "tunescope"):
        for _ in range(50):
            run.log({"good": 1.0, "text": "hello", "none": None, "image": np.zeros((2, 2)), "awkward": Awkward()})
        run.log({"good": 1.0}, step="seven")
        run.log(None)
        run.log({"good": 2.0}, step=2**63)
        run.finish()
    assert values(api, run.id, "good") == [1.0] * 51
    for name in ("'text' is not one number (str)", "'none' is", "'image' is not one number (ndarray of shape (2, 2))"):
        assert caplog.text.count(name) == 1
    assert caplog.text.count("'awkward'") == 1
    assert "'seven'" in caplog.text
    assert "log(None)" in caplog.text
    assert "does not fit in 64 bits" in caplog.text


def test_threads_may_log(start: Any, api: Client) -> None:
    run = start()

    def work(name: str) -> None:
        for value in range(500):
            run.log({name: value})

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.finish().stored == 4000
    series = api.history(run.id)
    assert sorted(step for s in series for step in s["steps"]) == list(range(4000))
    assert all(s["values"] == [float(v) for v in range(500)] for s in series)


def test_odd_names_and_many_keys(start: Any, api: Client) -> None:
    names = [
        "größe µ",
        "emoji 😀",
        "a b/c?d&e=%20",
        "quote'\"",
        "x" * 700,
        "\u202e rtl",
        *(f"k{i}" for i in range(12_000)),
    ]
    run = start()
    run.log({name: float(i) for i, name in enumerate(names)})
    report = run.finish(timeout=60)
    assert (report.stored, report.left) == (len(names), 0)
    assert values(api, run.id, "größe µ") == [0.0]
    assert values(api, run.id, "a b/c?d&e=%20") == [2.0]


def test_config_tags_and_notes_may_change(start: Any, api: Client) -> None:
    run = start(config={"a": {"x": 1, "y": 2}}, tags=["one"])
    run.config["b"] = Path("/data")
    run.config.update({"a": {"y": 3}})
    run.set_tags({"two": 2, "one": None})
    run.set_notes("went well")
    assert dict(run.config) == {"a": {"x": 1, "y": 3}, "b": "/data"}
    run.finish()
    stored = api.get_run(run.id)
    assert stored["config"] == {"a": {"x": 1, "y": 3}, "b": "/data"}
    assert (stored["tags"], stored["notes"]) == ({"two": "2"}, "went well")
    with pytest.raises(TypeError):
        del run.config["b"]


def test_artifacts(start: Any, api: Client, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(os.urandom(3 << 20))
    (folder / "deep" / "config.json").write_text("{}")
    weights = (folder / "weights.bin").read_bytes()
    run = start()
    run.log_artifact(folder, kind="checkpoint")
    run.log_artifact(folder / "deep" / "config.json", "../../config.json")
    run.log_artifact(b"bytes", "notes/a b.txt")
    (folder / "weights.bin").write_bytes(b"changed after it was logged")
    with pytest.raises(FileNotFoundError, match="no file"):
        run.log_artifact(tmp_path / "nothing")
    with pytest.raises(TunescopeError, match="needs a name"):
        run.log_artifact(b"bytes")
    report = run.finish()
    stored = {item["path"]: item["kind"] for item in api.list_artifacts(run.id)["items"]}
    assert stored == {
        "config.json": "file",
        "model/deep/config.json": "checkpoint",
        "model/weights.bin": "checkpoint",
        "notes/a b.txt": "file",
    }
    assert api.download_artifact(run.id, "model/weights.bin") == weights
    assert api.download_artifact(run.id, "notes/a b.txt") == b"bytes"
    assert report.journal is not None
    assert list((report.journal / "files").iterdir()) == []


def test_a_run_may_be_resumed(start: Any, api: Client, tmp_path: Path) -> None:
    run = start(project="resumed", config={"lr": 1})
    for step in range(10):
        run.log({"loss": step}, step=step)
    run.finish()
    # Another machine: no journal of the run here.
    again = start(project="resumed", config={"epochs": 2}, resume=run.id, dir=tmp_path / "elsewhere")
    assert api.get_run(run.id)["status"] == "running"
    assert dict(again.config) == {"lr": 1, "epochs": 2}
    again.log({"loss": 100})
    again.log({"loss": 50}, step=5)
    report = again.finish()
    assert report.stored == 12
    (series,) = api.history(run.id, "loss")
    assert series["steps"] == [0, 1, 2, 3, 4, 5]  # what the new segment replaces is not shown
    stored = api.get_run(run.id)
    assert (stored["status"], stored["points_sent"]) == ("finished", 12)


def test_an_unknown_run_is_not_resumed(start: Any, journals: Path) -> None:
    with pytest.raises(ApiError, match="no run 'abc123' to resume"):
        start(resume="abc123")
    with pytest.raises(TunescopeError, match="not the id of a run"):
        start(resume="../../etc")
    assert not list(journals.rglob("journal"))


def test_a_refused_run_leaves_no_journal(start: Any, journals: Path) -> None:
    with pytest.raises(ApiError) as caught:
        start(project="x" * 300)
    assert caught.value.status == 400
    assert not list(journals.rglob("journal"))


def test_with_block(start: Any, api: Client) -> None:
    with start() as good:
        good.log({"a": 1})
    assert api.get_run(good.id)["status"] == "finished"
    assert repr(good) == f"<tunescope.Run '{good.name}' of '{good.project}', id={good.id}>"
    with pytest.raises(ZeroDivisionError), start() as bad:
        bad.log({"a": 1 / 0})
    stored = api.get_run(bad.id)
    assert (stored["status"], stored["exit_code"]) == ("failed", 1)
    assert "ZeroDivisionError: division by zero" in stored["error"]


def test_finishing_twice_and_logging_after(start: Any, api: Client, caplog: pytest.LogCaptureFixture) -> None:
    run = start()
    run.log({"a": 1})
    first = run.finish(status="failed")
    assert run.finish() is first
    with caplog.at_level(logging.WARNING, "tunescope"):
        run.log({"a": 2})
        run.log({"a": 3})
    assert caplog.text.count("is finished; what is logged now is not recorded") == 1
    run.config["late"] = 1
    run.log_artifact(b"late", "late")
    assert api.get_run(run.id)["status"] == "failed"
    assert values(api, run.id, "a") == [1.0]


def test_system_metrics_of_a_short_run(live_service: str, api: Client) -> None:
    with tunescope.init(url=live_service, quiet=True) as run:
        run.log({"a": 1})
    keys = set(api.get_run(run.id)["metrics"])
    assert {"a", "system/memory_percent", "system/process_memory_mib", "system/disk_percent"} <= keys


def test_a_forked_child_logs_into_the_same_run(start: Any, api: Client) -> None:
    run = start()
    run.log({"parent": 1.0})
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: [run.log({"child": float(i)}) for i in range(10)])
    child.start()
    child.join(60)
    assert child.exitcode == 0
    run.log({"parent": 2.0})
    run.finish()
    assert values(api, run.id, "parent") == [1.0, 2.0]
    assert values(api, run.id, "child") == [float(i) for i in range(10)]
    assert api.get_run(run.id)["status"] == "finished"


def test_a_forked_child_that_logs_nothing_does_nothing(start: Any, api: Client, journals: Path) -> None:
    run = start()
    child = multiprocessing.get_context("fork").Process(target=run.finish)
    child.start()
    child.join(60)
    assert api.get_run(run.id)["status"] == "running"
    assert len(list(journals.rglob("journal"))) == 1
    run.finish()


def test_disabled(journals: Path) -> None:
    with tunescope.init(mode="disabled", config={"lr": 1}) as run:
        run.log({"a": 1})
        run.config["b"] = 2
        run.log_artifact(b"x", "x")
        assert dict(run.config) == {"lr": 1, "b": 2}
    report = run.finish()
    assert (report.sent, report.left, report.journal) == (0, 0, None)
    assert not journals.exists()


def test_mode_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESCOPE_MODE", "disabled")
    assert tunescope.init().finish().journal is None
    monkeypatch.setenv("TUNESCOPE_MODE", "sometimes")
    with pytest.raises(TunescopeError, match="'sometimes'"):
        tunescope.init()


def test_the_line_at_the_end(live_service: str, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("TUNESCOPE_DASHBOARD_URL", "http://look.here/")
    run = tunescope.init(url=live_service, name="named", system_interval=None)
    run.log({"a": 1})
    run.finish()
    offline = tunescope.init(mode="offline", name="kept", system_interval=None)
    offline.log({"a": 1})
    report = offline.finish()
    assert capfd.readouterr().err.splitlines() == [
        f"tunescope: named finished, 1 points sent · http://look.here/run?id={run.id}",
        f"tunescope: kept finished, 1 points kept: tunescope sync {report.journal}",
    ]


def test_config_must_have_names() -> None:
    with pytest.raises(TunescopeError, match="not list"):
        tunescope.init(config=[1, 2], mode="disabled")


def test_finish_keeps_its_deadline(start: Any) -> None:
    import time

    run = start(url=f"http://127.0.0.1:{free_port()}")
    run.log({"a": 1})
    began = time.monotonic()
    report = run.finish(timeout=0.5)
    assert time.monotonic() - began < 2.0
    assert (report.sent, report.left) == (0, 1)
