"""Deleting from a script and from the command line, and what a trainer sees of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tunescope
from tests.client.conftest import values
from tests.conftest import wait_until
from tunescope import Client, bin_commands
from tunescope._sync import sync
from tunescope.bin_commands import app


def runs_command(url: str, *arguments: str, code: int = 0) -> str:
    bin_commands.console.width = 200  # what it was when the module was imported, else
    result = CliRunner().invoke(app, [*arguments, "--url", url])
    assert result.exit_code == code, result.output
    return result.output


def offline(folder: Path, project: str) -> str:
    run = tunescope.init(project, mode="offline", dir=folder, system_interval=None, quiet=True)
    run.log({"a": 1.0})
    run.finish()
    return run.id


def test_runs_are_listed(live_service: str, api: Client) -> None:
    for number, name in enumerate(("plain", "[/red] [bold]")):
        run = tunescope.init("listed", name, url=live_service, system_interval=None, console=False, quiet=True)
        run.log({"eval/f1": number / 3, "nan": float("nan")})
        run.finish()
    said = runs_command(live_service, "list", "--project", "listed", "-m", "eval/f1", "-m", "nan", "-m", "none")
    assert said.index("[/red] [bold]") < said.index("plain")
    assert "0.333333" in said
    assert "NaN" in said
    query = "metrics.eval/f1 < 0.2 order by created"
    assert "plain" in (found := runs_command(live_service, "list", "--project", "listed", "-q", query))
    assert "bold" not in found
    assert "There are more" in runs_command(live_service, "list", "--project", "listed", "--limit", "1")
    assert runs_command(live_service, "list", "--project", "nowhere") == "No run is like that.\n"
    assert "Position 15: expected a number" in runs_command(live_service, "list", "-q", "metrics.loss <", code=1)
    # Names are text, whatever they look like.
    assert "2 runs are in the bin" in runs_command(live_service, "delete", "--project", "listed", "--yes")
    assert "[/red] [bold]" in runs_command(live_service, "bin", "--project", "listed")


def test_delete_restore_and_purge_on_the_command_line(live_service: str, api: Client, tmp_path: Path) -> None:
    first, second = (offline(tmp_path, "bin-cli") for _ in range(2))
    list(sync(tmp_path, api))
    assert "2 runs are in the bin" in runs_command(live_service, "delete", "--project", "bin-cli", "--yes")
    assert "'bin-cli' is in the bin, with 2 runs" in runs_command(live_service, "bin", "--project", "bin-cli")
    assert "2 runs are back" in runs_command(live_service, "restore", "--project", "bin-cli")
    said = runs_command(live_service, "delete", first, "nowhere", code=1)
    assert "There is no run 'nowhere'" in said
    assert "1 runs are in the bin" in said
    assert first in runs_command(live_service, "bin")
    assert "no run 'nowhere'" in runs_command(live_service, "restore", "nowhere", code=1)
    assert "1 runs are being deleted" in runs_command(live_service, "purge", first, second, "--yes")
    assert [run["id"] for run in api.list_runs(project="bin-cli")["items"]] == [second]
    # Nothing happens to what is not named.
    for nothing in ("delete", "restore", "purge"):
        assert "Say " in runs_command(live_service, nothing, code=1)
    declined = CliRunner().invoke(app, ["purge", "--all", "--url", live_service], input="n\n")
    assert declined.exit_code == 1


def test_a_trainer_whose_run_is_deleted_goes_on_and_loses_nothing(
    live_service: str, api: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tunescope.init("bin", url=live_service, dir=tmp_path, system_interval=None, quiet=True)
    run.log({"n": 0.0})
    wait_until(lambda: values(api, run.id, "n") == [0.0])
    api.delete_run(run.id)
    with caplog.at_level(logging.WARNING, "tunescope"):
        run.log({"n": 1.0})
        wait_until(lambda: "is in the bin" in caplog.text)
        run.log({"n": 2.0})
        report = run.finish(timeout=2)
    assert caplog.text.count("is in the bin") == 1
    assert report.left == 2
    api.restore_run(run.id)
    (done,) = sync(tmp_path, api)
    assert (done.outcome, done.left) == ("sent", 0)
    assert values(api, run.id, "n") == [0.0, 1.0, 2.0]
    assert api.get_run(run.id)["status"] == "finished"
