"""The `tunescope` command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import tunescope
from tests.conftest import free_port
from tunescope import Client, cli

runner = CliRunner()


def invoke(*arguments: str) -> Any:
    return runner.invoke(cli.app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})


def test_version() -> None:
    assert invoke("--version").output == f"tunescope {tunescope.__version__}\n"


def test_help_lists_every_command() -> None:
    output = invoke("--help").output
    for name in cli.found():
        assert f" {name} " in output
    assert sorted(cli.found()) == sorted(entry.name for entry in entry_points(group="tunescope.commands"))


@pytest.mark.parametrize("name", ["sync", "compare"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: tunescope {name}" in invoke(name, "--help").output


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dashing").mkdir()
    (tmp_path / "dashing" / "__init__.py").write_text("")
    (tmp_path / "dashing" / "cli.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("dashing", "dashing.cli:show", cli.GROUP)
    monkeypatch.setattr(cli, "found", lambda: {"dashing": entry})
    sentence = 'tunescope dashing needs: pip install "tunescope[dashing]"'
    refused = invoke("dashing", "--port", "1", "--help")
    assert (refused.exit_code, refused.stderr) == (1, sentence + "\n")
    assert sentence in invoke("--help").output


def test_a_fault_of_our_own_is_not_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("broken", "tunescope.nothing_here:run", cli.GROUP)
    monkeypatch.setattr(cli, "found", lambda: {"broken": entry})
    with pytest.raises(ModuleNotFoundError):
        cli.command(entry)


def test_a_plain_function_is_a_command() -> None:
    assert cli.command(EntryPoint("sync", "tunescope.commands:sync", cli.GROUP)).name == "sync"
    assert isinstance(cli.app, typer.Typer)


def test_a_command_loads_no_other_package() -> None:
    code = (
        "import sys; from tunescope.cli import app; app(['sync', '--help'], standalone_mode=False); "
        "print([m for m in ('service', 'dashboard', 'trainer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_sync(live_service: str, api: Client, tmp_path: Path) -> None:
    run = tunescope.init(mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    run.log({"a": 1.0})
    run.finish()
    done = invoke("sync", str(tmp_path), "--url", live_service)
    assert done.exit_code == 0
    assert done.output.splitlines() == [f"{run.id}  sent, 1 points", f"1 points sent, 0 left in {tmp_path}"]
    assert invoke("sync", str(tmp_path), "--url", live_service).output == f"0 points sent, 0 left in {tmp_path}\n"
    assert api.get_run(run.id)["points_stored"] == 1


def test_sync_while_the_service_is_away(tmp_path: Path) -> None:
    run = tunescope.init(mode="offline", dir=tmp_path, system_interval=None, quiet=True)
    run.log({"a": 1.0})
    run.finish()
    done = invoke("sync", str(tmp_path), "--url", f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 1
    assert "Cannot reach Tunescope" in done.output
    assert "Traceback" not in done.output


def test_sync_clean_removes_what_is_stored(live_service: str, tmp_path: Path) -> None:
    code = f"""
import tunescope
with tunescope.init(mode="offline", dir={str(tmp_path)!r}, system_interval=None) as run:
    run.log({{"a": 1}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(list(tmp_path.rglob("journal"))) == 1
    assert invoke("sync", str(tmp_path), "--url", live_service, "--clean").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def evaluated(api: Client, suite_id: str, right: int, n: int = 200) -> str:
    run = api.create_run(project="compare", name=f"[/red] :cat: {right}")  # a name is text, whatever it looks like
    predictions = [{"id": str(i), "output": "yes" if i < right else "no"} for i in range(n)]
    api.create_evaluation(suite_id=suite_id, run_id=run["id"], predictions=predictions)
    return str(run["id"])


def make_suite(api: Client, name: str, n: int = 200) -> str:
    items = [{"id": str(i), "input": f"question {i}", "label": "yes"} for i in range(n)]
    suite = api.create_suite(
        name=name, task_type="classification", items=items, labels=["yes", "no"], metrics=["accuracy"]
    )
    return str(suite["id"])


def test_compare(live_service: str, api: Client) -> None:
    suite = make_suite(api, "compared")
    weak, strong = evaluated(api, suite, 100), evaluated(api, suite, 180)
    done = invoke("compare", weak, strong, "--suite", "compared", "--metric", "accuracy", "--url", live_service)
    assert done.exit_code == 0, done.output
    assert "BETTER · accuracy on compared v1" in done.output
    assert "+0.4" in done.output
    assert "gained 80, lost 0" in done.output
    assert "[/red] :cat: 180" in done.output
    assert "WORSE" in invoke("compare", strong, weak, "--url", live_service).output


def test_compare_several_runs_and_seeds(live_service: str, api: Client) -> None:
    suite = make_suite(api, "compared-several")
    runs = [evaluated(api, suite, right) for right in (100, 104, 150, 155)]
    several = invoke("compare", *runs, "--url", live_service)
    assert several.exit_code == 0, several.output
    assert "p adjusted for 3 candidates (Holm)" in several.output
    assert several.output.count("better") == 2
    assert several.output.count("inconclusive") == 1
    seeds = invoke("compare", ",".join(runs[:2]), ",".join(runs[2:]), "--url", live_service)
    assert seeds.exit_code == 0, seeds.output
    assert "BETTER" in seeds.output
    assert "0.51   sd 0.01414 over 2: 0.5, 0.52" in seeds.output
    assert "t over items and seeds" in seeds.output
    mixed = invoke("compare", ",".join(runs[:2]), *runs[2:], "--url", live_service)
    assert (mixed.exit_code, "two configurations at a time" in mixed.output) == (1, True)
    tested = invoke("compare", ",".join(runs[:2]), ",".join(runs[2:]), "--test", "bootstrap", "--url", live_service)
    assert (tested.exit_code, "leave --test out" in tested.output) == (1, True)


def test_compare_by_randomisation(live_service: str, api: Client) -> None:
    items = [{"id": str(i), "input": f"question {i}", "references": ["the cat sat on the mat"]} for i in range(30)]
    suite = api.create_suite(name="compared-texts", task_type="translation", items=items, metrics=["bleu"])
    runs = []
    for good in (10, 20, 25):
        runs.append(str(api.create_run(project="compare")["id"]))
        texts = ["the cat sat on the mat" if i < good else "the cat sat on it" for i in range(30)]
        predictions = [{"id": str(i), "output": text} for i, text in enumerate(texts)]
        api.create_evaluation(suite_id=suite["id"], run_id=runs[-1], predictions=predictions)
    for by, name in (("bootstrap", "paired bootstrap"), ("randomisation", "approximate randomisation")):
        for given in (runs[:2], runs):
            done = invoke("compare", *given, "--test", by, "--url", live_service)
            assert (done.exit_code, f"{name} (sacrebleu)" in done.output) == (0, True), done.output


def test_compare_says_what_is_missing(live_service: str, api: Client) -> None:
    suite, other = make_suite(api, "shared-1"), make_suite(api, "shared-2")
    lonely = str(api.create_run(project="compare")["id"])
    first, second = evaluated(api, suite, 100), evaluated(api, suite, 120)
    none = invoke("compare", first, lonely, "--url", live_service)
    assert (none.exit_code, "no evaluations on a common suite" in none.output) == (1, True)
    for run_id in (first, second):
        predictions = [{"id": str(i), "output": "yes"} for i in range(200)]
        api.create_evaluation(suite_id=other, run_id=run_id, predictions=predictions)
    several = invoke("compare", first, second, "--url", live_service)
    assert (several.exit_code, "--suite (shared-1, shared-2)" in several.output) == (1, True)
