"""`tunescope train` as a person meets it: sentences, exit codes, a whole run with and without a service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from tests.trainer.conftest import SUMS, TICKETS, built, write_jsonl
from trainer.probe import ForgettingProbe
from trainer.program import OutOfMemory, memory_advice
from tunescope import Client
from tunescope.cli import app


@pytest.fixture
def client(live_service: str) -> Iterator[Client]:
    with Client(live_service) as opened:
        yield opened


@pytest.fixture(autouse=True)
def own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESCOPE_DIR", str(tmp_path / "journal"))
    monkeypatch.setenv("COLUMNS", "200")


def command(tmp_path: Path, content: dict[str, Any], *arguments: str) -> Result:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return CliRunner().invoke(app, ["train", str(path), *arguments])


def assert_one_sentence(result: Result, sentence: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("tunescope: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("change", "file", "sentence"),
    [
        (
            {"data": {"text": "body"}},
            None,
            "tickets.csv, row 1: no column 'body' (data.text); there are 'label', 'text'.",
        ),
        (
            {"data": {"label": "kind"}},
            None,
            "tickets.csv, row 1: no column 'kind' (data.label); there are 'label', 'text'.",
        ),
        ({"data": {"train": "none.csv"}}, None, "none.csv: there is no such file"),
        ({"data": {"test": "empty.csv"}}, ("empty.csv", "text,label\n"), "empty.csv: the file has no rows."),
        (
            {"data": {"test": "new.csv"}},
            ("new.csv", "text,label\nhi,greeting\n"),
            "new.csv, row 1: label 'greeting' is not in the training data.",
        ),
        ({"data": {"train": "one.csv"}}, ("one.csv", "text,label\nhi,a\n"), "holds one label only ('a')"),
        ({"data": {"columns": 1}}, None, "there is no setting data.columns."),
        ({"train": {"epochs": "many"}}, None, "train.epochs: expected `float`, got `str`."),
        ({"model": {"path": "/no/such/model"}}, None, "model.path: there is no folder /no/such/model."),
        (
            {"model": {"path": None, "module": "no_such_package"}},
            None,
            "no Python package 'no_such_package' is installed",
        ),
        ({"method": {"name": "magic"}}, None, "there is no method 'magic'; there are full, lora, qlora."),
        ({"method": {"name": "lora", "rank": 2}}, None, "method lora: Object contains unknown field `rank`."),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    tickets_config: dict[str, Any],
    tmp_path: Path,
    change: dict[str, dict[str, Any]],
    file: tuple[str, str] | None,
    sentence: str,
) -> None:
    if file is not None:
        (tmp_path / file[0]).write_text(file[1])
    for section, values in change.items():
        tickets_config[section] = tickets_config.get(section, {}) | values
    assert_one_sentence(command(tmp_path, tickets_config, "--offline"), sentence)


def test_a_missing_or_malformed_config(tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["train", str(tmp_path / "none.yaml")])
    assert_one_sentence(missing, "none.yaml: there is no such file.")
    (tmp_path / "bad.yaml").write_text("project: [a\n")
    assert_one_sentence(CliRunner().invoke(app, ["train", str(tmp_path / "bad.yaml")]), "bad.yaml, line 2: expected")


def test_no_service(tickets_config: dict[str, Any], tmp_path: Path) -> None:
    result = command(tmp_path, tickets_config, "--url", "http://127.0.0.1:9")
    assert_one_sentence(result, "no service answers at http://127.0.0.1:9: start one with `tunescope serve`")
    assert not (tmp_path / "out").exists()


def test_a_check_keeps_nothing(tickets_config: dict[str, Any], tmp_path: Path) -> None:
    result = command(tmp_path, tickets_config, "--check", "--set", "train.max_steps=500")
    assert result.exit_code == 0, result.output
    assert "tickets: 12 rows, 500 steps of " in result.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "journal").exists()


def test_a_check_tells_what_a_gpu_would_need(sums_config: dict[str, Any], tmp_path: Path) -> None:
    result = command(tmp_path, sums_config, "--check")
    assert result.exit_code == 0, result.output
    assert "on a GPU about 0.00 GB at most, and 1 GB for CUDA (weights 0.00, gradients 0.00" in result.stdout


def test_offline_on_a_jsonl_of_ones_own(tickets_config: dict[str, Any], tmp_path: Path) -> None:
    own = [{"sentence": one["text"], "topic": one["label"]} for one in TICKETS]
    write_jsonl(tmp_path / "own.jsonl", own)
    tickets_config["data"] |= {"train": "own.jsonl", "test": "own.jsonl", "text": "sentence", "label": "topic"}
    result = command(tmp_path, tickets_config, "--offline")
    assert result.exit_code == 0, result.output
    assert " of 12 right" in result.stdout
    assert len((tmp_path / "out" / "predictions-tickets.jsonl").read_text().splitlines()) == 12
    assert len(list((tmp_path / "journal").iterdir())) == 1


def test_two_variants_are_tracked_scored_and_compared(
    tickets_config: dict[str, Any], tmp_path: Path, client: Client
) -> None:
    tickets_config["data"]["validation"] = "tickets.csv"
    tickets_config["runs"] = [
        {"name": "little", "train": {"max_steps": 1, "learning_rate": 1e-6}},
        {"name": "much", "train": {"max_steps": 60}},
    ]
    result = command(tmp_path, tickets_config, "--url", client.url)
    assert result.exit_code == 0, result.output
    assert "much against little, tickets · accuracy: BETTER" in result.stdout
    assert "much is better than little on tickets" in result.stdout
    assert "f1_macro" in result.stdout
    assert "most confused: " in result.stdout

    runs = {run["name"]: run for run in client.list_runs(project="tickets")["items"]}
    assert set(runs) == {"little", "much"}
    much = client.get_run(runs["much"]["id"])
    assert much["status"] == "finished"
    assert much["config"]["method"]["name"] == "full"
    assert much["config"]["train"]["max_steps"] == 60
    assert much["data_hash"] == much["config"]["data"]["hash"]
    assert much["metrics"]["tickets/accuracy"]["last"] > 0.9
    assert much["metrics"]["train/loss"]["count"] == 60
    assert much["metrics"]["train/tokens_per_second"]["min"] > 0
    assert "train/train_tokens_per_second" not in much["metrics"]
    assert much["metrics"]["eval/accuracy"]["count"] == 30
    links = client.run_links(much["id"])
    assert [version["name"] for version in links["model_versions"]] == ["tickets"]
    [evaluation] = client.list_evaluations(run_id=much["id"])["items"]
    assert evaluation["model_version_id"] == links["model_versions"][0]["id"]
    assert evaluation["step"] == 60
    items = client.evaluation_items(evaluation["id"])["items"]
    assert {item["output"] for item in items} <= {"delay", "lost", "repair"}
    assert set(items[0]["label_scores"]) == {"delay", "lost", "repair"}
    assert much["metrics"]["tickets/roc_auc"]["last"] > 0.9
    assert client.calibration(evaluation["id"])["n"] == evaluation["n"]

    # Asked to resume, it finds both done, and compares them again without another step.
    again = command(tmp_path, tickets_config, "--url", client.url, "--resume")
    assert "much against little, tickets · accuracy: BETTER" in again.stdout
    assert len(client.list_runs(project="tickets")["items"]) == 2


def test_an_interrupted_run_goes_on_as_itself(
    sums_config: dict[str, Any], tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums_config["train"] |= {"save_every": 2}
    write_jsonl(tmp_path / "general.jsonl", SUMS[:3])
    sums_config["probe"] = {"path": "general.jsonl", "every": 3}
    sums_config["evaluate"][0]["before"] = True
    whole = ForgettingProbe.measure

    def cut(self: ForgettingProbe, model: Any, step: int) -> float:
        if step == 6:
            raise KeyboardInterrupt
        return whole(self, model, step)

    with monkeypatch.context() as patch:
        patch.setattr(ForgettingProbe, "measure", cut)
        stopped = command(tmp_path, sums_config, "--url", client.url)
    assert stopped.exit_code == 130
    assert "--resume goes on from the last checkpoint" in stopped.stderr
    resumed = command(tmp_path, sums_config, "--url", client.url, "--resume")
    assert resumed.exit_code == 0, resumed.output
    [run] = client.list_runs(project="sums")["items"]
    assert run["status"] == "finished"
    [series] = client.history([run["id"]], ["train/loss"])
    assert sorted(set(series["steps"])) == list(range(1, 9))
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["steps"] == 8
    assert result["scored"][0]["evaluation_before"]["step"] == 0


def test_help_is_light() -> None:
    """Reading the command's help must not cost the seconds that PyTorch takes to import."""
    code = (
        "import sys, trainer.cli; print([m for m in ('torch', 'transformers', 'peft', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "set train.gradient_checkpointing, or halve train.batch_size (8) and double train.accumulation, or lower"),
        (
            {"train": {"gradient_checkpointing": True, "batch_size": 1}},
            "out of memory: use method: qlora, or lower data.max_length (32)",
        ),
        (
            {"train": {"gradient_checkpointing": True, "batch_size": 1}, "method": {"name": "qlora"}},
            "out of memory: lower data.max_length (32); --check",
        ),
    ],
)
def test_out_of_memory_says_what_to_change(changes: dict[str, Any], sentence: str, sums_config: dict[str, Any]) -> None:
    with pytest.raises(OutOfMemory) as caught, memory_advice(built(sums_config, **changes)):
        torch.empty(1 << 60)
    assert sentence in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_several_processes_train_one_run(
    sums_config: dict[str, Any], client: Client, tmp_path: Path, launcher: str
) -> None:
    """Started by their launchers; the first of them saves, registers, scores and prints."""
    content = sums_config | {
        "project": f"ranks {launcher}",
        "runs": [{"name": "full", "method": {"name": "full"}}, {"name": "lora", "method": {"name": "lora"}}],
    }
    content["train"] |= {"save_every": 4, "batch_size": 4}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    launch = {
        "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        "accelerate": [
            "-m",
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
        ],
    }[launcher]
    command = [sys.executable, *launch, "-m", "tunescope", "train", str(tmp_path / "config.yaml"), "--url", client.url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {run["name"]: client.get_run(run["id"]) for run in client.list_runs(content["project"])["items"]}
    assert set(runs) == {"full", "lora"}
    for run in runs.values():
        assert (run["status"], run["points_sent"]) == ("finished", run["points_stored"])
        ranks: dict[str, set[int]] = {}
        for one in client.run_series(run["id"])["items"]:
            ranks.setdefault(one["key"], set()).add(one["rank"])
        assert ranks["train/loss"] == {0}
        assert ranks["train/seconds"] == ranks["system/process_memory_mib"] == {0, 1}
        (evaluation,) = client.list_evaluations(run_id=run["id"])["items"]
        assert evaluation["n"] == len(SUMS)
    assert len(client.model_versions(content["project"])["items"]) == 2
    assert done.stdout.count("full") < 8  # said once, not by each
    for name in ("full", "lora"):
        (folder,) = (
            tmp_path.glob(f"out/**/{name}") if not (tmp_path / "out" / name).is_dir() else [tmp_path / "out" / name]
        )
        assert sorted(one.name for one in folder.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {one.name for one in (folder / "checkpoint-8").iterdir()}
