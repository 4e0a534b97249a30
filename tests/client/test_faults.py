"""Kills, absences and repetitions: what was acknowledged is stored, nothing is stored twice, the status is right."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import threading
import time
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tunescope
from tests.client.conftest import Script, values
from tests.conftest import LiveService, free_port, wait_until
from tunescope import ApiError, Client
from tunescope._journal import JournalReader, Points
from tunescope._sync import sync

TRAINING = """
    import sys, time
    import tunescope
    run = tunescope.init(project="faults", system_interval=None)
    print(run.id, flush=True)
    step = 0
    while True:
        run.log({"step": float(step)}, step=step)
        step += 1
        time.sleep(0.0005)
        ENDING
"""


def ending(code: str) -> str:
    return TRAINING.replace("ENDING", f"if step == 200: {code}")


def ship(folder: Path, client: Client) -> list[tunescope._sync.Synced]:
    return list(sync(folder, client))


def journalled(folder: Path) -> list[float]:
    """Every step that is in the journals below a folder, in order."""
    steps: list[float] = []
    for journal in sorted(folder.rglob("journal")):
        reader = JournalReader(journal.parent)
        for record, _ in reader.read(reader.start):
            if isinstance(record, Points):
                steps += [s for c in record.columns for s in memoryview(c.value).cast("d").tolist()]
        reader.close()
    return steps


def test_service_killed_and_restarted_again_and_again(live: LiveService, tmp_path: Path) -> None:
    run = tunescope.init(url=live.url, dir=tmp_path / "j", system_interval=None, quiet=True)
    stop = threading.Event()
    logged = 0

    def train() -> None:
        nonlocal logged
        while not stop.wait(0.0005):
            run.log({"n": float(logged)}, step=logged)
            logged += 1

    thread = threading.Thread(target=train)
    thread.start()
    with Client(live.url) as client:
        for _ in range(3):
            seen = len(values(client, run.id, "n"))
            wait_until(lambda seen=seen: len(values(client, run.id, "n")) > seen)  # type: ignore[misc]
            live.kill()
            live.start()
        stop.set()
        thread.join()
        report = run.finish(timeout=60)
        assert (report.left, report.stored) == (0, logged)
        assert values(client, run.id, "n") == [float(n) for n in range(logged)]
        assert client.get_run(run.id)["status"] == "finished"


def test_lost_acknowledgements_store_nothing_twice(live_service: str, api: Client, tmp_path: Path) -> None:
    """At every state in which a sender may have been killed, sending again leaves exactly what was logged."""
    run = tunescope.init(mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    for value in range(100):
        run.log({"n": float(value)})
    folder = run.finish().journal
    assert folder is not None
    state = folder / "shipped.json"
    states: list[bytes | None] = [None]

    class Watching(Client):
        """Keeps each state that a kill could have left behind."""

        def send_batch(self, run_id: str, body: bytes) -> dict[str, Any]:
            states.append(state.read_bytes())
            answer = super().send_batch(run_id, body)
            states.append(state.read_bytes())
            return answer

    with Watching(live_service) as client:
        ship(tmp_path, client)
    assert len(states) == 3
    for left_behind in states:
        if left_behind is None:
            state.unlink()
        else:
            state.write_bytes(left_behind)
        ship(tmp_path, api)
        assert values(api, run.id, "n") == [float(value) for value in range(100)]
        assert api.get_run(run.id)["points_stored"] == 100


def test_service_away_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    late = LiveService(tmp_path / "late", port=free_port())
    with caplog.at_level(logging.WARNING, "tunescope"):
        run = tunescope.init(url=late.url, dir=tmp_path / "j", system_interval=None, quiet=True)
        run.log({"a": 1.0})
        run.config["later"] = True
    try:
        late.start()
        with Client(late.url) as client:
            run.log({"a": 2.0})
            report = run.finish(timeout=60)
            assert (report.sent, report.stored, report.left) == (2, 2, 0)
            stored = client.get_run(run.id)
            assert (stored["status"], stored["config"]) == ("finished", {"later": True})
    finally:
        late.stop()
    assert caplog.text.count("Cannot reach Tunescope") == 1
    assert f"tunescope sync {tmp_path / 'j'}" in caplog.text


def test_offline_then_sync(api: Client, live_service: str, tmp_path: Path) -> None:
    run = tunescope.init("offline", "kept", {"lr": 1}, mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    run.log({"a": 1.0})
    # While the run is on.
    wait_until(lambda: journalled(tmp_path) == [1.0])
    (first,) = ship(tmp_path, api)
    assert (first.outcome, first.points) == ("sent", 1)
    (again,) = ship(tmp_path, api)
    assert (again.outcome, again.points) == ("still writing", 0)
    assert api.get_run(run.id)["status"] == "running"
    # And when it is over.
    run.log({"a": 2.0})
    run.log_artifact(b"content", "file.txt")
    report = run.finish()
    assert (report.sent, report.left) == (0, 2)
    (last,) = ship(tmp_path, api)
    assert (last.outcome, last.points, last.left) == ("sent", 1, 0)
    stored = api.get_run(run.id)
    assert (stored["status"], stored["name"], stored["points_stored"], stored["points_sent"]) == (
        "finished",
        "kept",
        2,
        2,
    )
    assert abs(stored["created_at"] - stored["finished_at"]) < 60
    assert values(api, run.id, "a") == [1.0, 2.0]
    assert api.download_artifact(run.id, "file.txt") == b"content"


def test_an_older_journal_does_not_wake_a_run_that_is_over(live_service: str, api: Client, tmp_path: Path) -> None:
    offline = tunescope.init(mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    offline.log({"a": 1.0}, step=0)
    offline.finish(status="failed")
    run = tunescope.init(url=live_service, resume=offline.id, dir=tmp_path, system_interval=None, quiet=True)
    run.log({"a": 2.0}, step=1)
    run.finish()
    assert [done.outcome for done in ship(tmp_path, api)] == ["sent", "nothing new"]
    stored = api.get_run(run.id)
    assert (stored["status"], stored["points_stored"]) == ("finished", 2)


def test_sigkill_of_the_trainer_then_sync(
    script: Script, live_service: str, api: Client, journals: Path, tmp_path: Path
) -> None:
    process = script(TRAINING.replace("ENDING", "pass"), TUNESCOPE_URL=f"http://127.0.0.1:{free_port()}")
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    wait_until(lambda: len(journalled(journals)) > 500)
    process.kill()
    process.wait()
    kept = journalled(journals)
    (done,) = ship(journals, api)
    assert (done.outcome, done.points, done.left) == ("sent", len(kept), 0)
    assert values(api, run_id, "step") == [float(n) for n in range(len(kept))]
    stored = api.get_run(run_id)
    assert (stored["status"], stored["points_sent"]) == ("crashed", len(kept))
    assert "killed" in stored["error"]
    (again,) = ship(journals, api)
    assert (again.outcome, again.points) == ("nothing new", 0)


def test_a_journal_cut_in_the_middle_is_sent_up_to_the_cut(script: Script, api: Client, journals: Path) -> None:
    process = script(TRAINING.replace("ENDING", "pass"), TUNESCOPE_MODE="offline")
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    wait_until(lambda: len(journalled(journals)) > 1000)
    process.kill()
    process.wait()
    (file,) = journals.rglob("journal")
    os.truncate(file, file.stat().st_size - 5)
    kept = journalled(journals)
    (done,) = ship(journals, api)
    assert done.points == len(kept) > 0
    assert done.unreadable > 0
    assert values(api, run_id, "step") == [float(n) for n in range(len(kept))]


def test_two_senders_at_once(live_service: str, api: Client, tmp_path: Path) -> None:
    run = tunescope.init(mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    for value in range(200_000):
        run.log({"n": float(value)})
    run.finish()
    ready = threading.Barrier(4)
    outcomes: list[str] = []

    def send() -> None:
        with Client(live_service) as client:
            ready.wait()
            outcomes.extend(done.outcome for done in sync(tmp_path, client))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "sent" in outcomes
    assert set(outcomes) <= {"sent", "busy", "nothing new"}
    assert api.get_run(run.id)["points_stored"] == 200_000


def test_a_run_that_was_deleted_is_a_problem_not_a_crash(live: LiveService, tmp_path: Path) -> None:
    run = tunescope.init(url=live.url, dir=tmp_path / "j", system_interval=None, quiet=True)
    live.stop()
    shutil.rmtree(live.data_dir)
    live.start()
    run.log({"a": 1.0})
    report = run.finish()
    assert (report.sent, report.left) == (0, 1)
    with Client(live.url) as client:
        (done,) = ship(tmp_path / "j", client)
    assert done.outcome == "failed"
    assert done.problem is not None
    assert "run_not_found" in done.problem


@pytest.mark.parametrize(
    ("code", "status", "exit_code", "error"),
    [
        ("break", "finished", 0, None),
        ("raise ValueError('boom')", "crashed", 1, "ValueError: boom"),
        ("sys.exit(3)", "crashed", 3, "sys.exit(3)"),
        ("sys.exit('why')", "crashed", 1, "sys.exit('why')"),
        ("sys.exit()", "finished", 0, None),
        ("raise KeyboardInterrupt", "crashed", 130, "KeyboardInterrupt"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "crashed", 143, "ended by SIGTERM"),
    ],
)
def test_how_the_process_ended(
    script: Script, live_service: str, api: Client, code: str, status: str, exit_code: int, error: str | None
) -> None:
    process = script(ending(code), TUNESCOPE_URL=live_service)
    out, _ = process.communicate(timeout=60)
    stored = api.get_run(out.split()[0])
    assert (stored["status"], stored["exit_code"]) == (status, exit_code)
    assert stored["points_stored"] == 200
    assert stored["error"] is None if error is None else error in stored["error"]
    assert process.returncode in ({exit_code} | ({-signal.SIGINT} if exit_code == 130 else set()))


def test_a_caught_exit_is_no_crash(script: Script, live_service: str, api: Client) -> None:
    code = """
        import sys, tunescope
        run = tunescope.init(system_interval=None)
        print(run.id)
        try:
            sys.exit(2)
        except SystemExit:
            run.log({"a": 1.0})
        run.finish()
    """
    out, _ = script(code, TUNESCOPE_URL=live_service).communicate(timeout=60)
    assert api.get_run(out.split()[0])["status"] == "finished"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_kills_of_trainers(script: Script, live_service: str, api: Client, journals: Path) -> None:
    """Four at a time: what is in the journals is what the service has in the end, each point once."""
    chance = random.Random(2)
    runs: list[str] = []
    for _ in range(25):
        trainers = [script(TRAINING.replace("ENDING", "pass"), TUNESCOPE_URL=live_service) for _ in range(4)]
        for trainer in trainers:
            assert trainer.stdout is not None
            runs.append(trainer.stdout.readline().strip())
        time.sleep(chance.uniform(0.0, 0.8))
        for trainer in trainers:
            trainer.kill()
            trainer.communicate()
    # One that was killed before it logged anything has nothing new.
    assert {done.outcome for done in ship(journals, api)} <= {"sent", "nothing new"}
    for run in runs:
        found, stored = values(api, run, "step"), api.get_run(run)
        assert found == journalled(journals / run) == [float(n) for n in range(len(found))]
        assert (stored["status"], stored["points_stored"]) == ("crashed", len(found))


def test_a_clock_that_jumps(live_service: str, api: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's clock is set forward by a day, then back by a week: no point is lost, and the run is alive."""
    real, shift = time.time, 0.0
    monkeypatch.setattr("tunescope._recorder.time.time", lambda: real() + shift)
    run = tunescope.init(url=live_service, dir=tmp_path, system_interval=None, quiet=True)
    for step, shift in enumerate((0.0, 86_400.0, -7 * 86_400.0, 0.0)):  # noqa: B007  (read by the clock)
        run.log({"n": float(step)}, step=step)
        wait_until(lambda step=step: len(values(api, run.id, "n")) == step + 1)  # type: ignore[misc]
        stored = api.get_run(run.id)
        assert stored["status"] == "running"
        assert stored["heartbeat_at"] <= real()
    run.finish()
    assert values(api, run.id, "n") == [0.0, 1.0, 2.0, 3.0]
    assert api.get_run(run.id)["duration"] < 60


