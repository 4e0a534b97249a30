"""The whole demo, as a person starts it, and then the record it leaves, walked from the users back to the data."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.demo.memory import FILE
from trainer.demo.plan import CHECKPOINTS, FINE_TUNES
from trainer.demo.processes import Servers, answers, free_port
from trainer.demo.scoring import GENERAL, TICKETS
from trainer.demo.steps import EXPERIMENT
from trainer.demo.world import HELD_OUT, REPLAYED
from tunescope import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

REQUESTS = 2000


@dataclass
class Played:
    folder: Path
    output: str
    done: dict[str, Any]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    arguments = ["demo", "--dir", str(folder), "--port", str(free_port(0)), "--dashboard-port", str(free_port(0))]
    command = [sys.executable, "-m", "tunescope", *arguments, "--requests", str(REQUESTS), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo") / "folder"
    process = start(folder, "--exit")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return Played(folder, output, json.loads((folder / FILE).read_text()))


@pytest.fixture(scope="module")
def client(played: Played) -> Iterator[Client]:
    """The record that the demo left, served again, from a copy: the demo itself is started again too."""
    copy = shutil.copytree(played.folder / "service", played.folder.parent / "copy")
    with Servers(played.folder / "logs") as servers:
        url = servers.start("again", free_port(0), "/readyz", ["serve", "--data-dir", copy])
        with Client(url) as opened:
            yield opened


def test_forgetting_and_keeping_both_appear_by_themselves(client: Client) -> None:
    audits = {audit["after_version_id"]: audit for audit in client.list_audits()["items"]}
    runs = {
        version["id"]: client.get_run(version["run_id"])["name"] for version in versions(client) if version["run_id"]
    }
    verdicts = {runs[version]: audit["verdict"] for version, audit in audits.items()}
    assert set(verdicts) == {one.name for one in FINE_TUNES}
    assert verdicts["full-high-rate"] == "FAIL"
    assert verdicts["lora-replay"] == "PASS"
    failed = next(audit for audit in audits.values() if audit["verdict"] == "FAIL")
    assert failed["tasks"][0]["before"] == 1.0
    assert client.audit_items(failed["id"], kind="lost", limit=1)["items"][0]["before_output"]


def test_the_base_knows_every_fact(played: Played) -> None:
    score = played.done["base"]["evaluations"][GENERAL]["scores"][0]
    assert (score["name"], score["value"]) == ("exact_match", 1.0)


def test_every_checkpoint_is_scored_on_both_suites_item_by_item(client: Client) -> None:
    for one in FINE_TUNES:
        run = run_named(client, one.name)
        evaluations = client.list_evaluations(run_id=run["id"], limit=100)["items"]
        steps = sorted((each["suite"]["name"], each["step"]) for each in evaluations)
        wanted = [one.steps // CHECKPOINTS * number for number in range(1, CHECKPOINTS + 1)]
        assert steps == [(suite, step) for suite in (GENERAL, TICKETS) for step in wanted]
        items = client.evaluation_items(evaluations[0]["id"], limit=5)["items"]
        assert all(item["output"] is not None for item in items)
        assert f"{TICKETS}/accuracy" in run["metrics"]


def test_a_run_carries_its_loss_its_machine_its_config_and_its_checkpoints(client: Client) -> None:
    run = run_named(client, "lora-replay")
    assert run["status"] == "finished"
    assert {"train/loss", "probe/general", "probe/general/capitals", "probe/general/domain_share"} <= set(
        run["metrics"]
    )
    assert any(key.startswith("system/") for key in run["metrics"])
    assert run["config"]["method"]["name"] == "lora"
    assert run["config"]["replay"]["share"] == 0.5
    kinds = [artifact["kind"] for artifact in client.list_artifacts(run["id"])["items"]]
    assert kinds.count("checkpoint") == CHECKPOINTS


def test_the_record_is_walked_from_users_back_to_the_data(client: Client) -> None:
    readout = client.readout(EXPERIMENT)
    assert sum(arm["requests"] for arm in readout["arms"]) == REQUESTS
    assert readout["split"]["ok"]
    assert readout["verdict"]["sentence"]
    control, variant = (arm["model_version"] for arm in readout["arms"])
    assert client.get_run(control["run_id"])["name"] == "base"

    links = client.model_version_links(variant["id"])
    assert {each["suite"] for each in links["evaluations"]} == {GENERAL, TICKETS}
    assert links["run"]["id"] == variant["run_id"]
    assert links["base"]["id"] == control["id"]
    (audit,) = links["audits"]
    found = client.get_audit(audit["id"])
    assert found["before_version_id"] == control["id"]
    assert found["run_id"] == variant["run_id"]

    run = client.get_run(found["run_id"])
    assert run["data_hash"] == run["config"]["data"]["hash"]
    assert [each["key"] for each in client.run_links(run["id"])["experiments"]] == [EXPERIMENT]


def test_what_was_never_replayed_shows_apart(client: Client) -> None:
    run = run_named(client, "lora-replay")
    final = next(
        each
        for each in client.list_evaluations(run_id=run["id"], suite=GENERAL, limit=100)["items"]
        if each["model_version_id"]
    )
    slices = {one["slice"]: one for one in client.slices(final["id"], by="tag")["items"]}
    assert set(slices) == {REPLAYED, HELD_OUT}
    assert slices[HELD_OUT]["value"] > 0.85


def test_the_output_ends_with_the_table_the_verdict_and_the_addresses(played: Played) -> None:
    tail = played.output[played.output.index("method") :]
    for one in FINE_TUNES:
        assert one.title in tail
    for word in ("PASS", "FAIL", "A/B test", "http://127.0.0.1:"):
        assert word in tail


def test_a_second_start_repeats_nothing_and_stays_until_interrupted(played: Played) -> None:
    process = start(played.folder)
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("Ctrl-C"):
            break
    else:
        pytest.fail(f"it ended by itself with {process.wait()}: {output}")
    urls = re.findall(r"http://127\.0\.0\.1:\d+", output[output.rindex("dashboard ") :])
    assert all(answers(url) for url in (urls[0], f"{urls[1]}/readyz"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert not any(answers(url) for url in (urls[0], f"{urls[1]}/readyz"))
    assert output.count("kept from an earlier start") == len(FINE_TUNES) + 2
    assert json.loads((played.folder / FILE).read_text()) == played.done


def run_named(client: Client, name: str) -> dict[str, Any]:
    (run,) = client.list_runs(project="demo", query=f'name = "{name}"')["items"]
    return client.get_run(run["id"])


def versions(client: Client) -> list[dict[str, Any]]:
    return [
        version for model in client.list_models()["items"] for version in client.model_versions(model["name"])["items"]
    ]