def test_what_is_large_and_odd_arrives(live_service: str, api: Client, tmp_path: Path) -> None:
    """12,000 metrics, 10 MB of params, a key of every class of Unicode, values and steps at their limits."""
    odd = {chr(code) for code in range(0x21, 0x11000) if unicodedata.category(chr(code)) != "Cs"}
    classes = {unicodedata.category(one): one for one in sorted(odd)}
    keys = [f"metric/{name}/{one}" for name, one in classes.items()]
    config = {"prompt": "long " * 200_000, "many": {f"key {n}": "x" * 900 for n in range(10_000)}, **classes}
    run = tunescope.init("odd", config=config, url=live_service, dir=tmp_path, system_interval=None, quiet=True)
    run.log({f"m{n}": float(n) for n in range(12_000)}, step=2**63 - 2)
    run.log(dict.fromkeys(keys, 1e308) | {"low": -1e308, "least": 5e-324}, step=-(2**63))
    report = run.finish(timeout=120)
    assert report.left == 0
    stored = api.get_run(run.id)
    assert stored["points_stored"] == 12_000 + len(keys) + 2
    assert stored["config"]["prompt"] == config["prompt"]
    assert stored["config"]["many"] == config["many"]
    assert {name: stored["config"][name] for name in classes} == classes
    assert stored["metrics"]["m11999"]["last_step"] == 2**63 - 2
    assert stored["metrics"]["low"]["min"] == -1e308
    found = {series["key"]: series["values"] for series in api.history(run.id, [*keys, "least", "m0"])}
    assert found == {**{key: [1e308] for key in keys}, "least": [5e-324], "m0": [0.0]}
    page = api.list_runs(query="params.`many.key 7` is not null", metrics=["low"])
    assert [one["id"] for one in page["items"]] == [run.id]


def test_refused_points_are_counted_as_sent(live: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service will not take is said, and shows as the difference between sent and stored."""
    send = Client.send_batch
    refusals: list[int] = []

    def refusing(self: Client, run_id: str, body: bytes) -> Any:
        batch = msgspec.msgpack.decode(body)
        if any(column["key"] == "bad" for column in batch["metrics"]):
            refusals.append(batch["batch"])
            raise ApiError(413, "too_large", "too large")
        return send(self, run_id, body)

    monkeypatch.setattr(Client, "send_batch", refusing)
    run = tunescope.init(project="refused", url=live.url, system_interval=None, git_diff=False, quiet=True)
    run.log({"good": 1.0})
    wait_until(lambda: run._writer is not None and run._writer._shipper.state.sent == 1)  # type: ignore[union-attr]
    run.log({"bad": 1.0, "worse": 2.0})
    assert run.finish().left == 2
    with Client(live.url) as client:
        stored = client.get_run(run.id)
    assert (stored["points_stored"], stored["points_sent"], len(refusals)) == (1, 3, 1)
